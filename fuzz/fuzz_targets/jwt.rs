//! JWT access tokens: whatever the bytes, as they are or as the parts of a token, nothing is accepted that
//! the keys did not sign. The first byte says which; the rest is divided by zeros.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_openidconnect::internals::AccessTokens;

const KEYS: &[u8] = br#"{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty":"EC","crv":"P-256","kid":"ec","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
     "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(DIGITS[(bits >> (18 - 6 * i) & 63) as usize] as char);
        }
    }
    text
}

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let tokens = AccessTokens::new(KEYS, "https://op.example", "api");
    let text = match how % 2 {
        0 => match std::str::from_utf8(rest) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
        _ => {
            let parts: Vec<String> = rest.splitn(3, |byte| *byte == 0).map(base64url).collect();
            parts.join(".")
        }
    };
    assert!(!tokens.accept(&text, 1_700_000_000));
});
