//! A running foreign program, and waiting for what it does.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{ForeignError, PATIENCE};

/// Between two looks. Short enough that nobody notices, long enough to leave the processor to the program.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A program that runs until this value is dropped.
#[derive(Debug)]
pub(super) struct Running {
    name: &'static str,
    child: Child,
    /// In the order in which they are shown.
    logs: Vec<PathBuf>,
}

impl Running {
    /// Starts `command`, which must stay in the foreground. What it prints goes to the file `printed`; `log` is the file
    /// that it logs to by itself, if any.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        printed: PathBuf,
        log: Option<PathBuf>,
    ) -> Result<Self, ForeignError> {
        let file = File::create(&printed).map_err(ForeignError::system("creating a log file"))?;
        let also = file.try_clone().map_err(ForeignError::system("creating a log file"))?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(also)
            .spawn()
            .map_err(ForeignError::system(format!("starting {name}")))?;
        Ok(Self { name, child, logs: log.into_iter().chain([printed]).collect() })
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends a program that was started as [`Root::contained`](super::root::Root::contained) wants it, with SIGKILL and with
    /// everything that it started: the kernel kills all of a process table when its first process dies, and reports that
    /// one dead when nothing is left of the others.
    pub(super) fn kill_contained(&mut self) {
        if let Some(first) = first_inside(self.child.id()) {
            let _ = kill_process(first, Signal::KILL);
        } else {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// All that it logged and printed so far.
    pub(super) fn log(&self) -> String {
        let read = |file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        self.logs.iter().map(read).collect()
    }

    /// Looks until `probe` finds something. Ends early if the program does.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut probe: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, ForeignError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(found) = probe(&log) {
                return Ok(found);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ForeignError::Ended { name: self.name, status: status.to_string(), log });
            }
            if Instant::now() > deadline {
                return Err(ForeignError::Late { what: format!("{}: {what}", self.name), log });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until a TCP connection can be made.
    pub(super) fn until_listening(&mut self, addr: SocketAddr) -> Result<(), ForeignError> {
        self.until(&format!("accepts connections at {addr}"), |_| {
            TcpStream::connect_timeout(&addr, PATIENCE).ok().map(drop)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With all that it started: a worker left behind would still answer on the port. The group has the number of
        // the program, which can't be anybody else's before we have waited for it.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The first process of the table that the `unshare` with this number has made, if it has made one.
pub(super) fn first_inside(unshare: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

/// What a finished command printed.
pub(super) struct Printed {
    pub(super) out: String,
    pub(super) err: String,
}

/// Runs a command to its end with this input. Anything but success is an error.
pub(super) fn run(what: &str, mut command: Command, input: &[u8]) -> Result<Printed, ForeignError> {
    let io = |source| ForeignError::System { what: what.to_owned(), source };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io)?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // From another thread: a program that prints before it has read everything would block both otherwise.
        scope.spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(input)));
        child.wait_with_output()
    })
    .map_err(io)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = Printed { out: text(&output.stdout), err: text(&output.stderr) };
    if output.status.success() {
        return Ok(printed);
    }
    let what = format!("{what} ({})", output.status);
    Err(ForeignError::Unexpected { what, reply: printed.out + &printed.err })
}
