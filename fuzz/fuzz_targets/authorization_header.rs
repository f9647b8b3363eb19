//! The `Authorization` header: one token of the right characters, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_openidconnect::internals::is_bearer;

fuzz_target!(|value: &str| {
    if is_bearer(value) {
        let (scheme, token) = value.split_once(' ').expect("a scheme and a token");
        assert!(scheme.eq_ignore_ascii_case("bearer"));
        let token = token.trim_matches(' ');
        assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b','));
    }
});
