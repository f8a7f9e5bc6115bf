//! What a new configuration changes, and whether it may.

use std::sync::Arc;

use super::operations::{ReloadRefusal, Reloaded};
use super::publish::{Dns, Live, unpublished, unpublished_signers};
use crate::config::Config;

/// Judges `new` against the configuration in force. The caller puts it in force, whole, when this says yes (OPS-005).
///
/// # Errors
/// A key of which the TLSA records are not visible, or that begins to sign mail and is not; each problem names the record to
/// publish (OPS-006, SIGN-007). The caller has
/// made `dns` forget its cache, so that a record published a minute ago is seen.
pub async fn judge(old: &Config, new: &Config, dns: &dyn Dns) -> Result<Reloaded, ReloadRefusal> {
    let mut missing = unpublished(new, &old.keys, dns).await;
    missing.extend(unpublished_signers(new, old, dns).await);
    let problems: Vec<String> = missing
        .into_iter()
        .map(|(record, live)| {
            format!(
                "a new key may not be used before other nodes can see it. Publish\n    {record}\n    ({})",
                seen(&live)
            )
        })
        .collect();
    if !problems.is_empty() {
        return Err(ReloadRefusal { problems });
    }
    Ok(Reloaded {
        changed: changed(old, new),
        needs_restart: needs_restart(old, new),
        warnings: new.warnings.clone(),
    })
}

/// What DNS shows instead, as a half-sentence.
pub(crate) fn seen(live: &Live) -> String {
    match live {
        Live::Published => "it is live".to_owned(),
        Live::Missing => "nothing is there, and DNS proves it".to_owned(),
        Live::Different { seen } => format!("there is: {}", seen.join("; ")),
        Live::NotSigned => "the zone is not signed with DNSSEC, so nobody believes it".to_owned(),
        Live::Unknown { trouble } => format!("nobody can tell now: {trouble}"),
        Live::NotCompared { seen } => format!("there is, and was not taken apart: {}", seen.join("; ")),
    }
}

/// What only a restart can change: the new value is read and not used.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let listen = |config: &Config| config.submission.as_ref().map(|submission| submission.listen.clone());
    let differences = [
        ("node.name", old.node.name != new.node.name),
        ("node.state_dir", old.node.state_dir != new.node.state_dir),
        ("dns", format!("{:?}", old.discovery) != format!("{:?}", new.discovery)),
        ("federation.listen", old.federation.listen != new.federation.listen),
        ("submission.listen", listen(old) != listen(new)),
        ("spool and its limits", old.spool != new.spool),
        ("log", old.log != new.log),
        ("control", old.control != new.control),
        ("admin.listen", old.admin != new.admin),
        ("lab.peer_port", old.lab_peer_port != new.lab_peer_port),
    ];
    let changed = differences.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(key, _)| format!("{key} has changed; restart the node to use the new value")).collect()
}

fn changed(old: &Config, new: &Config) -> Vec<String> {
    let keys = |config: &Config| -> Vec<String> {
        config.keys.keys().iter().map(|key| key.certificate().fingerprint().to_string()).collect()
    };
    let peers = |config: &Config| format!("{:?}", config.federation.peers);
    let clients = |config: &Config| {
        format!(
            "{:?}",
            config
                .submission
                .as_ref()
                .map(|submission| { (&submission.clients, submission.temporary, submission.own_domain) })
        )
    };
    let location = |config: &Config| {
        config.location.as_ref().map(|location| (location.mode, Arc::clone(&location.table)))
    };
    let differences = [
        ("location", location(old) != location(new)),
        ("keys", keys(old) != keys(new)),
        ("dkim", old.dkim != new.dkim),
        ("smime", old.smime != new.smime),
        ("node.domains", old.node.domains != new.node.domains),
        ("node.postmaster", old.node.postmaster != new.node.postmaster),
        ("the NTA record to publish", old.record != new.record),
        ("federation.floor", old.federation.floor != new.federation.floor),
        ("federation.peer", peers(old) != peers(new)),
        ("submission.client", clients(old) != clients(new)),
        ("environment", format!("{:?}", old.environment) != format!("{:?}", new.environment)),
        ("fallback", format!("{:?}", old.fallback) != format!("{:?}", new.fallback)),
        ("limits", old.limits != new.limits),
    ];
    let changed = differences.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(key, _)| format!("{key}: the new value is in force")).collect()
}
