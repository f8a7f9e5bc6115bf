//! Nouns without I/O: names, addresses, envelopes, identities, levels, reasons, and the decision record.
//!
//! # Guarantees
//! - A value that exists is well-formed: constructors refuse CR, LF, NUL and everything the grammar does not allow, so
//!   nothing in here can be used to smuggle a command or a header (attack class T5).
//! - Nothing in here reads a clock, a socket or a file.
//!
//! # Standards
//! RFC 5321 section 4.1.2 (paths), RFC 6531 (internationalised addresses), RFC 5890 (A-labels), RFC 3461 (DSN
//! parameters). Our text: `spec/01-terms.md`.

mod address;
mod assurance;
mod digest;
mod domain_name;
mod envelope;
mod id;
mod location;
mod reason;
mod record;

pub use address::{Address, AddressError, ReversePath};
pub use assurance::{IdentityRule, Level};
pub use digest::{Digest, Hasher};
pub use domain_name::{DomainName, DomainNameError};
pub use envelope::{BodyType, Envelope, Notify, Recipient, Ret};
pub use id::{AttemptId, DeliveryId, MessageId};
pub use location::{LocationFacts, LocationRule, LocationVerdict};
pub use reason::Reason;
pub use record::{
    ArcFacts, Confirmation, ContentLeft, DecisionRecord, Direction, DiscoveryFacts, DnsFact, HookFacts,
    HookVerdict, HostFacts, Outcome, PolicyFacts, RecipientResult, ReportAction, ReportFacts,
    ReportedRecipient, SmimeFacts, TlsFacts, TrustFacts,
};
