//! Fuzzes what is in sealed cookies: see `targets::sealed_text`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::sealed_text(data));
