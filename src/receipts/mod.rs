//! What remains when a message is gone: delivery reports to senders, decision records for the operator.
//!
//! # Guarantees
//! - A report has the null sender and is never made for a message that has it (SPOOL-011, SPOOL-012), nor for a recipient
//!   whose sender did not want one: of failure, of delay (SPOOL-015) or of success (SPOOL-016).
//! - A report is only written here. It counts from the commit that also settles, or marks, what it is about.
//! - What another host said is quoted as one printable line; nothing it says can add a field or a part.
//!
//! # Standards
//! RFC 3461, 3462, 3464, 3834, 6533. Our text: `spec/06-spool.md`, `spec/09-operations.md`.

pub mod dsn;
pub mod records;
