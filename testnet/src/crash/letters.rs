//! Messages made of a seed: content and envelope can be made again to compare with, so nothing has to be kept.

use std::sync::Arc;

use crate::dkim::SigningKey;

use super::seed::Seed;
use super::subject::Door;

/// How large a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Some hundred octets.
    Tiny,
    /// Up to 20 kB, as most mail.
    Usual,
    /// From 300 to 700 kB: more than our node keeps in its database.
    Large,
}

impl Size {
    /// A size as traffic has it: one in twelve is large.
    fn pick(seed: &mut Seed) -> Self {
        match seed.below(12) {
            0 => Self::Large,
            1..=4 => Self::Tiny,
            _ => Self::Usual,
        }
    }

    fn octets(self, seed: &mut Seed) -> u64 {
        match self {
            Self::Tiny => seed.between(1, 400),
            Self::Usual => seed.between(400, 20_000),
            Self::Large => seed.between(300_000, 700_000),
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its number in the run.
    pub number: usize,
    /// Envelope sender.
    pub from: String,
    /// Recipients, all of one domain.
    pub to: Vec<String>,
    /// What to make the content of.
    seed: u64,
    size: Size,
    run: u64,
    signer: Option<Arc<SigningKey>>,
}

impl Letter {
    /// The message with this number, through this door. `size` overrules what the seed would pick.
    #[must_use]
    pub fn new(run: u64, number: usize, door: &Door, size: Option<Size>) -> Self {
        let mut seed = Seed::new(run).part(number as u64);
        let size = size.unwrap_or_else(|| Size::pick(&mut seed));
        let recipients = if seed.below(5) == 0 { seed.between(2, 3) } else { 1 };
        let from = format!("sender-{}@{}", seed.below(100), door.from_domain);
        let first = seed.below(1_000);
        let to = (first..first + recipients).map(|box_| format!("box-{box_}@{}", door.to_domain)).collect();
        Self { number, from, to, seed: seed.next(), size, run, signer: door.signer.clone() }
    }

    /// How large it is.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Its content, CRLF line ends.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut seed = Seed::new(self.seed);
        let mut text = format!(
            "From: <{}>\r\nTo: {}\r\nSubject: message {}\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\
             Message-ID: <{}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n",
            self.from,
            self.to.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(",\r\n "),
            self.number,
            token(self.run, self.number),
        )
        .into_bytes();
        let wanted = text.len() as u64 + self.size.octets(&mut seed);
        while (text.len() as u64) < wanted {
            // A line with a dot in front now and then: relays that mend it change the content.
            if seed.below(50) == 0 {
                text.push(b'.');
            }
            for _ in 0..seed.between(0, 9) {
                text.extend_from_slice(&word(seed.next()));
            }
            text.extend_from_slice(b"\r\n");
        }
        let domain = self.from.rsplit('@').next().unwrap_or_default();
        // An Ed25519 key signs the same octets the same way each time.
        self.signer.as_ref().and_then(|signer| signer.sign(domain, &text).ok()).unwrap_or(text)
    }
}

/// Eight printable characters, blanks included.
fn word(number: u64) -> [u8; 8] {
    number.to_le_bytes().map(|octet| b' ' + octet % 95)
}

/// What a message is known by in the run.
fn token(run: u64, number: usize) -> String {
    format!("{number}.{run:x}.crash@testnet.invalid")
}

/// The number of the message of run `run` that has this header section.
#[must_use]
pub fn number_of(run: u64, content: &[u8]) -> Option<usize> {
    let end = content.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&content[..end]).ok()?;
    let id = head.lines().find_map(|line| line.strip_prefix("Message-ID: <"))?;
    let number = id.split_once('.')?.0.parse().ok()?;
    (id.strip_suffix('>')? == token(run, number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::subject::Way;

    fn door() -> Door {
        Door {
            way: Way::Home,
            address: ([127, 0, 0, 1], 1).into(),
            server: "a".into(),
            helo: "b".into(),
            identity: None,
            signer: None,
            from_domain: "a.nl".into(),
            to_domain: "b.nl".into(),
        }
    }

    #[test]
    fn a_letter_can_be_made_again_and_is_a_message() {
        for number in 0..200 {
            let letter = Letter::new(5, number, &door(), None);
            assert_eq!(letter, Letter::new(5, number, &door(), None));
            let content = letter.content();
            assert_eq!(content, letter.content());
            let text = String::from_utf8(content.clone()).unwrap_or_default();
            assert!(text.ends_with("\r\n"));
            assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            assert!(text.lines().all(|line| line.len() < 998));
            assert_eq!(number_of(5, &content), Some(number));
            assert_eq!(number_of(6, &content), None);
        }
        assert_ne!(Letter::new(5, 1, &door(), None).content(), Letter::new(6, 1, &door(), None).content());
    }
}
