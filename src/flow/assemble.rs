//! From the checked configuration to the parts of a node.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::Breakers;
use super::road::{Roads, own_addresses};
use crate::config::{Config, HandOff};
use crate::discovery::{Discovery, ResolverError};
use crate::handoff::deliver::{self, Environment, SetupError};
use crate::handoff::hook::{self, Hook};
use crate::model::LocationRule;
use crate::policy::Policy;
use crate::transport::smtp::client::{ClientSettings, Pool, PoolSettings};
use crate::transport::smtp::dialogue::StepLimits;
use crate::transport::smtp::server;
use crate::transport::tls::{ClientTls, KeyRing};
use crate::world::World;

/// All it takes to reach peers, from scratch: for `explain`, which has no node.
///
/// # Errors
/// The resolver could not be started.
pub(super) async fn roads(config: &Config, world: World) -> Result<Roads, ResolverError> {
    let discovery = Arc::new(Discovery::start(config.discovery.clone(), world.clone()).await?);
    let tls = ClientTls::new(KeyRing::new(config.keys.clone()));
    let breakers = Arc::new(Breakers::new(&config.limits));
    Ok(roads_with(config, world, discovery, tls, breakers))
}

/// The same with a resolver and keys that exist already.
pub(super) fn roads_with(
    config: &Config,
    world: World,
    discovery: Arc<Discovery>,
    tls: ClientTls,
    breakers: Arc<Breakers>,
) -> Roads {
    let limits = &config.limits;
    let pool = PoolSettings { idle: seconds(limits.link_idle_seconds), ..PoolSettings::default() };
    Roads {
        world,
        discovery,
        policy: Arc::new(policy(config)),
        location: config.location.clone(),
        tls,
        client: ClientSettings { name: config.node.name.clone(), source: None, limits: steps(config) },
        pool: Arc::new(Pool::new(pool)),
        breakers,
        port: config.peer_port(),
        hosts_max: count(limits.hosts_per_attempt),
        own_addresses: own_addresses(config),
    }
}

fn policy(config: &Config) -> Policy {
    let location = config.location.as_ref().map_or(LocationRule::Any, |location| location.mode);
    Policy::new(&config.federation, location, config.weakened())
}

fn steps(config: &Config) -> StepLimits {
    let limits = &config.limits;
    StepLimits {
        connect: seconds(limits.connect_seconds),
        greeting: seconds(limits.greeting_seconds),
        ehlo: seconds(limits.ehlo_seconds),
        handshake: seconds(limits.handshake_seconds),
        mail: seconds(limits.mail_seconds),
        rcpt: seconds(limits.rcpt_seconds),
        data: seconds(limits.data_seconds),
        block: seconds(limits.block_seconds),
        final_dot: seconds(limits.final_dot_seconds),
    }
}

/// Limits of the SMTP listeners.
pub(super) fn server_settings(config: &Config) -> server::Settings {
    let limits = &config.limits;
    server::Settings {
        message_octets: limits.message_octets,
        recipients: count(limits.recipients),
        command_line_octets: count(limits.command_line_octets),
        chunks: limits.chunks,
        transactions: limits.transactions_per_session,
        errors: limits.errors_per_session,
        refusals: limits.refusals_per_session,
        idle_commands: limits.idle_commands_per_session,
        session_time: seconds(limits.session_seconds),
        sessions: count(limits.sessions),
        sessions_per_network: count(limits.sessions_per_peer),
        command_time: seconds(limits.command_seconds),
        handshake_time: seconds(limits.handshake_seconds),
        content_idle_time: seconds(limits.content_idle_seconds),
        content_time: seconds(limits.content_total_seconds),
        stop_time: seconds(limits.stop_seconds),
        ..server::Settings::new(config.node.name.clone())
    }
}

/// The border with our own platform.
///
/// # Errors
/// A binding that would leave the machine in the clear. The checked configuration has none.
pub(super) fn environment(
    hand_off: &HandOff,
    config: &Config,
    keys: &Arc<KeyRing>,
    world: &World,
) -> Result<Environment, SetupError> {
    let tls = ClientTls::new(Arc::clone(keys));
    deliver::environment(hand_off, &config.node.name, steps(config), tls, world.clone())
}

/// The provider's own filter, where there is one.
///
/// # Errors
/// As [`environment`].
pub(super) fn hook(config: &Config, keys: &Arc<KeyRing>, world: &World) -> Result<Option<Hook>, SetupError> {
    let Some(configured) = &config.content_hook else { return Ok(None) };
    let tls = ClientTls::new(Arc::clone(keys));
    hook::hook(configured, &config.limits, tls, world.clone()).map(Some)
}

const fn seconds(limit: u64) -> Duration {
    Duration::from_secs(limit)
}

fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
