//! TLSA record data.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sluis::discovery::tlsa::fuzz(input));
