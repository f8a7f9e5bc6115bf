//! One file per subcommand, and how they fail.

pub mod dns;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testnet::dns::{StartError, TreeError};
use testnet::topology::{PlanError, Topology, TopologyError};

/// Why a subcommand ends early. Results of tests are no failures: they have exit codes 0 and 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The topology file can't be read.
    #[error("{path}: {source}", path = path.display())]
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
}

impl Failure {
    /// 2: usage or configuration; 3: the tool itself.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { .. } | Self::Topology { .. } | Self::Tree(_) => ExitCode::from(2),
            Self::Tool { .. } => ExitCode::from(3),
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

/// The topology of a file, or the default one.
pub fn topology(file: Option<&Path>) -> Result<Topology, Failure> {
    let Some(path) = file else { return Ok(Topology::three_providers()) };
    let text =
        std::fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| Failure::Topology { path: path.to_owned(), source })
}
