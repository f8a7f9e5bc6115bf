//! A DNS world of its own: one server for a really signed tree of zones, with faults on demand.
//!
//! ```
//! use testnet::dns::{DnsServer, Fault, RrType, Tree, Trouble};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let mut tree = Tree::new();
//! tree.zone("a.nl")
//!     .txt("a.nl", "v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=A;ntamx=10 nta.a.nl")
//!     .address("nta.a.nl", "127.7.1.1".parse().unwrap())
//!     .tlsa("_25._tcp.nta.a.nl", &[3, 1, 1, 0xAB /* … */])
//!     .zone("b.nl")
//!     .txt("b.nl", "signed, but not now")
//!     .fault(Fault::record("b.nl", RrType::Txt, Trouble::ExpiredSignature));
//!
//! let dns = DnsServer::start(tree, jiff::Timestamp::now(), "127.0.0.1:0".parse().unwrap()).await?;
//! println!("resolver at {}, trust anchor:\n{}", dns.addr(), dns.anchor_ds());
//!
//! // A roll-over phase: signed again, with the same keys.
//! dns.update(|tree| {
//!     tree.replace_tlsa("_25._tcp.nta.a.nl", &[vec![3, 1, 1, 1], vec![3, 1, 1, 2]]);
//! })?;
//! assert!(dns.questions().is_empty());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Guarantees
//! - Every tree has the signed zones `.` (NSEC) and `nl` (NSEC3) and, below them, [`KNOWN_BOGUS`], whose
//!   signatures are all wrong. Zones are connected by DS records, ECDSA P-256 throughout.
//! - With RD set the server answers like a validating recursive resolver: whole chains of aliases across zones,
//!   RRSIG and NSEC/NSEC3 with DO, `SERVFAIL` for bogus data unless CD is set, AD for secure data if AD or DO was
//!   asked for and CD was not. It does not validate: it knows what it did to each record ([`Verdict`]).
//!   `tests/dns_truth.rs` has an independent validator judge whether it knows well.
//! - With RD clear it answers like the name server of all zones at once, from the deepest zone that encloses the
//!   name (the DS from the parent): a real resolver can have it as `stub-zone` for the root.
//! - EDNS with 1,232 octets, TC, and TCP.
//! - [`DnsServer::update`] replaces everything at once; keys and anchor stay.
//!
//! # Errors
//! [`TreeError`]: the description is wrong, and who wrote it has to act. Nothing is served then.
//!
//! # Standards
//! RFC 1034, 1035, 2308, 4033–4035, 5155, 6891, 6698 (owner names only), 9276.

mod answer;
mod error;
mod fault;
mod key;
mod server;
mod sign;
mod tree;
mod trouble;
mod zone;

pub use answer::Transport;
pub use error::TreeError;
pub use fault::{Fault, Scope, TlsaShape, Trouble};
pub use key::{Anchor, AnchorFiles};
pub use server::{DnsServer, Question, StartError};
pub use tree::{DEFAULT_TTL, Denial, KNOWN_BOGUS, RrType, Tree};
pub use zone::Verdict;
