//! Command lines: framing, then grammar.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    sluis::transport::smtp::line::fuzz(input);
    sluis::transport::smtp::command::fuzz(input);
});
