//! A private network, file system view and process table for one test.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
use rustix::process::{Signal, kill_process};

use super::process::first_inside;
use super::{ForeignError, peers_dir};

/// What a test body returns, so that it can use `?` on anything.
pub type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Set for the copy of the test binary that runs inside.
const INSIDE: &str = "TESTNET_FOREIGN_INSIDE";
/// Printed by that copy at the very end. Without it a test whose name was not found would pass.
const REACHED_THE_END: &str = "foreign test reached its end:";
/// No test takes a tenth of this; it only keeps a hanging one from taking the whole check with it.
const LIMIT_SECONDS: &str = "240";

/// Runs the body of a test in a private network with only a loopback interface, where all of 127.0.0.0/8 and every
/// port is free, with private mounts and as process 1 of its own process table, so that all it started ends with it.
///
/// Works by running the test binary again with only this test selected: call it with a closure, directly in the test
/// function, as its only statement.
///
/// # Panics
/// If the body fails, or the place can't be made (the message says what to do).
pub fn isolated<F: FnOnce() -> TestResult>(body: F) {
    let name = test_name::<F>();
    if std::env::var_os(INSIDE).is_some() {
        if let Err(error) = furnish().map_err(Into::into).and_then(|()| body()) {
            panic!("{name}: {error}");
        }
        println!("{REACHED_THE_END} {name}");
        return;
    }
    if let Err(error) = prerequisites() {
        panic!("{error}");
    }
    let binary = std::env::current_exe().expect("Linux knows the running program");
    let output = Command::new("timeout")
        .args(["--kill-after=5", LIMIT_SECONDS, "unshare"])
        .args(APART)
        .arg(binary)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "yes")
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("timeout (coreutils) and unshare (util-linux) are on every Debian");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}\n{stderr}");
    assert!(
        output.status.success(),
        "{name} failed inside its private network ({}); the reason is above",
        output.status
    );
    assert!(
        stdout.contains(&format!("{REACHED_THE_END} {name}")),
        "{name} did not run inside its private network"
    );
}

/// For a program that is no test: a command that runs it again, with the same arguments, in the place that [`isolated`]
/// makes, or `None` if it is there already. The second time it begins with furnishing the place, here.
///
/// # Errors
/// [`ForeignError::NotRoot`], [`ForeignError::NotUnpacked`], or the kernel refuses something.
pub fn enter() -> Result<Option<Command>, ForeignError> {
    if std::env::var_os(INSIDE).is_some() {
        furnish()?;
        return Ok(None);
    }
    prerequisites()?;
    let binary = std::env::current_exe().map_err(ForeignError::system("finding this program"))?;
    let mut command = apart(&binary);
    command.args(std::env::args_os().skip(1)).env(INSIDE, "yes");
    Ok(Some(command))
}

/// Asks the program to end that the command of [`enter`], now the process `unshare`, is running.
pub fn end_inside(unshare: u32) {
    if let Some(first) = first_inside(unshare) {
        // It may have ended by itself.
        let _ = kill_process(first, Signal::TERM);
    }
}

/// The name of the test function that the closure `F` was written in, as `--exact` wants it.
fn test_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.split_once("::").map_or(path, |(_crate, name)| name)
}

/// What `unshare` makes anew, so that all a program starts ends with it and nothing it does is seen outside.
const APART: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// A command that runs `program` in such a place; the first thing it does there is [`settle`].
#[must_use]
pub fn apart(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(APART).arg(program);
    command
}

/// Makes the place of [`apart`] usable for foreign programs. Their roots are in `directory`, on its file system: what they
/// flush is flushed to that disk. Remove it from outside, when the place is gone and its mounts with it.
///
/// # Errors
/// See [`ForeignError`].
pub fn settle(directory: &Path) -> Result<(), ForeignError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(ForeignError::system("making mounts private"))?;
    mount_bind(directory, arena()?).map_err(ForeignError::system("mounting a directory"))?;
    raise_loopback().map_err(ForeignError::system("bringing up the loopback interface"))
}

/// Whether foreign programs can be run at all.
///
/// # Errors
/// [`ForeignError::NotRoot`] and [`ForeignError::NotUnpacked`].
pub fn prerequisites() -> Result<(), ForeignError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ForeignError::NotRoot);
    }
    match peers_dir().is_dir() {
        true => Ok(()),
        false => {
            Err(ForeignError::NotUnpacked { name: "the directory of foreign programs", dir: peers_dir() })
        }
    }
}

/// Makes the new namespaces usable: a loopback interface that is up, and a memory file system for the roots.
fn furnish() -> Result<(), ForeignError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(ForeignError::system("making mounts private"))?;
    mount("tmpfs", arena()?, "tmpfs", MountFlags::NODEV, c"mode=755")
        .map_err(ForeignError::system("mounting a memory file system"))?;
    raise_loopback().map_err(ForeignError::system("bringing up the loopback interface"))
}

/// The directory under which all roots of this test live: in memory, gone with the mount namespace. Its path is short,
/// because the path of a UNIX socket may have 107 octets.
pub(super) fn arena() -> Result<&'static Path, ForeignError> {
    static ARENA: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = ARENA.get_or_init(|| {
        // Empty on every Debian. What is mounted there hides what lay there before, so not where anything of ours is.
        let ours =
            [std::env::current_exe().ok(), peers_dir().canonicalize().ok(), Some(std::env::temp_dir())];
        ["/mnt", "/media", "/srv"]
            .map(PathBuf::from)
            .into_iter()
            .find(|dir| dir.is_dir() && !ours.iter().flatten().any(|path| path.starts_with(dir)))
    });
    found.as_deref().ok_or_else(|| ForeignError::System {
        what: "looking for a directory to mount on".into(),
        source: io::Error::new(io::ErrorKind::NotFound, "none of /mnt, /media, /srv can be used"),
    })
}

/// What `ip link set lo up` does: one netlink request (`rtnetlink(7)`), written out because it is the only one.
fn raise_loopback() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 0x1 | 0x4;
    const LOOPBACK_INDEX: i32 = 1;
    const UP: u32 = 0x1;
    let mut request = Vec::with_capacity(32);
    // nlmsghdr: length, type, flags, sequence, port
    request.extend_from_slice(&32u32.to_ne_bytes());
    request.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    request.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    // ifinfomsg: family and type (any), index, flags, which of the flags to change
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    request.extend_from_slice(&UP.to_ne_bytes());
    request.extend_from_slice(&UP.to_ne_bytes());

    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(&netlink, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut reply = [0u8; 256];
    let (_, length) = recv(&netlink, &mut reply, RecvFlags::empty())?;
    // After the header of 16 octets: 0, or an error number with a minus sign.
    match reply.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) if length >= 20 => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_test_function() {
        fn of<F: FnOnce()>(_: F) -> &'static str {
            test_name::<F>()
        }
        assert_eq!(of(|| {}), "foreign::sandbox::tests::the_name_is_that_of_the_test_function");
    }
}
