//! A changed message: may it take the place of the one that came?

use super::{Changed, HookError};
use crate::handoff::deliver::headers::CONTENT_CHANGED;
use crate::model::{AttemptId, Digest, DomainName, Hasher};
use crate::transport::smtp::data::Chunks;
use crate::trust::{HeaderFacts, HeaderLimits, HeaderWatch};

/// Room in the header section for fields of ours that a hook got with the message, and of its own.
const HEADER_ROOM_OCTETS: usize = 64 << 10;
const HEADER_ROOM_FIELDS: usize = 100;

/// Looks at a changed message as it comes, under the rules for content from the wire (HOOK-005).
pub(super) struct Examined {
    rules: Chunks,
    watch: HeaderWatch,
    hasher: Hasher,
    size: u64,
    eight_bit: bool,
    checked: Vec<u8>,
}

impl Examined {
    /// Nothing seen yet. `limits` are those for messages of peers; loops were judged when the message came.
    pub(super) fn new(limits: HeaderLimits) -> Self {
        let limits = HeaderLimits {
            octets: limits.octets.saturating_add(HEADER_ROOM_OCTETS),
            fields: limits.fields.saturating_add(HEADER_ROOM_FIELDS),
            received: usize::MAX,
            own_received: usize::MAX,
        };
        Self {
            rules: Chunks::new(),
            watch: HeaderWatch::new(limits),
            hasher: Hasher::default(),
            size: 0,
            eight_bit: false,
            checked: Vec::new(),
        }
    }

    /// Takes the next octets, and gives those that may be kept.
    pub(super) fn push(&mut self, octets: &[u8]) -> Result<&[u8], HookError> {
        self.checked.clear();
        self.rules.push(octets, &mut self.checked);
        if let Some(fault) = self.rules.fault() {
            return Err(HookError::unusable(fault.to_string()));
        }
        self.watch.push(&self.checked).map_err(|fault| HookError::unusable(fault.to_string()))?;
        self.hasher.update(&self.checked);
        self.size += self.checked.len() as u64;
        self.eight_bit |= !self.checked.is_ascii();
        Ok(&self.checked)
    }

    /// Nothing more comes.
    pub(super) fn finish(mut self) -> Result<(Changed, HeaderFacts), HookError> {
        self.checked.clear();
        self.rules.end(&mut self.checked);
        if let Some(fault) = self.rules.fault() {
            return Err(HookError::unusable(fault.to_string()));
        }
        // Of what came from a peer the last line may lack its end. Here that is the mark of an answer that was cut off.
        if !self.checked.is_empty() {
            return Err(HookError::unusable("its last line has no end"));
        }
        let header = self.watch.finish().map_err(|fault| HookError::unusable(fault.to_string()))?;
        let changed = Changed { digest: self.hasher.finish(), size: self.size, eight_bit: self.eight_bit };
        Ok((changed, header))
    }
}

/// Whether the changed message is by the same author as the one that came. What we vouch for on top of it is that author
/// (HOOK-006); and what tells a loop must not be lost (SMTP-019).
pub(super) fn same_author(before: &HeaderFacts, after: &HeaderFacts) -> Result<(), String> {
    let differs = [
        ("From:", before.from != after.from),
        ("Sender:", before.sender != after.sender),
        ("Date:", before.dates != after.dates),
        ("Message-ID:", (before.message_ids, &before.message_id) != (after.message_ids, &after.message_id)),
        ("Received: (there are fewer)", after.received < before.received),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((field, _)) => Err(format!("the changed message differs in {field}")),
        None => Ok(()),
    }
}

/// What the field says that tells the recipient of the change (HOOK-008).
#[derive(Clone, Copy, Debug)]
pub struct ChangeFacts<'a> {
    /// This node.
    pub by: &'a DomainName,
    /// Digest of the message as the hook got it.
    pub before: Digest,
    /// Digest of the message as the hook gave it.
    pub after: Digest,
    /// The decision record.
    pub record: AttemptId,
}

impl ChangeFacts<'_> {
    /// The field, as name and value.
    #[must_use]
    pub fn field(&self) -> (String, String) {
        let Self { by, before, after, record } = self;
        let value = format!("by={by};\r\n before={before};\r\n after={after};\r\n record={record}");
        (CONTENT_CHANGED.to_owned(), value)
    }
}
