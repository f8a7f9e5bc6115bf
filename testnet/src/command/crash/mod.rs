//! `testnet crash`: what a node has acknowledged, it delivers, whatever happens to it.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testnet::crash::node::SluisSubject;
use testnet::crash::points::{self, Extent};
use testnet::crash::postfix::PostfixSubject;
use testnet::crash::seed::Seed;
use testnet::crash::subject::Subject;
use testnet::crash::{Tally, faults, flips, power, random};
use testnet::foreign;
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

/// Parts, as the report calls them.
const POINTS: &str = "killed at system calls";
const FAULTS: &str = "disk faults";
const FLIPPED: &str = "flipped octets";
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
    /// What is to be tested. Postfix is run as it comes, in a private network; that needs root, and what tools/peers.sh
    /// unpacks. It has random kills and power cuts.
    #[arg(long, value_name = "SUBJECT", default_value = "sluis")]
    subject: Product,
    /// Power cuts [default: 6, with --full 60].
    #[arg(long, value_name = "N")]
    cuts: Option<usize>,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Write the table of the run into this file, between the markers of its subject.
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
    /// What is to be tested.
    #[arg(long, value_name = "SUBJECT", default_value = "sluis")]
    subject: Product,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// The node program to test [default: the `sluis` beside this program, built if need be].
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
}

/// An implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Product {
    /// Our node.
    Sluis,
    /// Postfix.
    Postfix,
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
    /// Our node's program; empty if it is not tested.
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
        Some(Command::Power(Power { cuts, seed, lying_disk, subject, json, node })) => {
            arguments = Arguments { only: Some(Part::Power), seed, subject, json, node, ..arguments };
            (cuts, lying_disk)
        }
        None => (arguments.cuts.unwrap_or(if arguments.full { CUTS_FULL } else { CUTS }), false),
    };
    if arguments.subject == Product::Postfix
        && let Some(again) = foreign::enter().map_err(private)?
    {
        return inside(again).await;
    }
    let progress = Progress::new();
    let program = match arguments.subject {
        Product::Sluis => {
            progress.say("looking for the node program");
            progress.suspended(|| locate(arguments.node.as_deref(), Build::IfNeeded)).await?
        }
        Product::Postfix => PathBuf::new(),
    };
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut run = Run {
        kills: arguments.kills.unwrap_or(if arguments.full { FULL } else { SHORT }),
        cuts,
        lying_disk,
        arguments: &arguments,
        program,
        seed,
        progress: &progress,
        report: Report::new(seed, arguments.subject == Product::Postfix),
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

/// Why no private network could be had.
fn private(error: foreign::ForeignError) -> Failure {
    Failure::Tool { what: "a private network", why: error.to_string() }
}

/// Runs this program again, in the private network that the command makes; ends as that one does.
async fn inside(again: std::process::Command) -> Result<ExitCode, Failure> {
    let mut interrupts = Interrupts::new()?;
    let spawned = tokio::process::Command::from(again).spawn();
    let mut child = spawned.map_err(Failure::tool("running this program in a private network"))?;
    let number = child.id().unwrap_or_default();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = interrupts.next() => foreign::end_inside(number),
        }
    };
    let code = status.map_err(Failure::tool("waiting for the private network"))?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

impl Run<'_> {
    fn wants(&self, part: Part) -> bool {
        self.arguments.only.is_none_or(|only| only == part)
    }

    /// Whether a part is wanted that needs a subject of one process, whose calls and files have names. If the subject has
    /// not, the report says so.
    fn wants_one_process(&mut self, part: Part, what: &str) -> bool {
        let wanted = self.wants(part);
        if wanted && self.arguments.subject == Product::Postfix {
            let why = "Postfix is a master and daemons that come and go, and this part needs one process";
            self.report.does_not_apply(what, why);
            return false;
        }
        wanted
    }

    async fn parts(&mut self) -> Result<(), Failure> {
        let mut left = self.kills;
        if self.wants_one_process(Part::Points, POINTS) {
            left = left.saturating_sub(self.points().await?);
        }
        if self.wants(Part::Random) {
            self.random(left).await?;
        }
        if self.wants_one_process(Part::Faults, FAULTS) {
            self.faults().await?;
        }
        if self.wants_one_process(Part::Flips, FLIPPED) {
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
        let mut subject = self.sluis().await?;
        subject.single_file();
        let seed = Seed::new(self.seed).part(1).next();
        let (tally, coverage) =
            points::run(&mut *subject, seed, extent, |what| self.progress.say(what)).await?;
        subject.stop().await;
        let kills = tally.kills;
        self.report.add(POINTS, tally);
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
            let tally = random::run(&mut *subject, seed, lives, |kill| {
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
        let mut subject = self.sluis().await?;
        subject.single_file();
        let seed = Seed::new(self.seed).part(2).next();
        let (tally, lines) = faults::run(&mut *subject, seed, |what| self.progress.say(what)).await?;
        subject.stop().await;
        self.report.add(FAULTS, tally);
        self.report.faults = lines;
        Ok(())
    }

    async fn flips(&mut self) -> Result<(), Failure> {
        let mut subject = self.sluis().await?;
        let seed = Seed::new(self.seed).part(3).next();
        let directory = subject.spool_directory();
        let each = if self.arguments.full { FLIPS_FULL } else { FLIPS };
        let flipped = flips::run(&mut *subject, seed, &directory, each, |what| self.progress.say(what));
        let (tally, table) = flipped.await?;
        subject.stop().await;
        self.report.add(FLIPPED, tally);
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
        let tally = power::run(&mut *subject, seed, cuts, self.lying_disk, |cut| {
            self.progress.say(&format!("power cut {cut} of {cuts}"));
        })
        .await?;
        subject.stop().await;
        self.report.add("power cut under ext4", tally);
        Ok(())
    }

    async fn sluis(&self) -> Result<Box<SluisSubject>, Failure> {
        let program: &Path = &self.program;
        Ok(Box::new(SluisSubject::start(program, Home::Temporary).await?))
    }

    async fn subject(&mut self) -> Result<Box<dyn Subject>, Failure> {
        let subject: Box<dyn Subject> = match self.arguments.subject {
            Product::Sluis => self.sluis().await?,
            Product::Postfix => Box::new(PostfixSubject::launch().await?),
        };
        self.report.about = subject.about();
        Ok(subject)
    }
}
