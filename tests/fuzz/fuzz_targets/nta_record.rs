//! The TXT set of a mail domain.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sluis::discovery::nta_record::fuzz(input));
