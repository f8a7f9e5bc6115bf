//! Our node as a subject: one node between two platforms and another provider's node that is never harmed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::machine;
use super::subject::{About, Door, OneProcess, Queued, Subject, Way};
use crate::net::{Home, Net, NetError, NodeProcess, Provider};
use crate::sink::Sink;
use crate::topology::Topology;

/// The provider under test, and the other one.
const TESTED: &str = "a";
const OTHER: &str = "b";

const TOPOLOGY: &str = r#"
about = "One provider whose node is harmed, and one whose node is not."

[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]

[[provider]]
id = "b"
name = "Provider B"
domains = ["b.nl"]
hosts = ["nta.b.nl"]
"#;

/// What the configuration gets added: a crash is followed by another within a second, so retries are as quick as they may
/// be, and budgets are not what is tested.
const LIMITS: &str = "
[limits]
retry_first_seconds = 1
retry_longest_seconds = 1
sessions_per_peer = 1000
sessions_per_peer_per_minute = 60000
messages_per_peer_per_minute = 600000
spool_reserve_octets = 1048576
stop_seconds = 1
";

/// Two nodes and their environments.
pub struct SluisSubject {
    net: Net,
}

impl SluisSubject {
    /// Starts them, with the node program `program`.
    ///
    /// # Errors
    /// See [`NetError`].
    pub async fn start(program: &Path, home: Home) -> Result<Self, NetError> {
        let topology: Topology = TOPOLOGY.parse().map_err(machine("the topology"))?;
        let mut net = Net::start(topology, program, home, |_| {}).await?;
        for id in [TESTED, OTHER] {
            let Some(node) = net.node_mut(id) else { continue };
            let config = std::fs::read_to_string(node.config()).map_err(machine("the configuration"))?;
            std::fs::write(node.config(), config + LIMITS).map_err(machine("the configuration"))?;
            node.restart().await?;
        }
        Ok(Self { net })
    }

    /// Has the node do one thing at a time from its next start on, so that a recorded run can be repeated call by call.
    pub fn single_file(&mut self) {
        if let Some(node) = self.net.node_mut(TESTED) {
            node.set_variable("TOKIO_WORKER_THREADS", "1");
        }
    }

    /// The network, for what is particular to our node.
    #[must_use]
    pub const fn net(&self) -> &Net {
        &self.net
    }

    /// The node under test.
    #[must_use]
    pub fn node(&self) -> &NodeProcess {
        self.provider(TESTED).1
    }

    /// Its spool.
    #[must_use]
    pub fn spool_directory(&self) -> PathBuf {
        self.state_directory().join("spool")
    }

    /// A provider of [`TOPOLOGY`] with its node; both are always there.
    fn provider(&self, id: &str) -> (&Provider, &NodeProcess) {
        let provider = self.net.provider(id).and_then(|provider| Some((provider, provider.node()?)));
        provider.unwrap_or_else(|| unreachable!("the topology has a node for {id}"))
    }
}

#[async_trait]
impl Subject for SluisSubject {
    fn about(&self) -> About {
        About { product: "sluis".to_owned(), settings: Vec::new() }
    }

    fn doors(&self) -> Vec<Door> {
        let (tested, node) = self.provider(TESTED);
        let (other, _) = self.provider(OTHER);
        let (server, address) = &tested.placed.hosts[0];
        let platform = |way, to_domain: &str| Door {
            way,
            address: node.submission(),
            server: server.clone(),
            helo: "platform.invalid".to_owned(),
            identity: None,
            signer: None,
            from_domain: "a.nl".to_owned(),
            to_domain: to_domain.to_owned(),
        };
        let peer = Door {
            address: SocketAddr::new(*address, self.net.plan.topology.smtp_port),
            helo: other.placed.hosts[0].0.clone(),
            identity: Some(other.placed.certificate.clone()),
            signer: other.placed.signing.first().cloned().map(Arc::new),
            from_domain: "b.nl".to_owned(),
            ..platform(Way::Inbound, "a.nl")
        };
        vec![platform(Way::Home, "a.nl"), peer, platform(Way::Outbound, "b.nl")]
    }

    fn sink(&self, way: Way) -> &Sink {
        let id = match way {
            Way::Home | Way::Inbound => TESTED,
            Way::Outbound => OTHER,
        };
        self.provider(id).0.sink().unwrap_or_else(|| unreachable!("a provider with a node has a sink"))
    }

    async fn kill(&mut self) {
        if let Some(node) = self.net.node_mut(TESTED) {
            node.kill().await;
        }
    }

    fn has_ended(&mut self) -> bool {
        self.net.node_mut(TESTED).is_none_or(|node| node.ended().is_some())
    }

    async fn start(&mut self) -> Result<(), NetError> {
        self.start_under(&[]).await
    }

    fn state_directory(&self) -> PathBuf {
        self.net.directory().join(TESTED).join("state")
    }

    async fn queue(&self) -> Result<Vec<Queued>, NetError> {
        let listed = self.node().ask(&["spool", "list", "--limit", "1000000"]).await?;
        let Some(deliveries) = listed["deliveries"].as_array() else {
            return Err(NetError::Machine { what: "sluis spool list".to_owned(), why: listed.to_string() });
        };
        Ok(deliveries.iter().filter_map(queued).collect())
    }

    async fn release(&self, delivery: &str) -> Result<(), NetError> {
        self.node().ask(&["spool", "release", delivery]).await.map(drop)
    }

    async fn hurry(&self, delivery: &str) -> Result<(), NetError> {
        self.node().ask(&["spool", "retry", delivery]).await.map(drop)
    }

    async fn unknown_attempts(&self, message: &str) -> Result<Option<usize>, NetError> {
        let shown = self.node().ask(&["spool", "show", message]).await?;
        let records = shown["records"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Some(records.iter().filter(|record| record["outcome"] == "unknown").count()))
    }

    async fn stop(self: Box<Self>) {
        self.net.stop().await;
    }
}

#[async_trait]
impl OneProcess for SluisSubject {
    fn process(&self) -> Option<u32> {
        self.node().id()
    }

    async fn start_under(&mut self, wrapper: &[OsString]) -> Result<(), NetError> {
        match self.net.node_mut(TESTED) {
            Some(node) => node.restart_under(wrapper).await,
            None => Ok(()),
        }
    }

    fn name_of(&self, path: &str) -> Option<String> {
        let spool = self.spool_directory();
        let inside = Path::new(path).strip_prefix(&spool).ok()?;
        let name = match inside.to_str()? {
            "" => "directory",
            "spool.redb" | "spool.redb.new" => "database",
            "content" => "content directory",
            name if name.starts_with("content/") => "content file",
            other => other,
        };
        Some(name.to_owned())
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        let spool = self.spool_directory();
        match name {
            "directory" => Some(spool),
            "database" => Some(spool.join("spool.redb")),
            "content directory" => Some(spool.join("content")),
            "content file" => None,
            other => Some(spool.join(other)),
        }
    }

    fn log_and_control(&self) -> (PathBuf, PathBuf) {
        (self.node().log().to_owned(), self.node().control().to_owned())
    }

    fn printed(&self) -> String {
        self.node().printed()
    }
}

/// A line of `spool list`.
fn queued(delivery: &serde_json::Value) -> Option<Queued> {
    let message = delivery["delivery"]["message"].as_str()?.to_owned();
    let route = delivery["delivery"]["route"].as_u64()?;
    let held = delivery["phase"] == "held";
    Some(Queued { delivery: format!("{message}.{route}"), message, held })
}
