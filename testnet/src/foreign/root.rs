//! A root directory for one running instance of a peer: its programs read-only, everything else its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, mount_bind, mount_bind_recursive, mount_remount};

use super::process::Running;
use super::{ForeignError, peer_dir, sandbox};

/// Who owns a file in a root. The numbers exist nowhere else: the root has its own `/etc/passwd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Root,
    Postfix,
    /// The group of the program that drops mail into Postfix's queue.
    Postdrop,
    Dovecot,
    Dovenull,
    /// Owns mailboxes.
    Vmail,
    Opendkim,
}

impl Account {
    const ALL: [Self; 7] = [
        Self::Root,
        Self::Postfix,
        Self::Postdrop,
        Self::Dovecot,
        Self::Dovenull,
        Self::Vmail,
        Self::Opendkim,
    ];

    pub(super) const fn id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Postfix => 2501,
            Self::Postdrop => 2502,
            Self::Dovecot => 2503,
            Self::Dovenull => 2504,
            Self::Vmail => 2505,
            Self::Opendkim => 2506,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Postfix => "postfix",
            Self::Postdrop => "postdrop",
            Self::Dovecot => "dovecot",
            Self::Dovenull => "dovenull",
            Self::Vmail => "vmail",
            Self::Opendkim => "opendkim",
        }
    }
}

/// One instance's root directory, in the memory file system of the test.
#[derive(Debug)]
pub(super) struct Root {
    dir: PathBuf,
}

impl Root {
    /// A new root with the programs of the peer `name`.
    pub(super) fn new(name: &'static str) -> Result<Self, ForeignError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let programs = peer_dir(name)?.join("usr");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = Self { dir: sandbox::arena()?.join(format!("{name}-{number}")) };

        for dir in ["/", "/usr", "/dev", "/etc", "/run", "/var", "/var/log"] {
            root.directory(dir, 0o755, Account::Root, Account::Root)?;
        }
        root.directory("/tmp", 0o1777, Account::Root, Account::Root)?;
        for link in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            symlink(format!("usr/{link}"), root.path(link)).map_err(ForeignError::system("linking"))?;
        }
        // Read-only: nothing a peer does may change what the next test starts from.
        let usr = root.path("usr");
        mount_bind(&programs, &usr)
            .and_then(|()| mount_remount(&usr, MountFlags::BIND | MountFlags::RDONLY, ""))
            .map_err(ForeignError::system(format!("mounting {}", programs.display())))?;
        mount_bind_recursive("/dev", root.path("dev")).map_err(ForeignError::system("mounting /dev"))?;

        let mut passwd = String::new();
        let mut group = String::new();
        for account in Account::ALL {
            let (name, id) = (account.name(), account.id());
            passwd += &format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n");
            group += &format!("{name}:x:{id}:\n");
        }
        passwd += "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";
        group += "nogroup:x:65534:\n";
        root.write("/etc/passwd", &passwd)?;
        root.write("/etc/group", &group)?;
        root.write("/etc/hosts", "127.0.0.1 localhost\n")?;
        root.write("/etc/services", "domain 53/tcp\ndomain 53/udp\nsmtp 25/tcp\nlmtp 24/tcp\n")?;
        Ok(root)
    }

    /// Where the program's file `inside` (`/etc/…`) is for us.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.dir.join(inside.trim_start_matches('/'))
    }

    /// Makes a directory with its parents; mode and owner count for the last.
    pub(super) fn directory(
        &self,
        inside: &str,
        mode: u32,
        owner: Account,
        group: Account,
    ) -> Result<(), ForeignError> {
        let path = self.path(inside);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .and_then(|()| chown(&path, Some(owner.id()), Some(group.id())))
            .map_err(ForeignError::system(format!("making the directory {}", path.display())))
    }

    /// Writes a file that everybody may read.
    pub(super) fn write(&self, inside: &str, contents: impl AsRef<[u8]>) -> Result<(), ForeignError> {
        self.write_for(inside, contents.as_ref(), 0o644, Account::Root)
    }

    /// Writes a file that only `owner` may read.
    pub(super) fn write_secret(
        &self,
        inside: &str,
        contents: impl AsRef<[u8]>,
        owner: Account,
    ) -> Result<(), ForeignError> {
        self.write_for(inside, contents.as_ref(), 0o600, owner)
    }

    fn write_for(
        &self,
        inside: &str,
        contents: &[u8],
        mode: u32,
        owner: Account,
    ) -> Result<(), ForeignError> {
        let path = self.path(inside);
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, contents))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .and_then(|()| chown(&path, Some(owner.id()), None))
            .map_err(ForeignError::system(format!("writing {}", path.display())))
    }

    /// A command that runs `program` in this root, with no environment but a path.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.dir).arg(program).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// The same, as the first process of a process table of its own, which ends with it.
    pub(super) fn contained(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "chroot"])
            .arg(&self.dir)
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Starts `command` as the program of this root; `log` is the file that it logs to by itself.
    pub(super) fn start(
        &self,
        name: &'static str,
        command: Command,
        log: Option<&str>,
    ) -> Result<Running, ForeignError> {
        Running::start(name, command, self.path("/var/log/printed"), log.map(|file| self.path(file)))
    }
}
