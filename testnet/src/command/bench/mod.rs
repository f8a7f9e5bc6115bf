//! `testnet bench`: measurements of the node, each held to a limit where there is one.
//!
//! One file per measurement. What they have in common: the network is built for the measurement and ends with it, `--json`
//! puts one object on standard output and nothing else there, and the exit code is 0 within the limits, 1 beyond one, 2 for
//! a usage error, 3 when this machine is in the way.

mod memory;

use std::process::ExitCode;

use super::Failure;

/// Arguments of `testnet bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// How much a node's resident memory grows over idle: one large message, then several at once, at level `mutual`.
    Memory(memory::Arguments),
}

/// Measures.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.what {
        What::Memory(arguments) => memory::run(arguments).await,
    }
}
