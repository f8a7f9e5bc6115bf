//! What the operator of a running node sees and may do.
//!
//! # Guarantees
//! - Logs and metrics carry no content, and no addresses unless `[log] addresses = "clear"` (OPS-008).
//! - Each finished attempt passes [`Observer::attempt_ended`]: one log line, one count (REC-001).
//! - The control interface listens on a UNIX socket and nowhere else (OPS-004); `/health` and `/metrics` on loopback
//!   (OPS-007).
//!
//! # Errors
//! [`ControlError`] on the client's side: it says whether the node is not there, refuses, or broke off.
//!
//! # Standards
//! OpenMetrics 1.0, HTTP/1.1 (RFC 9112). Our text: `spec/09-operations.md`.

pub mod client;
pub mod control;
pub mod http;
pub mod log;
mod metrics;
mod observe;
mod operations;
pub mod publish;
mod redact;
pub mod reload;
mod reply;

pub use client::{ControlClient, ControlError};
pub use metrics::{Alarm, Listener, Metrics, OpenSession, Reload, SpoolGauges};
pub use observe::Observer;
pub use operations::{
    ContentStream, Health, KeyStatus, LocationStatus, Operations, ReloadRefusal, Reloaded, Resting, Status,
    SubmitRefusal, Submitted,
};
pub use redact::Redactor;
pub use reply::{
    Answer, REPLY_ADDRESSES_MAX, REPLY_DOMAINS_MAX, ReplyAddress, ReplyRefusal, ReplyReport, Standing,
};

#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod publish_tests;
