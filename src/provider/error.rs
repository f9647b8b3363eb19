//! The errors of calls to the provider.

use std::time::Duration;

use openidconnect::HttpResponse;
use thiserror::Error;

use super::{endpoint::Endpoint, retry_after::retry_after};
use crate::{
    facts::Facts,
    printable::printable,
    token::{Document, TENANT_ID},
};

const ISSUER_MEMBER: &str = "issuer";
/// The algorithms of proofs ([RFC 9449 §5.1](https://www.rfc-editor.org/rfc/rfc9449#section-5.1)).
pub(super) const PROOF_ALGORITHMS: &str = "dpop_signing_alg_values_supported";

/// Why a call to the provider failed.
///
/// No variant holds a token, a code or a secret.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The provider did not respond, or not usably, and the next attempt is not due.
    #[error("{}; the next attempt is due in {} s", last_failure(last.as_deref()), retry_after.as_secs())]
    Unavailable {
        /// How long until the next attempt.
        retry_after: Duration,
        /// What the last attempt failed with.
        last: Option<Box<ProviderError>>,
    },
    /// The queue for an endpoint is full, for all clients or for this one.
    #[error("too many requests wait for the provider's {endpoint}")]
    Busy {
        /// The endpoint that was to be called.
        endpoint: Endpoint,
        /// How long to wait.
        retry_after: Duration,
    },
    /// A token names a key that the cached key set does not hold, and the rate limit does not allow another fetch
    /// yet.
    #[error("the provider's key set was fetched recently; the next attempt is due in {} s", retry_after.as_secs())]
    KeysRateLimited {
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// GitHub's API rejected a request because of its
    /// [rate limits](https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api).
    #[error("the rate limit of the provider's {endpoint} is exceeded; the next attempt is due in {} s", retry_after.as_secs())]
    RateLimited {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// How long to wait, at most five minutes.
        retry_after: Duration,
    },
    /// The connection failed or was closed.
    #[error("the provider's {endpoint} is not reachable: {cause}")]
    Unreachable {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The error of the operating system or of TLS.
        cause: String,
    },
    /// The connection or the whole call timed out.
    #[error("the provider's {endpoint} did not respond within {} ms", after.as_millis())]
    Timeout {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The setting `http.connect_timeout` or `http.timeout`.
        after: Duration,
    },
    /// An unexpected HTTP status.
    #[error("the provider's {endpoint} responded with status {status}")]
    Status {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The HTTP status.
        status: u16,
        /// Whether the body is a JSON object. If so, the endpoint itself usually sent it, and not a proxy in front of
        /// it.
        is_json: bool,
        /// `Retry-After` of the response, at most five minutes (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// A response larger than `http.max_body`.
    #[error("the provider's {endpoint} responded with more than {limit} bytes")]
    TooLarge {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The setting `http.max_body`, in bytes.
        limit: usize,
    },
    /// A response that does not conform to the standard.
    #[error("the provider's {endpoint} sent an invalid response: {cause}")]
    Malformed {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// What is wrong with it.
        cause: String,
    },
    /// A required member of the metadata is absent or invalid (OpenID Connect Discovery 1.0 §3).
    #[error("the member `{member}` of the provider's metadata is {}, expected {expected}", actual.unwrap_or("missing"))]
    MetadataMember {
        /// The name of the member.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
        /// The type of its value; `None` when it is absent.
        actual: Option<&'static str>,
    },
    /// The response at the metadata URL is something else, such as a page of a proxy in front of the provider.
    #[error("the response at the provider's metadata URL is not its metadata: {cause}")]
    NotMetadata {
        /// What it is.
        cause: String,
    },
    /// The metadata names another issuer (OpenID Connect Discovery 1.0 §4.3).
    #[error("the metadata's issuer is `{}`, expected `{expected}`", printable(actual))]
    IssuerMismatch {
        /// The setting `issuer`.
        expected: String,
        /// The `issuer` of the metadata.
        actual: String,
    },
    /// The metadata does not meet the demands of the setting `profile`.
    #[error("the provider does not meet the profile `{profile}`: {lacking}")]
    Profile {
        /// The setting `profile`.
        profile: &'static str,
        /// What the metadata lacks.
        lacking: String,
    },
    /// A URL that is neither https nor loopback.
    #[error("the provider's {endpoint} is at `{url}`, which is neither https nor loopback")]
    NotHttps {
        /// The endpoint that was to be called.
        endpoint: Endpoint,
        /// Its URL.
        url: String,
    },
    /// A plain http URL in the metadata of an https issuer.
    #[error(
        "the provider's {endpoint} is at `{url}`, plain http, and its issuer is https: the provider does not know that it is behind TLS"
    )]
    PlainHttp {
        /// The endpoint that was to be called.
        endpoint: Endpoint,
        /// Its URL.
        url: String,
    },
    /// The metadata names an address of this machine or of a private network.
    #[error("the provider's {endpoint} is at `{url}`, a loopback or private address that no setting names")]
    PrivateAddress {
        /// The endpoint that was to be called.
        endpoint: Endpoint,
        /// Its URL.
        url: String,
    },
    /// The provider was registered at run time, and a URL of it is not https, or not at a public host.
    #[error(
        "the provider's {endpoint} is at `{}`, which is not a public https URL",
        printable(url)
    )]
    NotPublic {
        /// The endpoint that was to be called.
        endpoint: Endpoint,
        /// The beginning of its URL.
        url: String,
    },
    /// A URL that cannot be called.
    #[error("the URL of the provider's {endpoint} is invalid")]
    Address {
        /// The endpoint that was to be called.
        endpoint: Endpoint,
    },
    /// An OAuth error response, such as that of the token endpoint (RFC 6749 §5.2).
    #[error("the provider's {endpoint} rejected the request with `{error}`: {description}")]
    Refused {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The HTTP status. Some providers send 200.
        status: u16,
        /// The error code, such as `invalid_client`.
        error: String,
        /// The provider's `error_description`, or nothing.
        description: String,
        /// `Retry-After` of the response, at most five minutes (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// The app's [`ClientSigner`](crate::ClientSigner) did not sign, and nothing was sent.
    #[error("the client's signer failed: {cause}")]
    ClientSigner {
        /// Its error, or what is wrong with its signature.
        cause: String,
    },
    /// `token_type` is not `DPoP`, and tokens must be bound to a key (RFC 9449 §5): `dpop = "required"`, or the tokens of
    /// the session were bound before.
    #[error("the provider sent an access token of the type `Bearer`, which is not bound to the app's key")]
    NotBound,
    /// `token_type` is `DPoP`, and the access token is not bound to the key of the request (RFC 9449 §6).
    #[error("the provider sent an access token of the type `DPoP` {}", if *names_key { "that is bound to another key" } else { "without `cnf.jkt`" })]
    BoundToOtherKey {
        /// Whether it names another key, or none.
        names_key: bool,
    },
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built: {cause}")]
    HttpClient {
        /// The cause.
        cause: String,
    },
}

impl ProviderError {
    /// The error for an unexpected status.
    pub(crate) fn of_status(endpoint: Endpoint, reply: &HttpResponse) -> ProviderError {
        ProviderError::Status {
            endpoint,
            status: reply.status().as_u16(),
            is_json: Document::parse(reply.body()).is_ok(),
            retry_after: retry_after(reply.headers()),
        }
    }

    /// The error for an OAuth error response (RFC 6749 §5.2), or for its status if it is not one.
    pub(crate) fn of_error_reply(endpoint: Endpoint, reply: &HttpResponse) -> ProviderError {
        let body = Document::parse(reply.body()).ok();
        let text = |member: &str| body.as_ref()?.displayed(member).map(printable);
        match text("error") {
            Some(error) => ProviderError::Refused {
                endpoint,
                status: reply.status().as_u16(),
                error,
                description: text("error_description").unwrap_or_default(),
                retry_after: retry_after(reply.headers()),
            },
            None => ProviderError::of_status(endpoint, reply),
        }
    }

    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The HTTP status of the app's response when this error fails a request: 503 or 504 for an outage, else 502; 400
    /// for a code that the provider does not accept; 403 for a user without a verified e-mail address at GitHub.
    pub fn status(&self) -> u16 {
        self.facts().status
    }

    /// What the operator can do about it.
    pub fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    pub(crate) fn facts(&self) -> Facts<&'static str> {
        const REACH: &str =
            "check that the provider is running and reachable from this machine; `oidc.http` has the timeouts";
        const AUTHORITY: &str = "trust the authority that signed the provider's certificate: add it to this machine's certificate store or, on Linux, set SSL_CERT_FILE to a file with all trusted authorities; then restart the app";
        const CERTIFICATE: &str = "renew the provider's certificate, or correct the host name in its URL";
        const KEY: &str = "check the provider's `jwks_uri`: it does not list the key that the token names";
        const WAIT: &str = "retry later; if the clients are behind one proxy, list it in `oidc.trusted_proxies`";
        const RATE_LIMIT: &str = "retry later; the user's other apps share this rate limit";
        const METADATA_URL: &str =
            "correct `oidc.issuer`, or set `oidc.server_metadata_url` to the URL of the metadata";
        const LOG: &str = "check the provider's log for this request";
        const NO_PROVIDER: &str = "set `oidc.issuer` or `oidc.server_metadata_url` to the URL of an OpenID provider";
        const MEMBER: &str = "correct the member at the provider, or set `auth_uri`, `token_uri` and `jwks_uri` in `oidc.client_secrets`";
        const MAX_BODY: &str = "increase `oidc.http.max_body` if the response is valid";
        const TEMPLATE: &str = "set `oidc.issuer` to the template in the metadata, `oidc.server_metadata_url` to the URL of that metadata, and `oidc.tenants` to the accepted tenants";
        const ISSUER: &str =
            "set `oidc.issuer` to exactly the issuer in the provider's metadata; a trailing slash counts";
        const PROFILE: &str = "enable it at the provider, use another provider, or remove `oidc.profile`";
        const HTTPS: &str = "serve the provider over https, or on a loopback address; in a closed network, list its host in `oidc.insecure_http_hosts`";
        const FORWARDED: &str = "configure the proxy in front of the provider to send `X-Forwarded-Proto: https`, and the provider to trust it; in a closed network, list its host in `oidc.insecure_http_hosts`";
        const PRIVATE: &str = "configure the provider to publish its public host names; to accept the address, set `oidc.issuer` or `oidc.server_metadata_url` to a URL on that host, all endpoints in `oidc.client_secrets`, or `jwks_uri` of a further issuer";
        const PUBLIC: &str = "have the registration of this provider corrected; if the host is in your own network, list it in `oidc.internal_provider_hosts`";
        const SIGNER: &str = "check the key service behind the app's `ClientSigner`; a signature of ECDSA has the form of a JWS, not DER";
        const DPOP: &str = "set `oidc.dpop` to `auto` or `off`, or use a provider that binds tokens to keys (DPoP)";
        const NOT_BOUND: &str = "register the client for bound tokens at the provider (`dpop_bound_access_tokens`), or set `oidc.dpop` to `auto`";
        const OTHER_KEY: &str = "report it to the provider: the token is not bound to the key of the proof; until it is fixed, set `oidc.dpop` to `off`";
        const CERTIFICATES: &str = "check this machine's certificate store";

        let status = if self.is_outage() { 503 } else { 502 };
        let facts = |reason, remedy| Facts { reason, status, remedy };
        match self {
            ProviderError::Unavailable { last: Some(last), .. } => Facts {
                reason: "provider_unavailable",
                status,
                ..last.facts()
            },
            ProviderError::Unavailable { .. } => facts("provider_unavailable", REACH),
            ProviderError::Busy { .. } => facts("provider_busy", WAIT),
            ProviderError::KeysRateLimited { .. } => facts("provider_keys_just_read", KEY),
            ProviderError::RateLimited { .. } => facts("provider_rate_limited", RATE_LIMIT),
            ProviderError::Unreachable { cause, .. } => match cause {
                _ if is_about_public_address(cause) => facts("provider_unreachable", PUBLIC),
                _ if is_unknown_authority(cause) => facts("provider_unreachable", AUTHORITY),
                _ if is_about_certificate(cause) => facts("provider_unreachable", CERTIFICATE),
                _ => facts("provider_unreachable", REACH),
            },
            ProviderError::Timeout { .. } => Facts {
                status: 504,
                ..facts("provider_timeout", REACH)
            },
            ProviderError::Status {
                endpoint: Endpoint::Metadata,
                ..
            } => facts("provider_status", METADATA_URL),
            ProviderError::Status { .. } => facts("provider_status", LOG),
            ProviderError::TooLarge { .. } => facts("provider_reply_too_large", MAX_BODY),
            ProviderError::Malformed { .. } => facts("provider_reply_malformed", LOG),
            ProviderError::MetadataMember { member, .. } if *member == ISSUER_MEMBER => {
                facts("provider_reply_malformed", NO_PROVIDER)
            }
            ProviderError::MetadataMember { member, .. } if *member == PROOF_ALGORITHMS => {
                facts("provider_without_dpop", DPOP)
            }
            ProviderError::MetadataMember { .. } => facts("provider_reply_malformed", MEMBER),
            ProviderError::NotMetadata { .. } => facts("provider_not_metadata", METADATA_URL),
            ProviderError::IssuerMismatch { actual, .. } if actual.contains(TENANT_ID) => {
                facts("provider_iss", TEMPLATE)
            }
            ProviderError::IssuerMismatch { .. } => facts("provider_iss", ISSUER),
            ProviderError::Profile { .. } => facts("provider_profile", PROFILE),
            ProviderError::NotHttps { .. } | ProviderError::Address { .. } => facts("provider_address", HTTPS),
            ProviderError::PlainHttp { .. } => facts("provider_address", FORWARDED),
            ProviderError::PrivateAddress { .. } => facts("provider_address", PRIVATE),
            ProviderError::NotPublic { .. } => facts("provider_address", PUBLIC),
            ProviderError::Refused { endpoint, error, .. } => {
                let reason = match standard_code(error) {
                    _ if self.is_client_rejected() => "invalid_client",
                    "invalid_grant" => "invalid_grant",
                    _ => "provider_refused",
                };
                let status = match status {
                    502 if reason == "invalid_grant" => 400,
                    502 if error == UNVERIFIED_ADDRESS => 403,
                    status => status,
                };
                Facts {
                    reason,
                    status,
                    remedy: remedy(*endpoint, error, reason),
                }
            }
            ProviderError::ClientSigner { .. } => facts("client_signer", SIGNER),
            ProviderError::NotBound => facts("token_not_bound", NOT_BOUND),
            ProviderError::BoundToOtherKey { .. } => facts("token_bound_to_other_key", OTHER_KEY),
            ProviderError::HttpClient { .. } => facts("http_client", CERTIFICATES),
        }
    }

    /// Whether an endpoint rejected the client's id, secret or key.
    ///
    /// The status 401 means only that ([RFC 6749 §5.2]). Keycloak answers a wrong secret with 401 and
    /// `unauthorized_client`, which with 400 is a grant type that the client may not use, or with `invalid_request`
    /// where requests are pushed; Auth0 with 401 and `access_denied`.
    ///
    /// [RFC 6749 §5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    pub(crate) fn is_client_rejected(&self) -> bool {
        let ProviderError::Refused {
            endpoint:
                Endpoint::Token | Endpoint::Introspection | Endpoint::Revocation | Endpoint::PushedAuthorizationRequest,
            status,
            error,
            ..
        } = self
        else {
            return false;
        };
        match standard_code(error) {
            "invalid_client" => true,
            "unauthorized_client" | "invalid_request" | "access_denied" => *status == 401,
            _ => false,
        }
    }
}

/// GitHub's error code for a user without a verified primary e-mail address.
const UNVERIFIED_ADDRESS: &str = "unverified_user_email";

/// The code of RFC 6749 §5.2 for an error for which GitHub
/// [has its own](https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors);
/// any other code as it is.
pub(super) fn standard_code(code: &str) -> &str {
    match code {
        "bad_verification_code" | "bad_refresh_token" => "invalid_grant",
        "incorrect_client_credentials" => "invalid_client",
        code => code,
    }
}

/// The remedy for an OAuth error of an endpoint with this reason code.
fn remedy(endpoint: Endpoint, error: &str, reason: &str) -> &'static str {
    match (endpoint, error) {
        (Endpoint::Introspection, _) => {
            "check `oidc.client_id`, `oidc.client_secret` and `oidc.introspection_auth_method`, and that this client may introspect tokens at the provider"
        }
        (Endpoint::Registration, "invalid_token") => {
            "use the token that the provider issued for this: `--initial-access-token` to register, the one in the file to change a registration"
        }
        (Endpoint::Registration, "invalid_redirect_uri") => {
            "use redirect URIs that the provider accepts for this kind of application; see `--application-type`"
        }
        (Endpoint::Registration, _) => "correct what the provider reports, or register the client in its console",
        _ if reason == "invalid_client" => {
            "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`; for a client with a key, `oidc.private_key_file` and `oidc.client_assertion_audience`"
        }
        (_, "use_dpop_nonce" | "invalid_dpop_proof") => {
            "synchronise the clock of this machine, and check the provider's log for this request"
        }
        (_, UNVERIFIED_ADDRESS) => "the user has to verify their primary e-mail address at GitHub first",
        _ if reason == "invalid_grant" => {
            "sign in again: the code was used, is too old, or belongs to another redirect URI"
        }
        _ => "compare the client's registration at the provider with these settings",
    }
}

/// Whether the resolver of providers that are registered at run time found no address that may be called.
fn is_about_public_address(cause: &str) -> bool {
    cause.ends_with("has no public address")
}

fn is_about_certificate(cause: &str) -> bool {
    cause.contains("certificate")
}

/// Whether TLS did not trust the issuer of a certificate: it is unknown, or only has the name of a trusted one.
fn is_unknown_authority(cause: &str) -> bool {
    let errors = [
        "UnknownIssuer",
        "BadSignature",
        "UnsupportedSignatureAlgorithmForPublicKey",
    ];
    errors.iter().any(|error| cause.contains(error))
}

fn last_failure(last: Option<&ProviderError>) -> String {
    last.map_or_else(|| "the provider was not reachable".to_owned(), ProviderError::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_client_credentials_by_status_and_code() {
        const CREDENTIALS: &str = "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`; for a client with a key, `oidc.private_key_file` and `oidc.client_assertion_audience`";
        const REGISTRATION: &str = "compare the client's registration at the provider with these settings";
        let token = Endpoint::Token;
        let pushed = Endpoint::PushedAuthorizationRequest;
        for (endpoint, status, code, reason, remedy) in [
            (token, 401, "invalid_client", "invalid_client", CREDENTIALS),
            (token, 400, "invalid_client", "invalid_client", CREDENTIALS),
            // Keycloak's.
            (token, 401, "unauthorized_client", "invalid_client", CREDENTIALS),
            (pushed, 401, "invalid_request", "invalid_client", CREDENTIALS),
            (
                Endpoint::Revocation,
                401,
                "unauthorized_client",
                "invalid_client",
                CREDENTIALS,
            ),
            // Auth0's.
            (token, 401, "access_denied", "invalid_client", CREDENTIALS),
            (token, 400, "unauthorized_client", "provider_refused", REGISTRATION),
            (token, 403, "unauthorized_client", "provider_refused", REGISTRATION),
            (pushed, 400, "invalid_request", "provider_refused", REGISTRATION),
            (token, 403, "access_denied", "provider_refused", REGISTRATION),
            (token, 401, "invalid_scope", "provider_refused", REGISTRATION),
            (
                Endpoint::UserInfo,
                401,
                "invalid_request",
                "provider_refused",
                REGISTRATION,
            ),
        ] {
            let error = ProviderError::Refused {
                endpoint,
                status,
                error: code.to_owned(),
                description: String::new(),
                retry_after: None,
            };
            let found = (error.reason(), error.remedy());
            assert_eq!(found, (reason, remedy), "{endpoint} {status} {code}");
        }
        let code = ProviderError::Refused {
            endpoint: token,
            status: 401,
            error: "invalid_grant".to_owned(),
            description: String::new(),
            retry_after: None,
        };
        assert_eq!(code.reason(), "invalid_grant");
        assert_eq!(code.status(), 400);
    }
    /// Text of the metadata cannot begin a line of the log, nor fill it.
    #[test]
    fn the_issuer_of_the_metadata_is_one_short_line() {
        let error = ProviderError::IssuerMismatch {
            expected: "https://op.example".to_owned(),
            actual: format!("https://op.example\nERROR forged\u{202e}{}", "x".repeat(100_000)),
        };
        let begun = "the metadata's issuer is `https://op.example\\nERROR forged\\u{202e}";
        let shown = error.to_string();
        assert!(shown.starts_with(begun), "{shown}");
        assert!(shown.ends_with("xx…`, expected `https://op.example`"), "{shown}");
        assert_eq!(shown.lines().count(), 1);
        assert!(shown.len() < 500, "{}", shown.len());
    }
}
