//! Fuzzes logout tokens: see `targets::logout_token`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::logout_token(data));
