//! `sluis status` and `sluis reload`.

use std::fmt::Write as _;

use super::{Exit, Failure, Report};
use crate::admin::{ControlClient, LocationStatus, Status};

pub(super) async fn status(client: &ControlClient) -> Result<Report, Failure> {
    let status = client.status().await?;
    let exit = if status.health.ready() { Exit::Pass } else { Exit::Fail };
    Report::new(describe(&status), &status, exit)
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    let health = &status.health;
    let state = match (health.live(), health.ready()) {
        (false, _) => "broken",
        (true, false) => "not ready",
        (true, true) => "ready",
    };
    let _ =
        writeln!(text, "{} is {state} (sluis {}, process {})", status.node, status.version, status.process);
    for reason in health.broken.iter().chain(&health.not_ready) {
        let _ = writeln!(text, "  because  {reason}");
    }
    let _ = writeln!(text, "since      {}, configured {}", status.started, status.configured);
    let domains: Vec<String> = status.domains.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "domains    {}", domains.join(", "));
    for listener in &status.listeners {
        let _ = writeln!(text, "listens    {listener}");
    }
    let spool = &status.spool;
    let _ = writeln!(
        text,
        "spool      {} messages, {} octets; deliveries: {} waiting, {} attempting, {} held",
        spool.messages, spool.octets, spool.waiting, spool.attempting, spool.held
    );
    if spool.damaged > 0 {
        let _ = writeln!(
            text,
            "damaged    {} records could not be read; see the log, and `sluis spool scrub`",
            spool.damaged
        );
    }
    if spool.poison > 0 {
        let _ = writeln!(
            text,
            "set aside  {} deliveries that stopped the node or a worker twice; see `sluis spool list --state held`, then \
             release or return them",
            spool.poison
        );
    }
    for row in &status.resting {
        let _ = writeln!(
            text,
            "rests      {}: {} failures since {}, last {}; next probe {}; {} deliveries wait",
            row.what, row.failures, row.since, row.reason, row.next_probe, row.waiting
        );
    }
    for key in &status.keys {
        let _ = writeln!(text, "key        {} {}, until {}", key.kind, key.spki, key.not_after);
    }
    let _ = writeln!(text, "location   {}", LocationStatus::describe(status.location.as_ref()));
    if !status.weakened.is_empty() {
        let _ = writeln!(text, "weakened   {}", status.weakened.join(", "));
    }
    text
}

pub(super) async fn reload(client: &ControlClient) -> Result<Report, Failure> {
    let done = client.reload().await?;
    let mut text = String::new();
    for line in &done.changed {
        let _ = writeln!(text, "{line}");
    }
    for line in &done.needs_restart {
        let _ = writeln!(text, "restart: {line}");
    }
    for line in &done.warnings {
        let _ = writeln!(text, "warning: {line}");
    }
    if text.is_empty() {
        text.push_str("nothing has changed\n");
    }
    Report::new(text, &done, Exit::Pass)
}
