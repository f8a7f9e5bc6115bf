//! `testnet bench`: the measurement that the node is held to, as `./check` makes it.
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn bench(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_testnet")).arg("bench").args(arguments).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

/// Proves: +LIM-007
#[test]
fn large_messages_do_not_show_in_a_nodes_memory() {
    let (code, printed) = bench(&["memory", "--json"]);
    assert_eq!(code, Some(0), "{printed}");
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
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

#[test]
fn what_cannot_be_measured_is_a_usage_error() {
    for arguments in [&["memory", "--size", "61"][..], &["memory", "--node", "/nowhere"], &["nothing"], &[]] {
        let (code, printed) = bench(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {printed}");
    }
}
