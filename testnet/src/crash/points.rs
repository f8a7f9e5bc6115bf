//! Kills at every system call that a message causes: first recorded, then visited one by one.
//!
//! A *point* is a system call on an object (the database, the client's connection, …) in a stage of a message's life. For
//! each way through the subject, with a message that it keeps in its database and with one that it keeps in a file, five
//! runs are recorded; what all five have in common is the list. Then each point is visited: the same again, with the
//! subject killed at that call. Which thread makes a call, and so its number, is not the same every time; so where a kill
//! went is read from the trace, and a point that was missed is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::{Instant, interval};

use super::ledger::{Ledger, Told};
use super::letters::Size;
use super::load::{Load, offer_one};
use super::seed::Seed;
use super::strace::{self, Attached, Injection, Strace};
use super::subject::{OneProcess, Way};
use super::trace::{Call, Object, Point, Reader, Stage};
use super::{Tally, machine};
use crate::net::NetError;
use crate::sink::Answer;

/// Recordings whose common part is the list.
const RECORDINGS: usize = 5;
/// How long a message may take from end to end under `strace` on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a trace alone is believed. The reply to a client may be written after all of the delivery; then the order of
/// calls does not show the end, and the operator's side is asked, which nobody is harmed by that late.
const TRACE_ALONE: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often a point is tried before it counts as unvisited.
const TRIES: usize = 48;

/// How many points there are, and where the kills went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Coverage {
    /// Points in the lists.
    pub listed: usize,
    /// Of those, points at which a kill happened.
    pub visited: usize,
    /// Points at which a kill happened and that no list has: what depends on the moment.
    pub beside: usize,
    /// Those of the lists that were not visited, with what they belong to.
    pub unvisited: Vec<String>,
}

/// How much is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// At most this many kills; `None` for as many as it takes.
    pub kills: Option<usize>,
}

/// One thing that is recorded and repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// One message of this size through this door.
    Message { door: usize, way: Way, size: Size },
    /// A start with a message in the queue, and what a crash left.
    Start,
}

impl Scene {
    fn name(self) -> String {
        match self {
            Self::Message { way, size: Size::Large, .. } => format!("{}, large", way.as_str()),
            Self::Message { way, .. } => way.as_str().to_owned(),
            Self::Start => "start".to_owned(),
        }
    }
}

/// What the number of a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Calls of that name, in each thread.
    All,
    /// Those on one file.
    File,
    /// Those of one thread, by its age.
    Thread(usize),
}

/// A run over all points.
struct Run<'a> {
    subject: &'a mut dyn OneProcess,
    strace: Strace,
    ledger: Ledger,
    traces: TempDir,
    number: usize,
    coverage: Coverage,
    kills: usize,
}

/// Visits the points of `subject` in an order that `run` decides. `progress` is told what is under way.
///
/// # Errors
/// Something on this machine is in the way.
pub async fn run(
    subject: &mut dyn OneProcess,
    run: u64,
    extent: Extent,
    mut progress: impl FnMut(&str),
) -> Result<(Tally, Coverage), NetError> {
    let doors = subject.doors();
    let scenes = doors.iter().enumerate().flat_map(|(door, knocked)| {
        [Size::Tiny, Size::Large].map(|size| Scene::Message { door, way: knocked.way, size })
    });
    let scenes: Vec<_> = scenes.chain([Scene::Start]).collect();
    let mut run = Run {
        ledger: Ledger::new(run, doors),
        strace: Strace::find()?,
        traces: tempfile::tempdir().map_err(machine("a temporary directory"))?,
        number: 0,
        coverage: Coverage::default(),
        kills: 0,
        subject,
    };
    run.warm_up().await?;
    let mut seed = Seed::new(run.seed()).part(3);
    for (position, scene) in scenes.iter().enumerate() {
        progress(&format!("{}: recording", scene.name()));
        let recorded = run.record(*scene).await?;
        // What is left of the allowance is shared by the scenes that are left.
        let allowed = extent.kills.map(|kills| kills.saturating_sub(run.kills) / (scenes.len() - position));
        run.visit(*scene, recorded, allowed, &mut seed, &mut progress).await?;
    }
    let Run { subject, ledger, coverage, .. } = run;
    ledger.drain_now(subject).await?;
    Ok((ledger.judge(subject).await?, coverage))
}

/// What was recorded of a scene.
#[derive(Default)]
struct Recorded {
    /// What all recordings have in common.
    points: BTreeSet<Point>,
    /// The numbers that the calls of a point had in their threads, and how often.
    numbers: BTreeMap<Point, BTreeMap<usize, usize>>,
    /// The same among the calls on that object only.
    on_object: BTreeMap<Point, BTreeSet<usize>>,
    /// Which point a call on an object is, by its number there: of the last recording.
    by_number: BTreeMap<(String, Object, usize), Point>,
    /// The threads that made the calls of a point, by age, with the numbers the calls had there.
    on_thread: BTreeMap<Point, BTreeSet<(usize, usize)>>,
    /// Which point a call of a thread is, by its number there: of the last recording.
    by_thread: BTreeMap<(String, usize, usize), Point>,
}

impl Recorded {
    /// Adds a recording to those before it.
    fn add(&mut self, calls: &[Call], threads: &[u32], first: bool) {
        let found: BTreeSet<Point> = calls.iter().map(|call| call.point.clone()).collect();
        if first {
            self.points = found;
        } else {
            self.points.retain(|point| found.contains(point));
        }
        self.learn(calls);
        self.by_number.clear();
        self.by_thread.clear();
        for call in calls {
            self.on_object.entry(call.point.clone()).or_default().insert(call.nth_on_object);
            let key = (call.point.call.clone(), call.point.object.clone(), call.number_on_object);
            self.by_number.insert(key, call.point.clone());
            if let Some(thread) = threads.iter().position(|thread| *thread == call.thread) {
                self.on_thread.entry(call.point.clone()).or_default().insert((thread, call.nth));
                self.by_thread.insert((call.point.call.clone(), thread, call.nth), call.point.clone());
            }
        }
    }

    /// Every run shows a little more of which numbers calls can have.
    fn learn(&mut self, calls: &[Call]) {
        for call in calls.iter().filter(|call| self.points.contains(&call.point)) {
            *self.numbers.entry(call.point.clone()).or_default().entry(call.nth).or_default() += 1;
        }
    }

    /// The number to try next for a point: the commonest first.
    fn number(&self, point: &Point, try_: usize) -> usize {
        let mut numbers: Vec<_> = self.numbers.get(point).into_iter().flatten().collect();
        numbers.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        numbers.get(try_ % numbers.len().max(1)).map_or(1, |(number, _)| **number)
    }
}

impl Run<'_> {
    fn seed(&self) -> u64 {
        self.ledger.run()
    }

    /// Some traffic, so that files have the size they have in use and do not grow with the next message.
    async fn warm_up(&mut self) -> Result<(), NetError> {
        let load = Load::start(&self.ledger, 4, &Seed::new(self.seed()).part(1));
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        while self.ledger.acknowledged() < 60 && Instant::now() < deadline {
            looks.tick().await;
            self.ledger.observe(self.subject);
        }
        load.stop().await;
        self.ledger.drain(self.subject).await
    }

    fn trace_file(&mut self) -> PathBuf {
        self.number += 1;
        self.traces.path().join(self.number.to_string())
    }

    fn read(&self, trace: &std::path::Path, start: Stage) -> Vec<Call> {
        let text = std::fs::read(trace).unwrap_or_default();
        let doors: Vec<SocketAddr> = self.ledger.doors().iter().map(|door| door.address).collect();
        let (log, control) = self.subject.log_and_control();
        let reader = Reader {
            start,
            doors: &doors,
            file: &|path| self.subject.name_of(path),
            log: &log.to_string_lossy(),
            control: &control.to_string_lossy(),
        };
        let mut calls = reader.read(&String::from_utf8_lossy(&text));
        if start == Stage::Start {
            // What else happens during a start harms no message.
            calls.retain(|call| matches!(call.point.object, Object::Disk(_)));
        }
        calls
    }

    /// A fresh process with nothing to do: no open connections, nothing cached.
    async fn fresh(&mut self) -> Result<(), NetError> {
        self.subject.kill().await;
        self.subject.start().await
    }

    async fn record(&mut self, scene: Scene) -> Result<Recorded, NetError> {
        let mut recorded = Recorded::default();
        for recording in 0..RECORDINGS {
            let trace = self.trace_file();
            let mut threads = Vec::new();
            let calls = match scene {
                Scene::Message { door, size, .. } => {
                    self.fresh().await?;
                    threads = strace::threads(self.subject.process().unwrap_or_default());
                    let attached = self.attach(None, &trace).await?;
                    offer_one(&self.ledger, door, size).await?;
                    self.settled(&trace).await;
                    attached.let_go().await;
                    self.read(&trace, Stage::Session)
                }
                Scene::Start => {
                    self.leave_work_behind().await?;
                    let wrapper = self.strace.wrapper(None, &trace);
                    self.subject.start_under(&wrapper).await?;
                    let calls = self.read(&trace, Stage::Start);
                    self.tidy_up().await?;
                    calls
                }
            };
            self.ledger.drain_now(self.subject).await?;
            recorded.add(&calls, &threads, recording == 0);
        }
        Ok(recorded)
    }

    async fn attach(
        &self,
        injection: Option<&Injection>,
        trace: &std::path::Path,
    ) -> Result<Attached, NetError> {
        let process = self.subject.process().ok_or_else(|| NetError::Machine {
            what: "strace".to_owned(),
            why: "the subject does not run".to_owned(),
        })?;
        self.strace.attach(process, injection, trace).await
    }

    /// Waits until a message has been settled, by its trace: its end is on disk. Or until the subject is dead.
    async fn settled(&self, trace: &std::path::Path) {
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        while Instant::now() < deadline {
            looks.tick().await;
            if self.has_settled(trace) {
                return;
            }
        }
    }

    /// Kills the subject while a large and a small message wait, and the environment does not take them.
    async fn leave_work_behind(&mut self) -> Result<(), NetError> {
        self.subject.sink(Way::Home).answer_everybody(Answer::Temporary);
        for size in [Size::Large, Size::Tiny] {
            offer_one(&self.ledger, 0, size).await?;
        }
        let before = Timestamp::now();
        self.subject.kill().await;
        self.ledger.killed(before, Timestamp::now());
        Ok(())
    }

    /// The environment takes mail again.
    async fn tidy_up(&mut self) -> Result<(), NetError> {
        self.subject.sink(Way::Home).answer_everybody(Answer::Accept);
        self.fresh().await
    }

    async fn visit(
        &mut self,
        scene: Scene,
        mut recorded: Recorded,
        allowed: Option<usize>,
        seed: &mut Seed,
        progress: &mut impl FnMut(&str),
    ) -> Result<(), NetError> {
        let mut waiting: Vec<Point> = recorded.points.iter().cloned().collect();
        for last in (1..waiting.len()).rev() {
            waiting.swap(last, usize::try_from(seed.below(last as u64 + 1)).unwrap_or_default());
        }
        let mut visited = BTreeSet::new();
        let mut kills = 0;
        for try_ in 0..TRIES {
            for point in &waiting {
                if visited.contains(point) || allowed.is_some_and(|allowed| kills >= allowed) {
                    continue;
                }
                progress(&format!(
                    "{}: {} of {} points, {point}",
                    scene.name(),
                    visited.len(),
                    waiting.len()
                ));
                if let Some(hit) = self.kill_at(scene, point, try_, &mut recorded).await? {
                    kills += 1;
                    visited.insert(hit);
                }
            }
        }
        self.kills += kills;
        let listed: BTreeSet<&Point> = recorded.points.iter().collect();
        self.coverage.listed += listed.len();
        self.coverage.visited += visited.iter().filter(|point| listed.contains(point)).count();
        self.coverage.beside += visited.iter().filter(|point| !listed.contains(point)).count();
        let missed = listed.into_iter().filter(|point| !visited.contains(*point));
        self.coverage.unvisited.extend(missed.map(|point| format!("{}: {point}", scene.name())));
        Ok(())
    }

    /// Repeats the scene with a kill at a call of the point's kind. Returns where it went, if it happened.
    ///
    /// Three ways of counting take turns: all calls of that name in any thread, those on one file, those of one thread. The
    /// latter two find calls that others of that name would drown, and their traces show that file or thread only, so the
    /// number says which point it was.
    async fn kill_at(
        &mut self,
        scene: Scene,
        point: &Point,
        try_: usize,
        recorded: &mut Recorded,
    ) -> Result<Option<Point>, NetError> {
        let (injection, count) = self.aim(scene, point, try_, recorded);
        let trace = self.trace_file();
        let before;
        let (killed, stage) = match scene {
            Scene::Message { door, size, .. } => {
                let attached = self.attach(Some(&injection), &trace).await?;
                before = Timestamp::now();
                let killed = self.live_or_die(door, size, &trace, count != Count::All).await?;
                if killed {
                    attached.wait().await
                } else {
                    attached.let_go().await
                }
                (killed, Stage::Session)
            }
            Scene::Start => {
                self.leave_work_behind().await?;
                before = Timestamp::now();
                let wrapper = self.strace.wrapper(Some(&injection), &trace);
                let killed = match self.subject.start_under(&wrapper).await {
                    Ok(()) => false,
                    Err(NetError::Node { .. }) => true,
                    Err(error) => return Err(error),
                };
                self.subject.sink(Way::Home).answer_everybody(Answer::Accept);
                (killed, Stage::Start)
            }
        };
        let calls = self.read(&trace, stage);
        let _ = std::fs::remove_file(&trace);
        self.subject.kill().await;
        self.ledger.killed(before, Timestamp::now());
        match self.subject.start().await {
            Ok(()) => {}
            Err(error @ NetError::Node { .. }) => {
                self.ledger.problem(format!("after a kill at {point}: {error}"));
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.ledger.check(self.subject).await?;
        self.ledger.drain_now(self.subject).await?;
        let hit = calls.iter().rev().find(|call| call.point.call == point.call && !call.ended);
        let hit = hit.filter(|_| killed);
        let Some(hit) = hit else {
            if count == Count::All {
                recorded.learn(&calls);
            }
            return Ok(None);
        };
        let Point { call, object, .. } = hit.point.clone();
        Ok(match count {
            Count::All => Some(hit.point.clone()),
            Count::File => recorded.by_number.get(&(call, object, hit.number_on_object)).cloned(),
            Count::Thread(thread) => recorded.by_thread.get(&(call, thread, hit.nth)).cloned(),
        })
    }

    /// What to inject, and how its number counts.
    fn aim(&self, scene: Scene, point: &Point, try_: usize, recorded: &Recorded) -> (Injection, Count) {
        let mut injection = Injection {
            call: point.call.clone(),
            what: "signal=KILL".to_owned(),
            when: recorded.number(point, try_ / 3).to_string(),
            paths: Vec::new(),
            thread: None,
        };
        let pick = |numbers: usize| (try_ / 3) % numbers.max(1);
        let by_file: Vec<_> = recorded.on_object.get(point).into_iter().flatten().copied().collect();
        let by_thread: Vec<_> = recorded.on_thread.get(point).into_iter().flatten().copied().collect();
        let path = self.path_of(&point.object);
        // A start is seen from its first instruction, when there are no threads to choose from.
        let turn = if scene == Scene::Start { (try_ + 1) % 2 } else { try_ % 3 };
        if let (1, Some(path), Some(number)) = (turn, path, by_file.get(pick(by_file.len()))) {
            injection.paths.push(path);
            injection.when = number.to_string();
            return (injection, Count::File);
        }
        let threads = strace::threads(self.subject.process().unwrap_or_default());
        if let (1 | 2, Some((age, number))) = (turn, by_thread.get(pick(by_thread.len())))
            && let Some(thread) = threads.get(*age)
        {
            injection.thread = Some(*thread);
            injection.when = number.to_string();
            return (injection, Count::Thread(*age));
        }
        (injection, Count::All)
    }

    /// The one file that an object is, if it is one.
    fn path_of(&self, object: &Object) -> Option<PathBuf> {
        match object {
            Object::Disk(name) => self.subject.path_of(name),
            Object::Log => Some(self.subject.log_and_control().0),
            Object::Client | Object::NextHop | Object::Resolver => None,
        }
    }

    /// One message; whether the subject died of it. A trace of one file does not show its end; its arrival is near it.
    async fn live_or_die(
        &mut self,
        door: usize,
        size: Size,
        trace: &std::path::Path,
        one_file: bool,
    ) -> Result<bool, NetError> {
        let ledger = self.ledger.clone();
        // That there is no connection is the kill.
        let offer = tokio::spawn(async move { offer_one(&ledger, door, size).await });
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        let mut told = None;
        let mut offer = Some(offer);
        let died = loop {
            looks.tick().await;
            if self.subject.has_ended() {
                break true;
            }
            if let Some(running) = offer.take_if(|offer| offer.is_finished()) {
                told = running.await.ok().and_then(Result::ok);
            }
            if Instant::now() > deadline {
                let waiting = self.subject.queue().await.map(|queue| queue.len());
                self.ledger.problem(format!(
                    "a {size:?} message at door {door} took more than {} s: {told:?}, {waiting:?} in the queue",
                    PATIENCE.as_secs()
                ));
                break false;
            }
            let over = matches!(told, Some(Told::Acknowledged(_) | Told::Refused(_)));
            if !over {
                continue;
            }
            if !one_file && self.has_settled(trace) {
                break false;
            }
            if one_file || Instant::now() > deadline - (PATIENCE - TRACE_ALONE) {
                self.ledger.observe(self.subject);
                // Whether it settles is asked of the operator's side, which touches none of the files.
                if self.ledger.outstanding() == 0 && self.is_idle().await {
                    break false;
                }
            }
        };
        if let Some(running) = offer {
            let _ = running.await;
        }
        Ok(died)
    }

    /// Whether the queue is empty; not if it can't be asked, because it is dead by now.
    async fn is_idle(&self) -> bool {
        self.subject.queue().await.is_ok_and(|queue| queue.is_empty())
    }

    /// Two flushes make a commit of our database; what follows the last one follows at once.
    fn has_settled(&self, trace: &std::path::Path) -> bool {
        let calls = self.read(trace, Stage::Session);
        let flushed = |call: &&Call| {
            call.point.stage == Stage::Settle
                && call.ended
                && matches!(call.point.call.as_str(), "fsync" | "fdatasync")
        };
        calls.iter().filter(flushed).count() >= 2
    }
}
