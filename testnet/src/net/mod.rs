//! A running network: the signed DNS, a node process with its environment per provider, and the parts that the testnet
//! plays itself.
//!
//! # Guarantees
//! - Everything is on loopback addresses of one [`Prefix`](crate::loopback::Prefix) and in one directory of its own; no
//!   privileges are needed.
//! - Dropping a [`Net`] ends every process it started, by its id.
//! - What is judged is what a stranger can see: replies, what the environment got, and what the node's own command says.
//!
//! # Errors
//! [`NetError`]: something on this machine is in the way, or the node did not start. Verdicts are no errors: see
//! [`once`].

mod client;
mod expect;
mod fake;
mod locate;
mod message;
mod node;
pub mod once;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::dns::DnsServer;
use crate::loopback::Prefix;
use crate::sink::{Listen, Sink};
use crate::topology::{Placed, Plan, PlayedBy, Topology};

pub use fake::Fake;
pub use locate::{Build, locate};
pub use node::NodeProcess;

/// Why a network does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// This machine refuses something.
    #[error("{what}: {why}")]
    Machine {
        /// What was tried.
        what: String,
        /// What came of it.
        why: String,
    },
    /// The node ended, or was not ready in time; with what it printed.
    #[error("the node of provider `{provider}` did not start: {why}\n{printed}")]
    Node {
        /// Whose.
        provider: String,
        /// Why.
        why: String,
        /// What it printed.
        printed: String,
    },
    /// The node cannot be built or found.
    #[error("no node to test: {0}")]
    NoNode(String),
}

impl NetError {
    pub(crate) fn machine<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |why| Self::Machine { what: what.into(), why: why.to_string() }
    }
}

/// One provider of a running network.
pub struct Provider {
    /// Addresses and keys.
    pub placed: Placed,
    /// What runs for it.
    pub part: Part,
}

/// Who plays a provider.
pub enum Part {
    /// A node and its environment.
    Node {
        /// The process.
        node: NodeProcess,
        /// Where its mail ends up.
        sink: Sink,
    },
    /// The testnet.
    Fake(Fake),
    /// Nobody.
    Nobody,
}

/// A running network.
pub struct Net {
    /// The topology with addresses.
    pub plan: Plan,
    /// The DNS.
    pub dns: DnsServer,
    /// The providers, in the order of the file.
    pub providers: Vec<Provider>,
    directory: TempDir,
    _prefix: Prefix,
}

impl Net {
    /// Starts everything that `topology` describes, with the node program `program`.
    ///
    /// # Errors
    /// See [`NetError`].
    pub async fn start(
        topology: Topology,
        program: &Path,
        mut progress: impl FnMut(&str),
    ) -> Result<Self, NetError> {
        let ports = Plan::ports(&topology);
        let prefix =
            Prefix::pick(rand::random, &ports).map_err(NetError::machine("finding loopback addresses"))?;
        let directory = tempfile::Builder::new()
            .prefix("sluis-testnet-")
            .tempdir()
            .map_err(NetError::machine("a directory"))?;
        let now = Timestamp::now();
        let plan = Plan::new(topology, &prefix, now).map_err(NetError::machine("keys and certificates"))?;
        progress("signing the DNS tree");
        let tree = plan.tree().map_err(NetError::machine("the DNS tree"))?;
        let dns = DnsServer::start(tree, now, plan.dns).await.map_err(NetError::machine("the DNS server"))?;
        let anchor = directory.path().join("root.ds");
        std::fs::write(&anchor, dns.anchor_ds()).map_err(NetError::machine("writing the trust anchor"))?;
        let mut providers = Vec::new();
        for placed in &plan.providers {
            progress(&format!("starting {}", placed.provider.name));
            let part = start_part(&plan, placed, program, directory.path(), &anchor).await?;
            providers.push(Provider { placed: placed.clone(), part });
        }
        let mut net = Self { plan, dns, providers, directory, _prefix: prefix };
        net.wait_ready(&mut progress).await?;
        Ok(net)
    }

    async fn wait_ready(&mut self, progress: &mut impl FnMut(&str)) -> Result<(), NetError> {
        for provider in &mut self.providers {
            if let Part::Node { node, .. } = &mut provider.part {
                progress(&format!("waiting for {}", provider.placed.provider.name));
                node.wait_ready().await?;
            }
        }
        Ok(())
    }

    /// Where everything of this network lives.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// The provider with this `id`.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.placed.provider.id == id)
    }
}

async fn start_part(
    plan: &Plan,
    placed: &Placed,
    program: &Path,
    directory: &Path,
    anchor: &Path,
) -> Result<Part, NetError> {
    let home = directory.join(&placed.provider.id);
    std::fs::create_dir_all(&home).map_err(NetError::machine("a directory"))?;
    match placed.provider.played_by {
        PlayedBy::Nobody => Ok(Part::Nobody),
        PlayedBy::Testnet => Ok(Part::Fake(Fake::start(plan, placed).await?)),
        PlayedBy::Node => {
            let listen = Listen::Unix(home.join("lmtp.sock"));
            let clock: Clock = crate::clock::system();
            let sink = Sink::start(listen, &home.join("mail"), clock)
                .await
                .map_err(NetError::machine("the LMTP sink"))?;
            let node = NodeProcess::start(plan, placed, program, &home, anchor, sink.address())?;
            Ok(Part::Node { node, sink })
        }
    }
}
