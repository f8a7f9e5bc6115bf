//! The node under test, started among the foreign programs as one more program.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::{Running, run};
use super::{ForeignError, sandbox};
use crate::dkim::SigningKey;
use crate::pki::Identity;

/// The lowest assurance level a node admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// Both ends proven by their keys.
    Mutual,
    /// The server proven by its key, the sender by its messages.
    Nta7516,
}

/// What a node is to be. It listens on port 25 and believes only the given trust anchor.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name.
    pub host: String,
    /// The one mail domain it serves.
    pub domain: String,
    /// Where it listens for other providers.
    pub address: IpAddr,
    /// Its key, for both roles.
    pub identity: Identity,
    /// A recursive resolver.
    pub resolver: SocketAddr,
    /// The root's DS record in presentation format.
    pub anchor_ds: String,
    /// The lowest level it admits.
    pub floor: Floor,
    /// The UNIX socket of its environment's LMTP server; a Maildir of its own when there is none.
    pub lmtp_socket: Option<PathBuf>,
    /// The keys it signs mail with.
    pub signing: Vec<SigningKey>,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    running: Running,
    program: PathBuf,
    dir: PathBuf,
}

impl Node {
    /// Starts the `sluis` that was built beside the test.
    ///
    /// # Errors
    /// See [`ForeignError`]; [`ForeignError::Ended`] with its own words if it refuses the configuration.
    pub fn start(config: &NodeConfig) -> Result<Self, ForeignError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let program = program()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = sandbox::arena()?.join(format!("node-{number}"));
        let failed = || ForeignError::system::<std::io::Error>(format!("furnishing {}", dir.display()));
        fs::create_dir_all(dir.join("state")).map_err(failed())?;
        config.identity.write(&dir, "tls").map_err(|error| ForeignError::Key(error.to_string()))?;
        fs::write(dir.join("root.ds"), format!("{}\n", config.anchor_ds)).map_err(failed())?;
        let mut toml = config.toml(&dir);
        for key in &config.signing {
            let file = key.write(&dir).map_err(|error| ForeignError::Key(error.to_string()))?;
            toml += &format!(
                "[[dkim]]\ndomains = [\"{}\"]\nselector = \"{}\"\nkey = \"{}\"\n",
                config.domain,
                key.selector,
                file.display()
            );
        }
        fs::write(dir.join("sluis.toml"), toml).map_err(failed())?;

        let mut command = Command::new(&program);
        command.arg("run").arg("--config").arg(dir.join("sluis.toml")).current_dir(&dir);
        let mut running = Running::start("sluis", command, dir.join("log"), None)?;
        running.until_listening((config.address, 25).into())?;
        Ok(Self { running, program, dir })
    }

    /// Submits a message, as an operator would by hand.
    ///
    /// # Errors
    /// [`ForeignError::Unexpected`] with the reason if it is not accepted.
    pub fn send(&self, from: &str, to: &str, message: &[u8]) -> Result<(), ForeignError> {
        let file = self.dir.join("message.eml");
        fs::write(&file, message).map_err(ForeignError::system("writing a message"))?;
        let mut command = Command::new(&self.program);
        command.arg("send").arg("--config").arg(self.dir.join("sluis.toml"));
        command.args(["--from", from, "--to", to]).arg(&file);
        run("sluis send", command, b"").map(drop)
    }

    /// Waits until the environment has `count` messages, and returns them: for a node without LMTP socket.
    ///
    /// # Errors
    /// [`ForeignError::Late`] if they don't come.
    pub fn mail(&mut self, address: &str, count: usize) -> Result<Vec<Vec<u8>>, ForeignError> {
        let (local, domain) = address.split_once('@').unwrap_or((address, ""));
        let new = self.dir.join("mail").join(domain).join(local).join("new");
        self.running.until(&format!("has {count} messages for {address}"), |_| {
            let mut files: Vec<PathBuf> =
                fs::read_dir(&new).ok()?.flatten().map(|file| file.path()).collect();
            files.sort();
            (files.len() >= count).then(|| files.iter().filter_map(|file| fs::read(file).ok()).collect())
        })
    }

    /// Waits until one line of the log has all of these texts, and returns it.
    ///
    /// # Errors
    /// [`ForeignError::Late`] if none does.
    pub fn until_logged(&mut self, texts: &[&str]) -> Result<String, ForeignError> {
        self.running.until(&format!("logs a line with {texts:?}"), |log| {
            log.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned)
        })
    }

    /// What it logged so far, one JSON object to a line.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

impl NodeConfig {
    fn toml(&self, dir: &std::path::Path) -> String {
        let Self { host, domain, address, resolver, .. } = self;
        let floor = match self.floor {
            Floor::Mutual => "mutual",
            Floor::Nta7516 => "nta7516",
        };
        let environment = match &self.lmtp_socket {
            Some(socket) => format!("kind = \"lmtp\"\naddress = \"unix:{}\"", socket.display()),
            None => format!("kind = \"maildir\"\npath = \"{}\"", dir.join("mail").display()),
        };
        format!(
            r#"
[node]
name = "{host}"
provider = "Provider of {domain}"
domains = ["{domain}"]
postmaster = "postmaster@{domain}"
startdate = "2020-01"
enddate = "2099-12"
state_dir = "{state}"
[dns]
resolver = "{resolver}"
trust_anchor_file = "root.ds"
[[tls.certificate]]
chain = "tls.crt.pem"
key = "tls.key.pem"
[federation]
listen = ["{address}:25"]
floor = "{floor}"
[environment]
{environment}
[lab]
private_peer_addresses = true
"#,
            state = dir.join("state").display(),
        )
    }
}

/// `sluis`, two directories above the test binary (`target/release/deps/foreign_node-…`).
fn program() -> Result<PathBuf, ForeignError> {
    let test = std::env::current_exe().map_err(ForeignError::system("finding the running program"))?;
    test.parent()
        .and_then(std::path::Path::parent)
        .map(|dir| dir.join("sluis"))
        .filter(|program| program.is_file())
        .ok_or(ForeignError::NotBuilt)
}
