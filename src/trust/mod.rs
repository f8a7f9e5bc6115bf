//! What a message proves, and the fields in which we say so.
//!
//! # Guarantees
//! - [`HeaderWatch`] reads the header section while content streams past and holds nothing else of it. What it reports
//!   was read twice: by our own strict grammar and, for addresses, by `mail-parser`. Where two readers could see two
//!   different senders, the message is refused (IDEN-014).
//! - [`EvidenceWatch`] computes while content streams past what its DKIM signatures need; it holds the header section and
//!   two running digests, never the body (JUDGE-002).
//! - [`Judge`] says `Ok` only when an aligned DKIM signature, DMARC and SPF pass, the first two on keys and records that
//!   DNSSEC proves (IDEN-016). A look-up that did not come is temporary, never "none".
//! - [`smime`] judges signatures of S/MIME as they pass, and makes them; its verdicts decide nothing (SMIME-001).
//! - The fields of [`received`], [`authentication_results`] and [`federation_assurance`] are made from typed values only,
//!   so nothing that a peer sent can break out of them.
//!
//! # Errors
//! [`HeaderFault`] for a header section, the verdict in [`Judged`] for a message: a [`Reason`](crate::model::Reason) and
//! a detail for operators. Who acts is decided by `policy`.
//!
//! # Standards
//! RFC 5322, 6532, 3464, 8098, 8601; 6376, 8301, 8463 (DKIM), 7208 (SPF), 9989 (DMARC), 8551 and 7281 (S/MIME). Our text: `spec/04-identity.md`,
//! `spec/07-handoff.md`.

mod canonical;
mod dkim;
mod fields;
mod header;
mod judge;
mod nta;
mod results;
mod signing;
pub mod smime;

pub use canonical::{BodyForm, BodyHasher, Form, relaxed_field};
pub use dkim::{Evidence, EvidenceWatch};
pub use fields::{
    AssuranceFacts, Field, GivenName, Proof, ReceivedFacts, ResultsFacts, WithProtocol,
    authentication_results, date, federation_assurance, received,
};
pub use header::{
    Correspondent, Correspondents, FieldFault, HeaderFacts, HeaderFault, HeaderLimits, HeaderWatch,
    ReplyField, ReportKind, SectionReader, correspondents,
};
pub use judge::{Input, Judge, Judged, OwnDomain, OwnState, dmarc_enforces};
pub use nta::NtaNames;
pub use results::{
    DkimResult, DkimWord, DmarcWord, MessageResults, SmimeIdentity, SmimeResult, SmimeWord, SpfIdentity,
    SpfResult, SpfWord,
};
pub use signing::{
    Content, RSA_BITS_MAX, RSA_BITS_MIN, SIGNED_FIELDS, Signable, Signer, SigningAlgorithm, SigningKey,
    SigningKeyError, Unsigned,
};
