//! What a command that takes time shows on the terminal, and what ends it early.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// What asks us to end: an interrupt from the terminal, its end, or `kill`.
pub struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    /// Listens from now on.
    pub fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::tool("listening for signals"));
        Ok(Self {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    /// Returns when one comes.
    pub async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A line on standard error while something takes time; nothing if that is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A line without words yet.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// What is under way.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Runs something that has a progress line of its own.
    pub async fn suspended<T>(&self, work: impl AsyncFnOnce() -> T) -> T {
        self.0.disable_steady_tick();
        self.0.suspend(|| {});
        let done = work().await;
        self.0.enable_steady_tick(Duration::from_millis(120));
        done
    }

    /// Takes the line away, for good.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
