//! The `sluis` command.
#![forbid(unsafe_code)]

fn main() {}
