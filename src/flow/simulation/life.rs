//! One life: three providers, their letters, a storm, fair weather again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::environment::{Mailboxes, Platform, Posted, serve};
use super::letters::{Letter, below, domain};
use super::network::Net;
use super::provider::{Provider, environment, machine, platform};
use super::{PROVIDERS, Terms, filter, provider, verdict};
use crate::discovery::TroubleKind;
use crate::discovery::dns::testing::TableDns;
use crate::model::{DecisionRecord, Digest, Hasher};
use crate::world::{Clock, Random, SeededRandom, SystemNetwork, Threads, World};

/// 2026-11-22, as good as any day.
const START: i64 = 1_795_305_600;
/// How long letters are posted, and the storm lasts.
const STORM: Duration = Duration::from_secs(900);
/// When every letter must have come to its end: later than the last return (24 h) and its report.
const END: Duration = Duration::from_secs(30 * 3600);

/// What came of a life, or of several.
#[derive(Default)]
pub(super) struct Life {
    /// What is wrong, each with its seed.
    pub(super) faults: Vec<String>,
    /// A digest of all decision records and of all that arrived.
    pub(super) print: Option<Digest>,
    /// Letters.
    pub(super) acknowledged: u64,
    /// Recipients, here and below.
    pub(super) delivered: u64,
    pub(super) returned: u64,
    pub(super) lost: u64,
    pub(super) copies: u64,
    pub(super) crashes: u64,
    pub(super) broken_wires: u64,
    /// How often attempts ended in which way, and for which reason.
    pub(super) ends: BTreeMap<String, u64>,
}

impl Life {
    pub(super) fn add(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.print = other.print;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.returned += other.returned;
        self.lost += other.lost;
        self.copies += other.copies;
        self.crashes += other.crashes;
        self.broken_wires += other.broken_wires;
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
    }

    /// As the tables of `docs/durability.md`.
    pub(super) fn table(&self, first: u64, count: u64) -> String {
        let mut table = format!(
            "| seeds | crashes | broken wires | acknowledged | delivered | returned | lost | copies, each explained |\n\
             |---|---|---|---|---|---|---|---|\n\
             | {first} to {} | {} | {} | {} | {} | {} | {} | {} |\n\n\
             | attempts | direction, outcome, reason |\n|---|---|\n",
            first + count - 1,
            self.crashes,
            self.broken_wires,
            self.acknowledged,
            self.delivered,
            self.returned,
            self.lost,
            self.copies
        );
        for (end, count) in &self.ends {
            let _ = writeln!(table, "| {count} | {end} |");
        }
        table
    }
}

/// The time of day, tied to the runtime's clock, which passes when nobody has anything to do; it can be set.
struct TimeOfDay {
    began: Instant,
    set: AtomicI64,
}

impl Clock for TimeOfDay {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let set = self.set.load(Ordering::SeqCst);
        Timestamp::from_second(START)
            .and_then(|start| start.checked_add(SignedDuration::from_millis(passed + set)))
            .unwrap_or(Timestamp::MAX)
    }
}

/// Everything there is.
pub(super) struct Federation {
    pub(super) providers: Vec<Provider>,
    /// When a machine that is down starts again.
    back: Vec<Option<Instant>>,
    net: Net,
    dns: TableDns,
    clock: Arc<TimeOfDay>,
    random: Arc<SeededRandom>,
    pub(super) mailboxes: Mailboxes,
    terms: Terms,
}

/// Leads the life of `seed`.
pub(super) async fn live(seed: u64, terms: Terms) -> Life {
    let mut federation = Federation::new(seed, terms);
    let letters = federation.letters();
    let mut life = Life::default();
    match federation.run(&letters).await {
        Ok(posted) => {
            let records = federation.records().await;
            let mailboxes = Arc::clone(&federation.mailboxes);
            let mailboxes = mailboxes.lock().unwrap();
            life.faults = verdict::judge(&letters, &posted, &mailboxes, &records, &mut life);
            if terms.filter {
                life.faults.extend(filter::judge(&mailboxes));
            }
            life.print = Some(print(&records, &mailboxes));
            life.ends = ends(&records);
        }
        Err(fault) => life.faults.push(fault),
    }
    for provider in &mut federation.providers {
        provider.stop().await;
    }
    life.crashes = federation.providers.iter().map(|provider| provider.crashes).sum();
    life.broken_wires = federation.net.broken();
    life.faults.iter_mut().for_each(|fault| *fault = format!("seed {seed}: {fault}"));
    life
}

/// `Outbound Later tlsa_mismatch`, with how many records say so.
fn ends(records: &[DecisionRecord]) -> BTreeMap<String, u64> {
    let mut ends = BTreeMap::new();
    for record in records {
        let reason = record.reason.map_or("", crate::model::Reason::as_str);
        let end = format!("{:?} {:?} {reason}", record.direction, record.outcome);
        *ends.entry(end.trim_end().to_owned()).or_default() += 1;
    }
    ends
}

fn print(records: &[DecisionRecord], mailboxes: &[super::letters::Arrived]) -> Digest {
    let mut hasher = Hasher::default();
    for record in records {
        hasher.update(&serde_json::to_vec(record).unwrap());
    }
    for mail in mailboxes {
        hasher.update(mail.recipient.as_bytes());
        hasher.update(&mail.body);
    }
    hasher.finish()
}

impl Federation {
    pub(super) fn new(seed: u64, terms: Terms) -> Self {
        let random = SeededRandom::new(seed);
        // Neighbouring seeds must not be neighbouring sequences.
        let fork = || SeededRandom::new(random.next());
        let (net, dns) = (Net::new(random.next()), TableDns::default());
        let clock = Arc::new(TimeOfDay { began: Instant::now(), set: AtomicI64::new(0) });
        let world = || World {
            clock: Arc::clone(&clock) as _,
            random: fork() as _,
            network: Arc::new(SystemNetwork),
            threads: Threads::One,
        };
        let providers: Vec<_> =
            (0..PROVIDERS).map(|index| Provider::new(index, world(), &net, &dns, terms)).collect();
        let mailboxes = Mailboxes::default();
        for (index, provider) in providers.iter().enumerate() {
            provider.publish(false);
            tokio::spawn(serve(net.listen(environment(index)), Arc::clone(&mailboxes), fork()));
            if terms.filter {
                tokio::spawn(filter::serve(net.listen(provider::filter(index)), fork()));
            }
        }
        let random = fork();
        Self { providers, back: vec![None; PROVIDERS], net, dns, clock, random, mailboxes, terms }
    }

    fn letters(&self) -> Arc<Vec<Letter>> {
        let count = 6 + below(&self.random, 14);
        Arc::new((0..count).map(|number| Letter::write(number, &self.random)).collect())
    }

    /// Through the storm and out of it, until every letter has come to its end.
    async fn run(&mut self, letters: &Arc<Vec<Letter>>) -> Result<Vec<Posted>, String> {
        for provider in &mut self.providers {
            provider.start(false)?;
        }
        let mut posts = self.post(letters);
        if self.terms.storm {
            self.storm().await?;
        }
        let end = Instant::now() + END;
        let mut posted = Vec::new();
        while Instant::now() < end {
            tokio::select! {
                biased;
                Some(done) = posts.join_next(), if !posts.is_empty() => {
                    posted.push(done.map_err(|error| error.to_string())?);
                    continue;
                }
                () = sleep(Duration::from_secs(30)) => {}
            }
            self.restart(false).await?;
            let mut left = 0;
            for provider in &self.providers {
                left += provider.tend().await?;
            }
            if posts.is_empty() && left == 0 {
                posted.sort_by_key(|(number, _)| *number);
                return Ok(posted.into_iter().map(|(_, posted)| posted).collect());
            }
        }
        let mut waits = Vec::new();
        for provider in &self.providers {
            waits.push(provider.describe().await);
        }
        Err(format!(
            "not everything came to its end: {} letters not posted, {}",
            posts.len(),
            waits.join("; ")
        ))
    }

    pub(super) fn post(&self, letters: &Arc<Vec<Letter>>) -> JoinSet<(usize, Posted)> {
        let platforms: Vec<_> = (0..PROVIDERS).map(|index| Arc::new(self.platform(index))).collect();
        let mut posts = JoinSet::new();
        for number in 0..letters.len() {
            let letters = Arc::clone(letters);
            let platform = Arc::clone(&platforms[letters[number].from]);
            let wait = Duration::from_millis(self.random.next() % 600_000);
            posts.spawn(async move {
                sleep(wait).await;
                (number, platform.post(&letters[number]).await)
            });
        }
        posts
    }

    fn platform(&self, index: usize) -> Platform {
        let (node, host, key, keys) = self.providers[index].known();
        Platform {
            net: self.net.clone(),
            own: platform(index),
            node,
            host,
            key,
            keys,
            clock: Arc::clone(&self.clock) as _,
            random: SeededRandom::new(self.random.next()),
        }
    }

    /// Bad weather, then none.
    async fn storm(&mut self) -> Result<(), String> {
        self.net.set_stormy(true);
        let end = Instant::now() + STORM;
        while Instant::now() < end {
            sleep(Duration::from_millis(500 + self.random.next() % 30_000)).await;
            self.restart(true).await?;
            self.strike().await;
        }
        self.net.set_stormy(false);
        self.net.rejoin();
        for (index, provider) in self.providers.iter().enumerate() {
            self.dns.trouble(&domain(index), None);
            provider.publish(false);
            provider.disk().calm();
        }
        self.back.fill(Some(Instant::now()));
        self.restart(false).await
    }

    /// Ends nodes whose disk has failed, and starts those whose time has come.
    async fn restart(&mut self, stormy: bool) -> Result<(), String> {
        for (index, provider) in self.providers.iter_mut().enumerate() {
            if !provider.is_well() {
                provider.crash().await;
                self.back[index] = Some(Instant::now() + Duration::from_secs(self.random.next() % 60));
            }
            if !provider.is_up() && (!stormy || self.back[index].is_none_or(|at| at <= Instant::now())) {
                provider.start(stormy)?;
            }
        }
        Ok(())
    }

    /// One thing goes wrong.
    async fn strike(&mut self) {
        let (index, other) = (below(&self.random, PROVIDERS), below(&self.random, PROVIDERS));
        let provider = &mut self.providers[index];
        match self.random.next() % 10 {
            0 => {
                provider.crash().await;
                self.back[index] = Some(Instant::now() + Duration::from_secs(self.random.next() % 120));
            }
            // In the middle of whatever it writes next.
            1 | 2 => provider.disk().cut_at(provider.disk().operations() + self.random.next() % 80),
            3 => provider.disk().fail_flushes(),
            4 | 5 => self.net.part(machine(index), machine(other)),
            6 => self.net.rejoin(),
            7 => {
                let kinds =
                    [None, Some(TroubleKind::Timeout), Some(TroubleKind::Servfail), Some(TroubleKind::Bogus)];
                self.dns.trouble(&domain(index), kinds[below(&self.random, kinds.len())]);
            }
            8 => provider.publish(self.random.next().is_multiple_of(2)),
            _ => {
                let step = i64::try_from(self.random.next() % 120_000).unwrap() - 60_000;
                self.clock.set.fetch_add(step, Ordering::SeqCst);
            }
        }
    }

    /// The decision records of all nodes, provider after provider.
    async fn records(&self) -> Vec<DecisionRecord> {
        let mut all = Vec::new();
        for provider in &self.providers {
            all.extend(provider.records().await.unwrap_or_default());
        }
        all
    }
}
