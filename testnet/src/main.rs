//! The `testnet` command.
#![forbid(unsafe_code)]

fn main() {}
