//! Content of DATA and BDAT.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sluis::transport::smtp::data::fuzz(input));
