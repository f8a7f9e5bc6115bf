//! What the other side offers in its answer to EHLO or LHLO.

use crate::transport::smtp::Reply;

/// Keywords with their parameters, in the order given. Only ever those of the last EHLO: what was said before TLS does
/// not exist after it (SMTP-003).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    offers: Vec<(String, Vec<String>)>,
}

impl Capabilities {
    /// Reads the lines after the first, which only names the host.
    pub(in crate::transport::smtp) fn from_reply(reply: &Reply) -> Self {
        let offers = reply.lines().iter().skip(1).filter_map(|line| {
            let mut words = line.split_ascii_whitespace().map(str::to_owned);
            let keyword = words.next()?.to_ascii_uppercase();
            Some((keyword, words.collect()))
        });
        Self { offers: offers.collect() }
    }

    /// Whether `keyword` (upper case) is offered.
    #[must_use]
    pub fn has(&self, keyword: &str) -> bool {
        self.offers.iter().any(|(offered, _)| offered == keyword)
    }

    /// The parameters of each line with `keyword` (upper case).
    pub fn parameters<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a [String]> {
        self.offers.iter().filter(move |(offered, _)| offered == keyword).map(|(_, all)| all.as_slice())
    }

    /// The largest message, in octets, when the host announced one (RFC 1870 section 3: absent or 0 is no limit).
    #[must_use]
    pub fn size_limit(&self) -> Option<u64> {
        self.parameters("SIZE").filter_map(|all| all.first()?.parse().ok()).find(|limit| *limit > 0)
    }

    /// All lines, for the decision record.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |(keyword, all): &(String, Vec<String>)| {
            let mut line = keyword.clone();
            for word in all {
                line.push(' ');
                line.push_str(word);
            }
            line
        };
        self.offers.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keywords_count_and_the_greeting_does_not() {
        let lines =
            ["STARTTLS at your service", "size 1000", "8BITMIME", "XPEERLEVEL mutual a.nl", "", "SIZE 0"];
        let reply = Reply::with_lines(250, None, lines.map(str::to_owned).to_vec()).unwrap();
        let offered = Capabilities::from_reply(&reply);
        assert!(!offered.has("STARTTLS"));
        assert!(offered.has("8BITMIME"));
        assert_eq!(offered.size_limit(), Some(1000));
        assert_eq!(offered.parameters("XPEERLEVEL").next().unwrap(), ["mutual", "a.nl"]);
        assert_eq!(offered.lines()[0], "SIZE 1000");
        let unlimited = Reply::with_lines(250, None, vec!["h".to_owned(), "SIZE".to_owned()]).unwrap();
        assert_eq!(Capabilities::from_reply(&unlimited).size_limit(), None);
    }
}
