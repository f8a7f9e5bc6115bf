//! The `testnet` command.
#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Several secure-mail providers on one machine, to try and to test gates between them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run several providers: to try by hand, or `--once` to send every message of a topology and judge the result.
    Up(command::up::Arguments),
    /// List what comes with this program.
    List(command::list::Arguments),
    /// Kill a node under load, at random and at every system call, and compare what it said with what it does.
    Crash(command::crash::Arguments),
    /// Serve the signed DNS tree of a topology in the foreground, and print its trust anchor.
    Dns(command::dns::Arguments),
    /// Measure the node, and hold what was measured to its limits.
    Bench(command::bench::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let result = match command {
        Command::Up(arguments) => command::up::run(arguments).await,
        Command::List(arguments) => command::list::run(&arguments),
        Command::Crash(arguments) => command::crash::run(arguments).await,
        Command::Dns(arguments) => command::dns::run(arguments).await,
        Command::Bench(arguments) => command::bench::run(arguments).await,
    };
    result.unwrap_or_else(|failure| {
        eprintln!("testnet: {failure}");
        failure.exit_code()
    })
}
