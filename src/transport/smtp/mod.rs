//! SMTP: the server, the client of peers, and what both share.
//!
//! # Guarantees
//! - A line ends with CRLF and with nothing else, in commands, replies and content (attack class T1).
//! - What comes out of the parsers is typed: no address, parameter or reply text holds a control character (T5).
//!
//! # Standards
//! RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 6152, 6531. Our text: `spec/03-transport.md`.

pub mod client;
pub mod command;
pub mod data;
pub mod dialogue;
pub mod line;
mod reply;
pub mod server;

pub use reply::{Reply, ReplyError, printable};
