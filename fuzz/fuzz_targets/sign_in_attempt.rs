//! Fuzzes what is in sealed cookies: see `targets::sign_in_attempt`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::sign_in_attempt(data));
