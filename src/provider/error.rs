//! What can go wrong between us and the provider.

use std::{fmt, time::Duration};

use thiserror::Error;

/// A part of the provider that is called over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 §4).
    Metadata,
    /// `jwks_uri` (OpenID Connect Discovery 1.0 §3).
    KeySet,
    /// `authorization_endpoint` (RFC 6749 §3.1), which the browser calls, and `rocket-oidc doctor`.
    Authorization,
    /// `token_endpoint` (RFC 6749 §3.2).
    Token,
    /// `userinfo_endpoint` (OpenID Connect Core 1.0 §5.3).
    UserInfo,
    /// `introspection_endpoint` (RFC 7662 §2).
    Introspection,
    /// `revocation_endpoint` (RFC 7009 §2).
    Revocation,
    /// `pushed_authorization_request_endpoint` (RFC 9126 §2).
    PushedAuthorizationRequest,
    /// `end_session_endpoint` (OpenID Connect RP-Initiated Logout 1.0 §2.1).
    EndSession,
    /// `registration_endpoint`, and the address of one registration (OpenID Connect Dynamic Client
    /// Registration 1.0 §3, RFC 7592 §2).
    Registration,
}

impl Endpoint {
    /// Its name in fields of the log.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Endpoint::Metadata => "metadata",
            Endpoint::KeySet => "jwks",
            Endpoint::Token => "token",
            Endpoint::UserInfo => "userinfo",
            Endpoint::Introspection => "introspection",
            Endpoint::Revocation => "revocation",
            Endpoint::PushedAuthorizationRequest => "pushed_authorization_request",
            Endpoint::Authorization => "authorization",
            Endpoint::EndSession => "end_session",
            Endpoint::Registration => "registration",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Endpoint::Metadata => "metadata",
            Endpoint::KeySet => "key set",
            Endpoint::Authorization => "authorization endpoint",
            Endpoint::Token => "token endpoint",
            Endpoint::UserInfo => "UserInfo endpoint",
            Endpoint::Introspection => "introspection endpoint",
            Endpoint::Revocation => "revocation endpoint",
            Endpoint::PushedAuthorizationRequest => "pushed authorization request endpoint",
            Endpoint::EndSession => "end session endpoint",
            Endpoint::Registration => "registration endpoint",
        })
    }
}

/// The provider did not do its part.
///
/// No variant holds a token, a code or a secret.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The provider's metadata has not been read yet, and the next attempt is not due.
    #[error("the provider was not reachable; the next attempt is due in {} s", retry_after.as_secs())]
    Unavailable {
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// No connection, or it broke.
    #[error("the provider's {endpoint} is not reachable: {cause}")]
    Unreachable {
        /// What was called.
        endpoint: Endpoint,
        /// The operating system's or TLS's word on it.
        cause: String,
    },
    /// The connection, or the whole call, took too long.
    #[error("the provider's {endpoint} did not answer within {} ms", after.as_millis())]
    Timeout {
        /// What was called.
        endpoint: Endpoint,
        /// The setting `http.connect_timeout` or `http.timeout`.
        after: Duration,
    },
    /// A status that is no answer.
    #[error("the provider's {endpoint} answered with status {status}")]
    Status {
        /// What was called.
        endpoint: Endpoint,
        /// The HTTP status.
        status: u16,
    },
    /// A reply larger than `http.max_body`.
    #[error("the provider's {endpoint} answered with more than {limit} bytes")]
    TooLarge {
        /// What was called.
        endpoint: Endpoint,
        /// The setting `http.max_body`, in bytes.
        limit: usize,
    },
    /// A reply that is not what the standard says.
    #[error("the provider's {endpoint} gave an unusable answer: {cause}")]
    Malformed {
        /// What was called.
        endpoint: Endpoint,
        /// What is wrong with it.
        cause: String,
    },
    /// The metadata speaks of another issuer (OpenID Connect Discovery 1.0 §4.3).
    #[error("the metadata's issuer is `{actual}`, expected `{expected}`")]
    IssuerMismatch {
        /// The setting `issuer`.
        expected: String,
        /// What the metadata says.
        actual: String,
    },
    /// An address without TLS that is not on this machine.
    #[error("the provider's {endpoint} is at `{url}`, which is neither https nor loopback")]
    NotHttps {
        /// What was to be called.
        endpoint: Endpoint,
        /// Where.
        url: String,
    },
    /// An address that no request can be made to.
    #[error("the address of the provider's {endpoint} is not usable")]
    Address {
        /// What was to be called.
        endpoint: Endpoint,
    },
    /// The token endpoint refused (RFC 6749 §5.2).
    #[error("the provider's {endpoint} refused with `{error}`: {description}")]
    Refused {
        /// What was called.
        endpoint: Endpoint,
        /// The error code, such as `invalid_client`.
        error: String,
        /// The provider's own words, or nothing.
        description: String,
    },
    /// The HTTP client could not be made.
    #[error("no HTTP client: {cause}")]
    HttpClient {
        /// Why.
        cause: String,
    },
}

impl ProviderError {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        match self {
            ProviderError::Unavailable { .. } => "provider_unavailable",
            ProviderError::Unreachable { .. } => "provider_unreachable",
            ProviderError::Timeout { .. } => "provider_timeout",
            ProviderError::Status { .. } => "provider_status",
            ProviderError::TooLarge { .. } => "provider_reply_too_large",
            ProviderError::Malformed { .. } => "provider_reply_malformed",
            ProviderError::IssuerMismatch { .. } => "provider_iss",
            ProviderError::NotHttps { .. } | ProviderError::Address { .. } => "provider_address",
            ProviderError::Refused { error, .. } if error == "invalid_client" => "invalid_client",
            ProviderError::Refused { error, .. } if error == "invalid_grant" => "invalid_grant",
            ProviderError::Refused { .. } => "provider_refused",
            ProviderError::HttpClient { .. } => "http_client",
        }
    }

    /// What the operator can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            ProviderError::Unavailable { .. }
            | ProviderError::Unreachable { .. }
            | ProviderError::Timeout { .. } => {
                "check that the provider runs and that this machine can reach it; `oidc.http` holds the time limits"
            }
            ProviderError::Status {
                endpoint: Endpoint::Metadata,
                ..
            } => {
                "check `oidc.issuer`, or name the metadata's address in `oidc.server_metadata_url`"
            }
            ProviderError::Status { .. } | ProviderError::Malformed { .. } => {
                "look into the provider's log for this request"
            }
            ProviderError::TooLarge { .. } => "raise `oidc.http.max_body` if the provider is right",
            ProviderError::IssuerMismatch { .. } => {
                "set `oidc.issuer` to the provider's issuer, letter by letter; a trailing slash counts"
            }
            ProviderError::NotHttps { .. } | ProviderError::Address { .. } => {
                "serve the provider over https, or on a loopback address"
            }
            ProviderError::Refused {
                endpoint: Endpoint::Introspection,
                ..
            } => {
                "check `oidc.client_id`, `oidc.client_secret` and `oidc.introspection_auth_method`, and that the provider lets this client introspect"
            }
            ProviderError::Refused {
                endpoint: Endpoint::Registration,
                error,
                ..
            } => match error.as_str() {
                "invalid_token" => {
                    "give the token that the provider issued for this: `--initial-access-token` to register, the one in the file to change a registration"
                }
                "invalid_redirect_uri" => {
                    "give addresses that the provider accepts for this kind of application; see `--application-type`"
                }
                _ => "change what the provider names, or register by hand in its console",
            },
            ProviderError::Refused { error, .. } if error == "invalid_client" => {
                "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`"
            }
            ProviderError::Refused { error, .. } if error == "invalid_grant" => {
                "sign in again: the code was used, is too old, or belongs to another redirect URI"
            }
            ProviderError::Refused { .. } => {
                "compare the client's registration at the provider with these settings"
            }
            ProviderError::HttpClient { .. } => "check this machine's certificate store",
        }
    }

    /// The HTTP status of an answer that fails because of this: 502, 503 or 504; 400 for a code that
    /// the provider does not accept.
    pub fn status(&self) -> u16 {
        match self {
            ProviderError::Unavailable { .. } => 503,
            ProviderError::Timeout { .. } => 504,
            ProviderError::Refused { error, .. } if error == "invalid_grant" => 400,
            _ => 502,
        }
    }

    /// Whether the provider may well answer later, so that waiting is right and giving up is not.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            ProviderError::Unavailable { .. }
            | ProviderError::Unreachable { .. }
            | ProviderError::Timeout { .. } => true,
            ProviderError::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}
