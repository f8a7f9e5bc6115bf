//! Nothing acknowledged is lost: an implementation is killed, starved of disk and cut off from power, under load, and what
//! it said before is compared with what it does afterwards.
//!
//! In the order in which a run needs them: [`subject`] (what is needed of an implementation), [`node`] (ours),
//! [`postfix`] (another one), [`letters`] (messages made of a seed), [`ledger`] (what was said, what arrived, the verdict),
//! [`load`] (clients), then the ways to harm it.
//!
//! # Guarantees
//! - The verdict is black box: positive replies on one side, a strict LMTP sink on the other, the subject's own queue and
//!   attempt records between them. A message that was acknowledged is delivered or queued after every restart, and has
//!   arrived at the end, octet for octet, with its envelope.
//! - A message that arrives twice is explained (a reply that was lost, at a kill that happened between the two), or it is a
//!   problem.
//! - Everything random comes from one seed. The order in which threads and processes run does not.
//!
//! # Errors
//! [`NetError`]: something on this machine is in the way. What the subject does wrong is no error but a problem of the
//! [`Tally`].

pub mod faults;
pub mod flips;
pub mod ledger;
pub mod letters;
pub mod load;
pub mod node;
pub mod points;
pub mod postfix;
pub mod power;
pub mod random;
pub mod seed;
pub mod strace;
pub mod subject;
pub mod trace;

use serde::Serialize;

use crate::net::NetError;

/// What came of a part of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// The seed of the part.
    pub seed: u64,
    /// How often the subject was ended the hard way.
    pub kills: usize,
    /// Messages to whose content a positive reply came.
    pub acknowledged: usize,
    /// Messages whose content was sent and whose reply did not come: the client does not know.
    pub unanswered: usize,
    /// Messages refused, with `4xx` or `5xx`.
    pub refused: usize,
    /// Messages that were acknowledged and are neither delivered nor queued.
    pub lost: usize,
    /// Messages that arrived.
    pub delivered: usize,
    /// Copies beyond the first, by what explains them.
    pub duplicates: Duplicates,
    /// Deliveries that the subject had set aside after too many attempts without known end, and that were released.
    pub released: usize,
    /// Everything that must not be.
    pub problems: Vec<String>,
}

/// Copies of messages beyond the first, by what explains them. There is no other kind: that would be a problem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// The reply to the end of content was lost between the client and the subject, and the client sent it again.
    pub submitted_again: usize,
    /// The reply to the end of content was lost between the subject and another provider's node.
    pub peer_reply_lost: usize,
    /// The replies to the end of content were lost between the subject and the environment.
    pub lmtp_reply_lost: usize,
}

impl Tally {
    /// Adds another part.
    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.acknowledged += other.acknowledged;
        self.unanswered += other.unanswered;
        self.refused += other.refused;
        self.lost += other.lost;
        self.delivered += other.delivered;
        self.duplicates.submitted_again += other.duplicates.submitted_again;
        self.duplicates.peer_reply_lost += other.duplicates.peer_reply_lost;
        self.duplicates.lmtp_reply_lost += other.duplicates.lmtp_reply_lost;
        self.released += other.released;
        self.problems.extend(other.problems.iter().cloned());
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.lost == 0 && self.problems.is_empty()
    }
}

fn machine<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> NetError {
    NetError::machine(what)
}
