//! `sluis dns`: the records to publish, and whether they are live (OPS-003).

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, Report, printable};
use crate::admin::publish::{Live, Record, Type, compare, records};
use crate::admin::reload::seen;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::world::World;

/// What to do with the records.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Compare them with what DNS shows now.
    #[arg(long)]
    verify: bool,
}

pub(super) async fn dns(config: &Config, world: World, arguments: &Arguments) -> Result<Report, Failure> {
    if !arguments.verify {
        let all = records(config);
        return Report::new(zone(&all), &json!({ "ok": true, "records": all }), Exit::Pass);
    }
    let discovery = Discovery::start(config.discovery.clone(), world).await?;
    let compared = compare(config, &discovery).await;
    let exit = exit(&compared);
    let records: Vec<_> =
        compared.iter().map(|(record, live)| json!({ "record": record, "live": live })).collect();
    Report::new(verdicts(&compared), &json!({ "ok": exit == Exit::Pass, "records": records }), exit)
}

/// The records as part of a zone file. What is a hint only is commented out.
fn zone(records: &[Record]) -> String {
    let mut text = String::new();
    let mut purpose = "";
    for record in records {
        if record.purpose != purpose {
            let _ = writeln!(text, "{}; {}", if text.is_empty() { "" } else { "\n" }, record.purpose);
            purpose = &record.purpose;
        }
        let hint = if record.rtype == Type::Mx { "; " } else { "" };
        let _ = writeln!(text, "{hint}{record}");
    }
    text
}

fn verdicts(compared: &[(Record, Live)]) -> String {
    let mut text = String::new();
    for (record, live) in compared {
        let mark = match live {
            Live::Published => "ok",
            Live::NotCompared { .. } => "look",
            Live::Unknown { .. } => "?",
            Live::Missing | Live::Different { .. } | Live::NotSigned => "FAIL",
        };
        let _ = writeln!(text, "{mark:<5}{record}");
        if *live != Live::Published {
            let _ = writeln!(text, "     {}", printable(&seen(live)));
        }
    }
    let wrong = compared.iter().filter(|(_, live)| live.differs()).count();
    match wrong {
        0 => text.push_str("\nEverything is live.\n"),
        count => {
            let _ = writeln!(
                text,
                "\n{count} of {} records are not as they should be. Publish the lines above.",
                compared.len()
            );
        }
    }
    text
}

/// A clear difference outweighs one that could not be seen.
fn exit(compared: &[(Record, Live)]) -> Exit {
    let unknown = |live: &Live| matches!(live, Live::Unknown { .. });
    if compared.iter().any(|(_, live)| live.differs() && !unknown(live)) {
        Exit::Fail
    } else if compared.iter().any(|(_, live)| unknown(live)) {
        Exit::Incomplete
    } else {
        Exit::Pass
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::tests::{Bench, GOOD};

    /// Proves: +OPS-003
    #[test]
    fn the_output_is_a_zone_file() {
        let config = Bench::new().parse(GOOD).unwrap();
        let text = zone(&records(&config));
        let digest = config.keys.keys()[0].certificate().tlsa_rdata();
        insta::assert_snapshot!("zone", text.replace(&digest, "3 1 1 DIGEST"));
    }

    /// Proves: +OPS-003 -OPS-003
    #[test]
    fn any_difference_fails_and_what_nobody_can_tell_is_incomplete() {
        let config = Bench::new().parse(GOOD).unwrap();
        let all = |live: &[Live]| -> Vec<(Record, Live)> {
            records(&config).into_iter().zip(live.iter().cloned()).collect()
        };
        let unknown = Live::Unknown { trouble: "SERVFAIL".into() };
        assert_eq!(exit(&all(&[Live::Published, Live::NotCompared { seen: vec![] }])), Exit::Pass);
        assert_eq!(exit(&all(&[Live::Published, unknown.clone()])), Exit::Incomplete);
        for wrong in [Live::Missing, Live::NotSigned, Live::Different { seen: vec![] }] {
            assert_eq!(exit(&all(&[unknown.clone(), wrong])), Exit::Fail);
        }
        let shown = verdicts(&all(&[Live::Published, Live::Missing]));
        assert!(
            shown.contains("ok   a.example. IN TXT") && shown.contains("FAIL hospital.example."),
            "{shown}"
        );
    }
}
