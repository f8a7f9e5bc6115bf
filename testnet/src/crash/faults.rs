//! Disk faults: no room, failed writes, failed flushes, writes of nothing; and octets that are not what was written.
//!
//! Each fault is injected once or from one call on, under a little traffic. Judged is what a client and an operator see:
//! nothing acknowledged is lost, also not afterwards; after a failed flush nothing is acknowledged and nothing flushed
//! again; the log names the trouble, and the process neither panics over and over nor hangs; after a restart it works.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::{Instant, interval};

use super::ledger::{Ledger, Told};
use super::letters::Size;
use super::load::offer_one;
use super::strace::{self, Injection, Strace};
use super::subject::OneProcess;
use super::trace::{Call, Object, Reader, Stage};
use super::{Tally, machine};
use crate::net::NetError;

/// How long a subject may take to notice.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Lines that a fault may cause in the log; more is a loop.
const LINES_MAX: usize = 2_000;
/// Tries to hit a call that cannot be selected by its path.
const TRIES: usize = 8;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The system call.
    pub call: &'static str,
    /// On what, by the subject's name for it.
    pub object: &'static str,
    /// What happens to it, as `strace` writes it.
    pub what: &'static str,
    /// At which calls.
    pub when: &'static str,
    /// At start, or while it runs.
    pub at_start: bool,
    /// Whether nothing may be acknowledged or flushed after it.
    pub is_final: bool,
}

const fn fault(call: &'static str, object: &'static str, what: &'static str, when: &'static str) -> Fault {
    Fault { call, object, what, when, at_start: false, is_final: false }
}

const fn last(call: &'static str, object: &'static str, what: &'static str, when: &'static str) -> Fault {
    Fault { is_final: true, ..fault(call, object, what, when) }
}

const fn start(call: &'static str, object: &'static str, what: &'static str, when: &'static str) -> Fault {
    Fault { at_start: true, ..fault(call, object, what, when) }
}

/// The faults of a run.
pub const FAULTS: [Fault; 22] = [
    // A flush that fails: the end, whatever the reason, at each of the flushes that a commit has.
    last("fdatasync", "database", "error=EIO", "1"),
    last("fdatasync", "database", "error=EIO", "2"),
    last("fdatasync", "database", "error=EIO", "3"),
    last("fdatasync", "database", "error=ENOSPC", "1"),
    last("fsync", "content file", "error=EIO", "1"),
    last("fsync", "content directory", "error=EIO", "1"),
    // A write that fails, or writes nothing.
    fault("pwrite64", "database", "error=EIO", "1"),
    fault("pwrite64", "database", "error=EIO", "5"),
    fault("pwrite64", "database", "retval=0", "3"),
    fault("write", "content file", "error=EIO", "1"),
    fault("write", "content file", "retval=0", "1"),
    // No room: once, and from now on.
    fault("pwrite64", "database", "error=ENOSPC", "1"),
    fault("pwrite64", "database", "error=ENOSPC", "4"),
    fault("pwrite64", "database", "error=ENOSPC", "1+"),
    fault("write", "content file", "error=ENOSPC", "1"),
    fault("openat", "content file", "error=ENOSPC", "1"),
    fault("openat", "content directory", "error=EIO", "1"),
    // What was written can't be removed.
    fault("unlink", "content file", "error=EIO", "1"),
    // The same at start.
    start("fallocate", "reserve", "error=ENOSPC", "1"),
    start("openat", "database", "error=EIO", "1"),
    start("fdatasync", "database", "error=EIO", "1"),
    start("pread64", "database", "error=EIO", "1"),
];

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { call, object, what, when, at_start, .. } = self;
        let place = if *at_start { " at start" } else { "" };
        write!(f, "{call} {object} {what} ({when}){place}")
    }
}

/// What came of a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The fault.
    pub fault: String,
    /// How many calls it befell.
    pub injected: usize,
    /// Messages acknowledged while it lasted, before and after the first call it befell.
    pub acknowledged: usize,
    /// Messages refused.
    pub refused: usize,
    /// The first thing the log said about it.
    pub said: String,
}

/// Injects every fault into `subject`, one after the other. `progress` is told of each.
///
/// # Errors
/// Something on this machine is in the way.
pub async fn run(
    subject: &mut dyn OneProcess,
    run: u64,
    mut progress: impl FnMut(&str),
) -> Result<(Tally, Vec<Line>), NetError> {
    let ledger = Ledger::new(run, subject.doors());
    ledger.expect_faults();
    let mut run = Run {
        subject,
        ledger,
        strace: Strace::find()?,
        traces: tempfile::tempdir().map_err(machine("a temporary directory"))?,
        number: 0,
    };
    let mut lines = Vec::new();
    for fault in FAULTS {
        progress(&fault.to_string());
        lines.push(run.inject(fault).await?);
    }
    run.ledger.drain_now(run.subject).await?;
    Ok((run.ledger.judge(run.subject).await?, lines))
}

struct Run<'a> {
    subject: &'a mut dyn OneProcess,
    ledger: Ledger,
    strace: Strace,
    traces: TempDir,
    number: usize,
}

impl Run<'_> {
    async fn inject(&mut self, fault: Fault) -> Result<Line, NetError> {
        let mut line =
            Line { fault: fault.to_string(), injected: 0, acknowledged: 0, refused: 0, said: String::new() };
        let path = self.subject.path_of(fault.object);
        for try_ in 0..TRIES {
            let printed = self.subject.printed().len();
            let mut injection = Injection {
                call: fault.call.to_owned(),
                what: fault.what.to_owned(),
                when: fault.when.to_owned(),
                paths: path.iter().cloned().collect(),
                thread: None,
            };
            if path.is_none() && fault.call == "write" {
                // Without a path, event counters and sockets are hit too, where a fault is none of the disk's: one thread
                // at a time, and its first call, until it is the right one.
                let threads = strace::late_threads(self.subject.process().unwrap_or_default());
                let Some(thread) = threads.get(try_) else { break };
                injection.thread = Some(*thread);
            }
            let calls = if fault.at_start {
                self.at_start(fault, &injection).await?
            } else {
                self.while_running(fault, &injection, &mut line).await?
            };
            line.injected = hits(&calls, fault);
            let news = self.subject.printed().get(printed..).unwrap_or_default().to_owned();
            self.restart().await?;
            if line.injected > 0 {
                self.judge(fault, &calls, &news, &mut line);
                return Ok(line);
            }
        }
        // Which thread writes is chance; the table shows that it was not hit.
        if path.is_some() {
            self.ledger.problem(format!("{fault}: it never happened"));
        }
        Ok(line)
    }

    /// A few messages, large and small, while the fault lasts; what was seen of the calls.
    async fn while_running(
        &mut self,
        fault: Fault,
        injection: &Injection,
        line: &mut Line,
    ) -> Result<Vec<Call>, NetError> {
        let trace = self.trace_file();
        let process = self.subject.process().unwrap_or_default();
        let attached = self.strace.attach(process, Some(injection), &trace).await?;
        for size in [Size::Large, Size::Tiny, Size::Large, Size::Usual] {
            let hit = hits(&self.read(&trace), fault) > 0;
            // No connection: it ends itself over this fault, which is its right.
            match offer_one(&self.ledger, 0, size).await {
                Ok(Told::Acknowledged(_)) => {
                    line.acknowledged += 1;
                    if hit && fault.is_final {
                        self.ledger.problem(format!("{fault}: a message was acknowledged after it"));
                    }
                }
                Ok(Told::Refused(_)) => line.refused += 1,
                Ok(Told::Nothing | Told::NotOffered) | Err(_) => {}
            }
        }
        // The fault may befall a delivery, which has no client that waits for it.
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        while hits(&self.read(&trace), fault) == 0 && Instant::now() < deadline {
            looks.tick().await;
            if self.subject.has_ended() || self.is_idle().await {
                break;
            }
        }
        attached.let_go().await;
        Ok(self.read(&trace))
    }

    async fn at_start(&mut self, fault: Fault, injection: &Injection) -> Result<Vec<Call>, NetError> {
        offer_one(&self.ledger, 0, Size::Usual).await?;
        let before = Timestamp::now();
        self.subject.kill().await;
        self.ledger.killed(before, Timestamp::now());
        let trace = self.trace_file();
        let wrapper = self.strace.wrapper(Some(injection), &trace);
        match self.subject.start_under(&wrapper).await {
            // It refuses to start: that is an answer too, and `judge` looks for its sentence.
            Ok(()) | Err(NetError::Node { .. }) => Ok(self.read(&trace)),
            Err(error) => Err(machine::<NetError>(fault.to_string())(error)),
        }
    }

    async fn is_idle(&self) -> bool {
        self.ledger.observe(self.subject);
        self.subject.queue().await.is_ok_and(|queue| queue.is_empty())
    }

    /// Ends it, starts it without the fault, and looks at everything.
    async fn restart(&mut self) -> Result<(), NetError> {
        let before = Timestamp::now();
        self.subject.kill().await;
        self.ledger.killed(before, Timestamp::now());
        self.subject.start().await?;
        self.ledger.check(self.subject).await?;
        self.ledger.drain_now(self.subject).await
    }

    fn judge(&self, fault: Fault, calls: &[Call], news: &str, line: &mut Line) {
        let problem = |what: String| self.ledger.problem(format!("{fault}: {what}"));
        if fault.is_final {
            let after = calls.iter().skip_while(|call| !call.injected).filter(|call| !call.injected);
            let flushed =
                after.filter(|call| matches!(call.point.call.as_str(), "fsync" | "fdatasync")).count();
            if flushed > 0 {
                problem(format!("{flushed} flushes came after the one that failed"));
            }
        }
        let trouble: Vec<_> = news.lines().filter(|line| is_trouble(line)).collect();
        line.said = trouble.first().map(|line| message(line)).unwrap_or_default();
        if let Some(directory) = self.subject.path_of("directory") {
            line.said = line.said.replace(&*directory.to_string_lossy(), "DIRECTORY");
        }
        if trouble.is_empty() {
            problem("the log says nothing about it".to_owned());
        }
        if news.lines().count() > LINES_MAX {
            problem(format!("it caused {} lines in the log", news.lines().count()));
        }
        let panics = news.matches("panicked at").count();
        if panics > 1 {
            problem(format!("it caused {panics} panics"));
        }
    }

    fn trace_file(&mut self) -> std::path::PathBuf {
        self.number += 1;
        self.traces.path().join(self.number.to_string())
    }

    fn read(&self, trace: &Path) -> Vec<Call> {
        let text = std::fs::read(trace).unwrap_or_default();
        let (log, control) = self.subject.log_and_control();
        let reader = Reader {
            start: Stage::Start,
            doors: &[],
            file: &|path| self.subject.name_of(path),
            log: &log.to_string_lossy(),
            control: &control.to_string_lossy(),
        };
        reader.read(&String::from_utf8_lossy(&text))
    }
}

/// How many calls on its object a fault befell.
fn hits(calls: &[Call], fault: Fault) -> usize {
    let on = Object::Disk(fault.object.to_owned());
    calls.iter().filter(|call| call.injected && call.point.object == on).count()
}

/// Whether a line of the log is for the operator to act upon: a warning, an error, a refusal for lack of room or for a fault
/// of our own, or the sentence with which a program refuses to start.
pub(super) fn is_trouble(line: &str) -> bool {
    const MARKS: [&str; 4] = ["\"level\":\"ERROR\"", "\"level\":\"WARN\"", "spool_full", "local_fault"];
    (line.starts_with("error: ") || MARKS.iter().any(|mark| line.contains(mark)))
        && !line.contains("lab setting")
        && !line.contains("the node stopped during an attempt")
}

/// What a line says, without what every line has.
fn message(line: &str) -> String {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
    let text = json["message"].as_str().unwrap_or(line);
    match json["error"].as_str().or_else(|| json["detail"].as_str()) {
        Some(detail) => format!("{text} ({detail})"),
        None => text.to_owned(),
    }
}
