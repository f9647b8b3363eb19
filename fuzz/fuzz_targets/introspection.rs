//! Fuzzes introspection replies: see `targets::introspection`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::introspection(data));
