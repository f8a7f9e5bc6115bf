//! The steps of a dialogue, how long each may take, and what it means when one fails.

use std::fmt;
use std::time::Duration;

use crate::model::ContentLeft;

/// Where a dialogue is. The words are those of decision records and logs; stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// TCP connection, or the socket of our environment.
    Connect,
    /// `220`.
    Greeting,
    /// First EHLO or LHLO.
    Hello,
    /// Reply to STARTTLS.
    Starttls,
    /// TLS handshake and proof of the server's key.
    Handshake,
    /// EHLO or LHLO inside TLS.
    HelloSecured,
    /// Reply to MAIL.
    Mail,
    /// Reply to RCPT.
    Rcpt,
    /// Reply to DATA.
    Data,
    /// Content on its way.
    Content,
    /// Reply to the end of content.
    FinalDot,
    /// Reply to RSET.
    Reset,
    /// Reply to QUIT.
    Quit,
}

impl Step {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Hello => "hello",
            Self::Starttls => "starttls",
            Self::Handshake => "handshake",
            Self::HelloSecured => "hello_secured",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Content => "content",
            Self::FinalDot => "final_dot",
            Self::Reset => "reset",
            Self::Quit => "quit",
        }
    }

    /// What was going on, with its consequence where it has one, for people who read a log.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "waiting for the reply to EHLO",
            Self::Starttls => "waiting for the reply to STARTTLS",
            Self::Handshake => "in the TLS handshake",
            Self::HelloSecured => "waiting for the reply to EHLO inside TLS",
            Self::Mail => "waiting for the reply to MAIL",
            Self::Rcpt => "waiting for the reply to RCPT",
            Self::Data => "waiting for the reply to DATA",
            Self::Content => "sending content; the other side must discard the part it has",
            Self::FinalDot => "waiting for the reply to end of data; message may be sent twice",
            Self::Reset => "waiting for the reply to RSET",
            Self::Quit => "waiting for the reply to QUIT; what was delivered stays delivered",
        }
    }

    /// Whether content can have left when a dialogue ends in this step without a reply.
    #[must_use]
    pub const fn content_left(self) -> ContentLeft {
        match self {
            Self::Content | Self::FinalDot => ContentLeft::Possibly,
            _ => ContentLeft::Never,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase())
    }
}

/// How long each step may take, as a whole: single octets that trickle in do not extend it (SMTP-022).
///
/// # Defaults
/// Those of RFC 5321 section 4.5.3.2 where it has one. They are long: a receiver that scans content for minutes and then
/// accepts would, with a shorter limit, get the message twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimits {
    /// TCP connection to one address. 30 s.
    pub connect: Duration,
    /// The greeting. 5 min.
    pub greeting: Duration,
    /// Replies to EHLO, LHLO, STARTTLS, RSET. 1 min.
    pub ehlo: Duration,
    /// TLS handshake. 30 s.
    pub handshake: Duration,
    /// Reply to MAIL. 5 min.
    pub mail: Duration,
    /// Reply to each RCPT. 5 min.
    pub rcpt: Duration,
    /// Reply to DATA. 2 min.
    pub data: Duration,
    /// Each block of content. 3 min.
    pub block: Duration,
    /// Reply to the end of content; with LMTP, each of them. 10 min.
    pub final_dot: Duration,
}

impl Default for StepLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(30),
            greeting: seconds(300),
            ehlo: seconds(60),
            handshake: seconds(30),
            mail: seconds(300),
            rcpt: seconds(300),
            data: seconds(120),
            block: seconds(180),
            final_dot: seconds(600),
        }
    }
}

/// A good-bye is a courtesy, and nobody waits long for the answer to one.
const QUIT_LIMIT: Duration = Duration::from_secs(5);

impl StepLimits {
    /// The limit of a step.
    #[must_use]
    pub const fn of(&self, step: Step) -> Duration {
        match step {
            Step::Connect => self.connect,
            Step::Greeting => self.greeting,
            Step::Hello | Step::HelloSecured | Step::Starttls | Step::Reset => self.ehlo,
            Step::Handshake => self.handshake,
            Step::Mail => self.mail,
            Step::Rcpt => self.rcpt,
            Step::Data => self.data,
            Step::Content => self.block,
            Step::FinalDot => self.final_dot,
            Step::Quit => QUIT_LIMIT,
        }
    }
}
