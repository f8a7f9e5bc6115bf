#![allow(clippy::unwrap_used)]
//! Handshakes between our two sides, and with things that are neither.

mod dane;
mod differential;
mod handshake;
mod raw_hello;
