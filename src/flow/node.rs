//! The node: every room it is made of, and its listeners.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::breaker::Breakers;
use super::budget::Budgets;
use super::filter::HookWatch;
use super::inbound::PeerGate;
use super::keywatch::KeyWatch;
use super::own_domain::OwnDomains;
use super::road::Roads;
use super::submission::SubmissionGate;
use super::{assemble, worker};
use crate::admin::Observer;
use crate::config::Config;
use crate::discovery::{Discovery, ResolverError};
use crate::handoff::deliver::{Environment, SetupError};
use crate::handoff::hook::Hook;
use crate::model::DecisionRecord;
use crate::policy::Policy;
use crate::spool::{Spool, SpoolError};
use crate::transport::smtp::server::{Accept, Server, Settings, Slots};
use crate::transport::tls::{ClientTls, KeyRing, ServerTls};
use crate::trust::Judge;
use crate::world::World;

/// Why a node does not start. The operator acts.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool.
    #[error("the spool: {0}")]
    Spool(#[from] SpoolError),
    /// The resolver.
    #[error("the resolver: {0}")]
    Resolver(#[from] ResolverError),
    /// The border with our own environment.
    #[error("the environment: {0}")]
    Environment(#[from] SetupError),
    /// A listener.
    #[error("{purpose} listener on {address}: {error}")]
    Listen {
        /// What it is for.
        purpose: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No randomness for pseudonyms.
    #[error("the system gives no random numbers")]
    Random,
}

/// A node. Clones are handles to the same one.
#[derive(Clone)]
pub struct Node {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) world: World,
    pub(super) observer: Observer,
    pub(super) spool: Spool,
    pub(super) discovery: Arc<Discovery>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) judge: Judge,
    pub(super) budgets: ArcSwap<Budgets>,
    pub(super) breakers: Arc<Breakers>,
    pub(super) keywatch: KeyWatch,
    pub(super) hook_watch: HookWatch,
    pub(super) started: Timestamp,
    pub(super) server_settings: Arc<ArcSwap<Settings>>,
    pub(super) stop: CancellationToken,
    live: ArcSwap<Live>,
}

/// What a reload replaces, as a whole.
pub(super) struct Live {
    pub(super) config: Config,
    pub(super) policy: Arc<Policy>,
    pub(super) roads: Roads,
    pub(super) environment: Environment,
    pub(super) fallback: Option<Environment>,
    /// The filter in front of the environment.
    pub(super) hook: Option<Hook>,
    pub(super) own_domains: OwnDomains,
    pub(super) since: Timestamp,
}

/// Listeners that are open but not served yet.
pub struct Listeners<A = TcpListener> {
    pub(super) peers: Vec<Server<A>>,
    pub(super) submission: Vec<Server<A>>,
}

/// What a node stands on: opened from its configuration, or given by a simulation.
pub(super) struct Ground {
    pub(super) spool: Spool,
    pub(super) discovery: Discovery,
    pub(super) keys: Arc<KeyRing>,
}

impl Node {
    /// Opens spool and resolver and puts the parts together. Nothing listens yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, world: World) -> Result<Self, StartError> {
        let discovery = Discovery::start(config.discovery.clone(), world.clone()).await?;
        let (settings, spool_world) = (config.spool.clone(), world.clone());
        let opened = tokio::task::spawn_blocking(move || Spool::open(settings, spool_world)).await;
        let spool = opened.map_err(|error| SpoolError::Broken(error.to_string().into()))??;
        let keys = KeyRing::new(config.keys.clone());
        Self::on(Ground { spool, discovery, keys }, config, world)
    }

    /// Puts the parts together.
    pub(super) fn on(ground: Ground, config: Config, world: World) -> Result<Self, StartError> {
        let Ground { spool, discovery, keys } = ground;
        let observer = Observer::new(config.log.addresses).map_err(|_| StartError::Random)?;
        let discovery = Arc::new(discovery);
        let judge = Judge::new(Arc::clone(&discovery), Arc::clone(&world.clock));
        let server_settings = Arc::new(ArcSwap::from_pointee(assemble::server_settings(&config)));
        let budgets = ArcSwap::from_pointee(Budgets::new(&config.limits));
        let breakers = Arc::new(Breakers::new(&config.limits));
        let live = Live::new(config, &world, &discovery, &keys, &breakers)?;
        observer.metrics().location_table(table_built(&live.config));
        Ok(Self {
            inner: Arc::new(Inner {
                started: world.now(),
                world,
                observer,
                spool,
                discovery,
                keys,
                judge,
                budgets,
                breakers,
                keywatch: KeyWatch::default(),
                hook_watch: HookWatch::default(),
                server_settings,
                stop: CancellationToken::new(),
                live: ArcSwap::from_pointee(live),
            }),
        })
    }

    /// Opens the SMTP listeners of the configuration.
    ///
    /// # Errors
    /// [`StartError::Listen`] for the first that cannot be had.
    pub async fn listen(&self) -> Result<Listeners, StartError> {
        let live = self.live();
        let slots = Slots::new();
        let peers = self.bind("federation", &live.config.federation.listen, &slots).await?;
        let submission = match &live.config.submission {
            Some(submission) => self.bind("submission", &submission.listen, &slots).await?,
            None => Vec::new(),
        };
        Ok(Listeners { peers, submission })
    }

    async fn bind(
        &self,
        purpose: &'static str,
        addresses: &[SocketAddr],
        slots: &Arc<Slots>,
    ) -> Result<Vec<Server>, StartError> {
        let mut servers = Vec::new();
        for &address in addresses {
            let settings = Arc::clone(&self.inner.server_settings);
            let server = Server::bind(address, settings, Arc::clone(slots))
                .await
                .map_err(|error| StartError::Listen { purpose, address, error })?;
            servers.push(server);
        }
        Ok(servers)
    }

    /// Serves and delivers until [`Self::stop`], then ends what is under way in bounded time (OPS-009).
    pub async fn run<A: Accept>(&self, listeners: Listeners<A>) {
        let stop = &self.inner.stop;
        let tls = ServerTls::new(Arc::clone(&self.inner.keys));
        let mut tasks = JoinSet::new();
        let peers = Arc::new(PeerGate::new(self.clone()));
        for server in listeners.peers {
            tasks.spawn(server.serve(Arc::clone(&peers), tls.clone(), stop.clone()));
        }
        let submission = Arc::new(SubmissionGate::new(self.clone()));
        for server in listeners.submission {
            tasks.spawn(server.serve(Arc::clone(&submission), tls.clone(), stop.clone()));
        }
        tasks.spawn(worker::work(self.clone(), stop.clone()));
        while tasks.join_next().await.is_some() {}
        self.inner.spool.close().await;
    }

    /// Tells a running node to stop.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// Whether it was told to stop, as a token others can wait for.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// What is in force now.
    pub(super) fn live(&self) -> Arc<Live> {
        self.inner.live.load_full()
    }

    /// Puts something else in force. What is under way keeps what it began with.
    pub(super) fn replace(&self, live: Live) {
        self.inner.keys.replace(live.config.keys.clone());
        let per_minute = |config: &Config| {
            (config.limits.sessions_per_peer_per_minute, config.limits.messages_per_peer_per_minute)
        };
        // Full ones only when they differ: a reload for another reason must give nobody a fresh minute.
        if per_minute(&self.live().config) != per_minute(&live.config) {
            self.inner.budgets.store(Arc::new(Budgets::new(&live.config.limits)));
        }
        self.inner.server_settings.store(Arc::new(assemble::server_settings(&live.config)));
        self.inner.observer.metrics().location_table(table_built(&live.config));
        self.inner.live.store(Arc::new(live));
    }

    /// Stores the record of a transaction that left no message, without making the client wait.
    pub(super) fn note(&self, record: DecisionRecord) {
        self.inner.observer.attempt_ended(&record);
        let spool = self.inner.spool.clone();
        tokio::spawn(async move {
            if let Err(error) = spool.note(record).await {
                tracing::error!(%error, "a decision record could not be stored");
            }
        });
    }
}

/// When the table of countries was built, in seconds; 0 without one.
fn table_built(config: &Config) -> i64 {
    config.location.as_ref().map_or(0, |location| location.table.built().as_second())
}

impl Live {
    pub(super) fn new(
        config: Config,
        world: &World,
        discovery: &Arc<Discovery>,
        keys: &Arc<KeyRing>,
        breakers: &Arc<Breakers>,
    ) -> Result<Self, SetupError> {
        let tls = ClientTls::new(Arc::clone(keys));
        let (discovery, breakers) = (Arc::clone(discovery), Arc::clone(breakers));
        let roads = assemble::roads_with(&config, world.clone(), discovery, tls, breakers);
        let environment = assemble::environment(&config.environment, &config, keys, world)?;
        let fallback = match &config.fallback {
            Some(fallback) => Some(assemble::environment(fallback, &config, keys, world)?),
            None => None,
        };
        let hook = assemble::hook(&config, keys, world)?;
        let policy = Arc::clone(&roads.policy);
        let own_domains = OwnDomains::new(&config);
        Ok(Self { config, policy, roads, environment, fallback, hook, own_domains, since: world.now() })
    }
}
