//! `testnet bench memory`: what large messages do to the resident memory of both nodes they pass.
//!
//! Read from `/proc` of the node processes, so on Linux only: `VmRSS` when idle, then `VmHWM`, the high-water mark, which is
//! set back before each load.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use testnet::net::client::{Call, Carriage, Envelope, connect};
use testnet::net::{Home, Net, NetError, NodeProcess, Provider};
use testnet::topology::Topology;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::terminal::Progress;
use super::super::{Failure, json, print, table};
use super::load::LINE;
use super::on_net;
use super::process::{forget_peak, memory};

const MIB: u64 = 1_024 * 1_024;
/// Most that a node may grow over idle for one message.
const LIMIT_ONE: u64 = 8 * MIB;
/// Most that it may grow over idle for several at once.
const LIMIT_PARALLEL: u64 = 64 * MIB;
/// How long one load may take to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Arguments of `testnet bench memory`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Size of each message in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=60))]
    size: u64,
    /// How many messages are under way at once in the second load.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=30))]
    parallel: u64,
    /// At which level: at `nta7516` nobody's client key can be seen, and the messages alone prove their sender.
    #[arg(long, value_enum, default_value = "mutual")]
    level: Level,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// The node program to measure [default: the `sluis` beside this program, built if need be].
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
}

/// The assurance level of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    /// Both ends proven by their keys.
    Mutual,
    /// The sender proven by its messages.
    Nta7516,
}

/// `{"ok", "message_octets", "loads"}`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether no node grew beyond a limit.
    ok: bool,
    message_octets: u64,
    loads: Vec<Measured>,
}

/// One load.
#[derive(Debug, Serialize)]
struct Measured {
    /// How many messages were under way at once.
    messages: u64,
    /// What each node may grow over idle.
    limit_octets: u64,
    /// From the first octet submitted to the last message in the environment.
    seconds: f64,
    nodes: Vec<Growth>,
}

/// One node during one load.
#[derive(Debug, Serialize)]
struct Growth {
    /// The `id` of its provider.
    provider: String,
    /// Resident before the first load.
    idle_octets: u64,
    /// The most that was resident during this one.
    peak_octets: u64,
    growth_octets: u64,
    ok: bool,
}

/// Measures, and says whether it is within the limits.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::new();
    let measure = async |net: &mut Net| measure(net, &arguments, &progress).await;
    let report = on_net(
        two_providers(arguments.level),
        arguments.node.as_deref(),
        Home::Temporary,
        &progress,
        measure,
    )
    .await?;
    print(&if arguments.json { json(&report)? } else { report.text() });
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The first two of a built-in topology: one submits, the other one keeps.
fn two_providers(level: Level) -> Topology {
    let mut topology = match level {
        Level::Mutual => Topology::three_providers(),
        Level::Nta7516 => Topology::nta7516(),
    };
    topology.providers.truncate(2);
    topology.messages.clear();
    topology
}

async fn measure(net: &Net, arguments: &Arguments, progress: &Progress) -> Result<Report, Failure> {
    let content = content(arguments.size * MIB);
    let mut idle = Vec::new();
    for provider in &net.providers {
        idle.push(memory(node(provider)?, "VmRSS")?);
    }
    let mut loads = Vec::new();
    let mut sent = 0;
    for (messages, limit) in [(1, LIMIT_ONE), (arguments.parallel, LIMIT_PARALLEL)] {
        progress.say(&format!("{messages} × {} MiB", arguments.size));
        for provider in &net.providers {
            forget_peak(node(provider)?)?;
        }
        let started = Instant::now();
        send(net, messages, &content).await?;
        sent += messages;
        arrive(net, sent, &content).await?;
        let seconds = started.elapsed().as_secs_f64();
        let mut nodes = Vec::new();
        for (provider, idle) in net.providers.iter().zip(&idle) {
            let peak = memory(node(provider)?, "VmHWM")?;
            nodes.push(Growth::new(&provider.placed.provider.id, *idle, peak, limit));
        }
        loads.push(Measured { messages, limit_octets: limit, seconds, nodes });
    }
    let ok = loads.iter().flat_map(|load| &load.nodes).all(|node| node.ok);
    Ok(Report { ok, message_octets: content.len() as u64, loads })
}

impl Growth {
    fn new(provider: &str, idle: u64, peak: u64, limit: u64) -> Self {
        let growth = peak.saturating_sub(idle);
        Self {
            provider: provider.to_owned(),
            idle_octets: idle,
            peak_octets: peak,
            growth_octets: growth,
            ok: growth < limit,
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mib = |octets: u64| format!("{:.1} MiB", octets as f64 / MIB as f64);
        let mut rows = Vec::new();
        for load in &self.loads {
            for node in &load.nodes {
                rows.push(vec![
                    format!("{} × {}", load.messages, mib(self.message_octets)),
                    node.provider.clone(),
                    mib(node.idle_octets),
                    mib(node.peak_octets),
                    mib(node.growth_octets),
                    mib(load.limit_octets),
                    format!("{:.1} s", load.seconds),
                    if node.ok { "ok" } else { "FAIL" }.to_owned(),
                ]);
            }
        }
        table(&["load", "node", "idle", "peak", "growth", "limit", "time", ""], &rows)
    }
}

/// Submits that many messages at once to the first provider's node.
async fn send(net: &Net, messages: u64, content: &[u8]) -> Result<(), Failure> {
    let [first, second, ..] = net.providers.as_slice() else { return Err(none("two providers")) };
    let address = node(first)?.submission();
    let server = first.placed.hosts[0].0.clone();
    let envelope = Envelope::plain(
        &format!("alice@{}", first.placed.provider.domains[0]),
        &format!("bob@{}", second.placed.provider.domains[0]),
        content,
    );
    // Shared, so that what this process holds does not grow with their number.
    let content: std::sync::Arc<[u8]> = content.into();
    let mut tasks = JoinSet::new();
    for _ in 0..messages {
        let (server, envelope, content) = (server.clone(), envelope.clone(), content.clone());
        tasks.spawn(async move {
            let call = Call { address, server: &server, helo: "platform.invalid", identity: None };
            let mut client = connect(&call).await?;
            let offered = client.offer(&envelope, &content, Carriage::Chunks(MIB as usize)).await?;
            client.quit().await;
            if offered.reply.code == 250 {
                return Ok(());
            }
            let why = format!("{}: {} {}", offered.step, offered.reply.code, offered.reply.text());
            Err(NetError::Machine { what: "submitting a message".to_owned(), why })
        });
    }
    while let Some(sent) = tasks.join_next().await {
        sent.map_err(|error| Failure::Tool { what: "submitting a message", why: error.to_string() })??;
    }
    Ok(())
}

/// Waits until the second provider's environment has so many messages, whole.
async fn arrive(net: &Net, count: u64, content: &[u8]) -> Result<(), Failure> {
    let sink = net.providers.get(1).and_then(Provider::sink).ok_or_else(|| none("an environment"))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let arrived = timeout(PATIENCE, sink.wait_for(count)).await.map_err(|_| Failure::Tool {
        what: "waiting for the messages",
        why: format!("they did not arrive within {} s", PATIENCE.as_secs()),
    })?;
    for stored in arrived {
        let got = stored.content().map_err(Failure::tool("reading what arrived"))?;
        if !got.ends_with(content) {
            return Err(Failure::Tool { what: "what arrived", why: "it is not what was sent".to_owned() });
        }
    }
    Ok(())
}

/// A message of at least so many octets, 7-bit, in lines as base64 has them.
fn content(octets: u64) -> Vec<u8> {
    let head = "From: <alice@a.nl>\r\nTo: <bob@b.nl>\r\nSubject: large\r\nMessage-ID: <large@a.nl>\r\n\
                Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n\
                Content-Transfer-Encoding: base64\r\n\r\n";
    let mut content = head.as_bytes().to_vec();
    let octets = usize::try_from(octets).unwrap_or(usize::MAX);
    while content.len() < octets {
        content.extend_from_slice(LINE);
    }
    content
}

fn node(provider: &Provider) -> Result<&NodeProcess, Failure> {
    provider.node().ok_or_else(|| none("a node"))
}

fn none(what: &str) -> Failure {
    Failure::Tool { what: "the network", why: format!("there is no {what} in it") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_up_to_a_limit_is_beyond_it() {
        assert!(Growth::new("a", 10 * MIB, 18 * MIB - 1, LIMIT_ONE).ok);
        assert!(!Growth::new("a", 10 * MIB, 18 * MIB, LIMIT_ONE).ok);
        assert!(Growth::new("a", 10 * MIB, 9 * MIB, LIMIT_ONE).ok, "smaller than when idle");
    }

    #[test]
    fn a_message_has_its_size_and_whole_lines() {
        let content = content(MIB);
        let beyond = content.len() as u64 - MIB;
        assert!(beyond < LINE.len() as u64 && content.ends_with(b"\r\n"));
    }

    #[test]
    fn the_table_says_which_node_grew_too_much() {
        let nodes = vec![
            Growth::new("a", 14 * MIB, 17 * MIB, LIMIT_ONE),
            Growth::new("b", 14 * MIB, 24 * MIB, LIMIT_ONE),
        ];
        let load = Measured { messages: 1, limit_octets: LIMIT_ONE, seconds: 1.25, nodes };
        let report = Report { ok: false, message_octets: 20 * MIB, loads: vec![load] };
        let expected = "\
load          node  idle      peak      growth    limit    time
1 × 20.0 MiB  a     14.0 MiB  17.0 MiB  3.0 MiB   8.0 MiB  1.2 s  ok
1 × 20.0 MiB  b     14.0 MiB  24.0 MiB  10.0 MiB  8.0 MiB  1.2 s  FAIL
";
        assert_eq!(report.text(), expected);
    }
}
