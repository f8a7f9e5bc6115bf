//! A running network: the signed DNS, a node process with its environment per provider, and the parts that the testnet
//! plays itself.
//!
//! # Guarantees
//! - Everything is on loopback addresses of one [`Prefix`](crate::loopback::Prefix) and in one directory of its own; no
//!   privileges are needed.
//! - [`Net::stop`] ends every process it started, in order and by its id. Dropping a [`Net`] kills them.
//! - What is judged is what a stranger can see: replies, what the environment got, and what the node's own command says.
//!
//! # Errors
//! [`NetError`]: something on this machine is in the way, or the node did not start. Verdicts are no errors: see
//! [`once`].

pub mod anybody;
pub mod client;
pub mod expect;
mod fake;
mod locate;
mod message;
mod node;
pub mod once;
pub mod post;
pub mod verdicts;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use jiff::Timestamp;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::dns::{AnchorFiles, DnsServer};
use crate::loopback::Prefix;
use crate::sink::{Listen, Sink};
use crate::topology::{Placed, Plan, PlayedBy, Topology};

pub use fake::{Fake, Tripwire};
pub use locate::{Build, locate};
pub use node::NodeProcess;

/// Longest path of a UNIX socket, in octets (`sun_path` of Linux without the final NUL).
const SOCKET_PATH_MAX: usize = 107;

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
    /// A node that was running ended by itself; with what it printed.
    #[error("the node of provider `{provider}` ended ({status})\n{printed}")]
    Ended {
        /// Whose.
        provider: String,
        /// How.
        status: ExitStatus,
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
        node: Box<NodeProcess>,
        /// Where its mail ends up.
        sink: Sink,
    },
    /// The testnet.
    Fake(Fake),
    /// Nobody, and it is noticed when somebody knocks.
    Nobody(Tripwire),
}

/// Where a network keeps its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// In a new directory below the one for temporary files (`TMPDIR`), removed at the end.
    Temporary,
    /// In this directory, which stays. It is made if it does not exist, and must be empty if it does.
    Kept(PathBuf),
}

/// That directory.
enum Directory {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Directory {
    fn make(home: Home) -> Result<Self, NetError> {
        match home {
            Home::Temporary => {
                let directory = tempfile::Builder::new().prefix("testnet-").tempdir();
                directory.map(Self::Temporary).map_err(NetError::machine("a temporary directory"))
            }
            Home::Kept(path) => {
                let what = || NetError::machine::<std::io::Error>(path.display().to_string());
                std::fs::create_dir_all(&path).map_err(what())?;
                if std::fs::read_dir(&path).map_err(what())?.next().is_some() {
                    return Err(NetError::Machine {
                        what: path.display().to_string(),
                        why: "it is not empty; files of an earlier run would be taken for those of this one"
                            .to_owned(),
                    });
                }
                path.canonicalize().map(Self::Kept).map_err(what())
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(path) => path,
        }
    }
}

/// A running network.
pub struct Net {
    /// The topology with addresses.
    pub plan: Plan,
    /// The DNS.
    pub dns: DnsServer,
    /// The trust anchor, in the formats of several programs.
    pub anchor: AnchorFiles,
    /// The providers, in the order of the file.
    pub providers: Vec<Provider>,
    directory: Directory,
    _prefix: Prefix,
}

impl Net {
    /// Starts everything that `topology` describes, with the node program `program`, and waits until it answers.
    /// `progress` is told what is under way.
    ///
    /// # Errors
    /// See [`NetError`].
    pub async fn start(
        topology: Topology,
        program: &Path,
        home: Home,
        mut progress: impl FnMut(&str),
    ) -> Result<Self, NetError> {
        let [smtp, dns] = Plan::ports(&topology);
        let ports = [smtp, dns, node::SUBMISSION_PORT, node::ADMIN_PORT];
        let prefix =
            Prefix::pick(rand::random, &ports).map_err(NetError::machine("finding loopback addresses"))?;
        let directory = Directory::make(home)?;
        let now = Timestamp::now();
        let plan = Plan::new(topology, &prefix, now).map_err(NetError::machine("keys and certificates"))?;
        progress("signing the DNS tree");
        let tree = plan.tree().map_err(NetError::machine("the DNS tree"))?;
        let dns = DnsServer::start(tree, now, plan.dns).await.map_err(NetError::machine("the DNS server"))?;
        let anchor = dns.anchor().write(directory.path());
        let anchor = anchor.map_err(NetError::machine("writing the trust anchor"))?;
        let mut providers = Vec::new();
        for placed in &plan.providers {
            progress(&format!("starting {}", placed.provider.name));
            let part = start_part(&plan, placed, program, directory.path(), &anchor.ds).await?;
            providers.push(Provider { placed: placed.clone(), part });
        }
        let mut net = Self { plan, dns, anchor, providers, directory, _prefix: prefix };
        for (provider, node) in net.nodes_mut() {
            progress(&format!("waiting for {}", provider.provider.name));
            node.wait_ready().await?;
        }
        Ok(net)
    }

    /// Where everything of this network lives.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The provider with this `id`.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.placed.provider.id == id)
    }

    /// The node of the provider with this `id`, if one plays it.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<&NodeProcess> {
        self.provider(id)?.node()
    }

    /// The same, to end it and start it again.
    #[must_use]
    pub fn node_mut(&mut self, id: &str) -> Option<&mut NodeProcess> {
        self.nodes_mut().find(|(placed, _)| placed.provider.id == id).map(|(_, node)| node)
    }

    /// The platform of the provider with this `id` submits a message to its node.
    ///
    /// # Errors
    /// The connection broke, or no node plays that provider.
    pub async fn submit(
        &self,
        id: &str,
        envelope: &client::Envelope,
        content: &[u8],
    ) -> Result<client::Offered, NetError> {
        let no_node = || NetError::Machine { what: id.to_owned(), why: "no node plays it".to_owned() };
        let provider = self.provider(id).ok_or_else(no_node)?;
        let call = client::Call {
            address: provider.node().ok_or_else(no_node)?.submission(),
            server: &provider.placed.hosts[0].0,
            helo: "platform.invalid",
            identity: None,
        };
        let mut client = client::connect(&call).await?;
        let offered = client.offer(envelope, content, client::Carriage::Data).await?;
        client.quit().await;
        Ok(offered)
    }

    /// A node that has ended by itself, with how and what it printed. There should be none.
    pub fn ended(&mut self) -> Option<NetError> {
        self.nodes_mut().find_map(|(placed, node)| {
            let status = node.ended()?;
            Some(NetError::Ended { provider: placed.provider.id.clone(), status, printed: node.printed() })
        })
    }

    /// Ends every node in order, then everything else.
    pub async fn stop(mut self) {
        let mut nodes = tokio::task::JoinSet::new();
        for provider in std::mem::take(&mut self.providers) {
            if let Part::Node { mut node, sink } = provider.part {
                nodes.spawn(async move {
                    node.stop().await;
                    // Until here it may have brought something.
                    drop(sink);
                });
            }
        }
        nodes.join_all().await;
    }

    fn nodes_mut(&mut self) -> impl Iterator<Item = (&Placed, &mut NodeProcess)> {
        self.providers.iter_mut().filter_map(|provider| match &mut provider.part {
            Part::Node { node, .. } => Some((&provider.placed, node.as_mut())),
            Part::Fake(_) | Part::Nobody(_) => None,
        })
    }
}

impl Provider {
    /// Its node, if one plays it.
    #[must_use]
    pub fn node(&self) -> Option<&NodeProcess> {
        match &self.part {
            Part::Node { node, .. } => Some(node),
            Part::Fake(_) | Part::Nobody(_) => None,
        }
    }

    /// Its environment, if it has one, to be taken down and up.
    #[must_use]
    pub const fn sink_mut(&mut self) -> Option<&mut Sink> {
        match &mut self.part {
            Part::Node { sink, .. } => Some(sink),
            Part::Fake(_) | Part::Nobody(_) => None,
        }
    }

    /// Its environment, if it has one.
    #[must_use]
    pub const fn sink(&self) -> Option<&Sink> {
        match &self.part {
            Part::Node { sink, .. } => Some(sink),
            Part::Fake(_) | Part::Nobody(_) => None,
        }
    }
}

async fn start_part(
    plan: &Plan,
    placed: &Placed,
    program: &Path,
    directory: &Path,
    anchor: &Path,
) -> Result<Part, NetError> {
    match placed.provider.played_by {
        PlayedBy::Nobody => Tripwire::start(plan, placed).await.map(Part::Nobody),
        PlayedBy::Testnet => Fake::start(plan, placed).await.map(Part::Fake),
        PlayedBy::Node => {
            let home = directory.join(&placed.provider.id);
            std::fs::create_dir_all(&home).map_err(NetError::machine("a directory"))?;
            socket_fits(&home.join(node::CONTROL_SOCKET))?;
            let listen = Listen::Unix(home.join("lmtp.sock"));
            let clock: Clock = crate::clock::system();
            let sink = Sink::start(listen, &home.join("mail"), clock)
                .await
                .map_err(NetError::machine("the LMTP sink"))?;
            let node = NodeProcess::start(plan, placed, program, &home, anchor, sink.address())?;
            Ok(Part::Node { node: Box::new(node), sink })
        }
    }
}

/// Says what to do where the system would only say "invalid argument". The control socket has the longest path.
fn socket_fits(path: &Path) -> Result<(), NetError> {
    let length = path.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    Err(NetError::Machine {
        what: path.display().to_string(),
        why: format!(
            "the path of a UNIX socket has at most {SOCKET_PATH_MAX} octets, this one {length}; \
             use a directory with a shorter name (TMPDIR, or --keep)"
        ),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_stays_must_be_empty() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("new/one");
        let made = Directory::make(Home::Kept(path.clone())).unwrap();
        assert_eq!(made.path(), path.canonicalize().unwrap());
        drop(made);
        assert!(path.exists());
        std::fs::write(path.join("old"), "").unwrap();
        let error = Directory::make(Home::Kept(path)).err().unwrap();
        assert!(error.to_string().contains("not empty"), "{error}");
    }

    #[test]
    fn a_temporary_directory_goes() {
        let made = Directory::make(Home::Temporary).unwrap();
        let path = made.path().to_owned();
        assert!(path.is_dir());
        drop(made);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_explained() {
        let fits = format!("/{}", "x".repeat(SOCKET_PATH_MAX - 1));
        assert!(socket_fits(Path::new(&fits)).is_ok());
        let error = socket_fits(Path::new(&format!("{fits}x"))).unwrap_err().to_string();
        assert!(error.contains("TMPDIR"), "{error}");
    }
}
