//! Objects from outside: what was read reads the same once more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_openidconnect::internals::{object, user_info};

fuzz_target!(|bytes: &[u8]| {
    if let Some(json) = object(bytes) {
        assert_eq!(object(json.as_bytes()).as_ref(), Some(&json));
    }
    if let Some(claims) = user_info(bytes, "alice") {
        assert_eq!(claims.get::<String>("sub").as_deref(), Some("alice"));
    }
});
