//! Content on its way to the gate: counted, and refused once for all.

use super::gate::Content;
use super::replies;
use super::settings::Settings;
use crate::transport::smtp::reply::Reply;

/// Either still wanted, or refused for the first reason there was. Nothing leads back.
pub(super) enum Intake {
    Wanted { content: Box<dyn Content>, octets: u64 },
    Refused { why: Reply },
}

impl Intake {
    pub(super) fn new(content: Box<dyn Content>) -> Self {
        Self::Wanted { content, octets: 0 }
    }

    /// Whether content that is now `more` octets longer is within the limit.
    pub(super) fn has_room(&self, more: u64, settings: &Settings) -> bool {
        match self {
            Self::Wanted { octets, .. } => octets.saturating_add(more) <= settings.message_octets,
            Self::Refused { .. } => true,
        }
    }

    /// Passes on the next octets, if anybody still wants them.
    pub(super) async fn take(self, next: &[u8], settings: &Settings) -> Self {
        if next.is_empty() {
            return self;
        }
        if !self.has_room(next.len() as u64, settings) {
            return self.refuse(replies::too_large(settings)).await;
        }
        match self {
            Self::Wanted { mut content, octets } => match content.write(next).await {
                Ok(()) => Self::Wanted { content, octets: octets + next.len() as u64 },
                Err(why) => Self::Refused { why },
            },
            refused @ Self::Refused { .. } => refused,
        }
    }

    /// Ends the content here. The first reason stands.
    pub(super) async fn refuse(self, why: Reply) -> Self {
        match self {
            Self::Wanted { content, .. } => {
                content.abandon(&why).await;
                Self::Refused { why }
            }
            refused @ Self::Refused { .. } => refused,
        }
    }

    /// The content is complete: what the gate says to it.
    pub(super) async fn finish(self) -> Result<Reply, Reply> {
        match self {
            Self::Wanted { content, .. } => content.finish().await,
            Self::Refused { why } => Err(why),
        }
    }
}
