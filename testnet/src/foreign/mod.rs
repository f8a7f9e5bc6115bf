//! Real programs of other people beside the node: Postfix, Dovecot, OpenDKIM, unbound, delv.
//!
//! What we write can agree with itself and still be wrong; these are the second opinion. `tools/peers.sh` unpacks
//! Debian's packages under `target/peers/`, and each program runs from there in a root directory of its own, inside
//! a private network in which ports 25 and 53 are free:
//!
//! ```no_run
//! use testnet::foreign::{Dovecot, Mailbox, isolated, wire};
//!
//! #[test]
//! fn keeps_a_message() {
//!     isolated(|| {
//!         let anna = Mailbox { address: "anna@a.nl".into(), password: "secret".into() };
//!         let dovecot = Dovecot::start("127.0.0.9".parse()?, std::slice::from_ref(&anna))?;
//!         let message = b"Subject: hello\r\n\r\nhello\r\n";
//!         wire::lmtp(dovecot.lmtp_addr(), "bob@b.nl", &[&anna.address], message)?;
//!         assert_eq!(dovecot.fetch(&anna)?.len(), 1);
//!         Ok(())
//!     });
//! }
//! ```
//!
//! # Guarantees
//! - Nothing of the machine changes: mounts, addresses, ports and processes end with the test, also when it is
//!   killed. Neither can a test reach any other network.
//! - Two tests never meet, whatever runs at the same time.
//! - Starting returns when the program answers, not some time later. Waiting ends at a deadline ([`PATIENCE`]), and the
//!   error carries the program's own log.
//! - A peer that is not there is an error that says what to run, never a skipped test.
//!
//! # Errors
//! [`ForeignError::NotRoot`] and [`ForeignError::NotUnpacked`]: the person at the keyboard acts. The others mean
//! that the program did not do what the test expects of it.
//!
//! # Limits
//! Linux only, and root only: several user ids are needed, which a user namespace of an ordinary user does not have.

mod delv;
mod dkimpy;
mod dovecot;
mod node;
mod opendkim;
mod postfix;
mod process;
mod relay;
mod root;
mod sandbox;
mod unbound;
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use delv::{Delv, Dig, Opinion};
pub use dkimpy::{Dkimpy, Form};
pub use dovecot::{Dovecot, Mailbox};
pub use node::{Floor, Node, NodeConfig};
pub use opendkim::OpenDkim;
pub use postfix::{Disposition, Holder, Outcome, Postfix, Receiver, Sender};
pub use relay::{Next, Relay, RelayConfig, Waiting};
pub use sandbox::{TestResult, apart, end_inside, enter, isolated, prerequisites, settle};
pub use unbound::Unbound;

/// How long a foreign program may take over one thing: start, answer, deliver. Long, because the two processors of a
/// build machine may be busy with something else; no good run ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why a foreign program could not be used, or what it did wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// The tests need their own network and mounts.
    #[error(
        "these tests make their own network and mounts, which needs root: run them as root (./check peers does all)"
    )]
    NotRoot,
    /// A program was not unpacked.
    #[error("{name} is not in {}: run tools/peers.sh", .dir.display())]
    NotUnpacked {
        /// The peer's name in `tools/peers.sh`.
        name: &'static str,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The node's own program is not beside the test.
    #[error(
        "there is no sluis beside this test: run cargo build --release --workspace --bins (./check peers does all)"
    )]
    NotBuilt,
    /// The kernel or file system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What came back.
        source: std::io::Error,
    },
    /// A program that should run has ended.
    #[error("{name} ended by itself: {status}\n{log}")]
    Ended {
        /// The program.
        name: &'static str,
        /// How it ended.
        status: String,
        /// All that it logged.
        log: String,
    },
    /// Something did not happen within [`PATIENCE`].
    #[error("still not so after {} s: {what}\n{log}", PATIENCE.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// What the program logged meanwhile.
        log: String,
    },
    /// A program answered something else than the step needs.
    #[error("{what}: got {reply:?}")]
    Unexpected {
        /// What was asked.
        what: String,
        /// What it answered.
        reply: String,
    },
    /// A key or certificate could not be made.
    #[error("making a key or certificate: {0}")]
    Key(String),
}

impl ForeignError {
    /// For `map_err` on input and output: names what was tried.
    pub(crate) fn system<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        |source| Self::System { what, source: source.into() }
    }
}

/// The directory that `tools/peers.sh` fills.
fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers")
}

/// The unpacked root of one peer.
pub(crate) fn peer_dir(name: &'static str) -> Result<PathBuf, ForeignError> {
    let dir = peers_dir().join(name);
    // The stamp is written last: a root without one is half unpacked.
    if dir.join("usr").is_dir() && peers_dir().join(format!("{name}.stamp")).is_file() {
        return dir.canonicalize().map_err(ForeignError::system(format!("finding {}", dir.display())));
    }
    Err(ForeignError::NotUnpacked { name, dir })
}
