//! Return addresses, and the query of a callback: always a local path, and no response is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_openidconnect::internals::{accepts_response, return_to};

fuzz_target!(|text: &str| {
    let address = return_to(text);
    assert!(address == "/" || address == text);
    assert!(address.starts_with('/') && !address.starts_with("//"));
    assert!(address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
    assert!(!accepts_response(text));
});
