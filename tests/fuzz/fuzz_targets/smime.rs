//! A message that may be signed, and the signature by itself.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sluis::trust::smime::fuzz(input));
