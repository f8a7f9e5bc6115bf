//! A running foreign program, and waiting for what it does.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::root::Root;
use super::{ForeignError, PATIENCE};

/// Between two looks. Short enough that nobody notices, long enough to leave the processor to the program.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A program that runs until this value is dropped.
#[derive(Debug)]
pub(super) struct Running {
    name: &'static str,
    child: Child,
    /// Files in the root, in the order in which they are shown.
    logs: Vec<&'static str>,
}

/// What the program prints itself, as opposed to what it logs.
const PRINTED: &str = "/var/log/printed";

impl Running {
    /// Starts `command`, which must stay in the foreground, in `root`. `log` is the file it logs to, if any.
    pub(super) fn start(
        name: &'static str,
        root: &Root,
        mut command: Command,
        log: Option<&'static str>,
    ) -> Result<Self, ForeignError> {
        let printed =
            File::create(root.path(PRINTED)).map_err(ForeignError::system("creating a log file"))?;
        let also = printed.try_clone().map_err(ForeignError::system("creating a log file"))?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(printed)
            .stderr(also)
            .spawn()
            .map_err(ForeignError::system(format!("starting {name}")))?;
        Ok(Self { name, child, logs: log.into_iter().chain([PRINTED]).collect() })
    }

    /// All that it logged and printed so far.
    pub(super) fn log(&self, root: &Root) -> String {
        self.logs.iter().map(|file| String::from_utf8_lossy(&root.read(file)).into_owned()).collect()
    }

    /// Looks until `probe` finds something. Ends early if the program does.
    pub(super) fn until<T>(
        &mut self,
        root: &Root,
        what: &str,
        mut probe: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, ForeignError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log(root);
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
    pub(super) fn until_listening(&mut self, root: &Root, addr: SocketAddr) -> Result<(), ForeignError> {
        self.until(root, &format!("accepts connections at {addr}"), |_| {
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
