//! unbound: the resolver that foreign programs trust, and a second opinion on every DNSSEC verdict.

use std::net::{IpAddr, SocketAddr};

use super::process::Running;
use super::root::{Account, Root};
use super::{Dig, ForeignError, Opinion};

/// A running unbound that validates.
#[derive(Debug)]
pub struct Unbound {
    running: Running,
    dig: Dig,
    address: IpAddr,
}

impl Unbound {
    /// Starts a resolver at `address`, port 53, that trusts `anchor_ds` (a DS record in presentation format) and finds
    /// every zone at `authority`, also port 53, because the address of a name server in a zone has no port. It
    /// remembers what it saw for as long as the records say: after a change of the zones, start another.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn start(address: IpAddr, authority: IpAddr, anchor_ds: &str) -> Result<Self, ForeignError> {
        let root = Root::new("unbound")?;
        root.directory("/var/lib/unbound", 0o755, Account::Root, Account::Root)?;
        root.write("/etc/unbound/anchor", format!("{anchor_ds}\n"))?;
        root.write("/etc/unbound/unbound.conf", config(address, authority))?;
        let mut command = root.command("/usr/sbin/unbound");
        command.args(["-d", "-p", "-c", "/etc/unbound/unbound.conf"]);
        let mut running = root.start("unbound", command, None)?;
        running.until_listening((address, 53).into())?;
        Ok(Self { running, dig: Dig::new((address, 53).into())?, address })
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        (self.address, 53).into()
    }

    /// What it makes of a question.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn opinion(&self, name: &str, rtype: &str) -> Result<Opinion, ForeignError> {
        self.dig.opinion(name, rtype)
    }

    /// What it logged so far; says why something is bogus.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

fn config(address: IpAddr, authority: IpAddr) -> String {
    format!(
        r#"
server:
    chroot: ""
    username: ""
    directory: "/etc/unbound"
    pidfile: ""
    use-syslog: no
    verbosity: 1
    val-log-level: 2
    num-threads: 1
    interface: {address}
    port: 53
    do-ip6: no
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "validator iterator"
    trust-anchor-file: "/etc/unbound/anchor"
    # As strict about time as the node: unbound forgives an hour to a day otherwise.
    val-sig-skew-min: 0
    val-sig-skew-max: 0
remote-control:
    control-enable: no
stub-zone:
    name: "."
    stub-addr: {authority}
"#
    )
}
