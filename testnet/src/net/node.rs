//! The node under test as a process, through what its operator has: a configuration file and its command.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::NetError;
use crate::pki::{PemFiles, PkiError};
use crate::sink::Listen;
use crate::topology::{IdentityRule, Level, Placed, Plan};

/// Port of submission on a provider's private address.
pub const SUBMISSION_PORT: u16 = 5_870;
/// Port of `/health` and `/metrics` there.
pub(super) const ADMIN_PORT: u16 = 8_090;
/// How long a node may take to start ([`NodeProcess::set_patience`]), or a record to appear, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a node may take to stop when asked to. Afterwards it is killed.
const TO_STOP: Duration = Duration::from_secs(10);
/// Between two looks at something that gives no signal.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// The same for a node that starts: the crash harness starts one thousands of times.
const LOOK_FOR_START: Duration = Duration::from_millis(4);

/// A node process. Dropped, it is killed.
pub struct NodeProcess {
    provider: String,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    control: PathBuf,
    ready: Vec<SocketAddr>,
    submission: SocketAddr,
    variables: Vec<(String, String)>,
    patience: Duration,
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
        let signing = placed.signing.iter().map(|key| Ok((key.selector, key.write(home)?)));
        let signing: Vec<_> =
            signing.collect::<Result<_, PkiError>>().map_err(NetError::machine("writing keys"))?;
        let text = configuration(plan, placed, home, anchor, environment, &keys, &signing);
        let config = home.join("sluis.toml");
        std::fs::write(&config, text).map_err(NetError::machine("writing the configuration"))?;
        let log = home.join("log");
        let child = spawn(&[], program, &config, &log, &[])?;
        let smtp_port = plan.topology.smtp_port;
        let mut ready: Vec<_> = placed.hosts.iter().map(|(_, ip)| SocketAddr::new(*ip, smtp_port)).collect();
        ready.push(submission);
        Ok(Self {
            provider: placed.provider.id.clone(),
            program: program.to_owned(),
            config,
            log,
            control: home.join(CONTROL_SOCKET),
            ready,
            submission,
            variables: Vec::new(),
            patience: PATIENCE,
            child,
        })
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    pub async fn kill(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill().await;
    }

    /// Starts it again, on what it left on disk, and waits until it answers. Its log goes on.
    ///
    /// # Errors
    /// [`NetError::Node`] if it does not start.
    pub async fn restart(&mut self) -> Result<(), NetError> {
        self.restart_under(&[]).await
    }

    /// The same, under another program: the words of its command that come before the node's. That program must become
    /// the node, as `strace -D` does, or what is killed is something else.
    ///
    /// # Errors
    /// [`NetError::Node`] if it does not start.
    pub async fn restart_under(&mut self, wrapper: &[OsString]) -> Result<(), NetError> {
        self.kill().await;
        self.child = spawn(wrapper, &self.program, &self.config, &self.log, &self.variables)?;
        self.wait_ready().await
    }

    /// Sets a variable of the environment in which it starts from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// How long it may take to start from now on, before it counts as not starting. A minute, if nothing else is said.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Waits until all its listeners accept connections.
    pub(super) async fn wait_ready(&mut self) -> Result<(), NetError> {
        let deadline = Instant::now() + self.patience;
        for address in self.ready.clone() {
            let mut looks = looks(LOOK_FOR_START);
            loop {
                looks.tick().await;
                if TcpStream::connect(address).await.is_ok() {
                    break;
                }
                if let Some(status) = self.ended() {
                    return Err(self.failed(format!("it ended with {status}")));
                }
                if Instant::now() > deadline {
                    let patience = self.patience.as_secs();
                    return Err(self.failed(format!("{address} does not answer after {patience} s")));
                }
            }
        }
        Ok(())
    }

    fn failed(&self, why: String) -> NetError {
        NetError::Node { provider: self.provider.clone(), why, printed: self.printed() }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to stop, and goes on.
    pub fn ask_to_stop(&self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Fails only if it has ended by itself.
        if let Some(id) = id {
            let _ = kill_process(id, Signal::TERM);
        }
    }

    /// Asks it to stop, waits, and kills it if it takes too long. Says how it ended by itself, if it did.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        self.ask_to_stop();
        match timeout(TO_STOP, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = self.child.kill().await;
                None
            }
        }
    }

    /// What it printed so far: its log, one JSON object to a line.
    #[must_use]
    pub fn printed(&self) -> String {
        let printed = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// The file with what it prints.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its control socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
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

    /// Runs a subcommand of the program with the node's configuration, and waits for its end.
    ///
    /// # Errors
    /// The program could not be run.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output, NetError> {
        Command::new(&self.program)
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(NetError::machine(format!("sluis {}", arguments.join(" "))))
    }

    /// Runs a subcommand of the program and reads what it prints with `--json`, whatever its exit code.
    ///
    /// # Errors
    /// The program could not be run, or printed something else.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Value, NetError> {
        let output = self.command(&[arguments, &["--json"]].concat()).await?;
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
            let mut looks = looks(LOOK_AGAIN);
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
        within_a_minute(format!("an attempt of message {message}"), search).await
    }

    /// Waits until nothing is left in its spool.
    ///
    /// # Errors
    /// There still is after a minute.
    pub async fn idle(&self) -> Result<(), NetError> {
        let search = async {
            let mut looks = looks(LOOK_AGAIN);
            loop {
                looks.tick().await;
                let listed = self.ask(&["spool", "list"]).await?;
                if listed["deliveries"].as_array().is_some_and(Vec::is_empty) {
                    return Ok(());
                }
            }
        };
        within_a_minute(format!("an empty spool at {}", self.provider), search).await
    }

    /// The line that it logged about a transaction it refused, among those after the first `before` octets of its log.
    ///
    /// # Errors
    /// There is none within a minute.
    pub async fn refusal(&self, direction: &str, before: usize) -> Result<Value, NetError> {
        self.ended_attempt(direction, "refused", before).await
    }

    /// The line that it logged about a transaction or attempt that ended so, among those after the first `before` octets of
    /// its log.
    ///
    /// # Errors
    /// There is none within a minute.
    pub async fn ended_attempt(
        &self,
        direction: &str,
        outcome: &str,
        before: usize,
    ) -> Result<Value, NetError> {
        let ended = |line: &Value| line["direction"] == direction && line["outcome"] == outcome;
        self.logged(&format!("the {direction} record of what was {outcome}"), before, ended).await
    }

    /// The first such line in its log, after the first `before` octets of it. `what` is it, in the error.
    ///
    /// # Errors
    /// There is none within a minute.
    pub async fn logged(
        &self,
        what: &str,
        before: usize,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value, NetError> {
        let search = async {
            let mut looks = looks(LOOK_AGAIN);
            loop {
                looks.tick().await;
                let printed = self.printed();
                let news = printed.get(before..).unwrap_or_default();
                let mut lines = news.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                if let Some(line) = lines.find(&mut wanted) {
                    return Ok(line);
                }
            }
        };
        within_a_minute(what.to_owned(), search).await
    }

    /// Waits until it has nothing left to deliver.
    ///
    /// # Errors
    /// It still has within a minute.
    pub async fn settled(&self) -> Result<(), NetError> {
        let search = async {
            let mut looks = looks(LOOK_AGAIN);
            loop {
                looks.tick().await;
                let listed = self.ask(&["spool", "list"]).await?;
                if listed["deliveries"].as_array().is_some_and(Vec::is_empty) {
                    return Ok(());
                }
            }
        };
        within_a_minute(format!("an empty spool of provider {}", self.provider), search).await
    }
}

/// Starts the program; what it prints goes to the end of `log`.
fn spawn(
    wrapper: &[OsString],
    program: &Path,
    config: &Path,
    log: &Path,
    variables: &[(String, String)],
) -> Result<Child, NetError> {
    let printed = std::fs::File::options().create(true).append(true).open(log);
    let printed = printed.map_err(NetError::machine("a log file"))?;
    let also = printed.try_clone().map_err(NetError::machine("a log file"))?;
    let mut words =
        wrapper.iter().cloned().chain([program.into(), "run".into(), "--config".into(), config.into()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command
        .args(words)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(printed)
        .stderr(also)
        // Out of the terminal's group: an interrupt there is for us, and we end the nodes in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(NetError::machine(format!("starting {}", program.display())))
}

async fn within_a_minute<T>(
    what: String,
    search: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    let found = timeout(PATIENCE, search).await;
    found.unwrap_or_else(|_| Err(NetError::Machine { what, why: "there is none within a minute".to_owned() }))
}

fn looks(between: Duration) -> tokio::time::Interval {
    let mut looks = interval(between);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// Name of the control socket within a provider's directory.
pub(super) const CONTROL_SOCKET: &str = "control.sock";

fn configuration(
    plan: &Plan,
    placed: &Placed,
    home: &Path,
    anchor: &Path,
    environment: &Listen,
    keys: &PemFiles,
    signing: &[(&str, PathBuf)],
) -> String {
    let provider = &placed.provider;
    let port = plan.topology.smtp_port;
    let domains = texts(&provider.domains);
    let listen: Vec<_> = placed.hosts.iter().map(|(_, ip)| SocketAddr::new(*ip, port).to_string()).collect();
    let (start, end) = plan.months();
    let private = |port: u16| SocketAddr::new(placed.private, port);
    let floor = match provider.floor {
        Level::Mutual => "mutual",
        Level::Nta7516 => "nta7516",
    };
    let mut toml = format!(
        r#"# Written by testnet for provider {id}.
[node]
name = {name}
provider = {organisation}
domains = {domains}
postmaster = "postmaster@{first}"
startdate = "{start}"
enddate = "{end}"
state_dir = {state}

[dns]
resolver = "{resolver}"
trust_anchor_file = {anchor}

[[tls.certificate]]
chain = {chain}
key = {key}

[federation]
listen = {listen}
floor = "{floor}"

"#,
        id = provider.id,
        name = text(&provider.hosts[0]),
        organisation = text(&provider.name),
        first = provider.domains[0],
        state = file(&home.join("state")),
        resolver = plan.dns,
        anchor = file(anchor),
        chain = file(&keys.chain),
        key = file(&keys.key),
        listen = texts(&listen),
    );
    if provider.identity == IdentityRule::Pinned {
        toml.push_str(&pins(plan, placed));
    }
    toml.push_str(&dkim(&domains, signing));
    // Writing to a String does not fail.
    let _ = write!(
        toml,
        r#"[submission]
listen = ["{submission}"]
temporary = "refuse"

[[submission.client]]
name = "platform"
addresses = ["127.0.0.0/8"]
domains = {domains}

[environment]
kind = "lmtp"
address = {environment}

[control]
socket = {control}

[admin]
listen = "{admin}"

[lab]
peer_port = {port}
private_peer_addresses = true
"#,
        submission = private(SUBMISSION_PORT),
        environment = text(&environment.to_string()),
        admin = private(ADMIN_PORT),
        control = file(&home.join(CONTROL_SOCKET)),
    );
    if !provider.limits.is_empty() {
        toml.push_str("\n[limits]\n");
        for (key, limit) in &provider.limits {
            // Writing to a String does not fail.
            let _ = writeln!(toml, "{} = {limit}", text(key));
        }
    }
    toml
}

/// An entry for each key that signs mail, as selector and file.
fn dkim(domains: &str, signing: &[(&str, PathBuf)]) -> String {
    let entry = |(selector, key): &(&str, PathBuf)| {
        format!("[[dkim]]\ndomains = {domains}\nselector = \"{selector}\"\nkey = {}\n\n", file(key))
    };
    signing.iter().map(entry).collect()
}

/// An entry with the key of every other provider.
fn pins(plan: &Plan, placed: &Placed) -> String {
    let mut toml = String::new();
    for other in plan.providers.iter().filter(|other| other.provider.id != placed.provider.id) {
        let Ok(rdata) = other.certificate.tlsa_311() else { continue };
        let hex: String = rdata[3..].iter().map(|octet| format!("{octet:02x}")).collect();
        // Writing to a String does not fail.
        let _ = write!(
            toml,
            "[[federation.peer]]\nname = {}\nhosts = {}\nidentity = \"pinned\"\npins = [\"sha256:{hex}\"]\n\n",
            text(&other.provider.id),
            texts(&other.provider.hosts),
        );
    }
    toml
}

/// A string as TOML writes it, quotes included.
fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

fn file(path: &Path) -> String {
    text(&path.to_string_lossy())
}

fn texts(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::loopback::Prefix;
    use crate::topology::Topology;

    fn written(change: impl FnOnce(&mut Topology)) -> toml::Table {
        let mut topology = Topology::three_providers();
        change(&mut topology);
        let prefix = Prefix::pick(rand::random, &[]).unwrap();
        let plan = Plan::new(topology, &prefix, "2026-11-22T12:00:00Z".parse().unwrap()).unwrap();
        let home = Path::new("/home of \"a\"/\t");
        let keys = PemFiles { chain: home.join("chain"), key: home.join("key") };
        let environment = Listen::Unix(home.join("lmtp.sock"));
        let signing = [("s", home.join("s.pem"))];
        let provider = &plan.providers[0];
        let text = configuration(&plan, provider, home, &home.join("root.ds"), &environment, &keys, &signing);
        text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn any_path_and_name_survives_being_written() {
        let config = written(|topology| topology.providers[0].name = "A's".into());
        assert_eq!(config["node"]["provider"].as_str(), Some("A's"));
        assert_eq!(config["node"]["name"].as_str(), Some("nta.a.nl"));
        assert_eq!(config["node"]["state_dir"].as_str(), Some("/home of \"a\"/\t/state"));
        assert_eq!(config["environment"]["address"].as_str(), Some("unix:/home of \"a\"/\t/lmtp.sock"));
        assert_eq!(config["lab"]["peer_port"].as_integer(), Some(2_525));
        assert!(config["federation"].get("peer").is_none());
    }

    #[test]
    fn limits_of_a_provider_are_those_of_its_node() {
        let config = written(|topology| {
            topology.providers[0].limits.insert("return_seconds".into(), 10);
        });
        assert_eq!(config["limits"]["return_seconds"].as_integer(), Some(10));
        assert!(written(|_| ()).get("limits").is_none());
    }

    #[test]
    fn a_pinning_provider_has_an_entry_for_every_other_one() {
        let config = written(|topology| topology.providers[0].identity = IdentityRule::Pinned);
        let peers = config["federation"]["peer"].as_array().unwrap();
        let names: Vec<_> = peers.iter().map(|peer| peer["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(peers[0]["pins"][0].as_str().unwrap().len(), "sha256:".len() + 64);
        assert_eq!(peers[0]["identity"].as_str(), Some("pinned"));
    }
}
