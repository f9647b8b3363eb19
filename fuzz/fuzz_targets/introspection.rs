//! Introspection replies: only those that say `"active": true` are accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_openidconnect::internals::{AccessTokens, object};

fuzz_target!(|body: &[u8]| {
    let tokens = AccessTokens::new(b"", "https://op.example", "api");
    if tokens.accept_introspection(body, 1_700_000_000) {
        let object = object(body).expect("an object");
        assert!(object.contains("\"active\":true"), "{object}");
    }
});
