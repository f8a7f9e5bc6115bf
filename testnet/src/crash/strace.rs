//! `strace`, which ends or fails a system call of a running program: at the N-th call of its kind in each thread.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::machine;
use crate::foreign::peer_dir;
use crate::net::NetError;

/// How long attaching and letting go may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The system calls by which a mail server touches disk and network. `?` before those that not every processor has.
pub const CALLS: &str = "?open,openat,?creat,close,read,write,pread64,pwrite64,readv,writev,fsync,fdatasync,ftruncate,\
                         fallocate,?unlink,unlinkat,?rename,?renameat,renameat2,?link,linkat,?mkdir,mkdirat,flock,\
                         ?getdents64,statfs,fstatfs,socket,connect,accept4,sendto,recvfrom,sendmsg,recvmsg,shutdown";

/// What to do to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// The system call.
    pub call: String,
    /// What happens: `signal=KILL`, `error=EIO`, `retval=1`.
    pub what: String,
    /// At which call, counted in each thread from 1; with `+` from there on.
    pub when: String,
    /// Calls on these files only.
    pub paths: Vec<PathBuf>,
    /// Calls of this thread only.
    pub thread: Option<u32>,
}

/// The program, however it is to be run.
#[derive(Debug, Clone)]
pub struct Strace {
    command: Vec<OsString>,
}

impl Strace {
    /// The one that `tools/peers.sh` unpacked, else the machine's own.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self, NetError> {
        if let Some(command) = peer_dir("strace").ok().and_then(|root| unpacked(&root)) {
            return Ok(Self { command });
        }
        let own = ["/usr/bin/strace", "/bin/strace"].into_iter().find(|path| Path::new(path).is_file());
        let own = own.ok_or_else(|| NetError::Machine {
            what: "strace".to_owned(),
            why: "it is not here: run tools/peers.sh".to_owned(),
        })?;
        Ok(Self { command: vec![own.into()] })
    }

    /// The start of a command that runs a program under `strace` from its first instruction, in place: the process that is
    /// started becomes the program.
    #[must_use]
    pub fn wrapper(&self, injection: Option<&Injection>, trace: &Path) -> Vec<OsString> {
        let mut command = self.command.clone();
        command.push("-D".into());
        command.extend(arguments(injection, trace));
        command.push("--".into());
        command
    }

    /// Attaches to all threads of a process. Returns when it is attached.
    ///
    /// # Errors
    /// It can't.
    pub async fn attach(
        &self,
        process: u32,
        injection: Option<&Injection>,
        trace: &Path,
    ) -> Result<Attached, NetError> {
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(arguments(injection, trace))
            .arg("-p")
            .arg(injection.and_then(|injection| injection.thread).unwrap_or(process).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(machine("starting strace"))?;
        let stderr = child.stderr.take().ok_or_else(|| NetError::Machine {
            what: "strace".to_owned(),
            why: "it has no standard error".to_owned(),
        })?;
        let mut lines = BufReader::new(stderr).lines();
        let attached = timeout(PATIENCE, async {
            let mut said = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(" attached") {
                    return Ok(());
                }
                said.push(line);
            }
            Err(said.join(" / "))
        })
        .await
        .unwrap_or_else(|_| Err("it does not attach".to_owned()));
        attached.map_err(|why| NetError::Machine {
            what: format!("strace of process {process}"),
            why: format!("{why} (ptrace must be allowed: root, or kernel.yama.ptrace_scope = 0)"),
        })?;
        // It says more later, and must not wait for somebody to listen.
        let listening = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Attached { child, listening })
    }
}

/// The threads of a process, the oldest first.
#[must_use]
pub fn threads(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut threads: Vec<u32> =
        tasks.filter_map(|task| task.file_name().to_string_lossy().parse().ok()).collect();
    threads.sort_unstable();
    threads
}

/// The threads of a process that were made after those of its runtime and have the same name, the newest first: those for
/// work that blocks, such as writing files. For a program with one thread for everything else.
#[must_use]
pub fn late_threads(process: u32) -> Vec<u32> {
    let name = |thread: &u32| std::fs::read_to_string(format!("/proc/{process}/task/{thread}/comm")).ok();
    let threads = threads(process);
    let Some(first) = threads.get(1).and_then(name) else { return Vec::new() };
    let late = threads.iter().skip(2).filter(|thread| name(thread).as_ref() == Some(&first));
    late.rev().copied().collect()
}

/// A `strace` at work. Dropped, it is killed, and with it what it held: use [`Attached::let_go`].
pub struct Attached {
    child: Child,
    listening: tokio::task::JoinHandle<()>,
}

impl Attached {
    /// Detaches from the program, if that still runs, and returns when the trace is complete.
    pub async fn let_go(mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // Fails only if it has ended.
            let _ = kill_process(id, Signal::INT);
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        self.listening.abort();
    }

    /// Waits until the program has ended, and the trace is complete.
    pub async fn wait(mut self) {
        let _ = timeout(PATIENCE, self.child.wait()).await;
        self.listening.abort();
    }
}

fn arguments(injection: Option<&Injection>, trace: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-yy", "-s", "0", "-o"].map(Into::into).into();
    if injection.is_none_or(|injection| injection.thread.is_none()) {
        arguments.insert(0, "-f".into());
    }
    arguments.push(trace.into());
    arguments.push("-e".into());
    match injection {
        // With paths, what else happens is of no interest.
        Some(Injection { call, paths, .. }) if !paths.is_empty() => {
            arguments.push(format!("trace={call}").into())
        }
        _ => arguments.push(format!("trace={CALLS}").into()),
    }
    if let Some(Injection { call, what, when, paths, .. }) = injection {
        arguments.push("-e".into());
        arguments.push(format!("inject={call}:{what}:when={when}").into());
        for path in paths {
            arguments.push("-P".into());
            arguments.push(path.into());
        }
    }
    arguments
}

/// How to run a program of a root that is not ours: by its own loader, with its own libraries.
fn unpacked(root: &Path) -> Option<Vec<OsString>> {
    let libraries = std::fs::read_dir(root.join("usr/lib")).ok()?;
    let libraries = libraries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.to_string_lossy().contains("-linux-gnu"))?;
    let loader = std::fs::read_dir(&libraries).ok()?.flatten().map(|entry| entry.path());
    let loader = loader
        .filter(|path| path.is_file())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")))?;
    let program = root.join("usr/bin/strace");
    program.is_file().then(|| vec![loader.into(), "--library-path".into(), libraries.into(), program.into()])
}
