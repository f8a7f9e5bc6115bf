//! Where the other side's server stands: looked up, ruled, and entered into the record (LOCA family).

use std::net::IpAddr;

use super::refusal::Refusal;
use crate::config::Location;
use crate::model::{DecisionRecord, LocationFacts, LocationRule, LocationVerdict, Reason};
use crate::policy::{LocationRuling, Way, location_ruling};

/// What is found out about one address.
pub(super) struct Located {
    pub(super) facts: LocationFacts,
    ruling: LocationRuling,
    address: IpAddr,
}

/// Looks `address` up, under the rule that applies to its peer. `None` without a table.
pub(super) fn locate(
    location: Option<&Location>,
    rule: LocationRule,
    address: IpAddr,
    way: Way,
) -> Option<Located> {
    let place = location?.table.place(address);
    let ruling = location_ruling(rule, place.verdict, way);
    let facts = LocationFacts { verdict: place.verdict, country: place.country, rule, detail: place.detail };
    Some(Located { facts, ruling, address })
}

impl Located {
    /// Why nothing is sent there or taken from there, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.ruling {
            LocationRuling::Refuse(reason) => Some(Refusal::new(reason, self.sentence())),
            LocationRuling::Fine | LocationRuling::Warn => None,
        }
    }

    /// Adds the warning to the record, and to the log, if there is one.
    pub(super) fn warn(&self, record: &mut DecisionRecord) {
        if self.ruling != LocationRuling::Warn {
            return;
        }
        let id = match self.facts.verdict {
            LocationVerdict::Unknown => "LOCA-005",
            LocationVerdict::Eea | LocationVerdict::Outside => "LOCA-006",
        };
        let text = format!("{} ({id})", self.sentence());
        if !record.warnings.contains(&text) {
            tracing::warn!(attempt = %record.attempt, place = %self.facts.verdict, "{text}");
            record.warnings.push(text);
        }
    }

    fn sentence(&self) -> String {
        let LocationFacts { verdict, country, detail, .. } = &self.facts;
        let address = self.address.to_canonical();
        let country = country.as_deref().unwrap_or("an unknown country");
        match verdict {
            LocationVerdict::Eea => format!("{address} is in {country}, inside the EU/EEA"),
            LocationVerdict::Outside => format!("{address} is in {country}, outside the EU/EEA"),
            LocationVerdict::Unknown => {
                let why = detail.as_deref().unwrap_or("no country");
                format!("nobody can say where {address} is: {why}")
            }
        }
    }
}

/// Whether a failure is about the place of a server, which was not even asked.
pub(super) const fn is_about_place(reason: Reason) -> bool {
    matches!(reason, Reason::OutsideEea | Reason::LocationUnknown)
}
