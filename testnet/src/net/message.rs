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
        if message.about.is_empty() { "testnet" } else { &message.about },
    );
    let body = if message.from.is_empty() { report() } else { text() };
    Letter { token, content: format!("{head}{body}").into_bytes() }
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
