//! SMTP as a server: for peers on port 25, and for the platform of our own environment.
//!
//! # Guarantees
//! - Nothing but EHLO, HELO, NOOP, RSET and QUIT is answered before STARTTLS, and nothing from before the handshake is known
//!   after it (SMTP-001, SMTP-002).
//! - Each state of a session is a type that holds what exists in it and is used up by the step that leaves it. A refused
//!   transaction cannot exist any more, so no content can follow it (SMTP-012, attack class T4).
//! - A positive reply to content is the one its [`Content`] gave, after it gave it.
//! - Whatever a client can make grow has a limit in [`Settings`]; memory per session is bounded (LIM-004 to LIM-007).
//!
//! # A session
//! `Connected` (admitted? greeting) → `Greeted` (clear text, until STARTTLS) → secured: `Fresh` → `Ready` → `Open` (MAIL
//! accepted) → `Addressed` (a recipient accepted) → content: DATA at once, or `Receiving` chunk by chunk → `Ready`.
//!
//! What may be sent by whom to whom is no business of this room: a [`Gate`] decides.
//!
//! # Standards
//! RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 6152, 6531. Our text: `spec/03-transport.md`, `spec/08-limits.md`.

mod accept;
mod connected;
mod dialogue;
mod gate;
mod intake;
mod link;
mod replies;
mod settings;
mod slots;
mod transaction;

pub use accept::{Accept, Server};
pub use gate::{Content, Gate, SecuredSession, SessionId};
pub use settings::Settings;
pub use slots::Slots;

#[cfg(test)]
mod tests;
