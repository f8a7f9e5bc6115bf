//! `testnet bench spool`: how many messages a node accepts per second, beside Postfix.
//!
//! Both take the same load, from the same generator, in turns, on the same file system. Neither delivers anything meanwhile:
//! the node's messages are for a provider that hangs up on everybody, so that after a few attempts nobody tries any more;
//! Postfix's go to its hold queue. Both answer after a flush (SPOOL-001; Postfix's default).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use testnet::net::{Home, Net};

use super::super::terminal::Progress;
use super::super::{Failure, json, print, table};
use super::load::{Load, Sent};
use super::process::{id, processor_of, processor_of_others, queued};
use super::rival::{self, Rival};
use super::stats::{Series, percentile_ms};
use super::{contradiction, node, on_net, submission, topology};

/// How many times as many messages as Postfix the node is to accept.
const RATIO: f64 = 3.0;

const TOPOLOGY: &str = r#"
about = "A provider whose platform submits, and one that hangs up on everybody."

[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
limits = { sessions_per_peer = 1000, sessions = 2000 }

[[provider]]
id = "dead"
name = "Dead provider"
domains = ["dead.nl"]
hosts = ["nta.dead.nl"]
played_by = "nobody"
"#;

/// Arguments of `testnet bench spool`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages in each round.
    #[arg(long, value_name = "N", default_value_t = 9_600, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Rounds; in each, both sides have a turn.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Connections at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=90))]
    connections: u32,
    /// Messages after which a connection is closed and another one opened.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    per_connection: u32,
    /// Octets of each message.
    #[arg(long, value_name = "OCTETS", default_value_t = 20_480, value_parser = clap::value_parser!(u32).range(300..=10_000_000))]
    octets: u32,
    /// The node only: no ratio, and no root.
    #[arg(long)]
    alone: bool,
    /// Also hold our load generator beside Postfix's `smtp-source`, both in clear text against Postfix.
    #[arg(long, conflicts_with = "alone")]
    calibrate: bool,
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
    /// Whether the node is as fast as it is to be; `null` if it was alone.
    ok: Option<bool>,
    settings: Settings,
    sluis: Side,
    postfix: Option<Side>,
    /// Accepted messages per second of the node by those of Postfix, round by round.
    ratio: Option<Series>,
    ratio_wanted: f64,
    calibration: Option<Calibration>,
}

#[derive(Debug, Serialize)]
struct Settings {
    messages: u32,
    rounds: u32,
    connections: u32,
    per_connection: u32,
    octets: u32,
}

/// One of the two.
#[derive(Debug, Serialize)]
struct Side {
    /// Messages acknowledged in all rounds, and before.
    acknowledged: usize,
    /// Messages in its queue at the end.
    queued: usize,
    per_second: Series,
    /// The 99th percentile of the time between the last octet of content and the reply.
    p99_ms: Series,
    /// Processor time per message, in microseconds, without that of the load generator.
    processor_us: Series,
}

/// Accepted messages per second, both in clear text against Postfix.
#[derive(Debug, Serialize)]
struct Calibration {
    ours: Series,
    smtp_source: Series,
}

/// Measures.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let place = if arguments.alone { None } else { rival::place()? };
    if place.is_none() && !arguments.alone {
        return rival::inside(arguments.node.as_deref()).await;
    }
    let progress = Progress::new();
    let (program, home) = match place {
        Some(place) => (Some(place.node), Home::Kept(place.directory.join("net"))),
        None => (arguments.node.clone(), Home::Temporary),
    };
    let measure = async |net: &mut Net| {
        let rival = if arguments.alone { None } else { Some(Rival::start(&progress)?) };
        measure(net, rival.as_ref(), &arguments, &progress).await
    };
    let report = on_net(topology(TOPOLOGY)?, program.as_deref(), home, &progress, measure).await?;
    print(&if arguments.json { json(&report)? } else { report.text() });
    Ok(if report.ok == Some(false) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Rounds of one side so far.
#[derive(Default)]
struct Rounds {
    acknowledged: usize,
    per_second: Vec<f64>,
    p99_ms: Vec<f64>,
    processor_us: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, mut sent: Sent, processor: Duration) {
        self.processor_us.push(processor.as_secs_f64() * 1e6 / sent.acknowledged as f64);
        self.acknowledged += sent.acknowledged;
        self.per_second.push(sent.rate());
        self.p99_ms.push(percentile_ms(&mut sent.replies, 99));
    }

    fn side(self, queued: usize) -> Side {
        Side {
            acknowledged: self.acknowledged,
            queued,
            per_second: Series::new(self.per_second),
            p99_ms: Series::new(self.p99_ms),
            processor_us: Series::new(self.processor_us),
        }
    }
}

async fn measure(
    net: &Net,
    rival: Option<&Rival>,
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Report, Failure> {
    let node = node(net, "a")?;
    let ours = arguments.load(submission(net, "a")?);
    let theirs = arguments.load(Rival::server());
    let (mut sluis, mut postfix) = (Rounds::default(), Rounds::default());
    // What is opened, made or learned once is not what is measured.
    let warm = |load: &Load| Load { messages: load.messages.div_ceil(4), ..load.clone() };
    sluis.acknowledged += turn("the node, to warm up", &warm(&ours), progress).await?.acknowledged;
    if rival.is_some() {
        postfix.acknowledged += turn("Postfix, to warm up", &warm(&theirs), progress).await?.acknowledged;
    }
    for round in 0..arguments.rounds {
        // Who comes first changes, so that what the one leaves to be written behind meets both alike.
        let order = if round % 2 == 0 { [true, false] } else { [false, true] };
        for node_now in order {
            let who = format!("round {} of {}", round + 1, arguments.rounds);
            if node_now {
                let before = processor_of(node)?;
                let sent = turn(&format!("{who}: the node"), &ours, progress).await?;
                sluis.add(sent, processor_of(node)?.saturating_sub(before));
            } else if rival.is_some() {
                let before = processor_of_others(id(node)?)?;
                let sent = turn(&format!("{who}: Postfix"), &theirs, progress).await?;
                postfix.add(sent, processor_of_others(id(node)?)?.saturating_sub(before));
            }
        }
    }
    let sluis = sluis.side(queued(node).await?);
    let postfix = rival.map(|rival| rival.queued().map(|queued| postfix.side(queued))).transpose()?;
    for (who, side) in [("the node", Some(&sluis)), ("Postfix", postfix.as_ref())] {
        if let Some(side) = side.filter(|side| side.acknowledged != side.queued) {
            let Side { acknowledged, queued, .. } = side;
            return Err(contradiction(format!("{who} acknowledged {acknowledged} and has {queued}")));
        }
    }
    let calibration = match rival {
        Some(rival) if arguments.calibrate => Some(calibrate(rival, &theirs, arguments, progress).await?),
        _ => None,
    };
    Ok(Report::new(arguments, sluis, postfix, calibration))
}

/// One load for one side.
async fn turn(what: &str, load: &Load, progress: &Progress) -> Result<Sent, Failure> {
    load.run(|done| progress.say(&format!("{what}: {done} of {}", load.messages))).await
}

async fn calibrate(
    rival: &Rival,
    load: &Load,
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Calibration, Failure> {
    let clear = Load { tls: None, ..load.clone() };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        ours.push(turn(&format!("calibrating, {}", round + 1), &clear, progress).await?.rate());
        progress.say(&format!("calibrating, {}: smtp-source", round + 1));
        theirs.push(tokio::task::block_in_place(|| rival.smtp_source(&clear))?);
    }
    Ok(Calibration { ours: Series::new(ours), smtp_source: Series::new(theirs) })
}

impl Arguments {
    fn load(&self, (server, name): (SocketAddr, String)) -> Load {
        Load {
            server,
            tls: Some(name),
            connections: self.connections as usize,
            messages: self.messages as usize,
            per_connection: self.per_connection as usize,
            octets: self.octets as usize,
            sender: "alice@a.nl".to_owned(),
            recipients: vec!["bob@dead.nl".to_owned()],
        }
    }
}

impl Report {
    fn new(
        arguments: &Arguments,
        sluis: Side,
        postfix: Option<Side>,
        calibration: Option<Calibration>,
    ) -> Self {
        let ratio = postfix.as_ref().map(|postfix| {
            let pairs = sluis.per_second.all.iter().zip(&postfix.per_second.all);
            Series::new(pairs.map(|(ours, theirs)| ours / theirs).collect())
        });
        let ok = ratio
            .as_ref()
            .zip(postfix.as_ref())
            .map(|(ratio, postfix)| ratio.median >= RATIO && sluis.p99_ms.median <= postfix.p99_ms.median);
        let Arguments { messages, rounds, connections, per_connection, octets, .. } = *arguments;
        let settings = Settings { messages, rounds, connections, per_connection, octets };
        Self { ok, settings, sluis, postfix, ratio, ratio_wanted: RATIO, calibration }
    }

    fn text(&self) -> String {
        let row = |who: &str, side: &Side| {
            vec![
                who.to_owned(),
                side.per_second.text(0),
                side.p99_ms.text(1),
                side.processor_us.text(0),
                side.queued.to_string(),
            ]
        };
        let mut rows = vec![row("sluis", &self.sluis)];
        rows.extend(self.postfix.as_ref().map(|side| row("Postfix", side)));
        let mut text = table(&["", "accepted/s", "p99 of the reply, ms", "processor, us", "queued"], &rows);
        if let Some(ratio) = &self.ratio {
            let verdict = if self.ok == Some(true) { "ok" } else { "FAIL" };
            text += &format!("ratio {}, wanted {RATIO}, and p99 no worse: {verdict}\n", ratio.text(2));
        }
        if let Some(Calibration { ours, smtp_source }) = &self.calibration {
            text += &format!(
                "in clear text against Postfix: our load generator {}/s, smtp-source {}/s\n",
                ours.text(0),
                smtp_source.text(0)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(rates: &[f64], p99: f64) -> Side {
        Side {
            acknowledged: 10,
            queued: 10,
            per_second: Series::new(rates.to_vec()),
            p99_ms: Series::new(vec![p99; rates.len()]),
            processor_us: Series::new(vec![300.0; rates.len()]),
        }
    }

    fn report(ours: Side, theirs: Option<Side>) -> Report {
        let arguments = Arguments {
            messages: 1,
            rounds: 3,
            connections: 1,
            per_connection: 1,
            octets: 300,
            alone: theirs.is_none(),
            calibrate: false,
            json: false,
            node: None,
        };
        Report::new(&arguments, ours, theirs, None)
    }

    #[test]
    fn it_must_be_three_times_as_fast_and_no_later() {
        let fast = || side(&[3_000.0, 3_100.0, 3_050.0], 20.0);
        assert_eq!(report(fast(), Some(side(&[1_000.0; 3], 21.0))).ok, Some(true));
        assert_eq!(report(fast(), Some(side(&[1_020.0; 3], 21.0))).ok, Some(false), "too slow");
        assert_eq!(report(fast(), Some(side(&[1_000.0; 3], 19.0))).ok, Some(false), "too late");
        assert_eq!(report(fast(), None).ok, None);
    }

    #[test]
    fn the_table_has_both() {
        let text = report(side(&[3_000.0], 20.0), Some(side(&[1_000.0], 21.0))).text();
        let expected = "         accepted/s           p99 of the reply, ms  processor, us     queued
sluis    3000 (3000 to 3000)  20.0 (20.0 to 20.0)   300 (300 to 300)  10
Postfix  1000 (1000 to 1000)  21.0 (21.0 to 21.0)   300 (300 to 300)  10
ratio 3.00 (3.00 to 3.00), wanted 3, and p99 no worse: ok
";
        assert_eq!(text, expected);
    }
}
