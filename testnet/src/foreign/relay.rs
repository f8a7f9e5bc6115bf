//! Postfix as a provider uses it, between its platform, its environment and other providers; to be killed and started
//! again on what is on disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::postfix::{CHAIN_FILES, LOG, SERVICES, TLS_STEM, make_queue};
use super::process::{Running, run};
use super::root::{Account, Root};
use super::{ForeignError, peer_dir};
use crate::pki::Identity;

const QUEUE: &str = "/var/spool/postfix";
const PORT: u16 = 25;
/// Lines of the log that say what happened to a message, at most.
const LINES_MAX: usize = 12;

/// Where mail for a domain goes.
#[derive(Debug, Clone, Copy)]
pub enum Next {
    /// Into the environment, by LMTP, without TLS.
    Environment(SocketAddr),
    /// To another provider's server, by SMTP with TLS, port 25.
    Provider(IpAddr),
}

/// What a Postfix is to be.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Its name.
    pub host: String,
    /// Where it listens, port 25, with TLS required.
    pub address: IpAddr,
    /// Its server certificate.
    pub identity: Identity,
    /// Domains that it takes mail for, from anybody on this machine, and where that goes.
    pub domains: Vec<(String, Next)>,
}

/// Something in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The queue file's name, as the reply to the content gave it.
    pub id: String,
    /// The queue: `incoming`, `active`, `deferred`, `hold`, `maildrop`.
    pub queue: String,
}

/// A Postfix with its queue. Dropped, it ends.
#[derive(Debug)]
pub struct Relay {
    root: Root,
    address: IpAddr,
    settings: Vec<(String, &'static str)>,
    running: Option<Running>,
}

impl Relay {
    /// Installs one; it does not run yet.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn install(config: &RelayConfig) -> Result<Self, ForeignError> {
        let root = Root::new("postfix")?;
        let settings = settings(config);
        let main: String = settings.iter().map(|(setting, _)| format!("{setting}\n")).collect();
        root.write("/etc/postfix/main.cf", format!("{PLACES}{main}"))?;
        // As master.cf comes, but for smtpd's address, and without chroot, for which an installation copies files.
        let smtpd = format!("{}:{PORT} inet n - n - - smtpd\n", config.address);
        root.write("/etc/postfix/master.cf", format!("{smtpd}{SERVICES}"))?;
        let directory = root.path("/etc/postfix");
        config.identity.write(&directory, TLS_STEM).map_err(|error| ForeignError::Key(error.to_string()))?;
        make_queue(&root)?;
        // postsuper writes into it too, before postlogd runs, and not as root.
        root.write_secret(LOG, "", Account::Postfix)?;
        Ok(Self { root, address: config.address, settings, running: None })
    }

    /// What differs from Postfix's defaults, as its configuration has it, and why. Paths are not in it.
    #[must_use]
    pub fn settings(&self) -> &[(String, &'static str)] {
        &self.settings
    }

    /// Product, version, and package.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn version(&self) -> Result<String, ForeignError> {
        let mut command = self.root.command("/usr/sbin/postconf");
        command.args(["-h", "mail_version"]);
        let version = run("postconf", command, b"")?.out;
        let stamp = fs::read_to_string(peer_dir("postfix")?.with_extension("stamp"))
            .map_err(ForeignError::system("reading which package was unpacked"))?;
        let package = stamp.lines().find_map(|line| line.strip_prefix("postfix=")).unwrap_or("unknown");
        Ok(format!("Postfix {} (Debian package {package})", version.trim()))
    }

    /// Starts it on its queue as `postfix start-fg` does in a container, and returns when it answers: directories that are
    /// missing are made, then `postsuper` repairs and purges the queue, then the master runs, as the first process of a
    /// process table.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn start(&mut self) -> Result<(), ForeignError> {
        self.keep_log()?;
        make_queue(&self.root)?;
        run("postsuper", self.root.command("/usr/sbin/postsuper"), b"")?;
        let mut command = self.root.contained("/usr/lib/postfix/sbin/master");
        command.arg("-i");
        let running = self.running.insert(self.root.start("postfix", command, Some(LOG))?);
        running.until_listening((self.address, PORT).into())
    }

    /// SIGKILL for every process of it. Returns when none is left.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill_contained();
        }
    }

    /// Whether its master has ended without [`Self::kill`].
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(Running::has_ended)
    }

    /// The queue directory: everything that must survive.
    #[must_use]
    pub fn queue_directory(&self) -> PathBuf {
        self.root.path(QUEUE)
    }

    /// Makes the directories of an empty queue, as an installation long ago has done: on the platter.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn furnish_queue(&self) -> Result<(), ForeignError> {
        make_queue(&self.root)?;
        File::open(self.queue_directory())
            .and_then(|directory| rustix::fs::syncfs(directory).map_err(Into::into))
            .map_err(ForeignError::system("flushing an empty queue"))
    }

    /// What waits. Postfix lists its queues one after the other while messages move between them, so a message that moves
    /// the wrong way at the wrong moment is in no listing although it is in the queue: this is what two listings show.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn queue(&self) -> Result<Vec<Waiting>, ForeignError> {
        let mut all = self.listed()?;
        for waiting in self.listed()? {
            if all.iter().all(|known| known.id != waiting.id) {
                all.push(waiting);
            }
        }
        Ok(all)
    }

    fn listed(&self) -> Result<Vec<Waiting>, ForeignError> {
        let mut command = self.root.command("/usr/sbin/postqueue");
        command.arg("-j");
        let printed = run("postqueue", command, b"")?.out;
        let read = |line: &str| {
            let object: serde_json::Value = serde_json::from_str(line).ok()?;
            let text = |name: &str| Some(object[name].as_str()?.to_owned());
            Some(Waiting { id: text("queue_id")?, queue: text("queue_name")? })
        };
        let unreadable = |line: &str| ForeignError::Unexpected {
            what: "reading the queue".to_owned(),
            reply: line.to_owned(),
        };
        printed.lines().map(|line| read(line).ok_or_else(|| unreadable(line))).collect()
    }

    /// Has a deferred message tried now. That it is gone is as good.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn retry(&self, id: &str) -> Result<(), ForeignError> {
        self.tell("/usr/sbin/postqueue", "-i", id)
    }

    /// Lets a message go on that is on hold.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn release(&self, id: &str) -> Result<(), ForeignError> {
        self.tell("/usr/sbin/postsuper", "-H", id)
    }

    fn tell(&self, program: &str, option: &str, id: &str) -> Result<(), ForeignError> {
        let mut command = self.root.command(program);
        command.args([option, id]);
        match run(program, command, b"") {
            // It says so of a message that has left the queue meanwhile.
            Ok(_) | Err(ForeignError::Unexpected { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the logs of all its lives say of a message: the newest lines.
    #[must_use]
    pub fn said_of(&self, id: &str) -> Vec<String> {
        let logs = [self.history(), self.root.path(LOG)].map(|file| fs::read(file).unwrap_or_default());
        let logs = logs.map(|log| String::from_utf8_lossy(&log).into_owned()).concat();
        let lines: Vec<_> = logs.lines().filter(|line| line.contains(id)).map(str::to_owned).collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].to_vec()
    }

    /// What it has logged in this life.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.as_ref().map(Running::log).unwrap_or_default()
    }

    fn history(&self) -> PathBuf {
        self.root.path("/var/log/earlier.log")
    }

    /// A life has a log of its own, so that looking at it takes no longer with every life.
    fn keep_log(&self) -> Result<(), ForeignError> {
        let keep = || {
            let log = self.root.path(LOG);
            let mut history = File::options().create(true).append(true).open(self.history())?;
            history.write_all(&fs::read(&log)?)?;
            File::options().write(true).open(&log)?.set_len(0)
        };
        keep().map_err(ForeignError::system("keeping a log"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where its files are; an installation of Debian's has them in the same places.
const PLACES: &str = "\
queue_directory = /var/spool/postfix
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = /var/lib/postfix
mail_owner = postfix
setgid_group = postdrop
";

/// What differs from the defaults, and why. Nothing here has to do with what is flushed when, for which Postfix has no
/// settings.
fn settings(config: &RelayConfig) -> Vec<(String, &'static str)> {
    let mut own = Vec::new();
    let mut routes = Vec::new();
    for (domain, next) in &config.domains {
        match next {
            Next::Environment(address) => {
                own.push(format!("virtual_mailbox_domains = {domain}"));
                own.push(format!("virtual_transport = lmtp:inet:[{}]:{}", address.ip(), address.port()));
            }
            Next::Provider(address) => routes.push(format!("{{ {domain} = smtp:[{address}] }}")),
        }
    }
    let mut settings = vec![
        ("compatibility_level = 3.6".to_owned(), "as Debian's package is installed"),
        (format!("myhostname = {}", config.host), "its name"),
        ("inet_protocols = ipv4".to_owned(), "there is no IPv6 in the private network"),
        ("mynetworks = 127.0.0.0/8".to_owned(), "the platform may send to other providers"),
        ("mydestination =".to_owned(), "no mailboxes of the machine's own"),
        ("local_recipient_maps =".to_owned(), "the same"),
        ("alias_maps =".to_owned(), "the same"),
        ("alias_database =".to_owned(), "the same"),
        ("smtpd_peername_lookup = no".to_owned(), "there is no DNS in the private network"),
        ("smtpd_tls_security_level = encrypt".to_owned(), "providers use TLS"),
        ("smtpd_tls_ask_ccert = yes".to_owned(), "and show certificates"),
        (format!("smtpd_tls_chain_files = {CHAIN_FILES}"), "its own"),
        (
            "maillog_file = /var/log/postfix.log".to_owned(),
            "there is no syslog; not on the disk that is harmed",
        ),
    ];
    settings.extend(own.into_iter().map(|line| (line, "mail for its own domain goes into the environment")));
    if !routes.is_empty() {
        let map = format!("transport_maps = inline:{{ {} }}", routes.join(", "));
        settings.push((map, "where the other provider is, without DNS"));
        settings.push(("smtp_tls_security_level = encrypt".to_owned(), "providers use TLS"));
    }
    let quick =
        "a crash is followed by another within a second, so retries are as quick, as they are for our node";
    for name in ["minimal_backoff_time", "maximal_backoff_time", "queue_run_delay"] {
        settings.push((format!("{name} = 1s"), quick));
    }
    settings.push((
        "notify_classes =".to_owned(),
        "no reports to its postmaster: they would wait in the queue, which is judged when it is empty",
    ));
    settings
}
