//! Fuzzes UserInfo replies: see `targets::user_info`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::user_info(data));
