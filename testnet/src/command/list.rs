//! `testnet list`: what comes with this program.

use std::process::ExitCode;

use serde::Serialize;
use testnet::topology::Topology;

use super::{Failure, print, table};

/// Arguments of `testnet list`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    topologies: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    about: String,
    providers: usize,
    messages: usize,
}

/// Prints the topologies.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let entry = |name| {
        let topology = Topology::built_in(name)?;
        let (providers, messages) = (topology.providers.len(), topology.expected().len());
        Some(Entry { name, about: topology.about, providers, messages })
    };
    let topologies: Vec<_> = Topology::built_in_names().filter_map(entry).collect();
    if arguments.json {
        print(&super::json(&Listed { topologies })?);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |entry: &Entry| {
        let (providers, messages) = (entry.providers.to_string(), entry.messages.to_string());
        vec![entry.name.to_owned(), providers, messages, entry.about.clone()]
    };
    print(&table(
        &["topology", "providers", "messages", "about"],
        &topologies.iter().map(row).collect::<Vec<_>>(),
    ));
    print("\nRun one: testnet up --topology NAME [--once]\n");
    Ok(ExitCode::SUCCESS)
}
