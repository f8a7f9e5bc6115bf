//! Sessions against a gate that remembers what it was asked.
//!
//! `harness` has the gate and the clients. `clear` is about the time before the handshake, `transactions` about the order of
//! things, `content` about what comes through, `model` runs random sessions beside a reference model, `limits` lets clients
//! misbehave, and `listener` is about connections, TLS and the end.
#![allow(clippy::unwrap_used)]

mod clear;
mod content;
mod harness;
mod limits;
mod listener;
mod model;
mod transactions;
