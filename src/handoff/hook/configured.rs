//! From the checked configuration to a [`Hook`].

use std::time::Duration;

use super::{Hook, HookLimits};
use crate::config;
use crate::handoff::deliver::{SetupError, StepLimits, TlsStart, reach};
use crate::transport::tls::ClientTls;
use crate::trust::HeaderLimits;
use crate::world::World;

/// The hook of a configuration. `tls` is the key we show if the hook asks.
///
/// # Errors
/// [`SetupError`]: refuse to start.
pub fn hook(
    configured: &config::ContentHook,
    limits: &config::Limits,
    tls: ClientTls,
    world: World,
) -> Result<Hook, SetupError> {
    let endpoint = reach(&configured.endpoint, TlsStart::Immediate)?;
    let host = match &configured.endpoint {
        config::Endpoint::Unix(_) => "localhost".to_owned(),
        config::Endpoint::Loopback(address, _) => address.to_string(),
        config::Endpoint::Remote(address, _) => address.to_string(),
    };
    let seconds = Duration::from_secs;
    let limits = HookLimits {
        steps: StepLimits {
            connect: seconds(limits.connect_seconds),
            handshake: seconds(limits.handshake_seconds),
            ..StepLimits::default()
        },
        total: seconds(limits.hook_seconds),
        answer_octets: limits.hook_answer_octets,
        header: HeaderLimits {
            octets: count(limits.header_octets),
            fields: count(limits.header_fields),
            ..HeaderLimits::default()
        },
    };
    Ok(Hook::new(endpoint, configured.path.clone(), host, tls, world, limits))
}

fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
