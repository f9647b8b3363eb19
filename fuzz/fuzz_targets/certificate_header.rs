//! Fuzzes the header of a client certificate: see `targets::certificate_header`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::certificate_header(data));
