//! Client authentication by a signed JWT: as an assertion (`private_key_jwt`), or in place of the client secret.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::secret::Secret;

/// `client_assertion_type` ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)).
pub(crate) const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The lifetime of an assertion, which is sent at once.
const ASSERTION_TTL: Duration = Duration::from_secs(60);

/// The lifetime of a client secret. Apple accepts six months; the rest is for clocks that differ.
const SECRET_TTL: Duration = Duration::from_secs(5 * 60);

/// The claims of an assertion for one request to this audience (OpenID Connect Core 1.0 §9, `private_key_jwt`). Its
/// `jti` is that of one request: each has an assertion of its own.
pub(crate) fn assertion_claims(client_id: &str, audience: &str, now: OffsetDateTime) -> Value {
    let now = now.unix_timestamp();
    json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": Secret::random().expose(),
        "iat": now,
        "exp": now + ASSERTION_TTL.as_secs().cast_signed(),
    })
}

/// The claims of a client secret for one request, as Sign in with Apple wants it: `issuer` is the Team ID.
///
/// <https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret>
pub(crate) fn client_secret_claims(issuer: &str, client_id: &str, audience: &str, now: OffsetDateTime) -> Value {
    let now = now.unix_timestamp();
    json!({
        "iss": issuer,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now + SECRET_TTL.as_secs().cast_signed(),
    })
}
