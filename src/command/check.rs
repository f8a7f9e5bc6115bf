//! `sluis check`: is the configuration in order, and what does it mean?

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::timeout;

use super::{Exit, Failure, Report, load, table};
use crate::admin::LocationStatus;
use crate::config::{
    Binding, Config, ContentHook, Endpoint, EndpointTls, HandOff, Identity, OwnDomainRule, Peer, Recipients,
    Scope, SmimeKey, TABLE,
};
use crate::discovery::nta_record::YearMonth;
use crate::discovery::{AnchorSource, Trust};
use crate::handoff::hook;
use crate::model::LocationRule;
use crate::transport::tls::{ClientTls, KeyRing};
use crate::world::World;

/// Certificates and records that end sooner are warned about.
const SOON_DAYS: i64 = 30;
/// How long somebody who checks a configuration waits for the content hook.
const HOOK_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(path: &Path) -> Result<Report, Failure> {
    let config = load(path)?;
    let now = Timestamp::now();
    let hook = match &config.content_hook {
        Some(hook) => Some(look(hook, &config).await?),
        None => None,
    };
    let mut warnings = warnings(&config, now);
    warnings.extend(hook.iter().filter_map(HookLook::warning));
    let text = describe(&config, hook.as_ref(), &warnings, now);
    let keys: Vec<_> = config
        .keys
        .keys()
        .iter()
        .map(|key| key.certificate())
        .map(|certificate| {
            json!({
                "kind": certificate.key().to_string(),
                "spki": certificate.key_digest(),
                "names": certificate.identities(),
                "not_after": certificate.not_after(),
            })
        })
        .collect();
    let dkim: Vec<_> = config
        .dkim
        .iter()
        .map(|key| {
            json!({
                "selector": key.selector, "domains": key.domains, "kind": key.key.to_string(), "signs": key.sign,
            })
        })
        .collect();
    let peers: Vec<_> = config
        .federation
        .peers
        .iter()
        .map(|peer| {
            json!({
                "name": peer.name, "scope": scope(peer), "floor": peer.floor, "identity": peer.identity.rule(),
                "location": peer.location,
            })
        })
        .collect();
    let summary = json!({
        "ok": true,
        "file": config.file,
        "node": config.node.name,
        "domains": config.node.domains,
        "record": config.record.to_string(),
        "trust": trust(&config),
        "keys": keys,
        "dkim": dkim,
        "smime": smime_summary(&config),
        "floor": config.federation.floor,
        "peers": peers,
        "content_hook": hook.as_ref().map(HookLook::to_json),
        "location": LocationStatus::of(&config, now),
        "weakened": config.weakened(),
        "warnings": warnings,
    });
    Report::new(text, &summary, Exit::Pass)
}

fn smime_summary(config: &Config) -> serde_json::Value {
    let signer = |key: &SmimeKey| {
        json!({
            "addresses": key.addresses, "domains": key.domains, "certificate": key.signer.fingerprint(),
            "not_after": key.signer.not_after(), "signs": key.sign,
        })
    };
    let signers: Vec<_> = config.smime.signers.iter().map(signer).collect();
    json!({ "anchors": config.smime.anchors.as_ref().map_or(0, |(anchors, _)| anchors.count()), "signers": signers })
}

/// The domains whose mail no key signs, and what becomes of it (SIGN-009, SIGN-011).
fn unsigned(config: &Config) -> Option<String> {
    let unsigned = config.node.domains.iter().filter(|domain| config.signers(domain).next().is_none());
    let unsigned: Vec<_> = unsigned.map(|domain| domain.as_str()).collect();
    if unsigned.is_empty() {
        return None;
    }
    let so = match config.own_domain() {
        OwnDomainRule::Refuse => "so mail of theirs for other providers is refused here",
        OwnDomainRule::Warn => "and goes out all the same (submission.own_domain)",
    };
    Some(format!(
        "no [[dkim]] key signs for {}: other nodes refuse what is not signed, {so}",
        unsigned.join(", ")
    ))
}

/// What is admitted but deserves a look, with what is about to end.
fn warnings(config: &Config, now: Timestamp) -> Vec<String> {
    let mut all = config.warnings.clone();
    let soon = now.checked_add(SignedDuration::from_hours(24 * SOON_DAYS)).unwrap_or(Timestamp::MAX);
    for (key, files) in config.keys.keys().iter().zip(&config.key_files) {
        let ends = key.certificate().not_after();
        if ends > now && ends <= soon {
            all.push(format!("{}: the certificate ends on {ends}", files.chain.display()));
        }
    }
    for key in config.smime.signers.iter().filter(|key| key.sign) {
        let ends = key.signer.not_after();
        if ends > now && ends <= soon {
            all.push(format!(
                "{}: the S/MIME certificate ends on {ends}; mail goes unsigned from then",
                key.certificate.display()
            ));
        }
    }
    all.extend(unsigned(config));
    let (month, next) = (YearMonth::of(now), YearMonth::of(soon));
    let record = &config.record;
    if record.end < month {
        all.push(format!("node.enddate: {} is over; other nodes treat our domains as expired", record.end));
    } else if record.end < next {
        all.push(format!("node.enddate: the NTA record ends with {}; publish a new one in time", record.end));
    }
    if record.start > month {
        all.push(format!("node.startdate: the NTA record does not hold before {}", record.start));
    }
    if config.spool.lacks_key() {
        let (key, dir) = (&config.spool.key, config.spool.dir.display());
        all.push(format!("spool.key_file: {key} is not there, and the spool in {dir} is sealed: the node will not start; put the key back"));
    }
    all.extend(
        config.weakened().into_iter().map(|key| format!("{key} weakens protection; for test networks only")),
    );
    all
}

/// The content hook, as it was found a moment ago.
struct HookLook {
    address: String,
    path: String,
    /// Why it cannot be reached, if it cannot.
    trouble: Option<String>,
}

/// Connects, with TLS where it is configured, and says nothing.
async fn look(configured: &ContentHook, config: &Config) -> Result<HookLook, Failure> {
    let tls = ClientTls::new(KeyRing::new(config.keys.clone()));
    let hook = hook::hook(configured, &config.limits, tls, World::system())
        .map_err(|error| Failure::usage(format!("content_hook: {error}")))?;
    let trouble = match timeout(HOOK_PATIENCE, hook.reach()).await {
        Ok(reached) => reached.err().map(|error| error.to_string()),
        Err(_) => {
            Some(format!("the content hook does not answer within {} seconds", HOOK_PATIENCE.as_secs()))
        }
    };
    Ok(HookLook { address: endpoint(&configured.endpoint), path: configured.path.clone(), trouble })
}

impl HookLook {
    fn warning(&self) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        Some(format!("content_hook.address: {trouble}; mail of other providers waits as long as that is so"))
    }

    fn row(&self) -> String {
        let reached = if self.trouble.is_none() { "reached" } else { "not reached" };
        format!("POST {} to {}; {reached}", self.path, self.address)
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "address": self.address, "path": self.path, "reached": self.trouble.is_none(), "trouble": self.trouble,
        })
    }
}

fn describe(config: &Config, hook: Option<&HookLook>, warnings: &[String], now: Timestamp) -> String {
    let domains: Vec<String> = config.node.domains.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        vec!["node".to_owned(), format!("{} of {}", config.node.name, config.record.provider)],
        vec!["domains".to_owned(), domains.join(", ")],
        vec!["record".to_owned(), config.record.to_string()],
        vec!["dns".to_owned(), format!("resolver {}", config.discovery.dns.resolver)],
        vec!["trust".to_owned(), trust(config)],
    ];
    for key in config.keys.keys() {
        let certificate = key.certificate();
        let names: Vec<String> = certificate.identities().iter().map(ToString::to_string).collect();
        let text =
            format!("{} for {}, until {}", certificate.key(), names.join(", "), certificate.not_after());
        rows.push(vec!["key".to_owned(), text]);
    }
    for key in &config.dkim {
        let domains: Vec<&str> = key.domains.iter().map(|domain| domain.as_str()).collect();
        let does = if key.sign { "signs" } else { "is published and does not sign" };
        let text = format!("{} at {} of {}, {does}", key.key, key.selector, domains.join(", "));
        rows.push(vec!["dkim".to_owned(), text]);
    }
    rows.extend(smime(config));
    let listen: Vec<String> = config.federation.listen.iter().map(ToString::to_string).collect();
    rows.push(vec![
        "federation".to_owned(),
        format!("listens on {}, port of peers {}", listen.join(", "), config.peer_port()),
    ]);
    rows.push(vec![
        "floor".to_owned(),
        format!("{} unless a peer's entry says otherwise", config.federation.floor),
    ]);
    for peer in &config.federation.peers {
        let place = match peer.location {
            None | Some(LocationRule::Observe) => "",
            Some(LocationRule::Any) => ", in any country",
            Some(LocationRule::Enforce) => ", in the EU/EEA only",
        };
        let text = format!(
            "{}: {}, floor {}, identity by {}{place}",
            peer.name,
            scope(peer),
            peer.floor,
            identity(&peer.identity)
        );
        rows.push(vec!["peer".to_owned(), text]);
    }
    rows.push(vec![
        "location".to_owned(),
        LocationStatus::describe(LocationStatus::of(config, now).as_ref()),
    ]);
    rows.extend(submission(config));
    rows.push(vec!["environment".to_owned(), hand_off(&config.environment)]);
    let fallback = config
        .fallback
        .as_ref()
        .map_or_else(|| "none: recipients that are not federated are refused".to_owned(), hand_off);
    rows.push(vec!["fallback".to_owned(), fallback]);
    rows.extend(hook.map(|hook| vec!["content hook".to_owned(), hook.row()]));
    rows.push(vec![
        "spool".to_owned(),
        format!("{}, keys from {}", config.spool.dir.display(), config.spool.key),
    ]);
    rows.extend(limits(config));
    rows.push(vec![
        "control".to_owned(),
        format!("{}, mode {:04o}", config.control.socket.display(), config.control.mode),
    ]);
    let admin =
        config.admin.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/health, /metrics"));
    rows.push(vec!["admin".to_owned(), admin]);
    let weakened = config.weakened();
    let lab = if weakened.is_empty() { "none".to_owned() } else { weakened.join(", ") };
    rows.push(vec!["weakened by".to_owned(), lab]);
    let mut text = format!("{}: in order\n\n", config.file.display());
    // The table's head line would say nothing here.
    let body = table(&["", ""], &rows);
    text.push_str(body.strip_prefix('\n').unwrap_or(&body));
    for warning in warnings {
        let _ = write!(text, "\nwarning: {warning}");
    }
    if !warnings.is_empty() {
        text.push('\n');
    }
    text
}

/// Rows about S/MIME: by which authorities it is judged, and what signs.
fn smime(config: &Config) -> Vec<Vec<String>> {
    let anchors = match &config.smime.anchors {
        Some((anchors, file)) => format!("judged by {} authorities from {}", anchors.count(), file.display()),
        None => "no authorities: signatures are checked, and nobody says whose they are".to_owned(),
    };
    let mut rows = vec![vec!["smime".to_owned(), anchors]];
    for key in &config.smime.signers {
        let addresses = key.addresses.iter().map(ToString::to_string);
        let all: Vec<String> = addresses.chain(key.domains.iter().map(ToString::to_string)).collect();
        let does = if key.sign { "signs mail" } else { "does not sign" };
        let (file, ends) = (key.certificate.display(), key.signer.not_after());
        rows.push(vec!["smime".to_owned(), format!("{file} {does} of {}, until {ends}", all.join(", "))]);
    }
    rows
}

fn trust(config: &Config) -> String {
    match &config.discovery.dns.trust {
        Trust::Validate(anchors) => {
            let tags: Vec<String> = anchors.list().iter().map(|anchor| anchor.key_tag.to_string()).collect();
            let source = match anchors.source() {
                AnchorSource::Bundled => "IANA, bundled",
                AnchorSource::File => "from dns.trust_anchor_file",
            };
            format!("validated here; root key tags {} ({source})", tags.join(", "))
        }
        Trust::AdBit { .. } => "the resolver's AD bit, tested at start".to_owned(),
    }
}

fn scope(peer: &Peer) -> String {
    match &peer.scope {
        Scope::Domain(domain) => format!("the hosts of {domain}"),
        Scope::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn identity(identity: &Identity) -> String {
    match identity {
        Identity::Dane => "DANE".to_owned(),
        Identity::Pinned(pins) => format!("pinned keys ({})", pins.len()),
        Identity::FederationCa(roots) => format!("authorities of its own ({})", roots.len()),
    }
}

fn submission(config: &Config) -> Vec<Vec<String>> {
    let Some(submission) = &config.submission else {
        return vec![vec!["submission".to_owned(), "through the control socket only".to_owned()]];
    };
    let listen: Vec<String> = submission.listen.iter().map(ToString::to_string).collect();
    let mut rows = vec![vec!["submission".to_owned(), format!("listens on {}", listen.join(", "))]];
    for client in &submission.clients {
        let networks: Vec<String> = client.addresses.iter().map(ToString::to_string).collect();
        let domains: Vec<String> = client.domains.iter().map(ToString::to_string).collect();
        let who = match (networks.is_empty(), client.pins.len()) {
            (true, pins) => format!("pinned keys ({pins})"),
            (false, 0) => networks.join(", "),
            (false, pins) => format!("{} and pinned keys ({pins})", networks.join(", ")),
        };
        rows.push(vec!["client".to_owned(), format!("{}: {who}; for {}", client.name, domains.join(", "))]);
    }
    rows
}

fn endpoint(endpoint: &Endpoint) -> String {
    let protected = |tls: &EndpointTls| match tls {
        EndpointTls::Pins(pins) => format!("TLS with pinned keys ({})", pins.digests().len()),
        EndpointTls::Ca { name, .. } => format!("TLS as {name} under a configured authority"),
    };
    match endpoint {
        Endpoint::Unix(path) => path.display().to_string(),
        Endpoint::Loopback(address, None) => address.to_string(),
        Endpoint::Loopback(address, Some(tls)) => format!("{address}, {}", protected(tls)),
        Endpoint::Remote(address, tls) => format!("{address}, {}", protected(tls)),
    }
}

fn hand_off(hand_off: &HandOff) -> String {
    let binding = match &hand_off.binding {
        Binding::Lmtp(to) => format!("LMTP to {}", endpoint(to)),
        Binding::Smtp(to) => format!("SMTP to {}", endpoint(to)),
        Binding::Maildir(path) => format!("Maildir below {}", path.display()),
    };
    match hand_off.recipients {
        Recipients::Ask => format!("{binding}; asked about recipients"),
        Recipients::Accept => format!("{binding}; takes all recipients"),
    }
}

/// Limits that are not at their default.
fn limits(config: &Config) -> Vec<Vec<String>> {
    let changed = TABLE.iter().filter_map(|limit| {
        let value = config.limits.get(limit.key)?;
        (value != limit.default).then(|| {
            vec![
                "limit".to_owned(),
                format!("{} = {value} (default {}, {})", limit.key, limit.default, limit.unit),
            ]
        })
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::tests::{Bench, GOOD};

    /// Proves: +REC-005 -REC-005 +DNS-005
    #[test]
    fn what_was_understood_is_said() {
        let bench = Bench::new();
        let config = bench.parse(GOOD).unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let text = describe(&config, None, &warnings(&config, now), now);
        let dir = bench.path().parent().unwrap().display().to_string();
        insta::assert_snapshot!("check", text.replace(&dir, "DIR"));
    }

    /// Proves: +HOOK-012 -HOOK-012
    #[tokio::test]
    async fn a_hook_is_named_and_whether_it_is_there() {
        let bench = Bench::new();
        let socket = bench.path().with_file_name("hook.sock");
        let text = format!("{GOOD}\n[content_hook]\naddress = \"unix:hook.sock\"\npath = \"/filter\"\n");
        bench.write("sluis.toml", &text);
        let absent = check(&bench.path()).await.unwrap();
        assert_eq!(absent.exit, Exit::Pass, "a node may be set up before its filter");
        let row = format!("POST /filter to {}; not reached", socket.display());
        assert!(absent.text.contains(&row), "{}", absent.text);
        assert!(absent.text.contains("warning: content_hook.address: the content hook cannot be reached: "));
        assert_eq!(absent.json["content_hook"]["reached"], false);
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let there = check(&bench.path()).await.unwrap();
        assert!(
            there.text.contains("; reached") && !there.text.contains("warning: content_hook"),
            "{}",
            there.text
        );
        assert_eq!(there.json["content_hook"]["reached"], true);
        assert!(there.json["content_hook"]["trouble"].is_null());
        bench.write("sluis.toml", GOOD);
        assert!(check(&bench.path()).await.unwrap().json["content_hook"].is_null());
    }

    /// Proves: -SPOOL-020
    #[test]
    fn a_spool_without_its_key_is_warned_about() {
        let bench = Bench::new();
        let config = bench.parse(GOOD).unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let lacks =
            || warnings(&config, now).join("\n").contains("the node will not start; put the key back");
        assert!(!lacks(), "before the first start there is no key, and it will be made");
        let spool = crate::spool::Spool::open(config.spool.clone(), crate::world::World::system()).unwrap();
        drop(spool);
        assert!(!lacks());
        std::fs::remove_file(bench.path().parent().unwrap().join("state/spool.key")).unwrap();
        assert!(lacks());
    }

    #[test]
    fn what_ends_soon_is_warned_about() {
        let bench = Bench::new();
        let config = bench
            .parse(&GOOD.replace("[lab]\npeer_port = 2025\nprivate_peer_addresses = true\n", ""))
            .unwrap();
        let at = |now: &str| warnings(&config, now.parse().unwrap()).join("\n");
        // Nothing ends; that no key signs is said at any time.
        let unsigned = at("2026-11-22T12:00:00Z");
        assert!(
            unsigned.starts_with("no [[dkim]] key signs for a.example, hospital.example: "),
            "{unsigned}"
        );
        assert_eq!(unsigned.lines().count(), 1, "{unsigned}");
        assert!(at("2028-12-15T12:00:00Z").contains("the NTA record ends with 2028-12"));
        assert!(at("2029-02-01T12:00:00Z").contains("2028-12 is over"));
        assert!(at("2025-12-01T12:00:00Z").contains("does not hold before 2026-01"));
        let ends = config.keys.keys()[0].certificate().not_after();
        let before = ends.checked_sub(SignedDuration::from_hours(24)).unwrap();
        assert!(warnings(&config, before).join("\n").contains("ours.pem: the certificate ends on"));
    }
}
