//! The border with our own provider's mail platform, the *environment*.
//!
//! Submission ([`accept`]) is the way out: who of our own may send, and as whom. Delivery ([`deliver`]) is the way in: messages from other providers, and our own reports, into LMTP, an SMTP relay or
//! Maildir; what other providers sent passes the provider's own filter ([`hook`]) before, where there is one.
//!
//! # Guarantees
//! - What the environment gets is what the peer sent, octet for octet, apart from the fields the table in
//!   `spec/07-handoff.md` names (HAND-005, HAND-006), or what the provider's own filter made of it, which the recipient is
//!   told (HOOK-008).
//! - A verdict of ours in the header is from us: fields that pretend to be are removed.
//! - Nothing leaves the machine without TLS and a key that was configured (HAND-002).
//!
//! # Standards
//! RFC 2033, RFC 5321, RFC 8601 section 5. Our text: `spec/07-handoff.md`.

pub mod accept;
pub mod deliver;
pub mod hook;
