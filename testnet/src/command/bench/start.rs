//! `testnet bench start`: how long a node takes to start with many messages in its queue, and how much memory.
//!
//! The queue is filled by submission, for a provider that hangs up on everybody. Then the node is ended and started: in good
//! order and by a kill with nothing of its state in the system's cache, as after the machine's own start, and in good order
//! with what the system then has of it in memory, as after an upgrade. The time runs until it tells its service manager
//! `READY=1`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use testnet::net::{Home, Net, NodeProcess};
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep, timeout};

use super::super::terminal::Progress;
use super::super::{Failure, json, print, table};
use super::load::Load;
use super::process::{memory, processor_of, queued};
use super::stats::Series;
use super::{contradiction, on_net, submission, topology};

const MIB: f64 = 1_024.0 * 1_024.0;
/// Within which it is to be ready.
const SECONDS: f64 = 10.0;
/// Below which its resident memory is to stay.
const OCTETS: u64 = 512 << 20;
/// How long it may take before that is no start any more. Far beyond the limit, so that what is too slow has a figure too.
const PATIENCE: Duration = Duration::from_secs(1_800);

const TOPOLOGY: &str = r#"
about = "A provider whose platform submits, and one that hangs up on everybody."

[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
limits = { sessions_per_peer = 1000 }

[[provider]]
id = "dead"
name = "Dead provider"
domains = ["dead.nl"]
hosts = ["nta.dead.nl"]
played_by = "nobody"
"#;

/// Arguments of `testnet bench start`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages in the queue.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Octets of each message.
    #[arg(long, value_name = "OCTETS", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(300..=10_000_000))]
    octets: u32,
    /// Starts of each kind.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long it runs after it was ready, before its peak is read.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    settle: u64,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// The node program to measure [default: the `sluis` beside this program, built if need be].
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether every start was within the limits.
    ok: bool,
    messages: u32,
    octets: u32,
    /// How long it took to fill the queue, and how many messages per second that is.
    filled_seconds: f64,
    filled_per_second: f64,
    /// Octets of the node's state on disk.
    state_octets: u64,
    seconds_limit: f64,
    memory_limit_octets: u64,
    kinds: Vec<Kind>,
}

/// Starts after the same kind of end.
#[derive(Debug, Serialize)]
struct Kind {
    after: &'static str,
    ok: bool,
    seconds: Series,
    /// Processor time it had used when it was ready: that does not grow with what else the machine does.
    processor_seconds: Series,
    /// Resident when it was ready.
    ready_octets: Series,
    /// The most that was resident, until it had run for a while.
    peak_octets: Series,
    /// Messages in its queue after the last start.
    queued: usize,
}

/// How a node ends before it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

/// What the system has of its files in memory when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    Nothing,
    AsItIs,
}

/// What is measured.
const KINDS: [(End, Cache, &str); 3] = [
    (End::Stop, Cache::Nothing, "a stop"),
    (End::Kill, Cache::Nothing, "a kill"),
    (End::Stop, Cache::AsItIs, "a stop, files cached"),
];

/// One start.
struct Start {
    seconds: f64,
    processor: f64,
    ready: u64,
    peak: u64,
}

/// Measures.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::new();
    let measure = async |net: &mut Net| measure(net, &arguments, &progress).await;
    let report =
        on_net(topology(TOPOLOGY)?, arguments.node.as_deref(), Home::Temporary, &progress, measure).await?;
    print(&if arguments.json { json(&report)? } else { report.text() });
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn measure(net: &mut Net, arguments: &Arguments, progress: &Progress) -> Result<Report, Failure> {
    let (server, name) = submission(net, "a")?;
    let total = arguments.messages;
    let fill = Load {
        server,
        tls: Some(name),
        connections: 32,
        messages: total as usize,
        per_connection: 1_000,
        octets: arguments.octets as usize,
        sender: "alice@a.nl".to_owned(),
        recipients: vec!["bob@dead.nl".to_owned()],
    };
    let filled = fill.run(|done| progress.say(&format!("filling the queue: {done} of {total}"))).await?;
    let state = net.directory().join("a").join("state");
    let socket = net.directory().join("ready.sock");
    let ready = UnixDatagram::bind(&socket).map_err(Failure::tool("a socket for readiness"))?;
    let node = net.node_mut("a").ok_or_else(|| contradiction("there is no node".to_owned()))?;
    node.set_variable("NOTIFY_SOCKET", &socket.to_string_lossy());
    node.set_patience(PATIENCE);
    let mut kinds = Vec::new();
    for (end, cache, after) in KINDS {
        let mut starts = Vec::new();
        for round in 1..=arguments.rounds {
            progress.say(&format!("start {round} of {} after {after}", arguments.rounds));
            starts.push(start(node, (end, cache), &state, &ready, arguments.settle).await?);
        }
        let queued = queued(node).await?;
        if queued != filled.acknowledged {
            let acknowledged = filled.acknowledged;
            return Err(contradiction(format!("{acknowledged} were acknowledged, {queued} are queued")));
        }
        kinds.push(Kind::new(after, &starts, queued));
    }
    Ok(Report {
        ok: kinds.iter().all(|kind| kind.ok),
        messages: total,
        octets: arguments.octets,
        filled_seconds: filled.elapsed.as_secs_f64(),
        filled_per_second: filled.rate(),
        state_octets: files(&state)?.iter().map(|(_, octets)| octets).sum(),
        seconds_limit: SECONDS,
        memory_limit_octets: OCTETS,
        kinds,
    })
}

/// Ends the node and starts it.
async fn start(
    node: &mut NodeProcess,
    (end, cache): (End, Cache),
    state: &Path,
    ready: &UnixDatagram,
    settle: u64,
) -> Result<Start, Failure> {
    match end {
        End::Stop => drop(node.stop().await),
        End::Kill => node.kill().await,
    }
    if cache == Cache::Nothing {
        forget(state)?;
    }
    // What the end of the one before said is none of this one's.
    let mut message = [0; 4_096];
    while ready.try_recv(&mut message).is_ok() {}
    let started = Instant::now();
    let told = async {
        loop {
            let length = ready.recv(&mut message).await.map_err(Failure::tool("waiting for readiness"))?;
            if message[..length].split(|octet| *octet == b'\n').any(|line| line == b"READY=1") {
                return Ok::<_, Failure>(started.elapsed());
            }
        }
    };
    let late = |_| Failure::Tool {
        what: "waiting for readiness",
        why: format!("there is none after {} s", PATIENCE.as_secs()),
    };
    let told = async { timeout(PATIENCE, told).await.map_err(late)? };
    let restarted = async { node.restart().await.map_err(Failure::from) };
    let (told, ()) = tokio::try_join!(told, restarted)?;
    let (ready, processor) = (memory(node, "VmRSS")?, processor_of(node)?.as_secs_f64());
    sleep(Duration::from_secs(settle)).await;
    Ok(Start { seconds: told.as_secs_f64(), processor, ready, peak: memory(node, "VmHWM")? })
}

/// Has the system forget what it has of these files in memory: written to the disk, then given up.
fn forget(directory: &Path) -> Result<(), Failure> {
    let failed = || Failure::tool("emptying the system's cache of the node's state");
    for (path, _) in files(directory)? {
        let file = std::fs::File::open(path).map_err(failed())?;
        file.sync_all().map_err(failed())?;
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed()(error.into()))?;
    }
    Ok(())
}

/// The files below a directory, with their sizes.
fn files(directory: &Path) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let failed = || Failure::tool("reading the node's state directory");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let facts = entry.metadata().map_err(failed())?;
        if facts.is_dir() {
            found.extend(files(&entry.path())?);
        } else if facts.is_file() {
            found.push((entry.path(), facts.len()));
        }
    }
    Ok(found)
}

impl Kind {
    fn new(after: &'static str, starts: &[Start], queued: usize) -> Self {
        let series = |of: fn(&Start) -> f64| Series::new(starts.iter().map(of).collect());
        let ok =
            starts.iter().all(|start| start.seconds < SECONDS && start.ready < OCTETS && start.peak < OCTETS);
        Self {
            after,
            ok,
            seconds: series(|start| start.seconds),
            processor_seconds: series(|start| start.processor),
            ready_octets: series(|start| start.ready as f64),
            peak_octets: series(|start| start.peak as f64),
            queued,
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mib =
            |series: &Series| Series::new(series.all.iter().map(|octets| octets / MIB).collect()).text(0);
        let rows: Vec<_> = self
            .kinds
            .iter()
            .map(|kind| {
                vec![
                    kind.after.to_owned(),
                    kind.seconds.text(2),
                    kind.processor_seconds.text(2),
                    mib(&kind.ready_octets),
                    mib(&kind.peak_octets),
                    kind.queued.to_string(),
                    if kind.ok { "ok" } else { "FAIL" }.to_owned(),
                ]
            })
            .collect();
        let head = [
            "start after",
            "ready after s",
            "processor time s",
            "resident then, MiB",
            "peak, MiB",
            "queued",
            "",
        ];
        table(&head, &rows)
            + &format!(
                "limits {SECONDS} s and {} MiB; filled with {:.0} messages/s, {:.0} MiB on disk\n",
                OCTETS >> 20,
                self.filled_per_second,
                self.state_octets as f64 / MIB
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_at_a_limit_is_beyond_it() {
        let start = |seconds, ready, peak| [Start { seconds, processor: 1.0, ready, peak }];
        assert!(Kind::new("a stop", &start(9.99, OCTETS - 1, OCTETS - 1), 1).ok);
        for beyond in [start(10.0, 1, 1), start(1.0, OCTETS, 1), start(1.0, 1, OCTETS)] {
            assert!(!Kind::new("a stop", &beyond, 1).ok);
        }
    }
}
