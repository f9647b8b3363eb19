//! Why there is no token for another API.

use std::time::Duration;

use thiserror::Error;

use crate::{
    facts::Facts,
    provider::ProviderError,
    session::{NoSession, store::RETRY_AFTER},
};

/// Why there is no access token for another API.
///
/// A route can return it: the response has its [`status`](Self::status), a 503 also `Retry-After`, and the app's
/// catcher makes the body. What the provider said is in the log, with the reason code, and not in the response. No
/// variant holds a token or a secret.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ApiTokenError {
    /// `enabled = false`: no provider issues tokens.
    #[error("OpenID Connect is disabled: no provider issues tokens for other APIs")]
    Disabled,
    /// The app has several providers, and none of this name; or it did not name one.
    #[error("the app has several providers, and none is named, or none has this name")]
    NoProvider,
    /// The app's source of providers failed.
    #[error("the provider of the token cannot be looked up now")]
    ProviderUndecided,
    /// GitHub issues no tokens for other APIs.
    #[error("this provider issues no tokens for other APIs")]
    Unsupported,
    /// The client cannot authenticate at the provider: it has neither a secret nor a key.
    #[error("the client has no credentials at this provider")]
    NoCredentials,
    /// The resource is not a resource indicator ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)).
    #[error("the resource {resource:?} is not an absolute URI without a fragment")]
    Resource {
        /// The beginning of its value.
        resource: String,
    },
    /// The audience is not a name that can be sent ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)).
    #[error("the audience {audience:?} is empty, too long, or has characters that no audience may have")]
    Audience {
        /// The beginning of its value.
        audience: String,
    },
    /// A scope is not a scope ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
    #[error("the scope {scope:?} has characters that no scope may have, or is too long")]
    Scope {
        /// The beginning of its value.
        scope: String,
    },
    /// The provider was not reachable, rejected the request, or sent an invalid response.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The session has ended, or cannot be read now.
    #[error(transparent)]
    NoSession(NoSession),
    /// The session has no refresh token: the provider sends none, or `session.tokens` leaves it out.
    #[error("the session has no refresh token")]
    NoRefreshToken,
    /// The response headers were sent, and the session is kept in cookies: a new refresh token would not reach the
    /// browser. The provider was not asked.
    #[error("the response headers were sent, and the session is kept in cookies")]
    ResponseSent,
    /// The session's refresh token cannot be used now: another request or node uses it, or the session store or the
    /// provider's keys are not reachable.
    #[error("the refresh token of the session cannot be used now: {cause}")]
    Later {
        /// The reason code.
        reason: &'static str,
        /// What went wrong.
        cause: String,
    },
    /// The provider sent an ID token beside the access token which is not that of the session's user, or is invalid.
    #[error("the ID token beside the access token is not one of this session")]
    IdToken,
}

/// Error codes of the token endpoint for which the user has to sign in again, or to consent.
/// The first is of [RFC 6749 §5.2](https://www.rfc-editor.org/rfc/rfc6749#section-5.2), the others of
/// [OpenID Connect Core 1.0 §3.1.2.6](https://openid.net/specs/openid-connect-core-1_0.html#AuthError).
const ASK_FOR_SIGN_IN: [&str; 5] = [
    "invalid_grant",
    "interaction_required",
    "login_required",
    "consent_required",
    "account_selection_required",
];

impl ApiTokenError {
    /// The reason code, as listed in the manual.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The HTTP status of a response to this error: 503 while the provider or the session store is down; 401 without a
    /// session; 403 if the user [has to sign in again](Self::asks_for_sign_in); 502 if the provider rejects the request
    /// otherwise; 500 for what the app's code or settings cause.
    pub fn status(&self) -> u16 {
        self.facts().status
    }

    /// How to fix it.
    pub fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    /// How long to wait before another attempt, if it is an outage.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ApiTokenError::Provider(error) => error.retry_after(),
            ApiTokenError::ProviderUndecided => Some(Duration::from_secs(1)),
            ApiTokenError::Later { .. } => Some(RETRY_AFTER),
            ApiTokenError::NoSession(reason) if reason.is_outage() => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// Whether the provider issues the token only after the user has signed in again, or has consented there: sign the
    /// user in with the scopes of the token, for example by
    /// [`RelyingParty::sign_in_url`](crate::RelyingParty::sign_in_url).
    pub fn asks_for_sign_in(&self) -> bool {
        match self {
            ApiTokenError::Provider(error @ ProviderError::Refused { error: code, .. }) => {
                !error.is_outage() && !error.is_client_rejected() && ASK_FOR_SIGN_IN.contains(&code.as_str())
            }
            _ => false,
        }
    }

    fn facts(&self) -> Facts<&'static str> {
        const SIGN_IN: &str = "sign the user in again, with the scopes of this token";
        const CODE: &str = "correct the call in the app's code";
        let facts = |reason, status, remedy| Facts { reason, status, remedy };
        match self {
            ApiTokenError::Disabled => facts("disabled", 500, "set `enabled` to `true`"),
            ApiTokenError::NoProvider => facts(
                "no_provider",
                500,
                "name a provider of the app, with `RelyingParty::client_token_at`",
            ),
            ApiTokenError::ProviderUndecided => {
                facts("provider_undecided", 503, "see the error of the source in the log")
            }
            ApiTokenError::Unsupported => facts(
                "tokens_unsupported",
                500,
                "use `User::access_token` for GitHub's API, and another provider for other APIs",
            ),
            ApiTokenError::NoCredentials => facts(
                "no_client_credentials",
                500,
                "set `client_secret` or `private_key_file`; a client without either gets tokens of its users only",
            ),
            ApiTokenError::Resource { .. } | ApiTokenError::Audience { .. } | ApiTokenError::Scope { .. } => {
                facts("token_target", 500, CODE)
            }
            ApiTokenError::NoSession(reason) => {
                let status = if reason.is_outage() { 503 } else { 401 };
                facts(reason.reason(), status, "sign the user in again")
            }
            ApiTokenError::NoRefreshToken => facts(
                "no_refresh_token",
                500,
                "keep `refresh_token` in `session.tokens`, and request the scope `offline_access` if the provider needs it",
            ),
            ApiTokenError::ResponseSent => facts(
                "response_already_sent",
                500,
                "request the token before the response begins, or keep sessions in a store",
            ),
            ApiTokenError::Later { reason, .. } => facts(reason, 503, "see the cause, and retry later"),
            ApiTokenError::IdToken => facts("token_of_other_user", 502, "check the provider's log for this request"),
            ApiTokenError::Provider(error) if self.asks_for_sign_in() => facts(error.reason(), 403, SIGN_IN),
            ApiTokenError::Provider(error) => {
                let status = if error.is_outage() { 503 } else { 502 };
                facts(error.reason(), status, remedy(error))
            }
        }
    }

    /// The same error, to be tried again after this time.
    pub(super) fn with_wait(self, wait: Duration) -> ApiTokenError {
        match self {
            ApiTokenError::Provider(error) if error.is_outage() => ApiTokenError::Provider(error.unavailable_for(wait)),
            error => error,
        }
    }

    /// Whether the same request would fail again at once, because of the provider's answer or its silence. A request
    /// that cannot be judged uses the refresh token each time, too.
    pub(super) fn is_of_provider(&self) -> bool {
        match self {
            ApiTokenError::Provider(_) | ApiTokenError::IdToken => true,
            // The provider's keys, and not the session store or another node.
            ApiTokenError::Later { reason, .. } => reason.starts_with("provider_"),
            _ => false,
        }
    }

    /// Logs it, with its reason code and remedy. `what` is the token that was requested, for this API.
    pub(super) fn log(&self, what: &'static str, resource: Option<&str>, provider: Option<&str>) {
        let reason = self.reason();
        if self.status() == 503 {
            tracing::warn!(reason, provider, resource, "{self}; there is no {what}");
        } else if self.asks_for_sign_in() || matches!(self, ApiTokenError::NoSession(_)) {
            tracing::info!(reason, provider, resource, "{self}; there is no {what}");
        } else {
            tracing::error!(reason, provider, resource, "{self}; there is no {what}");
            tracing::info!("{}", self.remedy());
        }
    }
}

/// The remedy for a rejected token request.
fn remedy(error: &ProviderError) -> &'static str {
    let ProviderError::Refused { error: code, .. } = error else {
        return error.remedy();
    };
    match code.as_str() {
        _ if error.is_client_rejected() => error.remedy(),
        "invalid_target" => {
            "name an API that the provider knows and this client may call; see `oidc.resource_parameter` for a provider with another parameter"
        }
        "invalid_scope" => {
            "request scopes that the provider grants this client, and for a user's token those of the sign-in"
        }
        "unauthorized_client" | "unsupported_grant_type" => "allow this client the grant type at the provider",
        _ => error.remedy(),
    }
}
