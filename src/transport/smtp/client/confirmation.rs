//! `XPEERLEVEL`: the server's own words about what it proved of us (IDEN-005).

use crate::model::{Confirmation, DomainName, Level};
use crate::transport::smtp::dialogue::Capabilities;
use crate::transport::tls::{NAMES_MAX, OwnCertificate};

/// The EHLO keyword.
const KEYWORD: &str = "XPEERLEVEL";

/// The confirmation in an EHLO answer inside TLS; `None` unless there is exactly one, it is well-formed, its level is
/// `mutual`, and it names us as the certificate that we sent does. Anything else is no confirmation, and no fault.
pub(super) fn read(offered: &Capabilities, own: &OwnCertificate) -> Option<Confirmation> {
    let OwnCertificate::Sent(sent) = own else { return None };
    let mut lines = offered.parameters(KEYWORD);
    let (words, None) = (lines.next()?, lines.next()) else { return None };
    let (level, names) = words.split_first()?;
    let level = Level::from_word(level).filter(|level| *level == Level::Mutual)?;
    if !(1..=NAMES_MAX).contains(&names.len()) {
        return None;
    }
    let names = names.iter().map(|name| strict(name)).collect::<Option<Vec<_>>>()?;
    sent.iter().any(|ours| names.contains(ours)).then_some(Confirmation { level, names })
}

/// A name in its one spelling: A-labels, lower case, no final dot.
fn strict(text: &str) -> Option<DomainName> {
    text.parse().ok().filter(|name: &DomainName| name.as_str() == text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::transport::smtp::Reply;

    fn confirmed(lines: &[&str], own: &OwnCertificate) -> Option<Confirmation> {
        let lines = std::iter::once("host").chain(lines.iter().copied()).map(str::to_owned).collect();
        let reply = Reply::with_lines(250, None, lines).unwrap();
        read(&Capabilities::from_reply(&reply), own)
    }

    /// Proves: +IDEN-005 -IDEN-005
    #[test]
    fn only_one_line_that_names_us_confirms() {
        let sent = OwnCertificate::Sent(vec!["out.a.nl".parse().unwrap(), "mx.a.nl".parse().unwrap()]);
        for good in [
            "XPEERLEVEL mutual mx.a.nl",
            "xpeerlevel mutual b.nl out.a.nl",
            "XPEERLEVEL mutual a.nl b.nl c.nl mx.a.nl",
        ] {
            let confirmation = confirmed(&[good, "SIZE 10"], &sent).unwrap();
            assert_eq!(confirmation.level, Level::Mutual, "{good}");
        }
        for bad in [
            "XPEERLEVEL",
            "XPEERLEVEL mutual",
            "XPEERLEVEL nta7516 mx.a.nl",
            "XPEERLEVEL better mx.a.nl",
            "XPEERLEVEL mutual mx.b.nl",
            "XPEERLEVEL mutual MX.a.nl",
            "XPEERLEVEL mutual mx.a.nl.",
            "XPEERLEVEL mutual mx.a.nl 127.0.0.1",
            "XPEERLEVEL mutual b1.nl b2.nl b3.nl b4.nl mx.a.nl",
            "XPEERLEVELS mutual mx.a.nl",
        ] {
            assert_eq!(confirmed(&[bad], &sent), None, "{bad}");
        }
        let twice = ["XPEERLEVEL mutual mx.a.nl", "XPEERLEVEL mutual mx.a.nl"];
        assert_eq!(confirmed(&twice, &sent), None);
        for own in [OwnCertificate::NotRequested, OwnCertificate::NoneSuitable] {
            assert_eq!(confirmed(&["XPEERLEVEL mutual mx.a.nl"], &own), None);
        }
    }
}
