//! What can go wrong in the spool, and who must act.

use std::sync::Arc;

use crate::model::{DeliveryId, MessageId, Reason};

use super::Phase;

/// Why the spool did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// No room. An operating condition: the caller answers `452` and goes on; accepting resumes when there is room
    /// (SPOOL-004). The operator must act if it lasts.
    #[error("the spool is full: {0}")]
    Full(String),
    /// A write or a flush failed, so nobody knows what is on disk. Nothing is accepted any more, and nothing is tried
    /// again, until the node is restarted (SPOOL-003). The operator must act.
    #[error("the spool is broken and takes nothing until the node is restarted: {0}")]
    Broken(Arc<str>),
    /// A content file could not be made or written (too many open files, say). The caller answers `451`; this message
    /// alone is affected.
    #[error("the content could not be written: {0}")]
    NotKept(String),
    /// A content file could not be opened (too many open files, say). The attempt ends, and the delivery is tried again.
    #[error("the content could not be read: {0}")]
    NotRead(String),
    /// Another process has this spool open. The operator must act.
    #[error("another process uses the spool {0}")]
    Locked(String),
    /// The spool could not be opened. The operator must act.
    #[error("the spool {dir} cannot be opened: {detail}")]
    Open {
        /// The configured directory.
        dir: String,
        /// What the system said.
        detail: String,
    },
    /// The spool was written by a version of this program whose format we do not know. The operator must act.
    #[error("the spool has format {found}; this program knows format {known} only")]
    Format {
        /// What stands in the store.
        found: String,
        /// What this program writes.
        known: u32,
    },
    /// The keys of the spool are missing, cannot be read, or are others. The operator must act (SPOOL-020).
    #[error("the spool's key: {0}")]
    Key(String),
    /// There is no such message; it may have been settled.
    #[error("no message {0} in the spool")]
    NoMessage(MessageId),
    /// There is no such delivery; it may have been settled.
    #[error("no delivery {0} in the spool")]
    NoDelivery(DeliveryId),
    /// The delivery is in a state from which that transition does not exist (SPOOL-005). Nothing was changed.
    #[error("cannot {asked} delivery {delivery}: it is {phase}")]
    State {
        /// The delivery.
        delivery: DeliveryId,
        /// The state it is in.
        phase: Phase,
        /// The transition asked for.
        asked: &'static str,
    },
    /// Something stored does not have the checksum or digest it was stored with (SPOOL-013). The operator must act.
    #[error("{0} is damaged on disk")]
    Damaged(String),
    /// The caller's fault: a message without recipients, a recipient on two routes, and the like.
    #[error("misuse of the spool: {0}")]
    Misuse(&'static str),
}

impl SpoolError {
    /// The named check, for replies and records.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Full(_) => Reason::SpoolFull,
            Self::Broken(_)
            | Self::NotKept(_)
            | Self::NotRead(_)
            | Self::Locked(_)
            | Self::Open { .. }
            | Self::Format { .. }
            | Self::Key(_)
            | Self::NoMessage(_)
            | Self::NoDelivery(_)
            | Self::State { .. }
            | Self::Damaged(_)
            | Self::Misuse(_) => Reason::LocalFault,
        }
    }

    pub(super) fn broken(detail: impl std::fmt::Display) -> Self {
        Self::Broken(detail.to_string().into())
    }
}

/// Every error of the database is fatal for the store: what could be retried was retried below it (see `disk`).
macro_rules! fatal {
    ($($error:ty),+) => {$(
        impl From<$error> for SpoolError {
            fn from(error: $error) -> Self {
                Self::broken(error)
            }
        }
    )+};
}

fatal!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);
