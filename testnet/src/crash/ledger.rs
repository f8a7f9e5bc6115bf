//! What clients were told, what arrived, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, interval};

use super::Tally;
use super::letters::{Letter, Size, number_of};
use super::subject::{Door, Subject, Way};
use crate::net::NetError;
use crate::net::expect::added_fields;
use crate::sink::Stored;

/// How long everything that is queued may take to arrive, once nothing is in the way.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Problems of one part that are spelled out; beyond that they are only counted.
const PROBLEMS_MAX: usize = 20;

/// Octets shown of something that was never sent.
const NAMED_OCTETS: usize = 600;

/// What became of offering a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A positive reply to the content, with the identifier it gave.
    Acknowledged(String),
    /// The content was on its way, and no reply came.
    Nothing,
    /// A negative reply.
    Refused(String),
    /// The connection ended before the content.
    NotOffered,
}

struct Arrival {
    /// Which acceptance it stems from: the identifier in the subject's own `Received:` field.
    acceptance: String,
    /// For whom.
    recipients: Vec<String>,
    began: Timestamp,
    ended: Timestamp,
}

struct Entry {
    letter: Letter,
    door: usize,
    way: Way,
    acknowledged: Vec<String>,
    unanswered: usize,
    refused: usize,
    /// Refused while its disk was gone and it was not yet: nobody knows what is on the disk.
    doubtful: usize,
    arrivals: Vec<Arrival>,
}

impl Entry {
    fn arrived_for(&self, recipient: &str) -> bool {
        self.arrivals.iter().any(|arrival| arrival.recipients.iter().any(|known| known == recipient))
    }
}

struct Inner {
    run: u64,
    doors: Vec<Door>,
    entries: Vec<Entry>,
    /// To be offered again, as a client does that got no reply.
    again: VecDeque<usize>,
    /// Acknowledged, not arrived.
    open: BTreeSet<usize>,
    /// How many messages of each sink were looked at.
    seen: BTreeMap<Way, usize>,
    /// Before and after each kill.
    kills: Vec<(Timestamp, Timestamp)>,
    lost: BTreeSet<usize>,
    released: usize,
    problems: Vec<String>,
    more_problems: usize,
    /// Whether a refused message may be kept all the same: after a failed flush nobody knows.
    faults: bool,
    /// The power has gone, and the subject has not been started again.
    dark: bool,
}

/// The record of one part of a run. Clones are handles to the same one.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<Inner>>);

impl Ledger {
    /// An empty one. Messages are made of `run`.
    #[must_use]
    pub fn new(run: u64, doors: Vec<Door>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            run,
            doors,
            entries: Vec::new(),
            again: VecDeque::new(),
            open: BTreeSet::new(),
            seen: BTreeMap::new(),
            kills: Vec::new(),
            lost: BTreeSet::new(),
            released: 0,
            problems: Vec::new(),
            more_problems: 0,
            faults: false,
            dark: false,
        })))
    }

    /// From now on a message that was refused may turn up: its flush failed, and nobody knows what is on disk.
    pub fn expect_faults(&self) {
        self.inner().faults = true;
    }

    /// The power goes, or the subject has been started after that. A cut harms the disk a moment before it ends the processes,
    /// so some may still say that they could not write; the clients of a machine without power would have heard nothing.
    pub fn dark(&self, dark: bool) {
        self.inner().dark = dark;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is a single push or insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What messages are made of.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.inner().run
    }

    /// The ways in.
    #[must_use]
    pub fn doors(&self) -> Vec<Door> {
        self.inner().doors.clone()
    }

    /// A message to offer at this door: one that got no reply, else a new one.
    #[must_use]
    pub fn next(&self, door: usize, size: Option<Size>) -> Letter {
        let mut inner = self.inner();
        let fits = |entry: &Entry| entry.door == door && size.is_none_or(|size| entry.letter.size() == size);
        let waiting = inner.again.iter().position(|number| fits(&inner.entries[*number]));
        if let Some(number) = waiting.and_then(|position| inner.again.remove(position)) {
            return inner.entries[number].letter.clone();
        }
        let letter = Letter::new(inner.run, inner.entries.len(), &inner.doors[door], size);
        let entry = Entry {
            letter: letter.clone(),
            door,
            way: inner.doors[door].way,
            acknowledged: Vec::new(),
            unanswered: 0,
            refused: 0,
            doubtful: 0,
            arrivals: Vec::new(),
        };
        inner.entries.push(entry);
        letter
    }

    /// Notes what a client was told.
    pub fn told(&self, number: usize, told: Told) {
        let mut inner = self.inner();
        let dark = inner.dark;
        let entry = &mut inner.entries[number];
        match told {
            Told::Acknowledged(id) => {
                entry.acknowledged.push(id);
                if entry.arrivals.is_empty() {
                    inner.open.insert(number);
                }
            }
            Told::Nothing => {
                entry.unanswered += 1;
                inner.again.push_back(number);
            }
            Told::NotOffered => inner.again.push_back(number),
            Told::Refused(_) if dark => entry.doubtful += 1,
            Told::Refused(_) => entry.refused += 1,
        }
    }

    /// Notes a kill between the two moments.
    pub fn killed(&self, before: Timestamp, after: Timestamp) {
        self.inner().kills.push((before, after));
    }

    /// Notes something that must not be.
    pub fn problem(&self, what: String) {
        let mut inner = self.inner();
        if inner.problems.len() < PROBLEMS_MAX {
            inner.problems.push(what);
        } else {
            inner.more_problems += 1;
        }
    }

    /// How many acknowledged messages have not arrived.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.inner().open.len()
    }

    /// How many messages were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.inner().entries.iter().filter(|entry| !entry.acknowledged.is_empty()).count()
    }

    /// Looks at what arrived since the last time.
    pub fn observe(&self, subject: &dyn Subject) {
        for way in [Way::Home, Way::Outbound] {
            let sink = subject.sink(way);
            let seen = self.inner().seen.get(&way).copied().unwrap_or(0);
            let news = sink.messages_after(seen);
            self.inner().seen.insert(way, seen + news.len());
            for stored in &news {
                if let Err(problem) = self.arrived(stored, subject.settles_recipients_apart()) {
                    self.problem(problem);
                }
                // Thousands of them, and all that is to be known of this one is known.
                let _ = std::fs::remove_file(stored.file());
            }
        }
    }

    fn arrived(&self, stored: &Stored, apart: bool) -> Result<(), String> {
        let content = stored.content().map_err(|error| format!("reading what arrived: {error}"))?;
        let mut inner = self.inner();
        // The subject may put fields on top; ours come after them, in a header section that ends at the same place.
        let number = number_of(inner.run, &content).filter(|number| *number < inner.entries.len());
        let Some(number) = number else {
            return Err(format!(
                "something arrived that was never sent: {}",
                String::from_utf8_lossy(&content[..content.len().min(NAMED_OCTETS)])
            ));
        };
        let entry = &mut inner.entries[number];
        let fields = added_fields(&content, &entry.letter.content())
            .map_err(|difference| format!("message {number} ({}): {difference}", entry.way.as_str()))?;
        // The lowest is the oldest: the subject's own, whatever came after it.
        let trace = fields.iter().rev().find(|(name, _)| name == "received").map(|(_, value)| value.as_str());
        let acceptance = trace.map(id_of).unwrap_or_default();
        let expected = (&entry.letter.from, &entry.letter.to);
        let right = if apart {
            let mut seen = BTreeSet::new();
            let mut recipients = stored.recipients.iter();
            stored.sender == entry.letter.from
                && recipients.all(|to| entry.letter.to.contains(to) && seen.insert(to))
        } else {
            (&stored.sender, &stored.recipients) == expected
        };
        let problem = (!right).then(|| {
            format!(
                "message {number}: the envelope was {expected:?} and is {:?}",
                (&stored.sender, &stored.recipients)
            )
        });
        let recipients = stored.recipients.clone();
        entry.arrivals.push(Arrival { acceptance, recipients, began: stored.began, ended: stored.arrived });
        if !apart || entry.letter.to.iter().all(|to| entry.arrived_for(to)) {
            inner.open.remove(&number);
        }
        problem.map_or(Ok(()), Err)
    }

    /// Every acknowledged message has arrived or waits: true at any time while the subject runs. Waiting is for those that
    /// are under way on another provider's node.
    ///
    /// # Errors
    /// The subject can't be asked.
    pub async fn check(&self, subject: &dyn Subject) -> Result<(), NetError> {
        // Those only: what is acknowledged after the queue was read is of no interest now.
        let open = self.inner().open.clone();
        // In this order: what has left the queue has arrived before.
        let queue: BTreeSet<String> =
            subject.queue().await?.into_iter().map(|queued| queued.message).collect();
        let missing = || {
            self.observe(subject);
            let inner = self.inner();
            let waits = |number: &usize| {
                inner.entries[*number].acknowledged.iter().any(|message| queue.contains(message))
            };
            let open = open.iter().filter(|number| inner.open.contains(number) && !waits(number));
            open.copied().collect::<Vec<_>>()
        };
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        loop {
            looks.tick().await;
            let missing = missing();
            let elsewhere = |number: &usize| self.inner().entries[*number].way == Way::Outbound;
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline || !missing.iter().all(elsewhere) {
                self.lose(&missing, subject);
                return Ok(());
            }
        }
    }

    fn lose(&self, missing: &[usize], subject: &dyn Subject) {
        for number in missing {
            let mut inner = self.inner();
            inner.open.remove(number);
            if inner.lost.insert(*number) {
                let entry = &inner.entries[*number];
                let what = format!(
                    "LOST: message {number} ({}), acknowledged as {}, is neither delivered nor queued",
                    entry.way.as_str(),
                    entry.acknowledged.join(", "),
                );
                let said: Vec<_> = entry.acknowledged.iter().flat_map(|id| subject.said_of(id)).collect();
                drop(inner);
                self.problem([vec![what], said].concat().join("\n    "));
            }
        }
    }

    /// As [`Self::drain`], without waiting for the subject's next tries.
    ///
    /// # Errors
    /// The subject can't be asked.
    pub async fn drain_now(&self, subject: &dyn Subject) -> Result<(), NetError> {
        for queued in subject.queue().await?.iter().filter(|queued| !queued.held) {
            // That it is being tried already, or gone, is as good.
            subject.hurry(&queued.delivery).await?;
        }
        self.drain(subject).await
    }

    /// Waits until the queue is empty and everything has arrived; lets go on what was set aside.
    ///
    /// # Errors
    /// The subject can't be asked.
    pub async fn drain(&self, subject: &dyn Subject) -> Result<(), NetError> {
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        loop {
            looks.tick().await;
            let queue = subject.queue().await?;
            self.observe(subject);
            if queue.is_empty() && self.outstanding() == 0 {
                return Ok(());
            }
            for held in queue.iter().filter(|queued| queued.held) {
                subject.release(&held.delivery).await?;
                self.inner().released += 1;
            }
            if Instant::now() > deadline {
                let missing: Vec<usize> = self.inner().open.iter().copied().collect();
                self.problem(format!(
                    "{} deliveries still wait and {} acknowledged messages have not arrived after {} s",
                    queue.len(),
                    missing.len(),
                    PATIENCE.as_secs(),
                ));
                // What waits is not lost.
                return self.check(subject).await;
            }
        }
    }

    /// Waits until nothing happens any more on a state that may be damaged: everything has arrived or is kept back. Returns
    /// how many acknowledged messages have not arrived.
    pub async fn drain_damaged(&self, subject: &mut dyn Subject) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        let mut hurried = BTreeSet::new();
        loop {
            looks.tick().await;
            // A subject that can't be asked any more has stopped for good, which its log has to say.
            let queue = subject.queue().await.unwrap_or_default();
            self.observe(subject);
            let waiting: Vec<_> = queue.iter().filter(|queued| !queued.held).collect();
            if waiting.is_empty() || self.outstanding() == 0 || subject.has_ended() {
                return self.outstanding();
            }
            for queued in waiting.iter().filter(|queued| hurried.insert(queued.delivery.clone())) {
                let _ = subject.hurry(&queued.delivery).await;
            }
            if Instant::now() > deadline {
                self.problem(format!("{} deliveries neither end nor are kept back", waiting.len()));
                return self.outstanding();
            }
        }
    }

    /// Everything acknowledged is to arrive once more: the state is to be that of an earlier moment.
    pub fn forget_arrivals(&self, subject: &dyn Subject) {
        self.observe(subject);
        let mut inner = self.inner();
        let Inner { entries, open, .. } = &mut *inner;
        for (number, entry) in entries.iter_mut().enumerate() {
            entry.arrivals.clear();
            if !entry.acknowledged.is_empty() {
                open.insert(number);
            }
        }
    }

    /// The verdict.
    ///
    /// # Errors
    /// The subject can't be asked.
    pub async fn judge(&self, subject: &dyn Subject) -> Result<Tally, NetError> {
        self.observe(subject);
        for way in [Way::Home, Way::Outbound] {
            for violation in subject.sink(way).violations() {
                self.problem(format!("towards the environment: {}", violation.what));
            }
        }
        let (mut tally, repeated) = self.inner().count();
        for copies in repeated {
            self.explain(subject, &copies, &mut tally).await?;
        }
        let inner = self.inner();
        tally.lost = inner.lost.len();
        tally.released = inner.released;
        tally.problems.clone_from(&inner.problems);
        if inner.more_problems > 0 {
            tally.problems.push(format!("and {} more", inner.more_problems));
        }
        Ok(tally)
    }

    /// The verdict on a subject that does not start any more: what has not arrived is lost.
    ///
    /// # Errors
    /// None; so that it fits where [`Self::judge`] does.
    pub fn judge_dead(&self, subject: &dyn Subject) -> Result<Tally, NetError> {
        self.observe(subject);
        let missing: Vec<usize> = self.inner().open.iter().copied().collect();
        self.lose(&missing, subject);
        let mut inner = self.inner();
        let (mut tally, _) = inner.count();
        tally.lost = inner.lost.len();
        tally.problems.clone_from(&inner.problems);
        Ok(tally)
    }

    /// Copies of one acceptance: each is there because an attempt had no known end.
    async fn explain(
        &self,
        subject: &dyn Subject,
        copies: &Copies,
        tally: &mut Tally,
    ) -> Result<(), NetError> {
        let extra = copies.arrived.len() - 1;
        match copies.way {
            Way::Outbound => tally.duplicates.peer_reply_lost += extra,
            Way::Home | Way::Inbound => tally.duplicates.lmtp_reply_lost += extra,
        }
        // What was sent to another provider's node arrives whenever that gets round to it, so its times say nothing.
        let killed_between = |pair: &[(Timestamp, Timestamp)]| {
            let kills = &self.inner().kills;
            kills.iter().any(|(before, after)| *after >= pair[0].0 && *before <= pair[1].1)
        };
        if copies.way != Way::Outbound && !copies.arrived.windows(2).all(killed_between) {
            self.problem(format!(
                "message {} arrived {} times, and nothing happened in between",
                copies.number,
                copies.arrived.len()
            ));
        }
        let Some(message) = &copies.message else { return Ok(()) };
        let unexplained = match subject.unknown_attempts(message).await? {
            Some(unknown) if unknown < extra => format!("its records know of {unknown} attempts without end"),
            // Where nothing is recorded, a kill before the last copy is all that can be asked for.
            None if !self.killed_before(copies.arrived.last()) => "nothing had happened before".to_owned(),
            _ => return Ok(()),
        };
        self.problem(format!(
            "message {} ({message}) arrived {} times, and {unexplained}",
            copies.number,
            copies.arrived.len()
        ));
        Ok(())
    }

    fn killed_before(&self, arrival: Option<&(Timestamp, Timestamp)>) -> bool {
        arrival.is_some_and(|(_, ended)| self.inner().kills.iter().any(|(before, _)| before <= ended))
    }
}

/// One acceptance of a message that arrived more than once.
struct Copies {
    number: usize,
    way: Way,
    /// The identifier of the acceptance, where it is known: the one acceptance of the message was acknowledged.
    message: Option<String>,
    /// When the environment was being told, each time.
    arrived: Vec<(Timestamp, Timestamp)>,
}

impl Inner {
    fn count(&mut self) -> (Tally, Vec<Copies>) {
        let mut tally = Tally { seed: self.run, kills: self.kills.len(), ..Tally::default() };
        let mut repeated = Vec::new();
        let mut problems = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            tally.acknowledged += usize::from(!entry.acknowledged.is_empty());
            tally.unanswered += usize::from(entry.unanswered > 0);
            tally.refused += usize::from(entry.refused + entry.doubtful > 0);
            tally.delivered += usize::from(entry.letter.to.iter().all(|to| entry.arrived_for(to)));
            let mut acceptances: BTreeMap<&str, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
            let mut served = BTreeSet::new();
            for arrival in &entry.arrivals {
                // Settled one by one, a second delivery may be the first for its recipients: that is no copy.
                let pairs = arrival.recipients.iter().map(|to| (&arrival.acceptance, to));
                let repeats: Vec<bool> = pairs.map(|pair| !served.insert(pair)).collect();
                if acceptances.contains_key(&*arrival.acceptance) && !repeats.contains(&true) {
                    continue;
                }
                acceptances.entry(&arrival.acceptance).or_default().push((arrival.began, arrival.ended));
            }
            let in_doubt = entry.unanswered + entry.doubtful + if self.faults { entry.refused } else { 0 };
            if acceptances.len() > entry.acknowledged.len() + in_doubt {
                problems.push(format!(
                    "message {number} was accepted {} times, and answered or in doubt {} times",
                    acceptances.len(),
                    entry.acknowledged.len() + in_doubt
                ));
            }
            tally.duplicates.submitted_again += acceptances.len().saturating_sub(1);
            let known = (acceptances.len() == 1).then(|| entry.acknowledged.first().cloned()).flatten();
            for arrived in acceptances.into_values().filter(|arrived| arrived.len() > 1) {
                repeated.push(Copies { number, way: entry.way, message: known.clone(), arrived });
            }
        }
        self.problems.extend(problems.into_iter().take(PROBLEMS_MAX));
        (tally, repeated)
    }
}

/// The identifier in a `Received:` field.
fn id_of(field: &str) -> String {
    let mut words = field.split_whitespace().skip_while(|word| *word != "id");
    words.nth(1).unwrap_or_default().trim_end_matches(';').to_owned()
}

#[cfg(test)]
mod tests;
