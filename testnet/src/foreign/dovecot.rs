//! Dovecot as a provider's own environment: LMTP in, IMAP out.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::process::Running;
use super::root::{Account, Root};
use super::{ForeignError, wire};

/// Somebody who has mail.
#[derive(Debug, Clone)]
pub struct Mailbox {
    /// The whole address; also the login name. In lower case.
    pub address: String,
    /// For IMAP. Without colon, quote or backslash.
    pub password: String,
}

/// A running Dovecot.
#[derive(Debug)]
pub struct Dovecot {
    running: Running,
    root: Root,
    address: IpAddr,
}

const LMTP_PORT: u16 = 24;
const IMAP_PORT: u16 = 143;
const LOG: &str = "/var/log/dovecot.log";
/// The LMTP socket, in Dovecot's base directory.
const SOCKET: &str = "lmtp-from-node";
const BASE: &str = "/run/dovecot";

impl Dovecot {
    /// Starts Dovecot at `address` with these mailboxes; recipients who have none are refused at `RCPT`.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn start(address: IpAddr, mailboxes: &[Mailbox]) -> Result<Self, ForeignError> {
        let root = Root::new("dovecot")?;
        root.write("/etc/dovecot/dovecot.conf", config(address))?;
        let mut users = String::new();
        let vmail = Account::Vmail.id();
        for Mailbox { address, password } in mailboxes {
            // user, password, uid, gid, real name, home
            let _ = writeln!(users, "{address}:{{PLAIN}}{password}:{vmail}:{vmail}::/var/mail/{address}::");
        }
        root.write_secret("/etc/dovecot/users", users, Account::Dovecot)?;
        root.directory("/var/mail", 0o700, Account::Vmail, Account::Vmail)?;

        let mut command = root.command("/usr/sbin/dovecot");
        command.args(["-F", "-c", "/etc/dovecot/dovecot.conf"]);
        let mut running = root.start("dovecot", command, Some(LOG))?;
        running.until_listening((address, LMTP_PORT).into())?;
        running.until_listening((address, IMAP_PORT).into())?;
        Ok(Self { running, root, address })
    }

    /// Where LMTP is spoken, over TCP.
    pub fn lmtp_addr(&self) -> SocketAddr {
        (self.address, LMTP_PORT).into()
    }

    /// Where LMTP is spoken, over a UNIX socket. Anybody may connect.
    pub fn lmtp_socket(&self) -> PathBuf {
        self.root.path(&format!("{BASE}/{SOCKET}"))
    }

    /// Where IMAP is spoken, without TLS.
    pub fn imap_addr(&self) -> SocketAddr {
        (self.address, IMAP_PORT).into()
    }

    /// All messages of a mailbox as IMAP shows them, in the order of arrival. Dovecot adds `Return-Path`,
    /// `Delivered-To` and one `Received` on top.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn fetch(&self, mailbox: &Mailbox) -> Result<Vec<Vec<u8>>, ForeignError> {
        wire::imap_inbox(self.imap_addr(), &mailbox.address, &mailbox.password)
    }

    /// Waits until a mailbox has `count` messages, and fetches them. A node answers for a message before it hands it
    /// over, so a mailbox may be a moment behind its answer.
    ///
    /// # Errors
    /// [`ForeignError::Late`] if they don't come.
    pub fn fetch_when(&mut self, mailbox: &Mailbox, count: usize) -> Result<Vec<Vec<u8>>, ForeignError> {
        let (addr, Mailbox { address, password }) = (self.imap_addr(), mailbox);
        self.running.until(&format!("has {count} messages for {address}"), |_| {
            wire::imap_count(addr, address, password).ok().filter(|there| *there >= count)
        })?;
        self.fetch(mailbox)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

fn config(address: IpAddr) -> String {
    let vmail = Account::Vmail.id();
    format!(
        r#"
protocols = imap lmtp
listen = {address}
base_dir = {BASE}
state_dir = /var/lib/dovecot
log_path = {LOG}
ssl = no
# Everything stays on a loopback interface that only the test can reach.
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
first_valid_uid = {vmail}
first_valid_gid = {vmail}
# The user name is the whole address.
auth_username_format = %Lu
passdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
userdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
service imap-login {{
  inet_listener imap {{
    address = {address}
    port = {IMAP_PORT}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {LMTP_PORT}
  }}
  unix_listener {SOCKET} {{
    mode = 0666
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@localhost
}}
"#
    )
}
