//! The federation node between secure-mail providers.
//!
//! A message meets the rooms of this crate in the order below. `flow` is the only room that calls several others.
#![forbid(unsafe_code)]

pub mod transport;
