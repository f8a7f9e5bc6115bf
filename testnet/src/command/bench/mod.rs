//! `testnet bench`: measurements of the node, each held to a limit where there is one.
//!
//! One file per measurement. What they have in common: the network is built for the measurement and ends with it, `--json`
//! puts one object on standard output and nothing else there, and the exit code is 0 within the limits, 1 beyond one, 2 for
//! a usage error, 3 when this machine is in the way.

mod dead_peer;
mod load;
mod memory;
mod process;
mod rival;
mod spool;
mod start;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use testnet::net::{Build, Home, Net, NodeProcess, locate};
use testnet::topology::Topology;

use super::Failure;
use super::terminal::{Interrupts, Progress};

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
    /// How many messages a node accepts per second, beside Postfix on the same disk, with the deliveries of both held. Needs
    /// root and what tools/peers.sh unpacks, unless `--alone`.
    Spool(spool::Arguments),
    /// What a peer that is dead, with many messages queued for it, does to the delivery to all others.
    DeadPeer(dead_peer::Arguments),
    /// How long a node takes to start with many messages in its queue, and how much memory.
    Start(start::Arguments),
}

/// Measures.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.what {
        What::Memory(arguments) => memory::run(arguments).await,
        What::Spool(arguments) => spool::run(arguments).await,
        What::DeadPeer(arguments) => dead_peer::run(arguments).await,
        What::Start(arguments) => start::run(arguments).await,
    }
}

/// Runs a measurement on a network of its own, which ends with it. An interrupt ends both.
async fn on_net<T>(
    topology: Topology,
    program: Option<&Path>,
    home: Home,
    progress: &Progress,
    measure: impl AsyncFnOnce(&mut Net) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut interrupts = Interrupts::new()?;
    progress.say("looking for the node program");
    let program = progress.suspended(|| locate(program, Build::IfNeeded)).await?;
    let mut net = tokio::select! {
        net = Net::start(topology, &program, home, |what| progress.say(what)) => net?,
        () = interrupts.next() => return Err(Failure::Interrupted),
    };
    let measured = tokio::select! {
        measured = measure(&mut net) => measured,
        () = interrupts.next() => Err(Failure::Interrupted),
    };
    let ended = net.ended();
    progress.say("stopping");
    net.stop().await;
    progress.clear();
    // A node that ended by itself says why; that nothing answers any more only follows from it.
    match (measured, ended) {
        (Err(_), Some(why)) => Err(why.into()),
        (measured, _) => measured,
    }
}

/// A topology written out here.
fn topology(text: &str) -> Result<Topology, Failure> {
    text.parse().map_err(|error: testnet::topology::TopologyError| Failure::Tool {
        what: "laying out the topology",
        why: error.to_string(),
    })
}

fn node<'a>(net: &'a Net, id: &str) -> Result<&'a NodeProcess, Failure> {
    net.node(id).ok_or_else(|| Failure::Tool { what: "the network", why: format!("no node plays {id}") })
}

/// Where a load for the node of this provider goes, and under which name.
fn submission(net: &Net, id: &str) -> Result<(std::net::SocketAddr, String), Failure> {
    let name = net.provider(id).and_then(|provider| provider.placed.hosts.first());
    let name = name.map(|(name, _)| name.clone()).unwrap_or_default();
    Ok((node(net, id)?.submission(), name))
}

/// A result that contradicts what the servers acknowledged: no measurement then.
fn contradiction(why: String) -> Failure {
    Failure::Tool { what: "what was acknowledged and what is in the queue", why }
}
