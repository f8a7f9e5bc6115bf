//! Real mail through real node processes: every letter of the set arrives octet for octet, by whichever client it comes, and
//! what breaks a rule of content is refused at both borders of a node.
//!
//! The network runs once; each test looks at what came of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use testnet::letters::{Parties, cases, flaws};
use testnet::net::client::Carriage;
use testnet::net::post::{Border, Outcome, Post};
use testnet::net::{Build, Home, Net, locate};
use testnet::topology::Topology;

/// What became of everything.
struct Run {
    /// By the platform of `a` to its node, and on to the node of `b`.
    submitted: Vec<Outcome>,
    /// By the testnet's client, with the certificate of `a`, to the node of `c`.
    by_peer: Vec<Outcome>,
    refused: Vec<(Border, Outcome)>,
    /// How often each address of `b` got something.
    arrived: BTreeMap<String, usize>,
    violations: Vec<String>,
}

static RUN: LazyLock<Run> = LazyLock::new(|| {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let program = locate(None, Build::IfNeeded).await.unwrap();
        let net = Net::start(Topology::three_providers(), &program, Home::Temporary, |_| ()).await;
        let net = net.unwrap_or_else(|error| panic!("{error}"));
        let run = run(&net).await;
        net.stop().await;
        run
    })
});

async fn run(net: &Net) -> Run {
    let (to_b, to_c) = (Post::new(net, "a", "b").unwrap(), Post::new(net, "a", "c").unwrap());
    let mut refused = Vec::new();
    for border in [Border::Submission, Border::Peer] {
        for flaw in flaws() {
            for carriage in [Carriage::Verbatim, Carriage::Chunks(1_000)] {
                let outcome = to_b.refuse(border, flaw, carriage).await.unwrap();
                refused.push((border, outcome));
            }
        }
    }
    // After the flawed ones and on the same way, so that what arrives is all that ever will.
    let submitted = to_b.deliver(Border::Submission, cases()).await.unwrap();
    let by_peer = to_c.deliver(Border::Peer, cases()).await.unwrap();
    let violations = [to_b.violations(), to_c.violations()].concat();
    for id in ["a", "b", "c"] {
        net.node(id).unwrap().settled().await.unwrap_or_else(|error| panic!("{error}"));
    }
    Run { submitted, by_peer, refused, arrived: to_b.arrived(), violations }
}

/// Each letter with a problem, by name.
fn assert_good<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) {
    let mut text = String::new();
    for outcome in outcomes.into_iter().filter(|outcome| !outcome.problems.is_empty()) {
        writeln!(text, "  {}: {}", outcome.name, outcome.problems.join("; ")).unwrap();
    }
    assert!(text.is_empty(), "not as they should be:\n{text}");
}

/// Proves: +HAND-004 +HAND-005 +HAND-006 +SMTP-006 +SMTP-007 +SMTP-008 +SMTP-010 +SMTP-011 +SMTP-015 +SMTP-019 +SMTP-026
#[test]
fn every_letter_of_the_platform_arrives_as_it_was_sent() {
    assert!(RUN.submitted.len() >= 50, "{}", RUN.submitted.len());
    assert_good(&RUN.submitted);
}

/// Proves: +HAND-004 +HAND-005 +HAND-006 +SMTP-006 +SMTP-007 +SMTP-008 +SMTP-015
#[test]
fn every_letter_of_another_vendors_client_arrives_as_it_was_sent() {
    assert_eq!(RUN.by_peer.len(), RUN.submitted.len());
    assert_good(&RUN.by_peer);
}

#[test]
fn the_environment_is_spoken_to_by_the_book() {
    assert!(RUN.violations.is_empty(), "{:?}", RUN.violations);
}

fn refused_at(border: Border) -> impl Iterator<Item = &'static Outcome> {
    RUN.refused.iter().filter(move |(at, _)| *at == border).map(|(_, outcome)| outcome)
}

/// Proves: -SMTP-006 -SMTP-007 -SMTP-008 -SMTP-011 -SMTP-026 +REC-002
#[test]
fn t01_what_breaks_a_rule_of_content_is_refused_to_our_own_platform() {
    assert!(refused_at(Border::Submission).count() > 50);
    assert_good(refused_at(Border::Submission));
}

/// Proves: -SMTP-006 -SMTP-007 -SMTP-008 -SMTP-026 +REC-002
#[test]
fn t01_what_breaks_a_rule_of_content_is_refused_to_a_proven_peer() {
    assert!(refused_at(Border::Peer).count() > 50);
    assert_good(refused_at(Border::Peer));
}

/// Proves: -SMTP-007 -SMTP-008
#[test]
fn nothing_of_what_was_refused_arrives_or_is_kept() {
    let parties = Parties { sender: "a.nl".into(), recipient: "b.nl".into() };
    let expected: BTreeMap<String, usize> = cases()
        .flat_map(|case| case.write(&parties).recipients().map(|to| (to.to_owned(), 1)).collect::<Vec<_>>())
        .collect();
    assert_eq!(RUN.arrived, expected);
}
