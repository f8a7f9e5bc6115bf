//! Discovery against a really signed tree of zones, with one thing wrong at a time.
#![allow(clippy::unwrap_used, missing_docs)]

mod ad_bit;
mod aliases;
mod forgery;
mod records;
mod support;
mod tlsa;
mod verdicts;
