//! What the harness needs of an implementation. Our node's adapter is [`super::node`], Postfix's [`super::postfix`]; another
//! one needs no more than [`Subject`].

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::dkim::SigningKey;
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
    /// What the client signs messages with, in the name of the domain of senders.
    pub signer: Option<Arc<SigningKey>>,
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

/// What is tested, as reports name it.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct About {
    /// Product and version.
    pub product: String,
    /// What is set otherwise than the product comes, and why. Everything that is not here is as it comes.
    pub settings: Vec<Setting>,
}

/// A setting of the subject.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Setting {
    /// As its configuration writes it.
    pub setting: String,
    /// Why it is not as it comes.
    pub why: String,
}

/// An implementation under test, with its surroundings. This is all that kills at random moments and power cuts need.
#[async_trait]
pub trait Subject: Send + Sync {
    /// What it is.
    fn about(&self) -> About;

    /// The ways in.
    fn doors(&self) -> Vec<Door>;

    /// Where messages that went this way arrive.
    fn sink(&self, way: Way) -> &Sink;

    /// Ends it as a crash would, with every process that belongs to it, and returns when all are gone.
    async fn kill(&mut self);

    /// Whether it has ended by itself, or was killed by somebody else.
    fn has_ended(&mut self) -> bool;

    /// Starts it on what is on disk, and returns when it answers.
    ///
    /// # Errors
    /// [`NetError::Node`] if it does not start. With what it printed.
    async fn start(&mut self) -> Result<(), NetError>;

    /// The directory of everything that must survive a restart. A disk can be mounted there while it does not run.
    fn state_directory(&self) -> PathBuf;

    /// Makes in an empty state directory, and flushes, what an installation makes there before the first start.
    ///
    /// # Errors
    /// It can't be made.
    fn furnish(&self) -> Result<(), NetError> {
        Ok(())
    }

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

    /// How many attempts to deliver a message have no known end, by the subject's own records; also after the message has
    /// been delivered. `None` if it keeps no such records: then a copy is explained by a kill alone.
    ///
    /// # Errors
    /// It can't be asked.
    async fn unknown_attempts(&self, message: &str) -> Result<Option<usize>, NetError>;

    /// Whether it settles the recipients of a message one by one, so that the next hop may see them in another order, and
    /// after a kill only those that were not settled.
    fn settles_recipients_apart(&self) -> bool {
        false
    }

    /// The longest life between two kills at random moments: some messages are to get through in it.
    fn longest_life(&self) -> Duration {
        Duration::from_millis(400)
    }

    /// What its log says of a message, for the text of a problem; the newest lines, if there are many.
    fn said_of(&self, _message: &str) -> Vec<String> {
        Vec::new()
    }

    /// Ends everything in order.
    async fn stop(self: Box<Self>);
}

/// What kills at system calls, disk faults and flipped octets need besides: a subject that is one process, whose calls and
/// files are known by name.
#[async_trait]
pub trait OneProcess: Subject {
    /// The process, while it runs.
    fn process(&self) -> Option<u32>;

    /// As [`Subject::start`], under a program such as `strace -D`: the words that come before its own command.
    ///
    /// # Errors
    /// [`NetError::Node`] if it does not start. With what it printed.
    async fn start_under(&mut self, wrapper: &[OsString]) -> Result<(), NetError>;

    /// Its name for a file or directory of its state, for reports: `database`. `None` if the path is not of its state.
    fn name_of(&self, path: &str) -> Option<String>;

    /// The one file or directory of that name, if it is one and its path is always the same.
    fn path_of(&self, name: &str) -> Option<PathBuf>;

    /// Its log file, and the socket of its operator.
    fn log_and_control(&self) -> (PathBuf, PathBuf);

    /// What it has printed so far.
    fn printed(&self) -> String;
}
