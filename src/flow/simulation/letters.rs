//! What is sent: letters made of a seed, and how they are known again.

use std::fmt::Write as _;

use super::PROVIDERS;
use super::filter::MARK as FILTERED;
use crate::world::{Random, SeededRandom};

/// The start of the header field by which a letter is known.
const MARK: &str = "X-Letter: ";

/// A letter.
pub(super) struct Letter {
    pub(super) number: usize,
    /// Which provider's platform sends it.
    pub(super) from: usize,
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) content: Vec<u8>,
}

/// The domain of a provider.
pub(super) fn domain(provider: usize) -> String {
    format!("{}.nl", char::from(b'a' + u8::try_from(provider).expect("a few")))
}

/// Whether the environment has this mailbox.
pub(super) fn exists(recipient: &str) -> bool {
    !recipient.starts_with("nobody")
}

/// Which provider an address belongs to.
pub(super) fn provider_of(address: &str) -> Option<usize> {
    (0..PROVIDERS).find(|&provider| address.ends_with(&format!("@{}", domain(provider))))
}

impl Letter {
    pub(super) fn write(number: usize, random: &SeededRandom) -> Self {
        let from = below(random, PROVIDERS);
        let sender = format!("sender{number}@{}", domain(from));
        let mut recipients = Vec::new();
        for nth in 0..=below(random, 3) {
            // Most mail goes to others.
            let to = if random.next().is_multiple_of(6) { from } else { below(random, PROVIDERS) };
            let who = if random.next().is_multiple_of(12) { "nobody" } else { "reader" };
            recipients.push(format!("{who}{number}.{nth}@{}", domain(to)));
        }
        let mut content = format!(
            "From: <{sender}>\r\nTo: <{}>\r\nSubject: letter {number}\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\
             Message-ID: <{number}@{}>\r\n{MARK}{number}\r\n\r\n",
            recipients.join(">, <"),
            domain(from),
        );
        // Some in the database, some in a file of their own, some in several pieces.
        let lines = [3, 40, 200, 1_500][below(random, 4)];
        for line in 0..lines {
            let dots = if random.next().is_multiple_of(20) { "." } else { "" };
            let _ = write!(content, "{dots}{line} {:016x}{:016x}\r\n", random.next(), random.next());
        }
        Self { number, from, sender, recipients, content: content.into_bytes() }
    }
}

impl Letter {
    /// The shortest letter there is.
    pub(super) fn between(from: usize, to: usize) -> Self {
        let (sender, recipient) = (format!("sender@{}", domain(from)), format!("reader@{}", domain(to)));
        let content = format!(
            "From: <{sender}>\r\nTo: <{recipient}>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n{MARK}0\r\n\r\nHello\r\n"
        );
        Self { number: 0, from, sender, recipients: vec![recipient], content: content.into_bytes() }
    }
}

/// What arrived in an environment.
pub(super) struct Arrived {
    /// The number in the first mark: of the letter, or of the letter that a report is about.
    pub(super) letter: Option<usize>,
    pub(super) sender: String,
    pub(super) recipient: String,
    /// Everything behind the first blank line.
    pub(super) body: Vec<u8>,
    /// Whether it has the filter's mark.
    pub(super) filtered: bool,
    /// In a report: recipients with `Action: failed`.
    pub(super) failed: Vec<String>,
}

impl Arrived {
    pub(super) fn read(sender: &str, recipient: &str, content: &[u8]) -> Self {
        let text = String::from_utf8_lossy(content);
        let letter = text.find(MARK).and_then(|at| {
            text[at + MARK.len()..].split("\r\n").next().and_then(|number| number.parse().ok())
        });
        Self {
            letter,
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            body: body(content).to_vec(),
            filtered: text.contains(FILTERED),
            failed: if sender.is_empty() { failed(&text) } else { Vec::new() },
        }
    }
}

/// What follows the first blank line.
pub(super) fn body(content: &[u8]) -> &[u8] {
    memchr::memmem::find(content, b"\r\n\r\n").map_or(&[], |at| &content[at + 4..])
}

fn failed(report: &str) -> Vec<String> {
    let mut failed = Vec::new();
    for group in report.split("\r\n\r\n").filter(|group| group.contains("Action: failed")) {
        let recipient = group.lines().find_map(|line| line.strip_prefix("Final-Recipient: rfc822;"));
        failed.extend(recipient.map(|address| address.trim().to_owned()));
    }
    failed
}

pub(super) fn below(random: &SeededRandom, bound: usize) -> usize {
    usize::try_from(random.next() % bound as u64).expect("below a usize")
}
