//! The node under test as a process, through what its operator has: a configuration file and its command.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::NetError;
use crate::sink::Listen;
use crate::topology::{IdentityRule, Level, Placed, Plan};

/// Port of submission on a provider's private address.
pub const SUBMISSION_PORT: u16 = 5_870;
/// Port of `/health` and `/metrics` there.
const ADMIN_PORT: u16 = 8_090;
/// How long a node may take to start, or a record to appear, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that gives no signal.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A node process. Dropped, it is killed.
pub struct NodeProcess {
    provider: String,
    program: PathBuf,
    config: PathBuf,
    printed: PathBuf,
    ready: Vec<SocketAddr>,
    submission: SocketAddr,
    child: Child,
}

impl NodeProcess {
    /// Writes the configuration and starts the program.
    pub(super) fn start(
        plan: &Plan,
        placed: &Placed,
        program: &Path,
        home: &Path,
        anchor: &Path,
        environment: &Listen,
    ) -> Result<Self, NetError> {
        let keys = placed.certificate.write(home, "node").map_err(NetError::machine("writing keys"))?;
        let submission = SocketAddr::new(placed.private, SUBMISSION_PORT);
        let text = configuration(plan, placed, home, anchor, environment, &keys);
        let config = home.join("sluis.toml");
        std::fs::write(&config, text).map_err(NetError::machine("writing the configuration"))?;
        let printed = home.join("log");
        let log = std::fs::File::create(&printed).map_err(NetError::machine("a log file"))?;
        let also = log.try_clone().map_err(NetError::machine("a log file"))?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            .kill_on_drop(true)
            .spawn()
            .map_err(NetError::machine(format!("starting {}", program.display())))?;
        let smtp_port = plan.topology.smtp_port;
        let mut ready: Vec<_> = placed.hosts.iter().map(|(_, ip)| SocketAddr::new(*ip, smtp_port)).collect();
        ready.push(submission);
        Ok(Self {
            provider: placed.provider.id.clone(),
            program: program.to_owned(),
            config,
            printed,
            ready,
            submission,
            child,
        })
    }

    /// Waits until all its listeners accept connections.
    pub(super) async fn wait_ready(&mut self) -> Result<(), NetError> {
        let deadline = Instant::now() + PATIENCE;
        for address in self.ready.clone() {
            let mut looks = looks();
            loop {
                looks.tick().await;
                if TcpStream::connect(address).await.is_ok() {
                    break;
                }
                if let Ok(Some(status)) = self.child.try_wait() {
                    return Err(self.failed(format!("it ended with {status}")));
                }
                if Instant::now() > deadline {
                    return Err(self.failed(format!("{address} does not answer")));
                }
            }
        }
        Ok(())
    }

    fn failed(&self, why: String) -> NetError {
        let printed = std::fs::read_to_string(&self.printed).unwrap_or_default();
        NetError::Node { provider: self.provider.clone(), why, printed }
    }

    /// Where its platform submits.
    #[must_use]
    pub const fn submission(&self) -> SocketAddr {
        self.submission
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Runs a subcommand of the program and reads what it prints with `--json`.
    ///
    /// # Errors
    /// The program could not be run, or printed something else.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Value, NetError> {
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--json")
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(NetError::machine(format!("sluis {}", arguments.join(" "))))?;
        serde_json::from_slice(&output.stdout).map_err(|error| NetError::Machine {
            what: format!("sluis {}: {error}", arguments.join(" ")),
            why: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The decision record of the first finished attempt to bring `message` to another provider.
    ///
    /// # Errors
    /// There is none within a minute.
    pub async fn outbound_record(&self, message: &str) -> Result<Value, NetError> {
        let search = async {
            let mut looks = looks();
            loop {
                looks.tick().await;
                let shown = self.ask(&["spool", "show", message]).await?;
                let records = shown["records"].as_array().cloned().unwrap_or_default();
                let ended =
                    |record: &Value| record["direction"] == "outbound" && record["outcome"] != "unknown";
                if let Some(record) = records.into_iter().find(ended) {
                    return Ok(record);
                }
            }
        };
        timeout(PATIENCE, search).await.unwrap_or_else(|_| {
            Err(NetError::Machine {
                what: format!("waiting for an attempt of message {message}"),
                why: "none ended within a minute".to_owned(),
            })
        })
    }
}

fn looks() -> tokio::time::Interval {
    let mut looks = interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

fn configuration(
    plan: &Plan,
    placed: &Placed,
    home: &Path,
    anchor: &Path,
    environment: &Listen,
    keys: &crate::pki::PemFiles,
) -> String {
    let provider = &placed.provider;
    let port = plan.topology.smtp_port;
    let list = |items: Vec<String>| serde_json::to_string(&items).unwrap_or_default();
    let domains = list(provider.domains.clone());
    let listen = list(placed.hosts.iter().map(|(_, ip)| SocketAddr::new(*ip, port).to_string()).collect());
    let (start, end) = plan.months();
    let private = |port: u16| SocketAddr::new(placed.private, port);
    let mut text = format!(
        "# Written by testnet for provider {id}.\n\
         [node]\nname = {name:?}\nprovider = {provider:?}\ndomains = {domains}\n\
         postmaster = \"postmaster@{first}\"\nstate_dir = {state:?}\nstartdate = \"{start}\"\nenddate = \"{end}\"\n\n\
         [dns]\nresolver = \"{resolver}\"\ntrust_anchor_file = {anchor:?}\n\n\
         [[tls.certificate]]\nchain = {chain:?}\nkey = {key:?}\n\n\
         [federation]\nlisten = {listen}\nfloor = \"{floor}\"\n\n",
        id = provider.id,
        name = provider.hosts[0],
        provider = provider.name,
        first = provider.domains[0],
        state = home.join("state"),
        resolver = plan.dns,
        chain = keys.chain,
        key = keys.key,
        floor = match provider.floor {
            Level::Mutual => "mutual",
            Level::Nta7516 => "nta7516",
        },
    );
    if provider.identity == IdentityRule::Pinned {
        text.push_str(&pins(plan, placed));
    }
    let _ = write!(
        text,
        "[submission]\nlisten = [\"{submission}\"]\ntemporary = \"refuse\"\n\n\
         [[submission.client]]\nname = \"platform\"\naddresses = [\"127.0.0.0/8\"]\ndomains = {domains}\n\n\
         [environment]\nkind = \"lmtp\"\naddress = \"{environment}\"\n\n\
         [control]\nsocket = {control:?}\n\n\
         [admin]\nlisten = \"{admin}\"\n\n\
         [lab]\npeer_port = {port}\nprivate_peer_addresses = true\n",
        submission = private(SUBMISSION_PORT),
        admin = private(ADMIN_PORT),
        control = home.join("control.sock"),
    );
    text
}

/// An entry with the key of every other provider.
fn pins(plan: &Plan, placed: &Placed) -> String {
    let mut text = String::new();
    for other in plan.providers.iter().filter(|other| other.provider.id != placed.provider.id) {
        let Ok(rdata) = other.certificate.tlsa_311() else { continue };
        let hex: String = rdata[3..].iter().map(|octet| format!("{octet:02x}")).collect();
        let _ = write!(
            text,
            "[[federation.peer]]\nname = {:?}\nhosts = {:?}\nidentity = \"pinned\"\npins = [\"sha256:{hex}\"]\n\n",
            other.provider.id, other.provider.hosts
        );
    }
    text
}
