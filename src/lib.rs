//! The federation node between secure-mail providers (NTA 7516).
//!
//! A message meets these rooms in this order:
//!
//! - outbound: `handoff` (submission) → `spool` → `discovery` → `policy` → `transport` → `receipts`
//! - inbound: `transport` → `policy` and `trust` → `spool` → `handoff` (delivery) → `receipts`
//!
//! `flow` is the only room that calls several others. [`model`] has the nouns and does no I/O; [`world`] is where
//! clock and randomness come from; `config` turns the file as written into settings that have been checked.
//!
//! # Proof in the type
//! A `discovery::Secure` value comes only from the DNSSEC validator, a verified peer only from a TLS handshake that
//! DANE (or the peer's configured rule) confirmed, an `spool::Accepted` only from the spool after its flush.
#![forbid(unsafe_code)]

pub mod admin;
pub mod command;
pub mod config;
pub mod discovery;
pub mod flow;
pub mod handoff;
pub mod model;
pub mod policy;
pub mod receipts;
pub mod spool;
pub mod transport;
pub mod trust;
pub mod world;
