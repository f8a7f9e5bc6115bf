//! One file per subcommand, and how they fail.

pub mod bench;
pub mod crash;
pub mod dns;
pub mod list;
mod terminal;
pub mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use testnet::dns::{StartError, TreeError};
use testnet::net::NetError;
use testnet::topology::{PlanError, Topology, TopologyError};

/// Why a subcommand ends early. Results of tests are no failures: they have exit codes 0 and 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The topology file can't be read.
    #[error("{path}: {source}; `testnet list` names the topologies that come with this program", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The topology file can't be used.
    #[error("{path}: {source}", path = path.display())]
    Topology {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: TopologyError,
    },
    /// What the topology describes can't be published.
    #[error("in the topology: {0}")]
    Tree(TreeError),
    /// Something on this machine is in the way.
    #[error("{what}: {why}")]
    Tool {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        why: String,
    },
    /// The network does not run.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Somebody asked us to end before there was a result.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// 2: usage or configuration; 3: the tool itself.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { .. } | Self::Topology { .. } | Self::Tree(_) | Self::Net(NetError::NoNode(_)) => {
                ExitCode::from(2)
            }
            Self::Tool { .. } | Self::Net(_) | Self::Interrupted => ExitCode::from(3),
        }
    }

    /// A failure of this machine.
    pub fn tool(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |why| Self::Tool { what, why: why.to_string() }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Tree(error) => Self::Tree(error),
            other => Self::Tool { what: "starting the DNS server", why: other.to_string() },
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Tool { what: "laying out the topology", why: error.to_string() }
    }
}

/// The topology with this name, else the one in this file.
pub fn topology(name_or_file: &str) -> Result<Topology, Failure> {
    if let Some(topology) = Topology::built_in(name_or_file) {
        return Ok(topology);
    }
    let path = Path::new(name_or_file);
    let text =
        std::fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| Failure::Topology { path: path.to_owned(), source })
}

/// A result for programs.
fn json(result: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(result)
        .map_err(|error| Failure::Tool { what: "writing JSON", why: error.to_string() })?;
    Ok(format!("{text}\n"))
}

/// A reader that went away (`testnet list | head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Rows below their heads, in aligned columns.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let cells: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let mut text = line(head.to_vec());
    rows.iter().for_each(|row| text.push_str(&line(row.iter().map(String::as_str).collect())));
    text
}
