//! Client authentication by a signed JWT: as an assertion (`private_key_jwt`), or in place of the client secret.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::PrivateKey;
use crate::secret::Secret;

/// `client_assertion_type` ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)).
pub(crate) const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The lifetime of an assertion, which is sent at once.
const ASSERTION_TTL: Duration = Duration::from_secs(60);

/// The lifetime of a client secret. Apple accepts six months; the rest is for clocks that differ.
const SECRET_TTL: Duration = Duration::from_secs(5 * 60);

impl PrivateKey {
    /// Signs an assertion for one request to this audience (OpenID Connect Core 1.0 §9, `private_key_jwt`).
    pub(crate) fn assertion(&self, client_id: &str, audience: &str, now: OffsetDateTime) -> Secret {
        let now = now.unix_timestamp();
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": Secret::random().expose(),
            "iat": now,
            "exp": now + ASSERTION_TTL.as_secs().cast_signed(),
        });
        Secret::new(self.sign("JWT", &claims).expect("the key signed when it was parsed"))
    }

    /// Signs a client secret for one request, as Sign in with Apple wants it: `issuer` is the Team ID.
    ///
    /// <https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret>
    pub(crate) fn client_secret(&self, issuer: &str, client_id: &str, audience: &str, now: OffsetDateTime) -> Secret {
        let now = now.unix_timestamp();
        let claims = json!({
            "iss": issuer,
            "sub": client_id,
            "aud": audience,
            "iat": now,
            "exp": now + SECRET_TTL.as_secs().cast_signed(),
        });
        Secret::new(self.sign("JWT", &claims).expect("the key signed when it was parsed"))
    }
}
