//! From earlier formats to this one, step by step: format 1 is brought to format 2, format 2 to format 3.
//!
//! Each step is done completely or not at all, wherever it is interrupted, and the next start goes on from there (SPOOL-022).

pub(super) mod from_1;
pub(super) mod from_2;
