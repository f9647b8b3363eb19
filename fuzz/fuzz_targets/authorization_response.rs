//! Fuzzes the query of a callback: see `targets::authorization_response`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::authorization_response(data));
