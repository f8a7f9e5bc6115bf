//! Rows of the table of failed checks (`spec/05-failures.md`), each brought about in running nodes: with its code, its reason
//! and requirement in the reply and in the decision record, and nothing of the message with anybody.
//!
//! More rows are those of the topologies `faults` and `root-rolled` (`once.rs`); [`complete`] sees to it that none is missing.
#![allow(clippy::unwrap_used)]

mod borders;
mod complete;
mod dns;
mod hook;
mod house;
mod location;
mod outbound;
mod signing;
mod support;
mod trust;
