//! What the control socket and `/health` ask of a running node.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Observer, ReplyRefusal, ReplyReport, SpoolGauges};
use crate::config::{Config, Location};
use crate::model::{Address, DeliveryId, Digest, DomainName, Envelope, LocationRule, MessageId, Reason};
use crate::spool::{Counts, Spool};

/// A running node, as its operator sees it.
#[async_trait]
pub trait Operations: Send + Sync + 'static {
    /// How it is.
    fn status(&self) -> Status;

    /// Whether it works. Called often; answers from memory.
    fn health(&self) -> Health;

    /// Log and counters.
    fn observer(&self) -> &Observer;

    /// The spool.
    fn spool(&self) -> &Spool;

    /// An operator wants a delivery tried now: a host that rests is not waited for.
    fn hurry(&self, delivery: DeliveryId);

    /// Accepts a message from the operator as if our platform had submitted it. Returns only after it is on stable
    /// storage (SPOOL-001).
    ///
    /// # Errors
    /// It is not taken, and nothing of it is kept.
    async fn submit(&self, envelope: Envelope, content: ContentStream) -> Result<Submitted, SubmitRefusal>;

    /// Whether a reply to this message would stay secure, address by address. Reads its header section and no more, sends no
    /// message, stores nothing (RPLY-007).
    ///
    /// # Errors
    /// The message can't be read.
    async fn explain_message(
        &self,
        content: ContentStream,
        dns_only: bool,
    ) -> Result<ReplyReport, ReplyRefusal>;

    /// The same for a message in the spool.
    ///
    /// # Errors
    /// It is not there, or can't be read.
    async fn explain_stored(&self, message: MessageId, dns_only: bool) -> Result<ReplyReport, ReplyRefusal>;

    /// Reads the configuration and the keys again and puts them in force, whole or not at all (OPS-005).
    ///
    /// # Errors
    /// The old configuration stays in force.
    async fn reload(&self) -> Result<Reloaded, ReloadRefusal>;
}

/// Content as it arrives: CRLF line ends, no dots doubled. An error means that it broke off.
pub type ContentStream = mpsc::Receiver<io::Result<Bytes>>;

/// How a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its host name.
    pub node: DomainName,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub process: u32,
    /// When it started.
    pub started: Timestamp,
    /// When its configuration was last read.
    pub configured: Timestamp,
    /// The domains it serves.
    pub domains: Vec<DomainName>,
    /// Where it listens, as `purpose address`.
    pub listeners: Vec<String>,
    /// What the spool holds.
    pub spool: Counts,
    /// Whether it works.
    pub health: Health,
    /// Its keys.
    pub keys: Vec<KeyStatus>,
    /// Settings in force that weaken protection.
    pub weakened: Vec<String>,
    /// What failed so often that it is left alone until its next probe (SMTP-027).
    #[serde(default)]
    pub resting: Vec<Resting>,
    /// The check where other providers' servers stand; `None`: there is none (LOCA-003).
    #[serde(default)]
    pub location: Option<LocationStatus>,
}

/// The check where other providers' servers stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationStatus {
    /// What follows where no peer's entry says otherwise.
    pub mode: LocationRule,
    /// The file of the table.
    pub table: PathBuf,
    /// What kind of table it says it is.
    pub kind: String,
    /// When it was built, as it says.
    pub built: Timestamp,
    /// How many days ago that was.
    pub age_days: i64,
    /// Whether that is more than `limits.location_table_days`.
    pub old: bool,
    /// How many networks it has entries for.
    pub networks: u64,
}

impl LocationStatus {
    /// Of a configuration, at a time.
    #[must_use]
    pub fn of(config: &Config, now: Timestamp) -> Option<Self> {
        let Location { path, mode, table } = config.location.as_ref()?;
        let age_days = table.age_days(now);
        Some(Self {
            mode: *mode,
            table: path.clone(),
            kind: table.kind().to_owned(),
            built: table.built(),
            age_days,
            old: i64::try_from(config.limits.location_table_days).is_ok_and(|most| age_days > most),
            networks: table.networks(),
        })
    }

    /// In words; of none too.
    #[must_use]
    pub fn describe(status: Option<&Self>) -> String {
        let Some(Self { mode, table, kind, built, age_days, old, networks }) = status else {
            return "not checked: no table is configured ([location])".to_owned();
        };
        let does = match mode {
            LocationRule::Enforce => "only servers in the EU/EEA",
            LocationRule::Any | LocationRule::Observe => "servers outside the EU/EEA are noted",
        };
        let old = if *old { "; OLD" } else { "" };
        let built = built.strftime("%Y-%m-%d");
        format!(
            "{does}, by {} ({kind} of {built}, {age_days} days ago{old}; {networks} networks)",
            table.display()
        )
    }
}

/// A host, domain or hand-off that failed several times in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resting {
    /// Which, as `host nta.b.nl`.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub reason: Reason,
    /// When one delivery tries it again; earlier if it makes contact itself, or DNS changes.
    pub next_probe: Timestamp,
    /// Deliveries that wait for it without an attempt.
    pub waiting: usize,
}

/// One of the node's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// The kind of key.
    pub kind: String,
    /// SHA-256 of the public key: the data of its `3 1 1` record.
    pub spki: Digest,
    /// The names its certificate carries.
    pub names: Vec<DomainName>,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// Whether a node works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Why the process should be restarted; empty: it lives.
    pub broken: Vec<String>,
    /// Why it should get no new work now; empty: it is ready.
    pub not_ready: Vec<String>,
}

impl Health {
    /// Whether a restart would not help.
    #[must_use]
    pub fn live(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether new work is welcome.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.live() && self.not_ready.is_empty()
    }
}

/// A message that the node answers for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its identifier.
    pub message: MessageId,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitRefusal {
    /// The recipient it is about, when it is about one.
    pub recipient: Option<Address>,
    /// The check that failed.
    pub reason: Reason,
    /// The requirement behind it.
    pub requirement: String,
    /// What exactly was seen.
    pub detail: String,
    /// Whether trying again later may help.
    pub temporary: bool,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is different now, one sentence each; empty: nothing.
    pub changed: Vec<String>,
    /// What the file says but only a restart can change, one sentence each.
    pub needs_restart: Vec<String>,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

/// Why a reload was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the old configuration stays in force:\n{}", problems.join("\n"))]
pub struct ReloadRefusal {
    /// Everything that is wrong, with what to do.
    pub problems: Vec<String>,
}

impl From<Counts> for SpoolGauges {
    fn from(counts: Counts) -> Self {
        Self {
            waiting: counts.waiting,
            attempting: counts.attempting,
            held: counts.held,
            poison: counts.poison,
            damaged: counts.damaged,
            octets: counts.octets,
        }
    }
}
