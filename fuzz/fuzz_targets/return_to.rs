//! Fuzzes return addresses: see `targets::return_to`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::return_to(data));
