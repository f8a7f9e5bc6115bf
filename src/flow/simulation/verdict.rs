//! What must be so at the end of a life, whatever happened in it.

use std::collections::BTreeMap;

use super::environment::Posted;
use super::letters::{Arrived, Letter, body, exists, provider_of};
use super::life::Life;
use crate::model::{ContentLeft, DecisionRecord, Direction, Level, Outcome};

/// Everything that is wrong; counts go into `life`.
pub(super) fn judge(
    letters: &[Letter],
    posted: &[Posted],
    mailboxes: &[Arrived],
    records: &[DecisionRecord],
    life: &mut Life,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (letter, posted) in letters.iter().zip(posted) {
        life.acknowledged += u64::from(!posted.taken.is_empty());
        for recipient in &posted.taken {
            match fate(letter, recipient, mailboxes) {
                (0, 0) => {
                    life.lost += 1;
                    let number = letter.number;
                    faults.push(format!("letter {number} to {recipient} was acknowledged and is lost"));
                }
                (copies, reports) => {
                    life.delivered += u64::from(copies > 0);
                    life.returned += u64::from(reports > 0);
                }
            }
        }
        for recipient in &posted.refused {
            // Refused now, and taken before without an answer, is possible; refused and never taken, nothing arrives.
            if posted.unanswered == 0 && fate(letter, recipient, mailboxes).0 > 0 {
                faults.push(format!("letter {} to {recipient} was refused and arrived", letter.number));
            }
        }
    }
    faults.extend(mailboxes.iter().filter_map(|mail| misplaced(letters, mail)));
    let (copies, explained) = (copies(mailboxes), explanations(posted, records));
    life.copies = copies.iter().map(|(count, _)| count).sum();
    if life.copies > explained {
        let what: Vec<_> = copies.iter().map(|(count, what)| format!("{count} of {what}")).collect();
        faults.push(format!("{} copies, and {explained} explanations: {}", life.copies, what.join("; ")));
    }
    faults.extend(records.iter().filter_map(weaker));
    faults
}

/// How many copies of a letter a recipient has, and how many reports of failure its sender has about it.
fn fate(letter: &Letter, recipient: &str, mailboxes: &[Arrived]) -> (usize, usize) {
    let about = mailboxes.iter().filter(|mail| mail.letter == Some(letter.number));
    let copies = about.clone().filter(|mail| !mail.sender.is_empty() && mail.recipient == recipient).count();
    let reports = about
        .filter(|mail| mail.sender.is_empty() && mail.recipient == letter.sender)
        .filter(|mail| mail.failed.iter().any(|failed| failed == recipient))
        .count();
    (copies, reports)
}

/// What is wrong with something that arrived.
fn misplaced(letters: &[Letter], mail: &Arrived) -> Option<String> {
    let Some(letter) = mail.letter.and_then(|number| letters.get(number)) else {
        return Some(format!("something that nobody sent arrived for {}", mail.recipient));
    };
    let what = format!("letter {} for {}", letter.number, mail.recipient);
    if mail.sender.is_empty() {
        let wrong = mail.recipient != letter.sender || mail.failed.iter().any(|failed| exists(failed));
        return wrong.then(|| format!("{what}: a report about {:?} that should not be", mail.failed));
    }
    if mail.sender != letter.sender || !letter.recipients.contains(&mail.recipient) {
        return Some(format!("{what}: another envelope, from {}", mail.sender));
    }
    if mail.body != body(&letter.content) {
        return Some(format!("{what}: another content"));
    }
    provider_of(&mail.recipient).is_none().then(|| format!("{what}: nobody's recipient"))
}

/// What had arrived before when it arrived, and how often.
fn copies(mailboxes: &[Arrived]) -> Vec<(u64, String)> {
    let mut seen = BTreeMap::new();
    for mail in mailboxes {
        *seen.entry((mail.letter, &mail.sender, &mail.recipient, &mail.failed)).or_insert(0_u64) += 1;
    }
    let again = seen.into_iter().filter(|(_, count)| *count > 1);
    again
        .map(|((letter, sender, recipient, failed), count)| {
            (count - 1, format!("letter {letter:?} from <{sender}> to <{recipient}>, failed {failed:?}"))
        })
        .collect()
}

/// How often somebody could not know whether the other side had it (RFC 1047), by whatever name: a platform without an
/// answer, a node whose record says so. Each may explain a copy for every recipient there is.
fn explanations(posted: &[Posted], records: &[DecisionRecord]) -> u64 {
    const RECIPIENTS: u64 = 3;
    let unanswered: u64 = posted.iter().map(|posted| posted.unanswered).sum();
    let unsure = records.iter().filter(|record| {
        matches!(record.direction, Direction::Outbound | Direction::Handoff)
            && (record.outcome == Outcome::Unknown || record.content_left == ContentLeft::Possibly)
    });
    (unanswered + unsure.count() as u64) * RECIPIENTS
}

/// A record of a message that was taken on a link below the floor.
fn weaker(record: &DecisionRecord) -> Option<String> {
    let crossed = matches!(record.outcome, Outcome::Accepted | Outcome::Delivered | Outcome::Partial);
    let border = matches!(record.direction, Direction::Inbound | Direction::Outbound);
    (crossed && border && record.assurance != Some(Level::Mutual))
        .then(|| format!("attempt {} crossed the border at {:?}", record.attempt, record.assurance))
}
