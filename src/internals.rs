//! Entrances for `benches/` and `fuzz/`, behind the feature `__internals`. No part of the public API:
//! anything here may change in any version.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    code_flow::{AuthorizationResponse, Browser, ReturnTo, SignInAttempt},
    session::{Session, cookie::CookieSeal},
    token::{
        AccessToken, AccessTokenExpectations, Claims, KeySet, LogoutToken, LogoutTokenExpectations,
        SigningAlgorithm, UnverifiedAccessToken, accept_user_info, parse_object,
    },
};

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Judges access tokens and logout tokens of one issuer.
pub struct AccessTokens {
    keys: KeySet,
    expected: AccessTokenExpectations,
}

impl AccessTokens {
    const ALGORITHMS: [SigningAlgorithm; 6] = [
        SigningAlgorithm::RS256,
        SigningAlgorithm::RS512,
        SigningAlgorithm::PS256,
        SigningAlgorithm::ES256,
        SigningAlgorithm::ES384,
        SigningAlgorithm::EdDSA,
    ];

    /// With this key set; one that is none has no keys.
    pub fn new(jwks: &[u8], issuer: &str, audience: &str) -> AccessTokens {
        AccessTokens {
            keys: KeySet::parse(jwks)
                .or_else(|_| KeySet::parse(b"{\"keys\":[]}"))
                .expect("an empty key set is one"),
            expected: AccessTokenExpectations {
                issuer: issuer.to_owned(),
                audience: vec![audience.to_owned()],
                audience_is_client_id: false,
                require_at_jwt: false,
                roles_claim: Some("realm_access.roles".to_owned()),
                algorithms: None,
                clock_skew: Duration::from_secs(60),
            },
        }
    }

    /// Whether a JWT is accepted at this time.
    pub fn accept(&self, token: &str, now: i64) -> bool {
        let judge = || {
            let unverified = UnverifiedAccessToken::parse(token)?;
            let checked = unverified.check(&self.expected, &Self::ALGORITHMS, at(now))?;
            let verified = unverified.check_signature(&self.keys, &Self::ALGORITHMS)?;
            unverified.accept(checked, verified, &self.expected)
        };
        judge().is_ok_and(|token| token.claims.value("iss").is_some())
    }

    /// Whether this introspection reply is accepted at this time.
    pub fn accept_introspection(&self, body: &[u8], now: i64) -> bool {
        AccessToken::accept_introspection("token", body, &self.expected, at(now)).is_ok()
    }
}

impl AccessTokens {
    /// Whether a logout token is accepted at this time.
    pub fn accept_logout_token(&self, token: &str, now: i64) -> bool {
        let expected = LogoutTokenExpectations {
            issuer: &self.expected.issuer,
            client_id: "app",
            trusted_audiences: &[],
            algorithms: &Self::ALGORITHMS,
            client_secret: None,
            clock_skew: self.expected.clock_skew,
        };
        LogoutToken::accept(token, &self.keys, &expected, at(now)).is_ok()
    }
}

/// A sealed cookie.
pub struct SealedCookie {
    seal: CookieSeal,
    sealed: String,
}

impl SealedCookie {
    /// With this text in it.
    pub fn new(text: &str) -> SealedCookie {
        let seal = CookieSeal::new(cookie::Key::generate(), true);
        SealedCookie {
            sealed: seal.seal_text("session", text),
            seal,
        }
    }

    /// Its text.
    pub fn open(&self) -> Option<String> {
        self.seal.open_text("session", &self.sealed)
    }

    /// The text of another cookie, if it is sealed with the same key.
    pub fn open_other(&self, sealed: &str) -> Option<String> {
        self.seal.open_text("session", sealed)
    }
}

/// How many keys of a document can be used.
pub fn usable_keys(json: &[u8]) -> Option<usize> {
    KeySet::parse(json).ok().map(|keys| keys.len())
}

/// Whether an `Authorization` header holds one token.
pub fn is_bearer(value: &str) -> bool {
    let mut headers = rocket::http::HeaderMap::new();
    headers.add_raw("Authorization", value.to_owned());
    crate::resource_server::bearer_token(&headers).is_ok()
}

/// The access token of a token reply that is accepted.
pub fn token_reply(body: &[u8]) -> Option<String> {
    crate::provider::read_token_reply(body)
}

/// The return address of a sign-in attempt, from what `state` holds when it is decrypted.
pub fn attempt(bytes: &[u8]) -> Option<String> {
    let attempt = SignInAttempt::from_bytes(bytes, "/oidc")?;
    Some(attempt.return_to.as_str().to_owned())
}

/// The cookie that binds attempts to a browser, as it would be set again.
pub fn browser(value: &str) -> Option<String> {
    Some(Browser::parse(value)?.text())
}

/// Whether the text of a session's cookie is one of this version.
pub fn reads_session(text: &str) -> bool {
    serde_json::from_str::<Session>(text).is_ok()
}

/// Whether the query of a callback holds a `state` that nobody could make: never.
pub fn accepts_response(query: &str) -> bool {
    use crate::keys::{KeyRing, SecretKey};

    static KEYS: std::sync::LazyLock<KeyRing> = std::sync::LazyLock::new(|| {
        KeyRing::new(&SecretKey::generate().0, &[], "https://op.example", "app")
    });
    let Ok(response) = AuthorizationResponse::parse(query) else {
        return false;
    };
    let state = response.state.clone();
    let is_code = response.accept("https://op.example", true).is_ok();
    let is_ours =
        state.is_some_and(|state| SignInAttempt::decrypt(&KEYS, state.expose(), "/oidc").is_ok());
    is_code && is_ours
}

/// Where a return address leads.
pub fn return_to(address: &str) -> String {
    ReturnTo::parse(address, "/oidc").as_str().to_owned()
}

/// The claims of a UserInfo response about a person.
pub fn user_info(body: &[u8], subject: &str) -> Option<Claims> {
    accept_user_info(body, subject).ok()
}

/// Whether metadata is accepted for this issuer.
pub fn accepts_metadata(body: &[u8], issuer: &str) -> bool {
    crate::provider::accepts_metadata(body, issuer)
}

/// An object as tokens are read, as JSON.
pub fn object(bytes: &[u8]) -> Option<String> {
    let object = parse_object(bytes).ok()?;
    serde_json::to_string(&object).ok()
}
