//! Messages that can be told apart.

use jiff::Timestamp;

use crate::topology::Message;

/// A message ready to be sent.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its `Message-ID:`, found again in the environment.
    pub token: String,
    /// The content, CRLF line ends.
    pub content: Vec<u8>,
}

/// Writes the message of one case; `number` makes it unlike the others of the run.
#[must_use]
pub fn write(message: &Message, number: usize, now: Timestamp) -> Letter {
    let author = message.header_from.as_deref().unwrap_or(&message.from);
    let domain = author.rsplit_once('@').map_or("testnet.invalid", |(_, domain)| domain);
    let token = format!("case-{number}.{}@{domain}", now.as_millisecond());
    let date = now.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let head = format!(
        "From: <{author}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{token}>\r\nMIME-Version: 1.0\r\n",
        message.to,
        subject(&message.about),
    );
    let body = if message.from.is_empty() { report() } else { text() };
    Letter { token, content: format!("{head}{body}").into_bytes() }
}

/// What the case is about, as a header field may have it: printable ASCII, no line of its own.
fn subject(about: &str) -> String {
    let plain: String =
        about.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(900).collect();
    if plain.trim().is_empty() { "testnet".to_owned() } else { plain }
}

/// Lines that relays like to mend: dots, blanks at the end, an empty last line.
fn text() -> String {
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
     Goede middag,\r\n\r\n.een punt vooraan\r\n..twee punten\r\n.\u{20}\r\nblanks at the end  \r\n\
     patiënt: ongewijzigd, € 10\r\n\r\n"
        .to_owned()
}

fn report() -> String {
    "Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
     --b\r\nContent-Type: text/plain\r\n\r\nYour message was not delivered.\r\n\
     --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; testnet.invalid\r\n\r\n\
     Final-Recipient: rfc822; nobody@b.nl\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
        .to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::topology::{Expectation, Level, Signature};

    fn message(about: &str, from: &str, header_from: Option<&str>) -> Message {
        Message {
            about: about.into(),
            from: from.into(),
            to: "bob@b.nl".into(),
            header_from: header_from.map(Into::into),
            signature: Signature::Own,
            sent_by: None,
            through: None,
            expect: Expectation::Delivered { assurance: Level::Mutual },
        }
    }

    fn written(message: &Message, number: usize) -> (Letter, String) {
        let letter = write(message, number, "2026-11-22T12:00:00Z".parse().unwrap());
        let text = String::from_utf8(letter.content.clone()).unwrap();
        (letter, text)
    }

    #[test]
    fn a_letter_is_a_message_with_its_token_and_crlf_throughout() {
        let (letter, text) = written(&message("all in order", "alice@a.nl", None), 3);
        assert!(text.contains(&format!("\r\nMessage-ID: <{}>\r\n", letter.token)));
        assert!(text.contains("Date: Sun, 22 Nov 2026 12:00:00 +0000\r\n"), "{text}");
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert!(text.ends_with("\r\n"));
        let (other, _) = written(&message("all in order", "alice@a.nl", None), 4);
        assert_ne!(letter.token, other.token);
    }

    #[test]
    fn the_author_can_be_another_one_and_the_null_sender_sends_reports() {
        let (_, text) = written(&message("", "", Some("alice@a.nl")), 0);
        assert!(text.starts_with("From: <alice@a.nl>\r\n"));
        assert!(text.contains("report-type=delivery-status"));
        assert!(text.contains("Subject: testnet\r\n"));
    }

    #[test]
    fn what_a_case_is_about_cannot_add_a_field() {
        let (_, text) = written(&message("é\r\nBcc: x@y", "alice@a.nl", None), 0);
        assert!(text.contains("Subject: ???Bcc: x@y\r\n"), "{text}");
    }
}
