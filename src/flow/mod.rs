//! The flows: outbound and inbound, one screen each, and the clockwork between them.
//!
//! This is the only room that calls several others.
//!
//! - Outbound: `submission` accepts from our environment → the spool → `worker` takes what is due → `road` (discovery,
//!   policy, transport) → `outbound` sends → `conclude` records.
//! - Inbound: `knock` (who is the client) → `inbound` (may it speak for this sender, does the content agree) → the spool →
//!   `worker` → `handoff` into our environment, past the provider's own filter (`filter`) → `conclude`.
//! - `explain` walks the same road as a delivery, up to EHLO, and sends nothing.
//!
//! # Guarantees
//! - A positive reply to content needs an [`Accepted`](crate::spool::Accepted), which only the spool makes (SPOOL-001).
//! - Content is offered only on a [`Session`](crate::transport::smtp::client::Session), which only an authenticated
//!   handshake makes, and only when its level is at the floor or above (IDEN-001, IDEN-002).
//! - Every attempt and every transaction leaves one decision record (REC-001).
//!
//! # Errors
//! `Refusal` carries the named check to the reply, the record and the report; `disposition` is the only place that turns
//! a failed check into next host, later or return.
//!
//! # Standards
//! RFC 5321 sections 4.5.4 and 6; `spec/04-identity.md` to `spec/07-handoff.md`.

mod assemble;
mod breaker;
mod budget;
mod conclude;
mod disposition;
mod explain;
mod filter;
mod handoff;
mod inbound;
mod intake;
mod keywatch;
mod knock;
mod ledger;
mod location;
mod node;
mod operations;
mod outbound;
mod own_domain;
mod refusal;
mod reload;
mod reply;
mod report;
mod road;
mod shares;
mod signing;
#[cfg(test)]
mod simulation;
mod standing;
mod submission;
mod worker;

pub use explain::{Depth, explain};
pub use node::{Node, StartError};
pub use refusal::Refusal;
pub use reply::{ReplyError, explain_message};
