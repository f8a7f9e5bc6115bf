//! Postfix in both roles: a sender that insists on DANE, and a receiver with a certificate.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use super::ForeignError;
use super::process::{Running, run};
use super::root::{Account, Root};
use crate::pki::Identity;

/// A Postfix that sends by SMTP, with DANE or not at all (`dane-only`).
#[derive(Debug, Clone)]
pub struct Sender {
    /// Its name, said in EHLO.
    pub host: String,
    /// Where its connections come from.
    pub address: IpAddr,
    /// A validating resolver, port 53.
    pub resolver: IpAddr,
    /// The client certificate it shows when asked.
    pub identity: Option<Identity>,
    /// Domain and next hop (`[nta.b.nl]`: that host; `b.nl`: the MX of it). Other domains go by their MX.
    pub routes: Vec<(String, String)>,
    /// A milter that sees every message, such as OpenDKIM; when it fails, mail waits.
    pub milter: Option<SocketAddr>,
}

/// A Postfix that receives by SMTP, port 25, with TLS required, and keeps what it gets.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Its name.
    pub host: String,
    /// Where it listens.
    pub address: IpAddr,
    /// The server certificate.
    pub identity: Identity,
    /// The addresses that it takes mail for. In lower case.
    pub mailboxes: Vec<String>,
}

/// A Postfix that takes mail for anybody by SMTP, port 25, with STARTTLS if the client likes, and delivers none of it: what it
/// has accepted stays in its hold queue.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its name.
    pub host: String,
    /// Where it listens.
    pub address: IpAddr,
    /// The server certificate.
    pub identity: Identity,
}

/// A running Postfix.
#[derive(Debug)]
pub struct Postfix {
    running: Running,
    root: Root,
}

/// What became of a message for one recipient, in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The next hop took it.
    Sent,
    /// It stays in the queue.
    Deferred,
    /// It was returned to the sender.
    Bounced,
}

/// A line of Postfix's log about one recipient.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What became of it.
    pub disposition: Disposition,
    /// The enhanced status code, such as `5.7.26`.
    pub dsn: String,
    /// The reason in parentheses: the next hop's reply, or what Postfix found.
    pub reason: String,
}

pub(super) const LOG: &str = "/var/log/postfix.log";
pub(super) const TLS_STEM: &str = "tls";
/// What [`Identity::write`] makes of that stem, as Postfix sees it; the key first, as Postfix wants it.
pub(super) const CHAIN_FILES: &str = "/etc/postfix/tls.key.pem, /etc/postfix/tls.crt.pem";
const MAIL: &str = "/var/mail";

impl Postfix {
    /// Starts a sender.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn sender(config: &Sender) -> Result<Self, ForeignError> {
        let mut main = format!(
            "myhostname = {host}\n\
             inet_interfaces = loopback-only\n\
             smtp_bind_address = {address}\n\
             smtp_helo_name = {host}\n\
             smtp_host_lookup = dns\n\
             smtp_dns_support_level = dnssec\n\
             smtp_tls_security_level = dane-only\n\
             smtp_tls_loglevel = 1\n\
             local_transport = error:this Postfix only sends\n\
             minimal_backoff_time = 300s\n",
            host = config.host,
            address = config.address,
        );
        if config.identity.is_some() {
            let _ = writeln!(main, "smtp_tls_chain_files = {CHAIN_FILES}");
        }
        if let Some(milter) = config.milter {
            let _ = writeln!(main, "non_smtpd_milters = inet:{}:{}", milter.ip(), milter.port());
            main += "milter_default_action = tempfail\n";
        }
        if !config.routes.is_empty() {
            let routes: Vec<String> =
                config.routes.iter().map(|(domain, hop)| format!("{{ {domain} = smtp:{hop} }}")).collect();
            let _ = writeln!(main, "transport_maps = inline:{{ {} }}", routes.join(", "));
        }
        let root = Root::new("postfix")?;
        // Postfix relies on the AD bit, which glibc hides unless told that this resolver is trusted.
        root.write("/etc/resolv.conf", format!("nameserver {}\noptions trust-ad edns0\n", config.resolver))?;
        Self::start(root, &main, config.identity.as_ref(), None)
    }

    /// Starts a receiver.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn receiver(config: &Receiver) -> Result<Self, ForeignError> {
        let domains: Vec<&str> =
            config.mailboxes.iter().filter_map(|address| Some(address.split_once('@')?.1)).collect();
        let mailboxes: Vec<String> =
            config.mailboxes.iter().map(|address| format!("{{ {address} = {address}/ }}")).collect();
        let main = format!(
            "myhostname = {host}\n\
             inet_interfaces = all\n\
             smtpd_peername_lookup = no\n\
             smtpd_tls_security_level = encrypt\n\
             smtpd_tls_chain_files = {CHAIN_FILES}\n\
             smtpd_tls_ask_ccert = yes\n\
             smtpd_tls_received_header = yes\n\
             smtpd_tls_loglevel = 1\n\
             smtpd_relay_restrictions = reject_unauth_destination\n\
             message_size_limit = 50000000\n\
             virtual_mailbox_limit = 0\n\
             virtual_mailbox_base = {MAIL}\n\
             virtual_mailbox_domains = {domains}\n\
             virtual_mailbox_maps = inline:{{ {mailboxes} }}\n\
             virtual_uid_maps = static:{vmail}\n\
             virtual_gid_maps = static:{vmail}\n\
             virtual_minimum_uid = {vmail}\n",
            host = config.host,
            domains = domains.join(" "),
            mailboxes = mailboxes.join(", "),
            vmail = Account::Vmail.id(),
        );
        let root = Root::new("postfix")?;
        root.directory(MAIL, 0o755, Account::Vmail, Account::Vmail)?;
        Self::start(root, &main, Some(&config.identity), Some((config.address, 25).into()))
    }

    /// Starts a holder. Everything that bears on how fast it accepts is Postfix's default, but for four things that only make
    /// it faster: names of clients are not looked up, the queue manager has nothing to do, so nobody waits for it
    /// (`in_flow_delay`), and there are no notices to local users (`biff`) and no aliases.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn holder(config: &Holder) -> Result<Self, ForeignError> {
        let main = format!(
            "myhostname = {host}\n\
             inet_interfaces = all\n\
             mynetworks = 127.0.0.0/8\n\
             smtpd_peername_lookup = no\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_chain_files = {CHAIN_FILES}\n\
             smtpd_data_restrictions = check_client_access static:HOLD\n\
             in_flow_delay = 0\n",
            host = config.host,
        );
        let root = Root::new("postfix")?;
        Self::start(root, &main, Some(&config.identity), Some((config.address, 25).into()))
    }

    /// How many messages are in the hold queue.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn held(&self) -> Result<usize, ForeignError> {
        let hold = self.root.path("/var/spool/postfix/hold");
        fs::read_dir(hold).map(Iterator::count).map_err(ForeignError::system("counting a queue"))
    }

    /// Runs Postfix's own load generator to its end.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn smtp_source(&self, arguments: &[String]) -> Result<(), ForeignError> {
        let mut command = self.root.command("/usr/sbin/smtp-source");
        command.args(arguments);
        run("smtp-source", command, b"").map(drop)
    }

    fn start(
        root: Root,
        main: &str,
        identity: Option<&Identity>,
        listen: Option<SocketAddr>,
    ) -> Result<Self, ForeignError> {
        root.write("/etc/postfix/main.cf", format!("{COMMON}{main}"))?;
        let smtpd = listen.map(|addr| format!("{}:{} inet n - n - - smtpd\n", addr.ip(), addr.port()));
        root.write("/etc/postfix/master.cf", format!("{}{SERVICES}", smtpd.unwrap_or_default()))?;
        if let Some(identity) = identity {
            identity
                .write(&root.path("/etc/postfix"), TLS_STEM)
                .map_err(|error| ForeignError::Key(error.to_string()))?;
        }
        make_queue(&root)?;

        let mut command = root.command("/usr/lib/postfix/sbin/master");
        command.args(["-c", "/etc/postfix", "-d"]);
        let mut running = root.start("postfix", command, Some(LOG))?;
        running.until("logs that it started", |log| log.contains("daemon started").then_some(()))?;
        if let Some(addr) = listen {
            running.until_listening(addr)?;
        }
        Ok(Self { running, root })
    }

    /// Puts a message into the queue, as a program on that machine would.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn inject(&self, from: &str, to: &str, message: &[u8]) -> Result<(), ForeignError> {
        let mut command = self.root.command("/usr/sbin/sendmail");
        command.args(["-i", "-f", from, "--", to]);
        run("sendmail", command, message).map(drop)
    }

    /// Waits for the first attempt to deliver to a recipient, and says what became of it.
    ///
    /// # Errors
    /// [`ForeignError::Late`] if there was none.
    pub fn outcome(&mut self, to: &str) -> Result<Outcome, ForeignError> {
        let what = format!("logs what became of mail to {to}");
        self.running.until(&what, |log| log.lines().find_map(|line| read_outcome(line, to)))
    }

    /// Waits until this text is in the log.
    ///
    /// # Errors
    /// [`ForeignError::Late`] if it never was.
    pub fn until_logged(&mut self, text: &str) -> Result<(), ForeignError> {
        self.until_logged_times(text, 1)
    }

    /// Waits until this text is in so many lines of the log.
    ///
    /// # Errors
    /// [`ForeignError::Late`] if it never was.
    pub fn until_logged_times(&mut self, text: &str, times: usize) -> Result<(), ForeignError> {
        let what = format!("logs {text:?} {times} times");
        self.running.until(&what, |log| {
            (log.lines().filter(|line| line.contains(text)).count() >= times).then_some(())
        })
    }

    /// What waits in the queue: one JSON object for each message, as `postqueue -j` prints it.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn queue(&self) -> Result<Vec<serde_json::Value>, ForeignError> {
        let mut command = self.root.command("/usr/sbin/postqueue");
        command.arg("-j");
        let printed = run("postqueue", command, b"")?.out;
        let unreadable = |error| ForeignError::Unexpected {
            what: format!("reading the queue ({error})"),
            reply: printed.clone(),
        };
        printed.lines().map(|line| serde_json::from_str(line).map_err(unreadable)).collect()
    }

    /// The messages in a mailbox of a receiver, oldest first. Lines end with CR LF, as they came. Postfix adds
    /// `Return-Path`, `X-Original-To`, `Delivered-To` and one `Received` on top.
    pub fn mail(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let new = self.root.path(&format!("{MAIL}/{mailbox}/new"));
        let mut files: Vec<_> = fs::read_dir(new).into_iter().flatten().flatten().collect();
        files.sort_by_key(|file| file.metadata().and_then(|data| data.modified()).ok());
        files.iter().filter_map(|file| fs::read(file.path()).ok()).map(|bytes| with_crlf(&bytes)).collect()
    }

    /// All that it logged so far.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

/// Settings of both roles.
const COMMON: &str = "\
compatibility_level = 3.6
queue_directory = /var/spool/postfix
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = /var/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = /var/log/postfix.log
inet_protocols = ipv4
mydestination =
mynetworks =
alias_maps =
alias_database =
local_recipient_maps =
biff = no
smtputf8_enable = yes
append_dot_mydomain = no
";

/// The programs that Postfix's master may start; everything but smtpd.
pub(super) const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// The directories that Debian's installation would have made, with its owners.
pub(super) fn make_queue(root: &Root) -> Result<(), ForeignError> {
    use Account::{Postdrop, Postfix, Root as System};
    root.directory("/var/lib/postfix", 0o755, Postfix, System)?;
    root.directory("/var/spool/postfix", 0o755, System, System)?;
    root.directory("/var/spool/postfix/pid", 0o755, System, System)?;
    for name in [
        "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved",
        "trace",
    ] {
        root.directory(&format!("/var/spool/postfix/{name}"), 0o700, Postfix, System)?;
    }
    root.directory("/var/spool/postfix/public", 0o710, Postfix, Postdrop)?;
    root.directory("/var/spool/postfix/maildrop", 0o730, Postfix, Postdrop)
}

/// `… to=<u@b.nl>, relay=…, dsn=2.0.0, status=sent (250 …)`
fn read_outcome(line: &str, to: &str) -> Option<Outcome> {
    let (_, rest) = line.split_once(&format!("to=<{to}>, "))?;
    let (_, dsn) = rest.split_once("dsn=")?;
    let (dsn, rest) = dsn.split_once(", status=")?;
    let (status, reason) = rest.split_once(" (")?;
    let disposition = match status {
        "sent" => Disposition::Sent,
        "deferred" => Disposition::Deferred,
        "bounced" => Disposition::Bounced,
        _ => return None,
    };
    Some(Outcome { disposition, dsn: dsn.to_owned(), reason: reason.trim_end_matches(')').to_owned() })
}

/// A file of Postfix's has UNIX line ends.
fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    for octet in bytes {
        if *octet == b'\n' {
            wire.push(b'\r');
        }
        wire.push(*octet);
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_became_of_a_recipient() {
        let line = "Nov 22 05:12:01 out postfix/smtp[9]: 4A: to=<u@b.nl>, relay=nta.b.nl[127.7.2.1]:25, delay=0.1, \
                    delays=0/0/0/0, dsn=5.7.26, status=bounced (host nta.b.nl said: 550 5.7.26 no (in reply))";
        let outcome = read_outcome(line, "u@b.nl").expect("a line about this recipient");
        assert_eq!((outcome.disposition, outcome.dsn.as_str()), (Disposition::Bounced, "5.7.26"));
        assert!(outcome.reason.contains("550 5.7.26"));
        assert!(read_outcome(line, "other@b.nl").is_none());
    }
}
