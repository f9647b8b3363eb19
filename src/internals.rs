//! Entry points for `benches/` and `fuzz/`, behind the feature `__internals`. Not part of the public API: anything
//! here may change in any version.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use time::OffsetDateTime;

use crate::{
    code_flow::{AuthorizationResponse, Browser, ReturnTo, SignInAttempt},
    keys::{KeyRing, Purpose, SecretKey},
    session::{self, Session, SessionTokens},
    settings::{AppPaths, CertificateFormat, Deployment, RedisUrl},
    token::{
        Accepts, AccessToken, AccessTokenExpectations, AllowedAlgorithms, AudienceClaim, Claims, ExpectedIssuer,
        GroupPaths, KeySet, LogoutToken, LogoutTokenExpectations, ProofExpectations, SigningAlgorithm, TargetUri,
        UnverifiedAccessToken, UnverifiedProof, accept_user_info, parse_object, token_hash,
    },
};

/// The settings under `oidc`: the key of each, and its documentation.
pub fn documented_settings() -> Vec<(String, &'static str)> {
    crate::settings::documented()
}

/// The paths of an app with default settings.
fn paths() -> AppPaths {
    AppPaths::new("/", "/oidc", false)
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A verifier of access tokens and logout tokens of one issuer.
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

    /// With this key set; an invalid one counts as empty.
    pub fn new(jwks: &[u8], issuer: &str, audience: &str) -> AccessTokens {
        AccessTokens {
            keys: KeySet::parse(jwks)
                .or_else(|_| KeySet::parse(b"{\"keys\":[]}"))
                .expect("an empty key set is one"),
            expected: AccessTokenExpectations {
                issuer: issuer.to_owned(),
                tenants: None,
                audience: vec![audience.to_owned()],
                audience_claim: AudienceClaim::Aud,
                introspection_needs_audience: true,
                client_id: "app".to_owned(),
                accepts: Accepts::AccessTokens,
                accepts_setting: "oidc.accepts".to_owned(),
                require_at_jwt: false,
                group_paths: std::sync::Arc::new(GroupPaths::new(&[], &["realm_access.roles".to_owned()])),
                algorithms: None,
                clock_skew: Duration::from_secs(60),
            },
        }
    }

    /// Whether a JWT is accepted at this time.
    pub fn accept(&self, token: &str, now: i64) -> bool {
        let judge = || {
            let unverified = UnverifiedAccessToken::parse(token)?;
            let algorithms = AllowedAlgorithms {
                listed: &Self::ALGORITHMS,
                allows_alg_of_key: true,
            };
            let checked = unverified.check(&self.expected, algorithms, false, at(now))?;
            let verified = unverified.check_signature(&self.keys, algorithms, &self.expected)?;
            unverified.accept(checked, verified, &self.expected)
        };
        judge().is_ok_and(|token| token.claims.value("iss").is_some())
    }

    /// Whether this introspection response is accepted at this time.
    pub fn accept_introspection(&self, body: &[u8], now: i64) -> bool {
        AccessToken::accept_introspection("token", body, &self.expected, at(now)).is_ok()
    }

    /// Whether a logout token is accepted at this time.
    pub fn accept_logout_token(&self, token: &str, now: i64) -> bool {
        let expected = LogoutTokenExpectations {
            issuer: ExpectedIssuer::exactly(&self.expected.issuer),
            client_id: "app",
            trusted_audiences: &[],
            algorithms: &Self::ALGORITHMS,
            client_secret: None,
            clock_skew: self.expected.clock_skew,
        };
        LogoutToken::accept(token, &self.keys, &expected, at(now)).is_ok()
    }
}

/// Decrypts and encrypts session cookies, like an app with these settings.
pub struct SessionCookies(KeyRing);

impl SessionCookies {
    /// With the app's `secret_key`, in one of the forms that Rocket accepts.
    pub fn new(secret_key: &str, issuer: &str, client_id: &str) -> Option<SessionCookies> {
        let key = SecretKey::parse(secret_key).ok()?;
        Some(SessionCookies(KeyRing::new(&key, &[], &[issuer, client_id])))
    }

    /// The suffix of the names of the app's cookies.
    pub fn client_tag(&self) -> String {
        self.0.client_tag()
    }

    /// Decrypts the concatenated session cookies to JSON.
    pub fn decrypt(&self, text: &str) -> Option<serde_json::Value> {
        session::to_json(&self.record(text)?)
    }

    /// Decrypts the session id in the cookie of a stored session.
    pub fn decrypt_id(&self, text: &str) -> Option<String> {
        let text = text.strip_suffix('.')?;
        self.0.decrypt_text(Purpose::SessionId, b"", text).ok()
    }

    /// Decrypts a session and encrypts it again.
    pub fn encrypt_anew(&self, text: &str) -> Option<String> {
        let record = self.record(text)?;
        Some(self.encrypt(&record))
    }

    /// An encrypted session with these claims.
    pub fn with_claims(&self, claims: Claims) -> String {
        let session = Session::new("https://op.example", claims.clone(), at(0));
        self.encrypt(&session::to_record(&session, &SessionTokens::of_claims(claims)))
    }

    /// Whether the bytes, encrypted as a session, are parsed as one.
    pub fn reads(&self, record: &[u8]) -> bool {
        let text = self.encrypt(record);
        assert_eq!(self.record(&text).as_deref(), Some(record));
        session::to_json(record).is_some()
    }

    fn record(&self, text: &str) -> Option<Vec<u8>> {
        let value = URL_SAFE_NO_PAD.decode(text.strip_suffix('.')?).ok()?;
        let decrypted = self.0.decrypt(Purpose::Session, b"", value).ok()?;
        Some(decrypted.plaintext)
    }

    /// Encrypts bytes as a session; they need not be a record.
    pub fn encrypt(&self, record: &[u8]) -> String {
        let value = self.0.encrypt(Purpose::Session, b"", record);
        format!("{}.", URL_SAFE_NO_PAD.encode(value))
    }
}

/// The number of usable keys in a JWK Set.
pub fn usable_keys(json: &[u8]) -> Option<usize> {
    KeySet::parse(json).ok().map(|keys| keys.len())
}

/// Whether an `Authorization` header contains exactly one token.
pub fn is_bearer(value: &str) -> bool {
    let mut headers = rocket::http::HeaderMap::new();
    headers.add_raw("Authorization", value.to_owned());
    crate::resource_server::credentials(&headers, true).is_ok()
}

/// The DER of the client certificate in the header of a proxy, in one of the formats of the settings; empty without one.
pub fn client_certificate(format: CertificateFormat, value: &str) -> Option<Vec<u8>> {
    let parsed = crate::resource_server::parse_certificate_header(format, value).ok()?;
    Some(parsed.map(|certificate| certificate.der().to_vec()).unwrap_or_default())
}

/// The thumbprint and the `jti` of a DPoP proof that is accepted for `GET` of this URI with this token at this time.
pub fn dpop_proof(proof: &str, uri: &str, token: &str, now: i64) -> Option<(String, String)> {
    let targets = [TargetUri::parse(uri)?];
    let expected = ProofExpectations {
        method: "GET",
        targets: &targets,
        token_hash: Some(&token_hash(token)),
        max_age: Duration::from_secs(60),
        accepts_nonce: None,
    };
    let proof = UnverifiedProof::parse(proof).ok()?.accept(&expected, at(now)).ok()?;
    Some((proof.thumbprint, proof.jti))
}

/// The normal form of a URI without query and fragment.
pub fn target_uri(text: &str) -> Option<String> {
    TargetUri::parse(text).map(|target| target.to_string())
}

/// The access token of a token response, if it is accepted.
pub fn token_reply(body: &[u8]) -> Option<String> {
    crate::provider::read_token_reply(body)
}

/// Whether a `WWW-Authenticate` header of another API rejects the token.
#[cfg(feature = "api-client")]
pub fn rejects_token(header: &str) -> bool {
    crate::api_client::rejects_token(header)
}

/// The `sub` of a user of GitHub, their address, and whether a form becomes a JSON object, each of this body.
pub fn github_replies(body: &[u8]) -> (Option<String>, Option<String>, bool) {
    crate::provider::read_github_replies(body)
}

/// The return address of a sign-in attempt, from the decrypted `state`.
pub fn attempt(bytes: &[u8]) -> Option<String> {
    let attempt = SignInAttempt::from_bytes(bytes, &paths())?;
    Some(attempt.return_to.as_str().to_owned())
}

/// Parses the browser cookie and returns its new value.
pub fn browser(value: &str) -> Option<String> {
    Some(Browser::parse(value)?.text())
}

/// Whether the query of a callback is accepted with a forged `state`: never.
pub fn accepts_response(query: &str) -> bool {
    static KEYS: std::sync::LazyLock<KeyRing> =
        std::sync::LazyLock::new(|| KeyRing::new(&SecretKey::generate().0, &[], &["https://op.example", "app"]));
    let Ok(response) = AuthorizationResponse::parse(query) else {
        return false;
    };
    let state = response.state.clone();
    let is_code = response
        .accept(ExpectedIssuer::exactly("https://op.example"), true)
        .is_ok();
    let is_ours = state.is_some_and(|state| SignInAttempt::decrypt(&KEYS, state.expose(), &paths()).is_ok());
    is_code && is_ours
}

/// The address to which a return address is normalised.
pub fn return_to(address: &str) -> String {
    ReturnTo::parse(address, &paths()).as_str().to_owned()
}

/// The hosts and ports in the URL of a Redis deployment; none for a socket.
pub fn redis_hosts(url: &str) -> Option<Vec<(String, u16)>> {
    let hosts = match RedisUrl::parse(url).ok()?.deployment {
        Deployment::Standalone(host) => vec![host],
        Deployment::Unix(_) => vec![],
        Deployment::Sentinel { sentinels: hosts, .. } | Deployment::Cluster(hosts) => hosts,
    };
    Some(hosts.into_iter().map(|host| (host.name, host.port)).collect())
}

/// The claims of a UserInfo response about a user.
pub fn user_info(body: &[u8], subject: &str) -> Option<Claims> {
    accept_user_info(body, subject).ok()
}

/// Whether metadata is accepted for this issuer.
pub fn accepts_metadata(body: &[u8], issuer: &str) -> bool {
    crate::provider::accepts_metadata(body, issuer)
}

/// Parses an object as tokens are parsed, and returns it as JSON.
pub fn object(bytes: &[u8]) -> Option<String> {
    let object = parse_object(bytes).ok()?;
    serde_json::to_string(&object).ok()
}
