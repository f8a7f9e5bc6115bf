//! What must hold on a link, and what follows when it does not: pure tables, no I/O.
//!
//! # Guarantees
//! - [`consequence`] is the only place that says what a failed check leads to, in either role; it has no default arm,
//!   so a new [`Reason`](crate::model::Reason) does not compile until somebody has classified it.
//! - [`ruling`] is the only place that says what becomes of a message; its rows are data, and `spec/11-judging.md` shows them.
//! - Nothing in this room can answer with a level below `nta7516`: there is no word for it.
//!
//! # Standards
//! Our text: `spec/04-identity.md`, `spec/05-failures.md`, `spec/11-judging.md`.

mod consequence;
mod judging;
mod location;
mod sender;
mod table;
mod terms;

pub use consequence::{Acts, Consequence, Outbound, consequence};
pub use judging::{Case, Identity, Proof, Proofs, Record, Ruling, judge_sender, judging_markdown, ruling};
pub use location::{LocationRuling, Way, location_ruling};
pub use sender::{Client, ClientKeys, SenderVerdict, Standing};
pub use table::markdown;
pub use terms::{Policy, Terms};
