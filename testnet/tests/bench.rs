//! `testnet bench`: the measurement that the node is held to, as `./check` makes it, and the others in small: their form, and
//! that nothing acknowledged is missing. What they say about time says nothing here.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// The exit code, what was printed to standard output, and all that was printed. The rest may have what cargo says when it
/// builds the node first.
fn bench(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_testnet")).arg("bench").args(arguments).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let all = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), out, all)
}

/// Proves: +LIM-007
#[test]
fn large_messages_do_not_show_in_a_nodes_memory() {
    assert_memory_is_flat(&["memory", "--json"]);
}

/// Where the message alone proves its sender, each signature is verified over all of it.
/// Proves: +LIM-007 +JUDGE-002
#[test]
fn nor_do_they_where_their_signatures_decide() {
    assert_memory_is_flat(&["memory", "--json", "--level", "nta7516"]);
}

fn assert_memory_is_flat(arguments: &[&str]) {
    let (code, out, printed) = bench(arguments);
    assert_eq!(code, Some(0), "{printed}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{printed}"));
    assert_eq!(report["ok"], true);
    assert!(report["message_octets"].as_u64().unwrap() >= 20 << 20);
    let loads = report["loads"].as_array().unwrap();
    assert_eq!(loads.len(), 2);
    for (load, (messages, limit)) in loads.iter().zip([(1, 8 << 20), (10, 64 << 20)]) {
        assert_eq!((load["messages"].as_u64(), load["limit_octets"].as_u64()), (Some(messages), Some(limit)));
        let nodes = load["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 2);
        for node in nodes {
            let growth = node["growth_octets"].as_u64().unwrap();
            assert!(growth < limit && node["idle_octets"].as_u64().unwrap() > 0, "{printed}");
        }
    }
}

/// A measurement in small; what it found is its own affair, so 0 and 1 are the same here.
fn report(arguments: &[&str]) -> serde_json::Value {
    let (code, out, printed) = bench(arguments);
    assert!(matches!(code, Some(0 | 1)), "{printed}");
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{printed}"))
}

/// Whether a series has so many measurements, all above zero, and its median among them.
fn measured(series: &serde_json::Value, count: usize) -> bool {
    let all: Vec<f64> = series["all"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect();
    let [median, lowest, highest] = ["median", "lowest", "highest"].map(|key| series[key].as_f64().unwrap());
    all.len() == count && all.iter().all(|one| *one > 0.0) && lowest <= median && median <= highest
}

#[test]
fn what_the_spool_acknowledged_is_in_its_queue() {
    let arguments = ["--messages", "100", "--rounds", "2", "--connections", "8", "--per-connection", "5"];
    let report = report(&[&["spool", "--alone", "--json"], &arguments[..]].concat());
    assert_eq!((report["ok"].is_null(), report["postfix"].is_null()), (true, true), "{report}");
    let sluis = &report["sluis"];
    assert_eq!(sluis["acknowledged"], 25 + 2 * 100);
    assert_eq!(sluis["queued"], sluis["acknowledged"]);
    assert!(measured(&sluis["per_second"], 2) && measured(&sluis["p99_ms"], 2), "{report}");
}

#[test]
fn a_dead_peer_keeps_its_messages_and_the_others_get_theirs() {
    for silent in [&[][..], &["--silent"]] {
        let arguments = ["dead-peer", "--json", "--queued", "150", "--messages", "60", "--rounds", "2"];
        let report = report(&[&arguments[..], silent].concat());
        assert_eq!(report["delivered"], 2 * 3 * 60, "{report}");
        assert_eq!(report["still_queued"], 150);
        assert!(measured(&report["free"], 2) && measured(&report["laden"], 2), "{report}");
        assert_eq!(report["loss"]["all"].as_array().unwrap().len(), 2);
        assert!(report["ok"].is_boolean());
    }
}

#[test]
fn a_node_starts_with_all_that_it_acknowledged() {
    let report = report(&["start", "--json", "--messages", "300", "--rounds", "2", "--settle", "0"]);
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!(
        kinds.iter().map(|kind| &kind["after"]).collect::<Vec<_>>(),
        ["a stop", "a kill", "a stop, files cached"]
    );
    for kind in kinds {
        assert_eq!(kind["queued"], 300);
        assert!(
            ["seconds", "ready_octets", "peak_octets"].iter().all(|key| measured(&kind[key], 2)),
            "{report}"
        );
    }
    assert!(report["state_octets"].as_u64().unwrap() > 300 * 2_048);
}

#[test]
fn what_cannot_be_measured_is_a_usage_error() {
    for arguments in [
        &["memory", "--size", "61"][..],
        &["memory", "--node", "/nowhere"],
        &["spool", "--alone", "--calibrate"],
        &["spool", "--rounds", "0"],
        &["start", "--octets", "1"],
        &["dead-peer", "--messages", "0"],
        &["nothing"],
        &[],
    ] {
        let (code, _, printed) = bench(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {printed}");
    }
}
