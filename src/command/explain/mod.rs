//! `sluis explain ADDRESS`: what would happen, and why. Sends nothing, stores nothing (REC-003).

mod advice;
mod render;
#[cfg(test)]
mod tests;

use clap::Args;

use super::{Exit, Failure, Report};
use crate::config::Config;
use crate::flow::{self, Depth};
use crate::model::{Address, DecisionRecord, Outcome};
use crate::world::World;

pub(super) use render::render;

/// What to explain.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The recipient.
    address: Address,
    /// The sender, in one of our domains.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
    /// Ask DNS only; open no connection to the other provider.
    #[arg(long)]
    dns_only: bool,
}

pub(super) async fn explain(config: &Config, world: World, arguments: &Arguments) -> Result<Report, Failure> {
    let depth = if arguments.dns_only { Depth::Dns } else { Depth::Link };
    let record = flow::explain(config, world, &arguments.address, arguments.from.as_ref(), depth).await?;
    Report::new(render(&arguments.address.to_string(), &record), &record, exit(&record))
}

fn exit(record: &DecisionRecord) -> Exit {
    if record.outcome == Outcome::WouldDeliver { Exit::Pass } else { Exit::Fail }
}
