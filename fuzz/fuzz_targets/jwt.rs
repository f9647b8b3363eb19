//! Fuzzes JWT access tokens: see `targets::jwt`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::jwt(data));
