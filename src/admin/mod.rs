//! What the operator of a running node sees and may do.
//!
//! # Guarantees
//! - Logs and metrics carry no content, and no addresses unless `[log] addresses = "clear"` (OPS-008).
//! - Each finished attempt passes [`Observer::attempt_ended`]: one log line, one count (REC-001).
//!
//! # Standards
//! OpenMetrics 1.0. Our text: `spec/09-operations.md`.

pub mod log;
mod metrics;
mod observe;
mod redact;

pub use metrics::{Alarm, Listener, Metrics, OpenSession, Reload, SpoolGauges};
pub use observe::Observer;
pub use redact::Redactor;
