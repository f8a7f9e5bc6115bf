//! The border with other providers: TLS, and SMTP in both roles.
//!
//! # Guarantees
//! - A [`VerifiedPeer`] exists only for an open link whose other side proved who it is. Nothing outside this room can
//!   make one.
//! - There is no way to send content over a link without one.
//!
//! # Standards
//! See [`tls`] and [`smtp`]. Our text: `spec/03-transport.md`.

pub mod smtp;
pub mod tls;
mod verified;

pub use verified::VerifiedPeer;
