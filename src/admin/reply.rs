//! Would a reply to a message stay secure, address by address (RPLY family; NTA 7516 6.1.14, 6.1.15)?

use serde::{Deserialize, Serialize};

use crate::model::{Address, DomainName, Level, MessageId, Reason};
use crate::spool::SpoolError;
use crate::trust::{FieldFault, HeaderFault, ReplyField};

/// How many addresses of a message are looked at (RPLY-004).
pub const REPLY_ADDRESSES_MAX: usize = 100;
/// How many domains they may have; each costs look-ups, and a connection (RPLY-004).
pub const REPLY_DOMAINS_MAX: usize = 25;

/// The answer to a whole question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Every address is federated, or our own.
    Yes,
    /// Some can't be reached now; the message would wait.
    NotNow,
    /// Some take no part.
    No,
    /// Some could not be read, or were not looked at; of the others none takes no part.
    Incomplete,
}

/// What an address comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its domain is one of ours: the reply does not leave.
    Own,
    /// It would be delivered.
    Federated,
    /// Its domain takes no part.
    NotFederated,
    /// Nobody can tell now, or its hosts can't be reached now.
    Temporary,
    /// There are too many.
    NotLookedAt,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyAddress {
    /// The field in which it stands.
    pub field: ReplyField,
    /// The address.
    pub address: Address,
    /// Its domain.
    pub domain: DomainName,
    /// What it comes to.
    pub standing: Standing,
    /// The check that failed, when one did.
    pub reason: Option<Reason>,
    /// What exactly was seen.
    pub detail: Option<String>,
    /// The level a reply would have; `None` also where only DNS was asked.
    pub level: Option<Level>,
    /// The provider's name for itself.
    pub provider: Option<String>,
}

/// The whole message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyReport {
    /// All of it in one sentence or two.
    pub answer: String,
    /// A reply: to `Reply-To:`, or `From:` without it.
    pub reply: Answer,
    /// A reply to all: to `To:` and `Cc:` besides.
    pub reply_all: Answer,
    /// The message, if it is one of the spool.
    pub message: Option<MessageId>,
    /// Who sent it for its authors: `Sender:`, where it is none of them. Replies don't go there.
    pub delegate: Option<Address>,
    /// The addresses, by field.
    pub addresses: Vec<ReplyAddress>,
    /// What could not be read.
    pub faults: Vec<FieldFault>,
    /// How many addresses there are beyond [`REPLY_ADDRESSES_MAX`].
    pub beyond: usize,
    /// Whether only DNS was asked.
    pub dns_only: bool,
}

impl ReplyReport {
    /// Draws the conclusions from the addresses and faults, and puts them into words.
    pub fn conclude(&mut self) {
        self.reply = self.over(self.answers_to());
        self.reply_all = self.over(&[ReplyField::ReplyTo, ReplyField::From, ReplyField::To, ReplyField::Cc]);
        self.answer = match (self.reply, self.reply_all) {
            (Answer::Yes, Answer::Yes) => {
                let hedge = if self.dns_only { ", as far as DNS can tell" } else { "" };
                format!("Yes. A reply stays secure, and so does a reply to all{hedge}.")
            }
            (Answer::Yes, _) => format!("A reply stays secure. {}", self.clause("A reply to all", true)),
            _ => format!("{} {}", self.clause("A reply", false), self.clause("A reply to all", true)),
        };
    }

    /// Where a reply goes (RFC 5322 section 3.6.3).
    fn answers_to(&self) -> &'static [ReplyField] {
        let asked = self.addresses.iter().any(|one| one.field == ReplyField::ReplyTo)
            || self.faults.iter().any(|fault| fault.field == ReplyField::ReplyTo);
        if asked { &[ReplyField::ReplyTo] } else { &[ReplyField::From] }
    }

    fn over(&self, fields: &[ReplyField]) -> Answer {
        let standings =
            || self.addresses.iter().filter(|one| fields.contains(&one.field)).map(|one| one.standing);
        let unread = self.faults.iter().any(|fault| fields.contains(&fault.field)) || self.beyond > 0;
        let any = |wanted| standings().any(|standing| standing == wanted);
        if any(Standing::NotFederated) {
            Answer::No
        } else if unread || any(Standing::NotLookedAt) || standings().next().is_none() {
            Answer::Incomplete
        } else if any(Standing::Temporary) {
            Answer::NotNow
        } else {
            Answer::Yes
        }
    }

    /// One sentence about a reply.
    fn clause(&self, what: &str, to_all: bool) -> String {
        let (answer, fields) = if to_all {
            let all = [ReplyField::ReplyTo, ReplyField::From, ReplyField::To, ReplyField::Cc];
            (self.reply_all, all.to_vec())
        } else {
            (self.reply, self.answers_to().to_vec())
        };
        let who = |standing| self.named(&fields, standing);
        match answer {
            Answer::Yes => format!("{what} stays secure."),
            Answer::No => {
                format!("{what} can't stay secure: not federated is {}.", who(Standing::NotFederated))
            }
            Answer::NotNow => {
                format!("{what} would wait: not to be reached now is {}.", who(Standing::Temporary))
            }
            Answer::Incomplete => format!("{what} can't be judged: see what could not be read or looked at."),
        }
    }

    /// The first few addresses with this standing.
    fn named(&self, fields: &[ReplyField], standing: Standing) -> String {
        const SHOWN: usize = 3;
        let mut names: Vec<String> = Vec::new();
        for one in &self.addresses {
            let name = format!("{} ({})", one.address, one.field);
            if one.standing == standing && fields.contains(&one.field) && !names.contains(&name) {
                names.push(name);
            }
        }
        let more = names.len().saturating_sub(SHOWN);
        names.truncate(SHOWN);
        let listed = names.join(", ");
        if more == 0 { listed } else { format!("{listed} and {more} more") }
    }
}

/// Why nothing can be said of a message.
#[derive(Debug, thiserror::Error)]
pub enum ReplyRefusal {
    /// It has no header section that can be read.
    #[error("the message can't be read: {}", .0.detail)]
    Header(#[from] HeaderFault),
    /// It broke off.
    #[error("the message broke off: {0}")]
    BrokenOff(#[from] std::io::Error),
    /// The spool does not give it.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(addresses: &[(ReplyField, &str, Standing)], faults: &[ReplyField]) -> ReplyReport {
        let addresses = addresses
            .iter()
            .map(|(field, address, standing)| {
                let address: Address = address.parse().unwrap();
                ReplyAddress {
                    field: *field,
                    domain: address.domain().clone(),
                    address,
                    standing: *standing,
                    reason: None,
                    detail: None,
                    level: None,
                    provider: None,
                }
            })
            .collect();
        let fault = |field: &ReplyField| FieldFault { field: *field, what: "is odd".into() };
        let mut report = ReplyReport {
            answer: String::new(),
            reply: Answer::Yes,
            reply_all: Answer::Yes,
            message: None,
            delegate: None,
            addresses,
            faults: faults.iter().map(fault).collect(),
            beyond: 0,
            dns_only: false,
        };
        report.conclude();
        report
    }

    /// Proves: +RPLY-001 -RPLY-001
    #[test]
    fn the_answer_is_that_of_the_weakest_address_a_reply_goes_to() {
        use ReplyField::{Cc, From, ReplyTo, To};
        use Standing::{Federated, NotFederated, NotLookedAt, Own, Temporary};
        let from = (From, "jan@b.nl", Federated);
        for (addresses, faults, reply, reply_all) in [
            (&[from, (To, "me@a.nl", Own)][..], &[][..], Answer::Yes, Answer::Yes),
            (&[from, (Cc, "x@c.nl", NotFederated)], &[], Answer::Yes, Answer::No),
            (&[from, (Cc, "x@c.nl", Temporary)], &[], Answer::Yes, Answer::NotNow),
            (&[from, (Cc, "x@c.nl", NotLookedAt)], &[], Answer::Yes, Answer::Incomplete),
            (&[from, (Cc, "x@c.nl", Temporary)], &[To], Answer::Yes, Answer::Incomplete),
            // A clear no stays one, whatever else could not be read.
            (&[from, (Cc, "x@c.nl", NotFederated)], &[To], Answer::Yes, Answer::No),
            // Replies go to Reply-To where there is one, even if it can't be read.
            (&[from, (ReplyTo, "p@c.nl", NotFederated)], &[], Answer::No, Answer::No),
            (&[(From, "j@c.nl", NotFederated), (ReplyTo, "p@b.nl", Federated)], &[], Answer::Yes, Answer::No),
            (&[from], &[ReplyTo], Answer::Incomplete, Answer::Incomplete),
            (&[], &[], Answer::Incomplete, Answer::Incomplete),
        ] {
            let report = report(addresses, faults);
            assert_eq!((report.reply, report.reply_all), (reply, reply_all), "{addresses:?} {faults:?}");
        }
        let mut beyond = report(&[from], &[]);
        beyond.beyond = 1;
        beyond.conclude();
        assert_eq!(beyond.reply, Answer::Incomplete);
    }

    #[test]
    fn the_sentence_names_who_is_the_matter() {
        use ReplyField::{Cc, From};
        use Standing::{Federated, NotFederated};
        let one = report(&[(From, "jan@b.nl", Federated), (Cc, "x@c.nl", NotFederated)], &[]);
        assert_eq!(
            one.answer,
            "A reply stays secure. A reply to all can't stay secure: not federated is x@c.nl (Cc)."
        );
        let many: Vec<_> = ["1@c.nl", "2@c.nl", "3@c.nl", "4@c.nl", "5@c.nl"]
            .map(|address| (Cc, address, NotFederated))
            .into_iter()
            .chain([(From, "jan@b.nl", Federated)])
            .collect();
        assert!(report(&many, &[]).answer.ends_with("1@c.nl (Cc), 2@c.nl (Cc), 3@c.nl (Cc) and 2 more."));
        let fine = report(&[(From, "jan@b.nl", Federated)], &[]);
        assert_eq!(fine.answer, "Yes. A reply stays secure, and so does a reply to all.");
    }
}
