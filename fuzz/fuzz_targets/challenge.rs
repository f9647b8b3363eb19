//! Fuzzes challenges of other APIs: see `targets::challenge`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::challenge(data));
