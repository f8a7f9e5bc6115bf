//! What is counted, in the text format of OpenMetrics.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::log::{direction, word};
use crate::model::{DecisionRecord, Level, Reason};

/// Field names that look like an NTA header and are counted by themselves; the others are one. Names come from strangers.
const NTA_NAMES_MAX: usize = 16;

/// The counters of a node. Their labels have few values, all of them ours (but for the names of [`NTA_NAMES_MAX`] header
/// fields): no domain, address or reply of anybody.
pub struct Metrics {
    registry: Registry,
    attempts: Family<AttemptLabels, Counter>,
    seconds: Family<DirectionLabel, Histogram>,
    octets: Family<DirectionLabel, Counter>,
    unconfirmed: Counter,
    alarms: Family<AlarmLabel, Counter>,
    sessions: Family<ListenerLabel, Gauge>,
    refused_sessions: Counter,
    spool: Family<StateLabel, Gauge>,
    spool_octets: Gauge<u64, AtomicU64>,
    resting: Gauge,
    reloads: Family<ResultLabel, Counter>,
    reported: Family<ActionLabel, Counter>,
    nta_headers: Family<FieldLabel, Counter>,
    content_hook: Family<VerdictLabel, Counter>,
    locations: Family<LocationLabels, Counter>,
    location_table: Gauge,
    /// The names that have a counter of their own.
    nta_names: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    direction: &'static str,
    outcome: &'static str,
    level: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LocationLabels {
    direction: &'static str,
    location: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AlarmLabel {
    alarm: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FieldLabel {
    field: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

/// Something an operator should look at although no message failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// DNS shows one key for hosts of two peers (IDEN-019).
    SharedKey,
    /// The keys of the DNS root match no anchor (DNS-006).
    RootKey,
    /// The spool broke and accepts nothing more (SPOOL-003).
    SpoolBroken,
    /// A message was held because its content is damaged (SPOOL-013).
    DamagedContent,
    /// Other providers would refuse mail of a domain of ours (SIGN-010).
    OwnDomain,
}

impl Alarm {
    const ALL: [Self; 5] =
        [Self::SharedKey, Self::RootKey, Self::SpoolBroken, Self::DamagedContent, Self::OwnDomain];

    const fn as_str(self) -> &'static str {
        match self {
            Self::SharedKey => "shared_key",
            Self::RootKey => "root_key",
            Self::SpoolBroken => "spool_broken",
            Self::DamagedContent => "damaged_content",
            Self::OwnDomain => "own_domain",
        }
    }
}

/// A listener whose sessions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Other providers.
    Federation,
    /// Our own platform.
    Submission,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new configuration is in force.
    Taken,
    /// The old one stays.
    Refused,
}

/// A session that is open; it is no longer when this is dropped.
pub struct OpenSession(Gauge);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a spool holds, as far as it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolGauges {
    /// Deliveries that wait.
    pub waiting: usize,
    /// Deliveries with an attempt under way.
    pub attempting: usize,
    /// Deliveries that an operator holds.
    pub held: usize,
    /// Deliveries set aside because they stopped the node or a worker twice.
    pub poison: usize,
    /// Records that could not be read.
    pub damaged: usize,
    /// Octets of content.
    pub octets: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        // 10 ms to 11 minutes: from a hand-over on one machine to the longest wait for a reply (RFC 5321 4.5.3.2.6).
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.01, 2.0, 17));
        let mut metrics = Self {
            registry: Registry::with_prefix("sluis"),
            attempts: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            octets: Family::default(),
            unconfirmed: Counter::default(),
            alarms: Family::default(),
            sessions: Family::default(),
            refused_sessions: Counter::default(),
            spool: Family::default(),
            spool_octets: Gauge::default(),
            resting: Gauge::default(),
            reloads: Family::default(),
            reported: Family::default(),
            nta_headers: Family::default(),
            content_hook: Family::default(),
            locations: Family::default(),
            location_table: Gauge::default(),
            nta_names: Mutex::default(),
        };
        for alarm in Alarm::ALL {
            metrics.alarms.get_or_create(&AlarmLabel { alarm: alarm.as_str() }).inc_by(0);
        }
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "attempts",
            "Attempts by direction, outcome, level and reason",
            self.attempts.clone(),
        );
        registry.register("attempt_seconds", "Duration of attempts", self.seconds.clone());
        registry.register("content_octets", "Content that crossed a border", self.octets.clone());
        registry.register(
            "unconfirmed",
            "Messages delivered at level mutual without the other side confirming it",
            self.unconfirmed.clone(),
        );
        registry.register("alarms", "What an operator should look at", self.alarms.clone());
        registry.register("sessions", "Sessions open now", self.sessions.clone());
        registry.register(
            "refused_sessions",
            "Sessions refused because of a limit",
            self.refused_sessions.clone(),
        );
        registry.register("spool_deliveries", "Deliveries in the spool", self.spool.clone());
        registry.register("spool_octets", "Content in the spool", self.spool_octets.clone());
        registry.register(
            "resting",
            "Hosts, domains and hand-offs left alone after failures in a row",
            self.resting.clone(),
        );
        registry.register("reloads", "Reloads of the configuration", self.reloads.clone());
        registry.register(
            "reported_recipients",
            "Recipients of whom a sender was told, by what was said",
            self.reported.clone(),
        );
        registry.register(
            "nta_headers",
            "Messages of other providers with a header that looks like the NTA header, by its name",
            self.nta_headers.clone(),
        );
        registry.register(
            "content_hook",
            "Questions to the content hook, by what came of them",
            self.content_hook.clone(),
        );
        registry.register(
            "locations",
            "Servers of other providers in attempts, by whether they stand in the EU or EEA",
            self.locations.clone(),
        );
        registry.register(
            "location_table_built_seconds",
            "When the table of countries was built, as a UNIX time; 0: there is none",
            self.location_table.clone(),
        );
    }

    /// Counts a finished attempt.
    pub(super) fn attempt(&self, record: &DecisionRecord) {
        let direction = direction(record.direction);
        let labels = AttemptLabels {
            direction,
            outcome: word(record.outcome),
            level: record.assurance.map_or("none", Level::as_str),
            reason: record.reason.map_or("none", Reason::as_str),
        };
        self.attempts.get_or_create(&labels).inc();
        let by_direction = DirectionLabel { direction };
        let milliseconds = u32::try_from(record.duration_ms).unwrap_or(u32::MAX);
        self.seconds.get_or_create(&by_direction).observe(f64::from(milliseconds) / 1000.0);
        use crate::model::Outcome::{Accepted, Delivered, Partial};
        if matches!(record.outcome, Accepted | Delivered | Partial) {
            self.octets.get_or_create(&by_direction).inc_by(record.size.unwrap_or(0));
            let outbound = record.direction == crate::model::Direction::Outbound;
            let confirmed = record.hosts.last().is_some_and(|host| host.peer_confirmed.is_some());
            if outbound && record.assurance == Some(Level::Mutual) && !confirmed {
                self.unconfirmed.inc();
            }
        }
        for noted in record.trust.iter().flat_map(|trust| &trust.nta_headers) {
            let name = noted.split(':').next().unwrap_or_default();
            let field = self.nta_label(name);
            self.nta_headers.get_or_create(&FieldLabel { field }).inc();
        }
        if let Some(hook) = &record.content_hook {
            self.content_hook.get_or_create(&VerdictLabel { verdict: hook.verdict.as_str() }).inc();
        }
        for location in record.hosts.iter().filter_map(|host| host.location.as_ref()) {
            let labels = LocationLabels { direction, location: location.verdict.as_str() };
            self.locations.get_or_create(&labels).inc();
        }
        self.report(record);
    }

    /// The table of countries in force was built then; 0: there is none.
    pub fn location_table(&self, built_seconds: i64) {
        self.location_table.set(built_seconds);
    }

    /// The label under which a field of this name is counted (JUDGE-009).
    fn nta_label(&self, name: &str) -> String {
        let plain = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        let mut names = self.nta_names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if plain && (names.contains(name) || names.len() < NTA_NAMES_MAX) {
            names.insert(name.to_owned());
            return name.to_owned();
        }
        "other".to_owned()
    }

    /// Counts what a sender was told.
    pub(super) fn report(&self, record: &DecisionRecord) {
        for said in record.report.iter().flat_map(|report| &report.says) {
            self.reported.get_or_create(&ActionLabel { action: said.action.as_str() }).inc();
        }
    }

    /// Counts an alarm.
    pub fn alarm(&self, alarm: Alarm) {
        self.alarms.get_or_create(&AlarmLabel { alarm: alarm.as_str() }).inc();
    }

    /// Counts a session as open until the result is dropped.
    #[must_use]
    pub fn session(&self, listener: Listener) -> OpenSession {
        let listener = match listener {
            Listener::Federation => "federation",
            Listener::Submission => "submission",
        };
        let gauge = self.sessions.get_or_create_owned(&ListenerLabel { listener });
        gauge.inc();
        OpenSession(gauge)
    }

    /// Counts a session that a limit turned away.
    pub fn session_refused(&self) {
        self.refused_sessions.inc();
    }

    /// So many hosts, domains and hand-offs rest now.
    pub fn resting(&self, count: usize) {
        self.resting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a reload.
    pub fn reload(&self, result: Reload) {
        let result = match result {
            Reload::Taken => "taken",
            Reload::Refused => "refused",
        };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// All of it as text, with the spool as it is now.
    #[must_use]
    pub fn text(&self, spool: SpoolGauges) -> String {
        let states = [
            ("waiting", spool.waiting),
            ("attempting", spool.attempting),
            ("held", spool.held),
            ("poison", spool.poison),
            ("damaged", spool.damaged),
        ];
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.spool.get_or_create(&StateLabel { state }).set(count);
        }
        self.spool_octets.set(spool.octets);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{
        AttemptId, Direction, HookFacts, HookVerdict, MessageId, Outcome, ReportFacts, ReportedRecipient,
    };

    /// Proves: +JUDGE-009 -JUDGE-009
    #[test]
    fn nta_headers_are_counted_by_few_names() {
        let metrics = Metrics::new();
        let started = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut record = DecisionRecord::begin(AttemptId::from_parts(1, 2), Direction::Inbound, started);
        for n in 0..40 {
            let nta_headers = vec![format!("nta-{n}"), "x-nta: value".to_owned(), "nta\"}".to_owned()];
            record.trust = Some(crate::model::TrustFacts { nta_headers, ..Default::default() });
            metrics.attempt(&record);
        }
        let text = metrics.text(SpoolGauges::default());
        let lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("sluis_nta_headers_total{")).collect();
        assert_eq!(lines.len(), NTA_NAMES_MAX + 1, "{lines:?}");
        assert!(lines.contains(&"sluis_nta_headers_total{field=\"x-nta\"} 40"), "{lines:?}");
        assert!(lines.contains(&"sluis_nta_headers_total{field=\"other\"} 65"), "{lines:?}");
    }

    /// Proves: +OPS-008 -OPS-008
    #[test]
    fn attempts_are_counted_without_saying_whose() {
        let metrics = Metrics::new();
        let started = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut record = DecisionRecord::begin(AttemptId::from_parts(1, 2), Direction::Outbound, started);
        record.sender = Some("jan@a.example".into());
        record.peer_domain = Some("b.example".parse().unwrap());
        record.outcome = Outcome::Delivered;
        record.assurance = Some(Level::Mutual);
        record.size = Some(1000);
        record.duration_ms = 250;
        record.content_hook = Some(HookFacts {
            hook: "unix:/run/hook".into(),
            verdict: HookVerdict::Changed,
            before: None,
            after: None,
            after_size: None,
        });
        let said = ReportedRecipient {
            address: "piet@b.example".parse().unwrap(),
            action: crate::model::ReportAction::Relayed,
        };
        record.report = Some(ReportFacts { message: MessageId::from_parts(1, 1), says: vec![said] });
        record.hosts = vec![crate::model::HostFacts {
            location: Some(crate::model::LocationFacts {
                verdict: crate::model::LocationVerdict::Outside,
                country: Some("US".into()),
                rule: crate::model::LocationRule::Observe,
                detail: None,
            }),
            ..Default::default()
        }];
        metrics.attempt(&record);
        metrics.location_table(1_795_132_800);
        metrics.alarm(Alarm::SharedKey);
        metrics.resting(2);
        let open = metrics.session(Listener::Federation);
        let text = metrics.text(SpoolGauges { waiting: 3, octets: 77, ..SpoolGauges::default() });
        for line in [
            "sluis_attempts_total{direction=\"outbound\",outcome=\"delivered\",level=\"mutual\",reason=\"none\"} 1",
            "sluis_content_octets_total{direction=\"outbound\"} 1000",
            "sluis_attempt_seconds_sum{direction=\"outbound\"} 0.25",
            "sluis_unconfirmed_total 1",
            "sluis_content_hook_total{verdict=\"changed\"} 1",
            "sluis_reported_recipients_total{action=\"relayed\"} 1",
            "sluis_locations_total{direction=\"outbound\",location=\"outside\"} 1",
            "sluis_location_table_built_seconds 1795132800",
            "sluis_alarms_total{alarm=\"shared_key\"} 1",
            "sluis_alarms_total{alarm=\"root_key\"} 0",
            "sluis_sessions{listener=\"federation\"} 1",
            "sluis_spool_deliveries{state=\"waiting\"} 3",
            "sluis_spool_octets 77",
            "sluis_resting 2",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} not in\n{text}");
        }
        assert!(!text.contains("example") && !text.contains("jan"));
        drop(open);
        assert!(metrics.text(SpoolGauges::default()).contains("sluis_sessions{listener=\"federation\"} 0"));
    }
}
