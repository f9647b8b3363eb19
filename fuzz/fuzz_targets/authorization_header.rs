//! Fuzzes the `Authorization` header: see `targets::authorization_header`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::authorization_header(data));
