//! DKIM signatures, verified over content that streams past (RFC 6376, 8301, 8463).
//!
//! What needs DNS is asked elsewhere (`judge`): this room reads signatures, computes what they cover, reads key records and
//! verifies. Nothing in it waits.

mod arc;
mod evidence;
mod key;
mod signature;
mod tags;

#[cfg(test)]
mod differential;

pub(super) use arc::chain;
pub(super) use evidence::SIGNATURES_MAX;
pub use evidence::{Evidence, EvidenceWatch};
pub(super) use key::Key;
pub(super) use signature::{Signature, no};
