//! `testnet crash`: what a node has acknowledged, it delivers, whatever happens to it.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testnet::crash::node::SluisSubject;
use testnet::crash::points::{self, Extent};
use testnet::crash::seed::Seed;
use testnet::crash::{Tally, faults, flips, power, random};
use testnet::net::{Build, Home, locate};

use super::terminal::{Interrupts, Progress};
use super::{Failure, print};
use report::Report;

/// Kills of a full run.
const FULL: usize = 5_000;
/// Kills of a short one.
const SHORT: usize = 200;
/// Kills that one state directory lives through.
const LIVES: usize = 250;

/// Power cuts.
const CUTS: usize = 6;
/// The same in a full run.
const CUTS_FULL: usize = 60;
/// Octets flipped in each file of the state.
const FLIPS: usize = 4;
/// The same in a full run.
const FLIPS_FULL: usize = 100;

/// Arguments of `testnet crash`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Kills in all [default: 200, with --full 5000]. With --full every point is visited, and the rest happen at random
    /// moments; else one half is for points, as far as it goes.
    #[arg(long, value_name = "N")]
    kills: Option<usize>,
    /// Everything, as long as it takes.
    #[arg(long)]
    full: bool,
    /// What decides everything that is random [default: one that is new each time, and printed].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// This part only.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Write the table of the run into this file, between its markers.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The node program to test [default: the `sluis` beside this program, built if need be].
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Cut the power under a node whose state is on a disk that forgets what was not flushed. Needs root, /dev/fuse, loop
    /// devices and mkfs.ext4; without them it ends with 4, and nothing was shown.
    Power(Power),
}

/// Arguments of `testnet crash power`.
#[derive(Debug, clap::Args)]
struct Power {
    /// Cuts.
    #[arg(long, value_name = "N", default_value_t = CUTS)]
    cuts: usize,
    /// What decides everything that is random [default: one that is new each time, and printed].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Let the disk say that it flushed, and not do it: something is lost then, or the proof would be worth nothing.
    #[arg(long)]
    lying_disk: bool,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// The node program to test [default: the `sluis` beside this program, built if need be].
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Kills at recorded system calls.
    Points,
    /// Kills at random moments.
    Random,
    /// Disk faults.
    Faults,
    /// Flipped octets in the state.
    Flips,
    /// Power cuts.
    Power,
}

/// A run under way.
struct Run<'a> {
    arguments: &'a Arguments,
    program: PathBuf,
    seed: u64,
    kills: usize,
    cuts: usize,
    lying_disk: bool,
    progress: &'a Progress,
    report: Report,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut arguments = arguments;
    let (cuts, lying_disk) = match arguments.command.take() {
        Some(Command::Power(Power { cuts, seed, lying_disk, json, node })) => {
            arguments = Arguments { only: Some(Part::Power), seed, json, node, ..arguments };
            (cuts, lying_disk)
        }
        None if arguments.full => (CUTS_FULL, false),
        None => (CUTS, false),
    };
    let progress = Progress::new();
    progress.say("looking for the node program");
    let program = progress.suspended(|| locate(arguments.node.as_deref(), Build::IfNeeded)).await?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut run = Run {
        kills: arguments.kills.unwrap_or(if arguments.full { FULL } else { SHORT }),
        cuts,
        lying_disk,
        arguments: &arguments,
        program,
        seed,
        progress: &progress,
        report: Report::new(seed),
    };
    let mut interrupts = Interrupts::new()?;
    // What is dropped here ends its processes and takes its mounts apart.
    let ended = tokio::select! {
        ended = run.parts() => ended,
        () = interrupts.next() => Err(Failure::Interrupted),
    };
    progress.clear();
    ended?;
    let report = run.report;
    print(&if arguments.json { super::json(&report)? } else { report.text() });
    if let Some(file) = &arguments.report {
        report.write(file).map_err(Failure::tool("writing the report"))?;
    }
    Ok(report.exit_code())
}

impl Run<'_> {
    fn wants(&self, part: Part) -> bool {
        self.arguments.only.is_none_or(|only| only == part)
    }

    async fn parts(&mut self) -> Result<(), Failure> {
        let mut left = self.kills;
        if self.wants(Part::Points) {
            left = left.saturating_sub(self.points().await?);
        }
        if self.wants(Part::Random) {
            self.random(left).await?;
        }
        if self.wants(Part::Faults) {
            self.faults().await?;
        }
        if self.wants(Part::Flips) {
            self.flips().await?;
        }
        if self.wants(Part::Power) {
            self.power().await?;
        }
        Ok(())
    }

    /// Returns how many kills there were.
    async fn points(&mut self) -> Result<usize, Failure> {
        let all = self.arguments.only == Some(Part::Points);
        let extent =
            Extent { kills: (!self.arguments.full).then_some(if all { self.kills } else { self.kills / 2 }) };
        let mut subject = self.subject().await?;
        subject.single_file();
        let seed = Seed::new(self.seed).part(1).next();
        let (tally, coverage) =
            points::run(&mut subject, seed, extent, |what| self.progress.say(what)).await?;
        subject.stop().await;
        let kills = tally.kills;
        self.report.add("killed at system calls", tally);
        self.report.cover(coverage, self.arguments.full);
        Ok(kills)
    }

    async fn random(&mut self, kills: usize) -> Result<(), Failure> {
        let mut total = Tally { seed: self.seed, ..Tally::default() };
        let mut done = 0;
        while done < kills && total.ok() {
            let lives = LIVES.min(kills - done);
            let seed = Seed::new(self.seed).part(100 + done as u64).next();
            let mut subject = self.subject().await?;
            let tally = random::run(&mut subject, seed, lives, |kill| {
                self.progress.say(&format!("kill {} of {kills} at a random moment", done + kill));
            })
            .await?;
            subject.stop().await;
            total.add(&tally);
            done += lives;
        }
        self.report.add("killed at random moments", total);
        Ok(())
    }

    async fn faults(&mut self) -> Result<(), Failure> {
        let mut subject = self.subject().await?;
        subject.single_file();
        let seed = Seed::new(self.seed).part(2).next();
        let (tally, lines) = faults::run(&mut subject, seed, |what| self.progress.say(what)).await?;
        subject.stop().await;
        self.report.add("disk faults", tally);
        self.report.faults = lines;
        Ok(())
    }

    async fn flips(&mut self) -> Result<(), Failure> {
        let mut subject = self.subject().await?;
        let seed = Seed::new(self.seed).part(3).next();
        let directory = subject.spool_directory();
        let each = if self.arguments.full { FLIPS_FULL } else { FLIPS };
        let flipped = flips::run(&mut subject, seed, &directory, each, |what| self.progress.say(what));
        let (tally, table) = flipped.await?;
        subject.stop().await;
        self.report.add("flipped octets", tally);
        self.report.flips = table;
        Ok(())
    }

    async fn power(&mut self) -> Result<(), Failure> {
        if let Err(why) = power::available() {
            self.report.not_run("power cut under ext4", &why);
            return Ok(());
        }
        let mut subject = self.subject().await?;
        let seed = Seed::new(self.seed).part(4).next();
        let cuts = self.cuts;
        let tally = power::run(&mut subject, seed, cuts, self.lying_disk, |cut| {
            self.progress.say(&format!("power cut {cut} of {cuts}"));
        })
        .await?;
        subject.stop().await;
        self.report.add("power cut under ext4", tally);
        Ok(())
    }

    async fn subject(&self) -> Result<SluisSubject, Failure> {
        let program: &Path = &self.program;
        Ok(SluisSubject::start(program, Home::Temporary).await?)
    }
}
