//! From the checked configuration to an [`Environment`].

use crate::config;
use crate::model::DomainName;
use crate::transport::smtp::dialogue::{Dialect, Endpoint, EndpointError, StepLimits, TlsStart};
use crate::transport::tls::{ClientTls, ServerProof};
use crate::world::World;

use super::{Asking, Environment, Maildir, MaildirSettings, MaildirSettingsError, Relay};

/// Why a configured hand-off must not be used. The operator has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Clear text would leave the machine (HAND-002).
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The Maildir path.
    #[error(transparent)]
    Maildir(#[from] MaildirSettingsError),
}

/// The environment (or fallback) of a configuration. `name` is ours, `tls` the key we show if the other side asks.
///
/// # Errors
/// [`SetupError`]: refuse to start.
pub fn environment(
    configured: &config::HandOff,
    name: &DomainName,
    limits: StepLimits,
    tls: ClientTls,
    world: World,
) -> Result<Environment, SetupError> {
    let asking = match configured.recipients {
        config::Recipients::Ask => Asking::Environment,
        config::Recipients::Accept => Asking::Nobody,
    };
    let relay = |endpoint: &config::Endpoint, dialect| -> Result<Relay, SetupError> {
        Ok(Relay {
            endpoint: reach(endpoint, TlsStart::Starttls)?,
            dialect,
            name: name.clone(),
            asking,
            limits,
            tls,
            world,
        })
    };
    Ok(match &configured.binding {
        config::Binding::Lmtp(endpoint) => Environment::Lmtp(relay(endpoint, Dialect::Lmtp)?),
        config::Binding::Smtp(endpoint) => Environment::SmtpRelay(relay(endpoint, Dialect::Esmtp)?),
        config::Binding::Maildir(root) => Environment::Maildir(Maildir::new(&MaildirSettings::tree(root))?),
    })
}

/// Where something of our own environment listens. `start` is how TLS begins, where there is TLS.
pub(in crate::handoff) fn reach(
    configured: &config::Endpoint,
    start: TlsStart,
) -> Result<Endpoint, EndpointError> {
    match configured {
        config::Endpoint::Unix(path) => Ok(Endpoint::unix(path.clone())),
        config::Endpoint::Loopback(address, None) => Endpoint::loopback(*address),
        config::Endpoint::Loopback(address, Some(tls)) => secured(address.to_string(), None, tls, start),
        config::Endpoint::Remote(config::RemoteAddress::Address(address), tls) => {
            secured(address.to_string(), None, tls, start)
        }
        config::Endpoint::Remote(config::RemoteAddress::Name(name, port), tls) => {
            secured(format!("{name}:{port}"), Some(name), tls, start)
        }
    }
}

fn secured(
    authority: String,
    name: Option<&DomainName>,
    tls: &config::EndpointTls,
    start: TlsStart,
) -> Result<Endpoint, EndpointError> {
    let (host, proof) = match tls {
        config::EndpointTls::Ca { authorities, name } => {
            (name.clone(), ServerProof::Authority(authorities.clone()))
        }
        // The key decides; the name only goes out as server name indication, and an address has none.
        config::EndpointTls::Pins(pins) => {
            (name.cloned().unwrap_or_else(localhost), ServerProof::Pinned(pins.clone()))
        }
    };
    Endpoint::tls(authority, host, proof, start)
}

fn localhost() -> DomainName {
    "localhost".parse().expect("the word is a label")
}
