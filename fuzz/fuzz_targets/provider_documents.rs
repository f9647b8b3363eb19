//! Metadata and key sets: read or refused, and metadata only for the issuer that was asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_openidconnect::internals::{accepts_metadata, usable_keys};

fuzz_target!(|body: &[u8]| {
    usable_keys(body);
    if accepts_metadata(body, "https://op.example") {
        let text = String::from_utf8_lossy(body);
        assert!(text.contains("issuer"));
    }
});
