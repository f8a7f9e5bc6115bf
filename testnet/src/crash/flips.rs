//! One octet that is not what was written, in each structure on disk: it starts and names what is damaged, or refuses with
//! a sentence. Nothing that was never sent is delivered.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::ledger::Ledger;
use super::letters::Size;
use super::load::offer_one;
use super::seed::Seed;
use super::subject::{OneProcess, Way};
use super::{Tally, machine};
use crate::net::NetError;
use crate::sink::Answer;

/// What became of flipped octets in a file.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Flips {
    /// The file, by the subject's name for it.
    pub file: String,
    /// Octets that were flipped, one at a time.
    pub flipped: usize,
    /// The subject did not start, and said why.
    pub refused: usize,
    /// It started, and everything was delivered as it had been sent: the octet meant nothing, or was mended.
    pub harmless: usize,
    /// It started, and kept back what it named as damaged.
    pub set_aside: usize,
}

/// Flips `flips` octets of each file of the state, one after the other, each time in a fresh copy of the same state.
/// `progress` is told of each.
///
/// # Errors
/// Something on this machine is in the way.
pub async fn run(
    subject: &mut dyn OneProcess,
    run: u64,
    directory: &Path,
    flips: usize,
    mut progress: impl FnMut(&str),
) -> Result<(Tally, Vec<Flips>), NetError> {
    let ledger = Ledger::new(run, subject.doors());
    // Three large and three small messages wait.
    subject.sink(Way::Home).answer_everybody(Answer::Temporary);
    for size in [Size::Large, Size::Tiny, Size::Usual, Size::Large, Size::Tiny, Size::Usual] {
        offer_one(&ledger, 0, size).await?;
    }
    let before = Timestamp::now();
    subject.kill().await;
    ledger.killed(before, Timestamp::now());
    subject.sink(Way::Home).answer_everybody(Answer::Accept);
    let keep = tempfile::tempdir().map_err(machine("a temporary directory"))?;
    copy(directory, keep.path()).map_err(machine("copying the state"))?;
    let mut seed = Seed::new(run).part(4);
    let mut table: Vec<Flips> = Vec::new();
    for file in files(keep.path()).map_err(machine("listing the state"))? {
        let name = subject.name_of(&directory.join(&file).to_string_lossy()).unwrap_or_default();
        let size = std::fs::metadata(keep.path().join(&file)).map_err(machine("the state"))?.len();
        if size == 0 || name == "reserve" {
            continue;
        }
        let position = table.iter().position(|row| row.file == name).unwrap_or_else(|| {
            table.push(Flips { file: name.clone(), ..Flips::default() });
            table.len() - 1
        });
        for flip in 0..flips {
            progress(&format!("{name}: flip {} of {flips}", flip + 1));
            restore(keep.path(), directory).map_err(machine("restoring the state"))?;
            // The first octets of a file are its header; they deserve their share.
            let at = if flip % 4 == 0 { seed.below(size.min(512)) } else { seed.below(size) };
            flip_at(&directory.join(&file), at, 1 << seed.below(8)).map_err(machine("flipping an octet"))?;
            let what = format!("{name}, octet {at}");
            start_and_see(subject, &ledger, &what, &mut table[position]).await?;
        }
    }
    restore(keep.path(), directory).map_err(machine("restoring the state"))?;
    subject.start().await?;
    ledger.drain_now(subject).await?;
    Ok((ledger.judge(subject).await?, table))
}

/// Starts it on a damaged state, waits for what becomes of it, and ends it.
async fn start_and_see(
    subject: &mut dyn OneProcess,
    ledger: &Ledger,
    what: &str,
    row: &mut Flips,
) -> Result<(), NetError> {
    row.flipped += 1;
    let printed = subject.printed().len();
    let started = subject.start().await;
    let news = |subject: &dyn OneProcess| subject.printed().get(printed..).unwrap_or_default().to_owned();
    match started {
        Ok(()) => {
            let kept_back = ledger.drain_damaged(subject).await;
            let log = news(subject);
            if kept_back == 0 {
                row.harmless += 1;
            } else {
                row.set_aside += 1;
                if !log.contains("damaged") {
                    ledger.problem(format!(
                        "{what}: {kept_back} messages were kept back, and the log does not say so"
                    ));
                }
            }
        }
        Err(NetError::Node { why, .. }) => {
            row.refused += 1;
            let log = news(subject);
            // Its last word is a sentence for the operator.
            if !log.lines().any(|line| line.starts_with("error: ")) {
                ledger.problem(format!("{what}: it did not start ({why}) and did not say why: {log}"));
            }
        }
        Err(error) => return Err(error),
    }
    let before = Timestamp::now();
    subject.kill().await;
    ledger.killed(before, Timestamp::now());
    ledger.forget_arrivals(subject);
    Ok(())
}

fn flip_at(file: &Path, at: u64, bit: u8) -> std::io::Result<()> {
    let mut octets = std::fs::read(file)?;
    if let Some(octet) = usize::try_from(at).ok().and_then(|at| octets.get_mut(at)) {
        *octet ^= bit;
    }
    std::fs::write(file, octets)
}

/// The files below a directory, relative to it, in the same order every time.
fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in std::fs::read_dir(directory.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for file in files(from)? {
        let target = to.join(&file);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(from.join(&file), target)?;
    }
    Ok(())
}

/// Makes `to` what `from` is, and nothing else.
fn restore(from: &Path, to: &Path) -> std::io::Result<()> {
    for file in files(to)? {
        std::fs::remove_file(to.join(file))?;
    }
    copy(from, to)
}
