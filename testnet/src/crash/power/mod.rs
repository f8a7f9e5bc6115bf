//! Power cuts under a running node: its state is on ext4, on a loop device, on a disk of ours that forgets what was not
//! flushed.
//!
//! A kill alone proves little about flushes: what a program has written, the kernel still has. Here the kernel's own file
//! system loses what it had not flushed, replays its journal, and the node starts on what is left.
//!
//! It needs root, `/dev/fuse`, loop devices, `losetup` and `mkfs.ext4`. Where they are not, [`available`] says so, and a
//! report has to say that this part was not run.

mod disk;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::ledger::Ledger;
use super::load::Load;
use super::seed::Seed;
use super::subject::{Subject, Way};
use super::{Tally, machine};
use crate::net::NetError;
use crate::sink::Answer;
use disk::Disk;

/// Octets of the disk. What the node keeps free is an eighth of it.
const DISK_OCTETS: u64 = 128 << 20;
/// Clients at once.
const CLIENTS: u64 = 6;
/// Shortest and longest life between two cuts, in milliseconds.
const LIFE_MS: (u64, u64) = (100, 2_000);

/// Whether power can be cut on this machine.
///
/// # Errors
/// What is missing.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("power cuts need root".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(device)
            .map_err(|error| format!("{device}: {error}"))?;
    }
    for program in ["losetup", "mkfs.ext4"] {
        let status = Command::new(program)
            .arg("-V")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.map_err(|error| format!("{program}: {error}"))?;
    }
    Ok(())
}

/// Cuts the power under `subject` so many times, at moments that `run` decides, and judges what became of every message.
/// `progress` is told of each cut. A disk that `lies` says that it flushed, and does not: then something must be lost, or
/// this proves nothing.
///
/// # Errors
/// Something on this machine is in the way. That the subject does not start again is a problem of the tally.
pub async fn run(
    subject: &mut dyn Subject,
    run: u64,
    cuts: usize,
    lies: bool,
    mut progress: impl FnMut(usize),
) -> Result<Tally, NetError> {
    let seed = Seed::new(run);
    let mut moments = seed.part(2);
    let mut luck = seed.part(5);
    let home = tempfile::tempdir().map_err(machine("a temporary directory"))?;
    let state = subject.state_directory();
    subject.kill().await;
    let mut powered = Powered::start(formatted(home.path())?, &state, false)?;
    subject.furnish()?;
    if lies {
        // Not about the installation, which is older than the trouble.
        powered.disk.lie();
    }
    subject.start().await?;
    let ledger = Ledger::new(run, subject.doors());
    if lies {
        // Something has to wait in the queue, or there is nothing to lose.
        subject.sink(Way::Home).answer_everybody(Answer::Temporary);
    }
    let load = Load::start(&ledger, CLIENTS, &seed.part(1));
    for cut in 0..cuts {
        tokio::time::sleep(Duration::from_millis(moments.between(LIFE_MS.0, LIFE_MS.1))).await;
        let before = Timestamp::now();
        ledger.dark(true);
        let flushes = powered.disk.cut();
        subject.kill().await;
        ledger.killed(before, Timestamp::now());
        if flushes == 0 {
            ledger.problem(format!(
                "cut {cut}: nothing had been flushed before it; was the state on that disk?"
            ));
        }
        let left = powered.stop(&mut luck)?;
        powered = match Powered::start(left, &state, lies) {
            Ok(powered) => powered,
            Err(error) => {
                ledger.problem(format!("cut {cut}: the file system does not come back: {error}"));
                load.stop().await;
                return ledger.judge_dead(subject);
            }
        };
        match subject.start().await {
            Ok(()) => {}
            Err(error @ NetError::Node { .. }) => {
                ledger.problem(format!("cut {cut}: {error}"));
                load.stop().await;
                return ledger.judge_dead(subject);
            }
            Err(error) => return Err(error),
        }
        ledger.dark(false);
        ledger.check(subject).await?;
        progress(cut + 1);
    }
    load.stop().await;
    subject.sink(Way::Home).answer_everybody(Answer::Accept);
    ledger.drain(subject).await?;
    let tally = ledger.judge(subject).await?;
    subject.kill().await;
    drop(powered);
    Ok(tally)
}

/// An empty ext4.
fn formatted(home: &Path) -> Result<Vec<u8>, NetError> {
    let image = home.join("image");
    let file = std::fs::File::create(&image).map_err(machine("an image"))?;
    file.set_len(DISK_OCTETS).map_err(machine("an image"))?;
    call(
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&image),
    )?;
    let content = std::fs::read(&image).map_err(machine("an image"))?;
    std::fs::remove_file(&image).map_err(machine("an image"))?;
    Ok(content)
}

/// A machine with power: a disk, a loop device of it, a mounted file system.
struct Powered {
    device: Option<PathBuf>,
    state: PathBuf,
    mounted: bool,
    // Dropped last: the others are made of it.
    disk: Disk,
    _mountpoint: TempDir,
}

impl Powered {
    fn start(content: Vec<u8>, state: &Path, lies: bool) -> Result<Self, NetError> {
        let mountpoint = tempfile::tempdir().map_err(machine("a temporary directory"))?;
        let disk =
            Disk::mount(content, mountpoint.path(), lies).map_err(machine("mounting a FUSE file system"))?;
        let mut powered =
            Self { device: None, state: state.to_owned(), mounted: false, disk, _mountpoint: mountpoint };
        let device = call(Command::new("losetup").args(["--find", "--show"]).arg(powered.disk.file()))?;
        let device = PathBuf::from(device.trim());
        powered.device = Some(device.clone());
        mount(&device, state, "ext4", MountFlags::NOATIME, None::<&std::ffi::CStr>)
            .map_err(machine("mounting ext4"))?;
        powered.mounted = true;
        Ok(powered)
    }

    /// Takes apart what has no power any more; what is left on the disk.
    fn stop(mut self, luck: &mut Seed) -> Result<Vec<u8>, NetError> {
        let left = self.disk.left(luck);
        self.take_apart()?;
        Ok(left)
    }

    fn take_apart(&mut self) -> Result<(), NetError> {
        if std::mem::take(&mut self.mounted) {
            unmount(&self.state, UnmountFlags::DETACH).map_err(machine("unmounting ext4"))?;
        }
        if let Some(device) = self.device.take() {
            call(Command::new("losetup").arg("--detach").arg(device))?;
        }
        Ok(())
    }
}

impl Drop for Powered {
    fn drop(&mut self) {
        // What fails here is already on its way out.
        let _ = self.take_apart();
    }
}

/// Runs a command to its end and returns what it printed.
fn call(command: &mut Command) -> Result<String, NetError> {
    let what = format!("{:?}", command.get_program());
    let output = command.stdin(Stdio::null()).output().map_err(machine(what.clone()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(NetError::Machine { what, why: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
