//! No row of the page is without a test in a running network.

use std::collections::BTreeSet;

use testnet::topology::Topology;

use super::support::PAGE;

/// The tests beside this one.
const TESTS: [&str; 8] = [
    include_str!("borders.rs"),
    include_str!("dns.rs"),
    include_str!("hook.rs"),
    include_str!("house.rs"),
    include_str!("location.rs"),
    include_str!("outbound.rs"),
    include_str!("signing.rs"),
    include_str!("trust.rs"),
];

/// Every reason of the page is named by a row of these tests, or expected by a topology that `once.rs` runs.
#[test]
fn every_row_of_the_page_is_shown_in_a_running_network() {
    let listed: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(reason, _)| reason))
        .collect();
    assert!(listed.len() > 70, "the page has its table: {listed:?}");
    let topologies = [Topology::faults(), Topology::root_rolled()];
    let expected: BTreeSet<String> = topologies
        .iter()
        .flat_map(Topology::expected)
        .filter_map(|message| message.expect.reason().map(str::to_owned))
        .collect();
    let shown = |reason: &str| {
        expected.contains(reason) || TESTS.iter().any(|test| test.contains(&format!("\"{reason}\"")))
    };
    let missing: Vec<_> = listed.into_iter().filter(|reason| !shown(reason)).collect();
    assert!(missing.is_empty(), "write a row that brings each of these about: {missing:?}");
}
