//! What the harness needs of an implementation. Our node's adapter is [`super::node`]; another one needs no more than this.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::net::NetError;
use crate::pki::Identity;
use crate::sink::Sink;

/// Which way a message goes through the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the platform into the own environment, by LMTP.
    Home,
    /// From another provider into the own environment, by LMTP.
    Inbound,
    /// From the platform to another provider, by SMTP.
    Outbound,
}

impl Way {
    /// As reports write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Where a client offers messages, and as whom.
#[derive(Debug, Clone)]
pub struct Door {
    /// Which way they go.
    pub way: Way,
    /// Where to connect to.
    pub address: SocketAddr,
    /// The server's name.
    pub server: String,
    /// What to say in EHLO.
    pub helo: String,
    /// The client's certificate, if it has one.
    pub identity: Option<Identity>,
    /// The domain of senders.
    pub from_domain: String,
    /// The domain of recipients.
    pub to_domain: String,
}

/// Something that waits in the subject's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The identifier that the reply to the content gave.
    pub message: String,
    /// The identifier by which an operator acts on it.
    pub delivery: String,
    /// Whether the subject has set it aside.
    pub held: bool,
}

/// An implementation under test, with its surroundings.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Its name, for reports.
    fn name(&self) -> String;

    /// The process whose system calls matter, while it runs.
    fn process(&self) -> Option<u32>;

    /// The ways in.
    fn doors(&self) -> Vec<Door>;

    /// Where messages that went this way arrive.
    fn sink(&self, way: Way) -> &Sink;

    /// Ends it as a crash would, and returns when it is gone.
    async fn kill(&mut self);

    /// Whether it has ended by itself, or was killed by somebody else.
    fn has_ended(&mut self) -> bool;

    /// Starts it on what is on disk, and returns when it answers.
    ///
    /// # Errors
    /// [`NetError::Node`] if it does not start. With what it printed.
    async fn start(&mut self) -> Result<(), NetError> {
        self.start_under(&[]).await
    }

    /// The same, under a program such as `strace -D`: the words that come before its own command.
    ///
    /// # Errors
    /// [`NetError::Node`] if it does not start. With what it printed.
    async fn start_under(&mut self, wrapper: &[OsString]) -> Result<(), NetError>;

    /// What waits in its queue. It runs.
    ///
    /// # Errors
    /// It can't be asked.
    async fn queue(&self) -> Result<Vec<Queued>, NetError>;

    /// Lets something go on that was set aside.
    ///
    /// # Errors
    /// It can't be told.
    async fn release(&self, delivery: &str) -> Result<(), NetError>;

    /// Has something tried now that waits for its next attempt.
    ///
    /// # Errors
    /// It can't be told.
    async fn hurry(&self, delivery: &str) -> Result<(), NetError>;

    /// Its name for a file or directory of its state, for reports: `database`. `None` if the path is not of its state.
    fn name_of(&self, path: &str) -> Option<String>;

    /// The one file or directory of that name, if it is one and its path is always the same.
    fn path_of(&self, name: &str) -> Option<PathBuf>;

    /// Its log file, and the socket of its operator.
    fn log_and_control(&self) -> (PathBuf, PathBuf);

    /// How many attempts to deliver a message have no known end, by the subject's own records; also after the message has
    /// been delivered. `None` if it keeps no such records.
    ///
    /// # Errors
    /// It can't be asked.
    async fn unknown_attempts(&self, message: &str) -> Result<Option<usize>, NetError>;

    /// What it has printed so far.
    fn printed(&self) -> String;
}
