//! The codes of a second factor: TOTP ([RFC 6238](https://www.rfc-editor.org/rfc/rfc6238)) with six digits.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;

/// How long a code is valid, in seconds.
const PERIOD: u64 = 30;

/// The code of this moment.
pub fn code(secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    code_at(secret, now.as_secs())
}

fn code_at(secret: &str, time: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let tag = hmac::sign(&key, &(time / PERIOD).to_be_bytes());
    let digest = tag.as_ref();
    // Dynamic truncation (RFC 4226 §5.3).
    let start = usize::from(digest[digest.len() - 1] & 0x0f);
    let bytes = digest[start..start + 4].try_into().expect("four bytes");
    let number = u32::from_be_bytes(bytes) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// RFC 6238, appendix B, whose codes have eight digits.
#[test]
fn the_codes_of_the_standard() {
    for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
        assert_eq!(code_at("12345678901234567890", time), code);
    }
}
