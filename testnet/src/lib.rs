//! Several secure-mail providers on one machine, with a really signed DNS tree, and the cases that prove a gate.
//!
//! This crate knows the node only from outside: no path dependency, and verdicts computed a second time from the spec.
//!
//! In the order in which a run needs them: [`topology`] (what there is, and what is expected), [`loopback`]
//! (addresses), [`pki`] and [`dkim`] (keys), [`dns`] (records, signed), [`sink`] (the recipients' environment), [`net`] (all of it
//! running), [`letters`] (real mail to send through it), [`hook`] (a filter in front of an environment), [`mmdb`] (tables of
//! countries); [`crash`] harms what runs.
#![forbid(unsafe_code)]

pub mod clock;
pub mod crash;
pub mod dkim;
pub mod dns;
pub mod foreign;
pub mod hook;
pub mod letters;
pub mod loopback;
pub mod mmdb;
pub mod net;
pub mod pki;
pub mod sink;
pub mod topology;
