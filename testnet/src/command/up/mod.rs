//! `testnet up`: several providers on this machine, to try by hand or to run every message of a topology once.

mod guide;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use testnet::net::{Build, Home, Net, locate, once};
use testnet::topology::Topology;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, print, topology};
use report::Report;

/// Between two looks at what arrived.
const LOOK: Duration = Duration::from_millis(250);

/// Arguments of `testnet up`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A topology of `testnet list`, or a file with one.
    #[arg(long, value_name = "FILE|NAME", default_value = "three-providers")]
    topology: String,
    /// Send every message of the topology once, say what became of them, and end with 0 if all is as expected, else 1.
    #[arg(long)]
    once: bool,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// The node program to test [default: the `sluis` beside this program, built if need be].
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
    /// Keep configuration, logs and mail in this new directory, instead of a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Starts the network; then runs it once, or stays until interrupted.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let topology = topology(&arguments.topology)?;
    let mut interrupts = Interrupts::new()?;
    let progress = Progress::new();
    let mut net = tokio::select! {
        started = start(&arguments, topology, &progress) => started?,
        () = interrupts.next() => return Err(Failure::Interrupted),
    };
    let ended = if arguments.once {
        tokio::select! {
            ended = run_once(&net, arguments.json, &progress) => ended,
            () = interrupts.next() => Err(Failure::Interrupted),
        }
    } else {
        progress.clear();
        stay(&mut net, arguments.json, &mut interrupts).await
    };
    progress.say("stopping");
    net.stop().await;
    progress.clear();
    ended
}

async fn start(arguments: &Arguments, topology: Topology, progress: &Progress) -> Result<Net, Failure> {
    progress.say("looking for the node program");
    let program = progress.suspended(|| locate(arguments.node.as_deref(), Build::IfNeeded)).await?;
    let home = arguments.keep.clone().map_or(Home::Temporary, Home::Kept);
    Ok(Net::start(topology, &program, home, |what| progress.say(what)).await?)
}

async fn run_once(net: &Net, json: bool, progress: &Progress) -> Result<ExitCode, Failure> {
    let total = net.plan.topology.expected().len();
    let mut number = 0;
    let lines = once::run(net, |message| {
        number += 1;
        progress.say(&format!("message {number} of {total}: {}", message.about));
    })
    .await;
    progress.clear();
    let report = Report::new(net, lines);
    print(&if json { super::json(&report)? } else { report.table() });
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Says what there is, then what arrives, until interrupted or until a node ends.
async fn stay(net: &mut Net, json: bool, interrupts: &mut Interrupts) -> Result<ExitCode, Failure> {
    print(&if json { super::json(&Report::new(net, Vec::new()))? } else { guide::text(net) });
    let mut arrivals = guide::Arrivals::default();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = interrupts.next() => return Ok(ExitCode::SUCCESS),
        }
        for line in arrivals.news(net) {
            if !json {
                print(&line);
            }
        }
        if let Some(error) = net.ended() {
            return Err(error.into());
        }
    }
}

/// What asks us to end: an interrupt from the terminal, its end, or `kill`.
pub(in crate::command) struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    pub(in crate::command) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::tool("listening for signals"));
        Ok(Self {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    pub(in crate::command) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A line on standard error while something takes time; nothing if that is no terminal.
pub(in crate::command) struct Progress(ProgressBar);

impl Progress {
    pub(in crate::command) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    pub(in crate::command) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Runs something that has a progress line of its own.
    pub(in crate::command) async fn suspended<T>(&self, work: impl AsyncFnOnce() -> T) -> T {
        self.0.disable_steady_tick();
        self.0.suspend(|| {});
        let done = work().await;
        self.0.enable_steady_tick(Duration::from_millis(120));
        done
    }

    pub(in crate::command) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
