//! What travels beside a message: sender, recipients, and how they want to be told.

use serde::{Deserialize, Serialize};

use super::{Address, ReversePath};

/// The envelope of a message (RFC 5321 section 2.3.1), with the parameters of RFC 6152, 6531 and 3461.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// `MAIL FROM`.
    pub sender: ReversePath,
    /// `RCPT TO`, in the order given; at least one when a message is accepted.
    pub recipients: Vec<Recipient>,
    /// `BODY=`.
    pub body: BodyType,
    /// `SMTPUTF8`: header or addresses hold UTF-8; the next hop must say it can take them (RFC 6531 section 3.4).
    pub smtputf8: bool,
    /// `RET=`: what a report may quote.
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded from xtext, printable ASCII, at most 100 octets (RFC 3461 section 4.4).
    pub envid: Option<String>,
}

/// One recipient (RFC 3461 section 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where the message goes.
    pub address: Address,
    /// `NOTIFY=`; `None` when the sender did not say, which means failures and delays (RFC 3461 section 4.1).
    pub notify: Option<Notify>,
    /// `ORCPT=` as `type;address`, decoded from xtext, printable, at most 500 octets (RFC 3461 section 4.2).
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    #[must_use]
    pub const fn plain(address: Address) -> Self {
        Self { address, notify: None, orcpt: None }
    }
}

/// `NOTIFY=`: `never`, or any of the three events (RFC 3461 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // The protocol's own shape: three independent keywords.
pub struct Notify {
    /// Report that the message arrived.
    pub success: bool,
    /// Report that it will not.
    pub failure: bool,
    /// Report that it is late.
    pub delay: bool,
}

impl Notify {
    /// `NOTIFY=NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };
}

/// `BODY=` of RFC 6152 and 3030.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyType {
    /// `7BIT`, also when nothing was said.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// `RET=` of RFC 3461 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header section only.
    Headers,
}
