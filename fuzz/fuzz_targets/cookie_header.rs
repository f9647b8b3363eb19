//! Fuzzes the `Cookie` header: see `targets::cookie_header`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::cookie_header(data));
