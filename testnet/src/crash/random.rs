//! Kills at random moments, under load.

use std::time::Duration;

use jiff::Timestamp;

use super::Tally;
use super::ledger::Ledger;
use super::load::Load;
use super::seed::Seed;
use super::subject::Subject;
use crate::net::NetError;

/// Clients at once.
const CLIENTS: u64 = 6;
/// Longest of the lives that end almost at once, in milliseconds.
const SHORT_LIFE_MS: u64 = 20;

/// Kills `subject` so many times, at moments that `run` decides, and judges what became of every message. `progress` is
/// told of each kill.
///
/// # Errors
/// Something on this machine is in the way. That the subject does not start again is a problem of the tally.
pub async fn run(
    subject: &mut dyn Subject,
    run: u64,
    kills: usize,
    mut progress: impl FnMut(usize),
) -> Result<Tally, NetError> {
    let seed = Seed::new(run);
    let ledger = Ledger::new(run, subject.doors());
    let load = Load::start(&ledger, CLIENTS, &seed.part(1));
    let mut moments = seed.part(2);
    let life = u64::try_from(subject.longest_life().as_millis()).unwrap_or(u64::MAX);
    for kill in 0..kills {
        // One life in eight ends almost at once: during recovery, or before anything else.
        let longest = if moments.below(8) == 0 { SHORT_LIFE_MS } else { life };
        tokio::time::sleep(Duration::from_millis(moments.below(longest))).await;
        if let Some(dead) = kill_and_start(subject, &ledger).await? {
            ledger.problem(dead);
            load.stop().await;
            return ledger.judge_dead(subject);
        }
        progress(kill + 1);
    }
    load.stop().await;
    ledger.drain(subject).await?;
    ledger.judge(subject).await
}

/// One kill, one start, one look at everything. `Some` with the reason if it does not start again.
async fn kill_and_start(subject: &mut dyn Subject, ledger: &Ledger) -> Result<Option<String>, NetError> {
    let before = Timestamp::now();
    subject.kill().await;
    ledger.killed(before, Timestamp::now());
    match subject.start().await {
        Ok(()) => {}
        Err(error @ NetError::Node { .. }) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    }
    ledger.check(subject).await?;
    Ok(None)
}
