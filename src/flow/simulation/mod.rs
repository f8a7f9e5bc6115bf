//! A simulated federation: three real nodes in one thread, whose clock, network, disks and crashes follow from a seed.
//!
//! What is real: everything above the connection and the disk. Flows, sessions, discovery's decisions, the spool with its
//! committer and its content files, policy, reports. What is not: TLS is a channel in which certificates are shown and not
//! proven (they are judged as always), DNS is a table, the disk is the one of [`crate::spool::testing`]. Time passes when
//! nobody has anything to do.
//!
//! A seed is led through a storm (wires that break or stall, machines that lose power in the middle of a write or of
//! recovery, failed flushes, separated machines, DNS without answers, TLSA records of another key, a clock that is set),
//! then the weather clears, and `verdict` asks what became of every letter.
//!
//! `SLUIS_SEEDS=10000` has more seeds led, `SLUIS_SEED=17` that one; `SLUIS_REPORT=docs/durability.md` writes down what came
//! of it.
#![allow(clippy::unwrap_used)]

mod environment;
mod filter;
mod letters;
mod life;
mod network;
mod provider;
mod scenes;
mod verdict;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;
use crate::config::tests::Bench;
use crate::spool::testing::Lie;
use life::{Life, live};

/// The name of the key that signs mail below each domain. It is the node's key for TLS too: one file less.
const SELECTOR: &str = "s";
/// How many providers there are.
const PROVIDERS: usize = 3;
/// Ends that attempts must have come to in so many lives, or the weather is too good to show anything.
const SEEN: &[&str] = &[
    "Handoff Delivered",
    "Handoff Later environment_temporary",
    "Handoff Unknown attempt_unknown",
    "Inbound Abandoned",
    "Inbound Repeated",
    "Outbound Delivered",
    "Outbound Later connection_lost",
    "Outbound Later dns_bogus",
    "Outbound Later peer_timeout",
    "Outbound Later tlsa_mismatch",
    "Outbound Later reply_lost",
    "Outbound Unknown attempt_unknown",
];
/// How many seeds are led unless something else is asked for.
const SEEDS: u64 = 500;

/// What kind of life.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Whether anything goes wrong.
    storm: bool,
    /// What the disks say and do not do.
    lie: Option<Lie>,
    /// Whether each provider has a filter of its own.
    filter: bool,
}

const STORM: Terms = Terms { storm: true, lie: None, filter: false };
const FAIR: Terms = Terms { storm: false, lie: None, filter: false };
const FILTERED: Terms = Terms { storm: true, lie: None, filter: true };
/// How many seeds are led with filters.
const FILTERED_SEEDS: u64 = 40;

/// The configurations of the providers, as an operator would write them, with keys that are the same in every run.
fn providers() -> &'static [Config] {
    static CONFIGS: OnceLock<Vec<Config>> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let bench = Bench::new();
        (0..PROVIDERS).map(|provider| configure(&bench, provider)).collect()
    })
}

fn configure(bench: &Bench, provider: usize) -> Config {
    let domain = letters::domain(provider);
    write_key(bench, provider, &format!("nta.{domain}"));
    let (own, environment) = (provider::machine(provider), provider::environment(provider));
    // Two ask their environment about recipients, one takes them all and reports.
    let recipients = if provider == 1 { "accept" } else { "ask" };
    let text = format!(
        r#"
[node]
name = "nta.{domain}"
provider = "{domain}"
domains = ["{domain}"]
postmaster = "postmaster@{domain}"
startdate = "2026-01"
enddate = "2028-12"
state_dir = "state"
[dns]
resolver = "127.0.0.1:5300"
mode = "validate"
trust_anchor_file = "root.ds"
[[tls.certificate]]
chain = "{domain}.pem"
key = "{domain}.key"
[federation]
listen = ["{own}:25"]
floor = "mutual"
[[dkim]]
domains = ["{domain}"]
selector = "{SELECTOR}"
key = "{domain}.key"
[submission]
listen = ["{own}:587"]
temporary = "queue"
[[submission.client]]
name = "platform"
addresses = ["127.7.2.0/24"]
domains = ["{domain}"]
[environment]
kind = "lmtp"
address = "{environment}"
recipients = "{recipients}"
[lab]
private_peer_addresses = true
"#
    );
    bench.parse(&text).unwrap()
}

/// An Ed25519 key made of a number, and its certificate: the same octets each time, and the same number of them.
fn write_key(bench: &Bench, provider: usize, name: &str) {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([u8::try_from(provider).unwrap() + 1; 32]);
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let domain = letters::domain(provider);
    bench.write(&format!("{domain}.pem"), &certificate.pem());
    bench.write(&format!("{domain}.key"), &key.serialize_pem());
}

/// Leads one life, on a thread and a clock of its own.
fn lead(seed: u64, terms: Terms) -> Life {
    lead_on(live(seed, terms))
}

/// On a clock that passes when nobody has anything to do.
fn lead_on<T>(life: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(life)
}

/// Leads many, on as many threads as there are processors; the sum of them, or the first fault.
fn lead_all(seeds: std::ops::Range<u64>, terms: Terms) -> Life {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut total = Life::default();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end || !total.faults.is_empty() {
                return total;
            }
            total.add(lead(seed, terms));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut total = Life::default();
        all.into_iter().for_each(|thread| total.add(thread.join().unwrap()));
        total
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Puts a table where the page has room for it.
fn write_into(page: &str, table: &str) {
    const ROOM: [&str; 2] = ["<!-- table:simulation begin -->\n", "<!-- table:simulation end -->"];
    let text = std::fs::read_to_string(page).unwrap();
    let (before, rest) = text.split_once(ROOM[0]).unwrap();
    let (_, after) = rest.split_once(ROOM[1]).unwrap();
    std::fs::write(page, format!("{before}{}{table}{}{after}", ROOM[0], ROOM[1])).unwrap();
}

/// Proves: +SPOOL-001 +SPOOL-011 +SPOOL-042 +HAND-008
#[test]
fn t36_nothing_acknowledged_is_lost_in_a_simulated_storm() {
    let (first, count) = match number("SLUIS_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SLUIS_SEEDS").unwrap_or(SEEDS)),
    };
    let total = lead_all(first..first + count, STORM);
    let faults = total.faults.join("\n");
    assert!(
        total.faults.is_empty(),
        "{faults}\nto see it again: SLUIS_SEED=N cargo test --release --workspace --locked --lib -- simulated_storm --nocapture"
    );
    let table = total.table(first, count);
    println!("{table}");
    if let Ok(page) = std::env::var("SLUIS_REPORT") {
        write_into(&page, &table);
    }
    if count >= SEEDS {
        assert!(total.crashes > count && total.broken_wires > count && total.copies > 0, "too calm");
        for end in SEEN {
            assert!(total.ends.contains_key(*end), "never seen: {end}");
        }
    }
}

/// Filters that break off, fall silent or cannot be reached, beside all that is wrong otherwise: nothing gets past them, and
/// nothing is lost or changed because of them.
///
/// Proves: +HOOK-001 -HOOK-001 +HOOK-003 -HOOK-003
#[test]
fn t32_in_a_storm_nothing_gets_past_the_filters() {
    let total = lead_all(0..FILTERED_SEEDS, FILTERED);
    assert!(total.faults.is_empty(), "{}", total.faults.join("\n"));
    assert!(total.crashes > FILTERED_SEEDS && total.delivered > 500, "too calm");
    for end in ["Handoff Delivered", "Handoff Later hook_unavailable", "Handoff Unknown attempt_unknown"] {
        assert!(total.ends.contains_key(end), "never seen: {end}");
    }
}

/// Without a storm nothing arrives twice, and nobody waits.
#[test]
fn in_fair_weather_every_letter_arrives_once() {
    let total = lead_all(0..20, FAIR);
    assert_eq!(total.faults, Vec::<String>::new());
    assert_eq!((total.copies, total.crashes, total.broken_wires), (0, 0, 0));
    assert!(total.delivered > 200, "{}", total.delivered);
}

/// Two runs of a seed leave the same records, to the octet: what a seed has shown, it shows again.
#[test]
fn the_same_seed_leaves_the_same_records() {
    let mut prints = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let (one, other) = (lead(seed, STORM).print.unwrap(), lead(seed, STORM).print.unwrap());
        assert_eq!(one, other, "seed {seed}");
        assert!(prints.insert(one), "seed {seed} is like another one");
    }
}

/// The simulation can fail: nodes on disks that lie about their flushes lose letters.
///
/// Proves: -SPOOL-001
#[test]
fn t36_the_simulation_finds_out_a_disk_that_lies() {
    for lie in [Lie::Early, Lie::File] {
        let found = (0..300).find_map(|seed| {
            lead(seed, Terms { lie: Some(lie), ..STORM })
                .faults
                .pop()
                .map(|fault| format!("seed {seed}: {fault}"))
        });
        println!("{lie:?}: {}", found.unwrap_or_else(|| panic!("{lie:?} was not noticed in 300 lives")));
    }
}
