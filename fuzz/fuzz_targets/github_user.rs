//! Fuzzes replies of GitHub: see `targets::github_user`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::github_user(data));
