//! Our own domains before we send in their name: are they in order (`spec/10-signing.md`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::node::Node;
use crate::admin::Alarm;
use crate::config::Config;
use crate::model::{DecisionRecord, DomainName};
use crate::trust::OwnDomain;

/// How long a domain that is in order is not asked about again.
const GOOD_SECONDS: i64 = 600;
/// How long a defect is remembered: a correction shows by then, or at once after a reload.
const DEFECT_SECONDS: i64 = 300;
/// How long nobody asks again where DNS gave no answer.
const TROUBLE_SECONDS: i64 = 60;

/// What was seen of each of our domains, for a bounded time (SIGN-012).
pub(super) struct OwnDomains(BTreeMap<DomainName, Mutex<Option<Held>>>);

struct Held {
    until: Timestamp,
    defects: Vec<String>,
}

impl OwnDomains {
    pub(super) fn new(config: &Config) -> Self {
        Self(config.node.domains.iter().map(|domain| (domain.clone(), Mutex::new(None))).collect())
    }
}

impl Node {
    /// What other providers would refuse of this domain of ours; nothing: no reason is known. Asks DNS when the last look is
    /// too old, and then raises an alarm for what it finds.
    pub(super) async fn own_domain_defects(
        &self,
        domain: &DomainName,
        record: &mut DecisionRecord,
    ) -> Vec<String> {
        let live = self.live();
        let Some(held) = live.own_domains.0.get(domain) else { return Vec::new() };
        // One look at a time: whoever comes meanwhile gets what it finds.
        let mut held = held.lock().await;
        let now = self.inner.world.now();
        if let Some(held) = held.as_ref().filter(|held| now < held.until) {
            return held.defects.clone();
        }
        let own =
            OwnDomain { domain, node: &live.config.node.name, keys: live.config.signers(domain).collect() };
        let state = self.inner.judge.own_domain(&own).await;
        record.discovery.dns.extend(state.dns);
        let seconds = match (state.defects.is_empty(), state.trouble.is_empty()) {
            (false, _) => DEFECT_SECONDS,
            (true, false) => TROUBLE_SECONDS,
            (true, true) => GOOD_SECONDS,
        };
        if !state.defects.is_empty() {
            let detail = format!("{domain}: {}", state.defects.join("; "));
            self.inner.observer.alarm(Alarm::OwnDomain, &detail);
        }
        let until = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        *held = Some(Held { until, defects: state.defects.clone() });
        state.defects
    }
}
