//! Decision records read back, for `sluis spool show` and for tests.
//!
//! They are written by the spool, each in the commit of what it describes, and stay when their message is gone.

use serde::{Deserialize, Serialize};

use crate::model::{AttemptId, DecisionRecord, MessageId};
use crate::spool::{MessageView, Spool, SpoolError};

/// Everything that is on record of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The message, unless it is settled.
    pub message: Option<MessageView>,
    /// Its decision records, oldest first.
    pub records: Vec<DecisionRecord>,
}

/// The history of a message, also after it is settled. A message that never was has an empty one.
///
/// # Errors
/// [`SpoolError::Damaged`], [`SpoolError::Broken`].
pub async fn history(spool: &Spool, message: MessageId) -> Result<History, SpoolError> {
    let records = spool.records_of(message).await?;
    let message = match spool.message(message).await {
        Ok(view) => Some(view),
        Err(SpoolError::NoMessage(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(History { message, records })
}

/// The record of one attempt.
///
/// # Errors
/// As [`history`].
pub async fn attempt(spool: &Spool, attempt: AttemptId) -> Result<Option<DecisionRecord>, SpoolError> {
    spool.record(attempt).await
}

/// The latest records, newest first.
///
/// # Errors
/// As [`history`].
pub async fn recent(spool: &Spool, limit: usize) -> Result<Vec<DecisionRecord>, SpoolError> {
    spool.recent_records(limit).await
}
