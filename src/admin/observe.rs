//! The one place where a finished attempt becomes a log line and a count.

use std::sync::Arc;

use super::metrics::{Alarm, Metrics};
use super::redact::Redactor;
use crate::config::LogAddresses;
use crate::model::{DecisionRecord, Reason};

/// Watches attempts. Clones share their counters.
#[derive(Clone)]
pub struct Observer {
    metrics: Arc<Metrics>,
    redactor: Arc<Redactor>,
}

impl Observer {
    /// With counters at zero.
    ///
    /// # Errors
    /// The system gives no randomness for pseudonyms.
    pub fn new(addresses: LogAddresses) -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self { metrics: Arc::new(Metrics::new()), redactor: Arc::new(Redactor::new(addresses)?) })
    }

    /// The end of an attempt: one log line (REC-001), one count.
    pub fn attempt_ended(&self, record: &DecisionRecord) {
        super::log::attempt(record, &self.redactor);
        self.metrics.attempt(record);
        if record.reason == Some(Reason::DnsRootKey) {
            self.alarm(Alarm::RootKey, "no configured anchor vouches for the keys of the DNS root (DNS-006)");
        }
    }

    /// The sender of a late message is told: one log line. It is no attempt, so only the report is counted.
    pub fn told_late(&self, record: &DecisionRecord) {
        super::log::told_late(record, &self.redactor);
        self.metrics.report(record);
    }

    /// Something to look at. `detail` is for operators and holds no address.
    pub fn alarm(&self, alarm: Alarm, detail: &str) {
        self.metrics.alarm(alarm);
        tracing::error!(alarm = ?alarm, detail, "alarm");
    }

    /// The counters.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How addresses are written.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::admin::SpoolGauges;
    use crate::model::{AttemptId, Direction};

    /// Proves: +DNS-006 -DNS-006
    #[test]
    fn a_root_key_that_nobody_knows_raises_an_alarm_and_no_other_trouble_of_dns_does() {
        let observer = Observer::new(LogAddresses::Pseudonymous).unwrap();
        let started = "2026-11-26T12:00:00Z".parse().unwrap();
        for reason in [Reason::DnsRootKey, Reason::DnsBogus] {
            let mut record = DecisionRecord::begin(AttemptId::from_parts(1, 2), Direction::Outbound, started);
            record.reason = Some(reason);
            observer.attempt_ended(&record);
        }
        let text = observer.metrics().text(SpoolGauges::default());
        assert!(text.contains("sluis_alarms_total{alarm=\"root_key\"} 1\n"), "{text}");
    }
}
