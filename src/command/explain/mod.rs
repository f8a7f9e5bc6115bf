//! `sluis explain`: what would happen to a message for an address, or to a reply to a message, and why. Sends nothing,
//! stores nothing (REC-003, RPLY-007).

mod advice;
mod render;
mod reply;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::Args;

use super::send::{open, with_crlf};
use super::{Exit, Failure, Report, client, load};
use crate::admin::{Answer, ReplyReport};
use crate::flow::{self, Depth};
use crate::model::{Address, DecisionRecord, Outcome};
use crate::world::World;

pub(super) use render::render;

/// What to explain.
#[derive(Debug, Args)]
#[command(after_help = REPLIES)]
pub(super) struct Arguments {
    /// The recipient.
    #[arg(required_unless_present_any = ["message", "stored"])]
    address: Option<Address>,
    /// The sender, in one of our domains.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["message", "stored"])]
    from: Option<Address>,
    /// Would a reply to this message stay secure? A file (RFC 5322; lines may end with LF or CRLF), or `-` for standard
    /// input. Only its header is read.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "stored"])]
    message: Option<PathBuf>,
    /// The same for a message in the spool of the running node.
    #[arg(long, value_name = "ID", conflicts_with = "address")]
    stored: Option<String>,
    /// Ask DNS only; open no connection to the other provider.
    #[arg(long)]
    dns_only: bool,
}

const REPLIES: &str = "With --message or --stored, each address of Reply-To, From, To and Cc is looked at: at most 100 of \
them, in at most 25 domains other than our own. A reply goes to Reply-To, or to From without it; a reply to all to the others \
too. A forward goes to whom its writer names: ask about that ADDRESS.\n\n\
Exit code: 0 yes, 1 no or not now, 4 part of the message could not be read or looked at.";

pub(super) async fn explain(path: &Path, world: World, arguments: &Arguments) -> Result<Report, Failure> {
    let depth = if arguments.dns_only { Depth::Dns } else { Depth::Link };
    match arguments {
        Arguments { stored: Some(id), dns_only, .. } => replied(&client(path)?.explain(id, *dns_only).await?),
        Arguments { message: Some(file), .. } => {
            let config = load(path)?;
            let opened =
                open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
            let content = with_crlf(tokio::fs::File::from_std(opened));
            replied(&flow::explain_message(&config, world, content, depth).await?)
        }
        Arguments { address: Some(address), from, .. } => {
            let record = flow::explain(&load(path)?, world, address, from.as_ref(), depth).await?;
            Report::new(render(&address.to_string(), &record), &record, exit(&record))
        }
        Arguments { address: None, .. } => Err(Failure::usage("name an ADDRESS, --message or --stored")),
    }
}

fn replied(report: &ReplyReport) -> Result<Report, Failure> {
    let exit = match report.reply_all {
        Answer::Yes => Exit::Pass,
        Answer::No | Answer::NotNow => Exit::Fail,
        Answer::Incomplete => Exit::Incomplete,
    };
    Report::new(reply::render(report), report, exit)
}

fn exit(record: &DecisionRecord) -> Exit {
    if record.outcome == Outcome::WouldDeliver { Exit::Pass } else { Exit::Fail }
}
