//! Postfix beside the node: a network and mounts of their own for both, and Postfix with its defaults and its deliveries held.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testnet::foreign::{self, ForeignError, Holder, Postfix};
use testnet::net::{Build, locate};
use testnet::pki::CertSpec;
use tokio::process::Command;

use super::super::Failure;
use super::super::terminal::{Interrupts, Progress};
use super::load::Load;

/// Set for the copy of this program that runs inside: the directory for everything it makes.
const INSIDE: &str = "TESTNET_BENCH_INSIDE";
/// The node program it measures.
const NODE: &str = "TESTNET_BENCH_NODE";
/// Postfix's address and name.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 25, 0, 1));
const NAME: &str = "rival.invalid";

/// The place inside which both run.
pub struct Place {
    /// For everything that is written, on the disk that is measured.
    pub directory: PathBuf,
    /// The node program.
    pub node: PathBuf,
}

/// The place, if this copy of the program runs inside already.
pub fn place() -> Result<Option<Place>, Failure> {
    let (Some(directory), Some(node)) = (std::env::var_os(INSIDE), std::env::var_os(NODE)) else {
        return Ok(None);
    };
    let directory = PathBuf::from(directory);
    let roots = directory.join("postfix");
    std::fs::create_dir_all(&roots).map_err(Failure::tool("making a directory"))?;
    foreign::settle(&roots).map_err(failed)?;
    Ok(Some(Place { directory, node: node.into() }))
}

/// Runs this program again, with the same arguments, inside such a place, and ends as it does.
pub async fn inside(node: Option<&Path>) -> Result<ExitCode, Failure> {
    foreign::prerequisites().map_err(failed)?;
    let node = locate(node, Build::IfNeeded).await?;
    let mut interrupts = Interrupts::new()?;
    // On the file system of TMPDIR. Removed here, when the mounts inside it are gone.
    let directory = tempfile::Builder::new().prefix("testnet-").tempdir();
    let directory = directory.map_err(Failure::tool("a temporary directory"))?;
    let program = std::env::current_exe().map_err(Failure::tool("finding this program"))?;
    let mut child = Command::from(foreign::apart(&program))
        .args(std::env::args_os().skip(1))
        .env(INSIDE, directory.path())
        .env(NODE, node)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::tool("running unshare"))?;
    let status = tokio::select! {
        status = child.wait() => status.map_err(Failure::tool("running unshare"))?,
        () = interrupts.next() => {
            // From a terminal it got the interrupt too, and ends by itself; its end is what makes the directory removable.
            let _ = child.kill().await;
            return Err(Failure::Interrupted);
        }
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(3);
    Ok(ExitCode::from(code))
}

/// A running Postfix.
pub struct Rival {
    postfix: Postfix,
}

impl Rival {
    /// Starts it.
    pub fn start(progress: &Progress) -> Result<Self, Failure> {
        progress.say("starting Postfix");
        let identity = CertSpec::new(NAME).self_signed(jiff::Timestamp::now());
        let identity = identity
            .map_err(|error| Failure::Tool { what: "making a certificate", why: error.to_string() })?;
        let holder = Holder { host: NAME.to_owned(), address: ADDRESS, identity };
        Ok(Self { postfix: Postfix::holder(&holder).map_err(failed)? })
    }

    /// Where it listens, and under which name.
    #[must_use]
    pub fn server() -> (SocketAddr, String) {
        ((ADDRESS, 25).into(), NAME.to_owned())
    }

    /// How many messages it has.
    pub fn queued(&self) -> Result<usize, Failure> {
        self.postfix.held().map_err(failed)
    }

    /// Has its own load generator send `load`, in clear text; returns accepted messages per second.
    pub fn smtp_source(&self, load: &Load) -> Result<f64, Failure> {
        let [connections, messages, octets] =
            [load.connections, load.messages, load.octets].map(|n| n.to_string());
        let arguments: Vec<String> =
            ["-d", "-s", &connections, "-m", &messages, "-l", &octets, "-f", &load.sender, "-t"]
                .into_iter()
                .map(str::to_owned)
                .chain([load.recipients[0].clone(), load.server.to_string()])
                .collect();
        let started = std::time::Instant::now();
        self.postfix.smtp_source(&arguments).map_err(failed)?;
        Ok(load.messages as f64 / started.elapsed().as_secs_f64())
    }
}

fn failed(error: ForeignError) -> Failure {
    Failure::Tool { what: "Postfix", why: error.to_string() }
}
