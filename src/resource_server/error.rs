//! The errors of access token validation.

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use super::ClientCertificateError;
use crate::{
    facts::Facts,
    provider::ProviderError,
    requirement::RequiredAuthentication,
    session::store::StoreError,
    token::{AccessTokenError, DpopProofError, TokenError},
};

/// Why [`Bearer`](crate::Bearer) rejected a request. For the log: the client sees the status and the challenge (RFC
/// 6750 §3).
///
/// No variant holds the token.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum BearerError {
    /// 401, with a challenge and no error: there is no `Authorization` header, or one of another scheme.
    #[error("the request has no access token")]
    Missing,
    /// 400 `invalid_request`: the header does not hold exactly one token.
    #[error("the request's token is malformed: {cause}")]
    Malformed {
        /// What is wrong with it.
        cause: &'static str,
    },
    /// 401 `invalid_token`.
    #[error("the access token is rejected: {0}")]
    Token(TokenError),
    /// 401 `invalid_token`: the token's claims do not deserialize into the app's type.
    #[error("the access token's claims do not deserialize into `{expected}`: {cause}")]
    Claims {
        /// The app's type.
        expected: &'static str,
        /// The invalid claim, never its value.
        cause: String,
    },
    /// 403 `insufficient_scope`.
    #[error("the access token has the scopes {actual:?}, expected {required:?}")]
    Scope {
        /// The scopes that would suffice.
        required: String,
        /// The scopes that the token has.
        actual: Vec<String>,
    },
    /// 403 `insufficient_scope`: the groups of the token (`groups_claim`) are not those of
    /// [`groups!`](crate::groups).
    #[error("the access token has the groups {actual:?}, expected {required}")]
    Groups {
        /// The groups that would suffice, in words.
        required: String,
        /// The groups that the token has.
        actual: Vec<String>,
    },
    /// 401 `insufficient_user_authentication` ([RFC 9470](https://www.rfc-editor.org/rfc/rfc9470#section-3)): the
    /// token's `auth_time` or `acr` does not satisfy the guard's [`Requirement`](crate::Requirement).
    #[error("the access token's user authentication does not satisfy what the guard demands")]
    Authentication {
        /// What is demanded.
        required: RequiredAuthentication,
    },
    /// 401 `invalid_dpop_proof`, or `use_dpop_nonce` ([RFC 9449 §7.1](https://www.rfc-editor.org/rfc/rfc9449#section-7.1)):
    /// the request does not prove the key that its token is bound to.
    #[error("the proof of possession is rejected: {0}")]
    Proof(TokenError),
    /// 400 `invalid_request`: the client certificate of the request is refused, or was reported by a peer that is not a
    /// trusted proxy.
    #[error("the client certificate is refused: {0}")]
    Certificate(ClientCertificateError),
    /// 429 with `Retry-After`: the user and client of the token send more proofs than are recorded for one.
    #[error("the user and client of the token have sent too many proofs of possession")]
    TooManyProofs {
        /// The time until an earlier proof expires.
        retry_after: Duration,
    },
    /// 503 with `Retry-After`: `dpop_max_proofs` are recorded already.
    #[error("too many proofs of possession are recorded")]
    ProofsFull {
        /// The time until one of them expires.
        retry_after: Duration,
    },
    /// 503 with `Retry-After`: whether the proof was used at another node is unknown, because the session store is
    /// down.
    #[error("the proof of possession cannot be recorded: {0}")]
    Store(StoreError),
    /// 503 with `Retry-After` while the provider is down; 502 when its response is unusable.
    #[error(transparent)]
    Provider(Arc<ProviderError>),
    /// 401, with a challenge and no error: the request belongs to no provider, by
    /// [`Oidc::provider_for`](crate::Oidc::provider_for), so that no token is accepted.
    #[error("the request belongs to no provider")]
    NoProvider,
    /// 503 with `Retry-After`: `Oidc::provider_for` failed.
    #[error("the provider of the request is not known")]
    ProviderUndecided,
    /// 500: the fairing is not attached; its sentinel aborts the launch before this.
    #[error("the fairing is not attached")]
    NoFairing,
    /// 500: the guard's scopes name an API that no setting defines; its sentinel aborts the launch before this.
    #[error("the guard's scopes name an API that is not in `apis`")]
    NoApi,
}

impl From<AccessTokenError> for BearerError {
    fn from(error: AccessTokenError) -> BearerError {
        BearerError::Token(error.into())
    }
}

impl From<DpopProofError> for BearerError {
    fn from(error: DpopProofError) -> BearerError {
        BearerError::Proof(error.into())
    }
}

impl From<ProviderError> for BearerError {
    fn from(error: ProviderError) -> BearerError {
        BearerError::Provider(Arc::new(error))
    }
}

impl BearerError {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.facts().status
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        self.facts().remedy.into_owned()
    }

    pub(crate) fn facts(&self) -> Facts {
        match self {
            BearerError::Missing => Facts::new("no_token", 401, "send an access token: `Authorization: Bearer …`"),
            BearerError::Malformed { .. } => {
                Facts::new("malformed_header", 400, "send one `Authorization: Bearer …` header")
            }
            BearerError::Token(error) | BearerError::Proof(error) => Facts::new(error.reason(), 401, error.remedy()),
            BearerError::Certificate(error) => error.facts(),
            BearerError::TooManyProofs { .. } => Facts::new(
                "dpop_too_many_proofs",
                429,
                "have the client send fewer requests, or raise `dpop_max_proofs`: one user and client have a sixteenth of it",
            ),
            BearerError::ProofsFull { .. } => Facts::new(
                "dpop_proofs_full",
                503,
                "raise `dpop_max_proofs`, or lower `dpop_max_age`",
            ),
            BearerError::Store(error) => Facts::new("store_unavailable", 503, error.remedy()),
            BearerError::Claims { .. } => Facts::new(
                "access_token_claims",
                401,
                "make the claim optional in that type, or have the provider send it",
            ),
            BearerError::Scope { .. } => Facts::new(
                "insufficient_scope",
                403,
                "ask the provider for a token with these scopes; while `enabled = false`, put them into `scope` of `testing_profile`",
            ),
            BearerError::Groups { .. } => Facts::new(
                "insufficient_groups",
                403,
                "have the provider put the groups of users into access tokens, and name the claim in `groups_claim`",
            ),
            BearerError::Authentication { .. } => Facts::new(
                "insufficient_user_authentication",
                401,
                "have the user authenticate again, with the `acr_values` and `max_age` of the challenge, and send the new token",
            ),
            BearerError::Provider(error) => {
                let status = if error.is_outage() { 503 } else { 502 };
                Facts::new(error.reason(), status, error.remedy())
            }
            BearerError::NoProvider => Facts::new("no_provider", 401, "send the request to the host of a tenant"),
            BearerError::ProviderUndecided => Facts::new(
                "provider_undecided",
                503,
                "look at the error of `provider_for` in the log",
            ),
            BearerError::NoFairing => Facts::new(
                "no_fairing",
                500,
                "add `.attach(rocket_openidconnect::Oidc::fairing())`",
            ),
            BearerError::NoApi => Facts::new("no_api", 500, "add a table of that name to `apis`, with `resource`"),
        }
    }

    /// Whether the operator has to act, rather than the client.
    pub(crate) fn is_for_operators(&self) -> bool {
        match self {
            BearerError::Missing
            | BearerError::Malformed { .. }
            | BearerError::Token(_)
            | BearerError::Proof(_)
            | BearerError::TooManyProofs { .. }
            | BearerError::Scope { .. }
            | BearerError::Groups { .. }
            | BearerError::Authentication { .. }
            | BearerError::NoProvider => false,
            // Logged by the call that failed. Requests rejected meanwhile add nothing, and anyone can send them.
            BearerError::Provider(cause) => {
                !matches!(**cause, ProviderError::Busy { .. } | ProviderError::Unavailable { .. })
            }
            // Anyone can forge a header; the proxy's own and the settings are the operator's.
            BearerError::Certificate(error) => !matches!(error, ClientCertificateError::Untrusted { .. }),
            BearerError::Claims { .. }
            | BearerError::ProofsFull { .. }
            | BearerError::Store(_)
            | BearerError::ProviderUndecided
            | BearerError::NoFairing
            | BearerError::NoApi => true,
        }
    }

    /// The value of `Retry-After` while the provider is down.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        /// About as long as a restart takes.
        const DEFAULT: Duration = Duration::from_secs(5);
        match self {
            BearerError::Provider(error) if error.is_outage() => Some(error.retry_after().unwrap_or(DEFAULT)),
            BearerError::TooManyProofs { retry_after } | BearerError::ProofsFull { retry_after } => Some(*retry_after),
            BearerError::ProviderUndecided | BearerError::Store(_) => Some(DEFAULT),
            _ => None,
        }
    }
}
