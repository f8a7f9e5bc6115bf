//! What follows from where a server stands: a table, no I/O (LOCA-004, LOCA-005).

use crate::model::{LocationRule, LocationVerdict, Reason};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Out,
    /// From it.
    In,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationRuling {
    /// Nothing but its place in the record.
    Fine,
    /// The operator is told.
    Warn,
    /// Nothing is sent there, or taken from there.
    Refuse(Reason),
}

/// The table.
///
/// Of what is unknown the two ways differ: what is sent leaves our hands, so it needs a yes; what comes has left another's.
#[must_use]
pub const fn location_ruling(rule: LocationRule, verdict: LocationVerdict, way: Way) -> LocationRuling {
    match (rule, verdict, way) {
        (LocationRule::Any, ..) | (_, LocationVerdict::Eea, _) => LocationRuling::Fine,
        (LocationRule::Enforce, LocationVerdict::Outside, _) => LocationRuling::Refuse(Reason::OutsideEea),
        (LocationRule::Enforce, LocationVerdict::Unknown, Way::Out) => {
            LocationRuling::Refuse(Reason::LocationUnknown)
        }
        (LocationRule::Observe, _, _) | (LocationRule::Enforce, LocationVerdict::Unknown, Way::In) => {
            LocationRuling::Warn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: +LOCA-004 -LOCA-004 +LOCA-005 -LOCA-005 +LOCA-006 -LOCA-006 +LOCA-007 -LOCA-007
    #[test]
    fn every_combination_of_rule_place_and_way() {
        use LocationRule::{Any, Enforce, Observe};
        use LocationRuling::{Fine, Refuse, Warn};
        use LocationVerdict::{Eea, Outside, Unknown};
        for (rule, verdict, out, inbound) in [
            (Any, Eea, Fine, Fine),
            (Any, Outside, Fine, Fine),
            (Any, Unknown, Fine, Fine),
            (Observe, Eea, Fine, Fine),
            (Observe, Outside, Warn, Warn),
            (Observe, Unknown, Warn, Warn),
            (Enforce, Eea, Fine, Fine),
            (Enforce, Outside, Refuse(Reason::OutsideEea), Refuse(Reason::OutsideEea)),
            (Enforce, Unknown, Refuse(Reason::LocationUnknown), Warn),
        ] {
            let ruled = [Way::Out, Way::In].map(|way| location_ruling(rule, verdict, way));
            assert_eq!(ruled, [out, inbound], "{rule} {verdict}");
        }
    }
}
