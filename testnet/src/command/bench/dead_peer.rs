//! `testnet bench dead-peer`: what a peer that takes nothing, with many messages queued for it, does to the others.
//!
//! Two nodes that are alike but for their queues: one has messages for a dead peer, the other one has none. In turns, each
//! gets the same messages for the same living peers, over one connection after the other; what counts is the time until the
//! last of them has been delivered. The living peers are played by this program, which stores nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use testnet::net::{Home, Net, Part};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::super::terminal::Progress;
use super::super::{Failure, json, print, table};
use super::load::Load;
use super::process::queued;
use super::stats::Series;
use super::{contradiction, node, on_net, submission, topology};

/// By how much, at most, the others may become slower.
const LOSS: f64 = 0.05;
/// Between two looks at a queue. Short beside a round.
const LOOK: Duration = Duration::from_millis(20);
/// How long a round's messages may take to be delivered after the last was submitted.
const PATIENCE: Duration = Duration::from_secs(600);
/// Living peers.
const LIVING: usize = 4;

/// Arguments of `testnet bench dead-peer`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages queued for the dead peer.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    queued: u32,
    /// Their size.
    #[arg(long, value_name = "OCTETS", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(300..=10_000_000))]
    queued_octets: u32,
    /// The dead peer takes connections and says nothing, instead of hanging up.
    #[arg(long)]
    silent: bool,
    /// Messages for the others in each round.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Their size.
    #[arg(long, value_name = "OCTETS", default_value_t = 20_480, value_parser = clap::value_parser!(u32).range(300..=10_000_000))]
    octets: u32,
    /// Rounds; in each, both nodes have a turn.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
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
    /// Whether the others are hardly slower.
    ok: bool,
    settings: Settings,
    /// Messages for living peers delivered per second, without a dead peer.
    free: Series,
    /// The same with one.
    laden: Series,
    /// By which part it is slower with one, round by round; negative if it is faster.
    loss: Series,
    loss_limit: f64,
    /// Messages that the living peers got.
    delivered: usize,
    /// Messages for the dead peer that are queued at the end.
    still_queued: usize,
}

#[derive(Debug, Serialize)]
struct Settings {
    queued: u32,
    queued_octets: u32,
    silent: bool,
    messages: u32,
    octets: u32,
    rounds: u32,
    living_peers: usize,
}

/// Measures.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::new();
    let measure = async |net: &mut Net| measure(net, &arguments, &progress).await;
    let topology = topology(&layout(arguments.silent))?;
    let report = on_net(topology, arguments.node.as_deref(), Home::Temporary, &progress, measure).await?;
    print(&if arguments.json { json(&report)? } else { report.text() });
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Two nodes, the living peers, and the dead one. A peer takes as much as it is offered: how fast a node is, and not how
/// much it thinks others want.
fn layout(silent: bool) -> String {
    let mut text = "about = \"Two nodes, living peers, and a dead one.\"\n".to_owned();
    let mut provider = |id: &str, more: &str| {
        text += &format!(
            "[[provider]]\nid = \"{id}\"\nname = \"Provider {id}\"\ndomains = [\"{id}.nl\"]\nhosts = [\"nta.{id}.nl\"]\n{more}\n"
        );
    };
    for id in ["free", "laden"] {
        provider(id, "limits = { messages_to_peer_per_minute = 600000, sessions_per_peer = 1000 }");
    }
    for number in 0..LIVING {
        provider(&living(number), "played_by = \"testnet\"");
    }
    let dead = if silent { "played_by = \"testnet\"\nserver = \"silent\"" } else { "played_by = \"nobody\"" };
    provider("dead", dead);
    text
}

fn living(number: usize) -> String {
    format!("living-{number}")
}

async fn measure(net: &Net, arguments: &Arguments, progress: &Progress) -> Result<Report, Failure> {
    let backlog = arguments.queued as usize;
    let fill = Load {
        messages: backlog,
        octets: arguments.queued_octets as usize,
        recipients: vec!["bob@dead.nl".to_owned()],
        ..load(net, "laden", arguments)?
    };
    let filled =
        fill.run(|done| progress.say(&format!("queueing for the dead peer: {done} of {backlog}"))).await?;
    let (mut free, mut laden) = (Vec::new(), Vec::new());
    // A round before the first opens connections and learns where the peers are.
    for round in 0..=arguments.rounds {
        let order = if round % 2 == 0 { ["free", "laden"] } else { ["laden", "free"] };
        for id in order {
            progress.say(&format!("round {round} of {}: the node that is {id}", arguments.rounds));
            let left = if id == "free" { 0 } else { filled.acknowledged };
            let rate = turn(net, id, &load(net, id, arguments)?, left).await?;
            if round > 0 {
                if id == "free" { free.push(rate) } else { laden.push(rate) }
            }
        }
    }
    let delivered = delivered(net);
    let still_queued = queued(node(net, "laden")?).await?;
    let expected = arguments.messages as usize * 2 * (arguments.rounds as usize + 1);
    if delivered != expected || still_queued != filled.acknowledged {
        return Err(contradiction(format!(
            "{expected} were to be delivered and {delivered} arrived; {} were to stay and {still_queued} did",
            filled.acknowledged
        )));
    }
    Ok(Report::new(arguments, free, laden, (delivered, still_queued)))
}

fn load(net: &Net, id: &str, arguments: &Arguments) -> Result<Load, Failure> {
    let (server, name) = submission(net, id)?;
    Ok(Load {
        server,
        tls: Some(name),
        connections: 32,
        messages: arguments.messages as usize,
        per_connection: 1_000,
        octets: arguments.octets as usize,
        sender: format!("alice@{id}.nl"),
        recipients: (0..LIVING).map(|number| format!("bob@{}.nl", living(number))).collect(),
    })
}

/// Submits, waits until no more than `left` messages are queued, and returns how many were delivered per second.
async fn turn(net: &Net, id: &str, load: &Load, left: usize) -> Result<f64, Failure> {
    let started = Instant::now();
    load.run(|_| ()).await?;
    let node = node(net, id)?;
    let emptied = async {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if queued(node).await? <= left {
                return Ok::<_, Failure>(started.elapsed());
            }
        }
    };
    let late = |_| Failure::Tool { what: "waiting for deliveries", why: "they take too long".to_owned() };
    let elapsed = timeout(PATIENCE, emptied).await.map_err(late)??;
    Ok(load.messages as f64 / elapsed.as_secs_f64())
}

/// Messages whose content the living peers have heard to its end.
fn delivered(net: &Net) -> usize {
    let fakes = net.providers.iter().filter_map(|provider| match &provider.part {
        Part::Fake(fake) => Some(fake),
        Part::Node { .. } | Part::Nobody(_) => None,
    });
    fakes.map(|fake| fake.heard().iter().filter(|line| line.starts_with("content ")).count()).sum()
}

impl Report {
    fn new(
        arguments: &Arguments,
        free: Vec<f64>,
        laden: Vec<f64>,
        (delivered, still_queued): (usize, usize),
    ) -> Self {
        let loss = Series::new(free.iter().zip(&laden).map(|(free, laden)| 1.0 - laden / free).collect());
        let Arguments { queued, queued_octets, silent, messages, octets, rounds, .. } = *arguments;
        Self {
            ok: loss.median <= LOSS,
            settings: Settings {
                queued,
                queued_octets,
                silent,
                messages,
                octets,
                rounds,
                living_peers: LIVING,
            },
            free: Series::new(free),
            laden: Series::new(laden),
            loss,
            loss_limit: LOSS,
            delivered,
            still_queued,
        }
    }

    fn text(&self) -> String {
        let row = |who: String, series: &Series| vec![who, series.text(0)];
        let rows = [
            row("no dead peer".to_owned(), &self.free),
            row(format!("{} messages for one", self.settings.queued), &self.laden),
        ];
        let percent = Series::new(self.loss.all.iter().map(|loss| loss * 100.0).collect());
        let verdict = if self.ok { "ok" } else { "FAIL" };
        table(&["", "delivered/s"], &rows)
            + &format!("slower by {} %, limit {:.0} %: {verdict}\n", percent.text(1), LOSS * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_topologies() {
        for silent in [false, true] {
            let topology = topology(&layout(silent)).map_err(|error| error.to_string());
            assert_eq!(topology.map(|topology| topology.providers.len()), Ok(LIVING + 3));
        }
    }
}
