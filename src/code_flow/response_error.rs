//! The error of an authorization response.

use thiserror::Error;

use crate::{
    facts::Facts,
    provider::{PUSH_REQUESTS, demands_pushed_request},
};

/// The error of an authorization response that yields no code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// 400: `state` is absent, or was not issued by this app (RFC 6749 §10.12).
    #[error("`state` is missing, or was not issued by this app")]
    StateMismatch,
    /// 400: a parameter appears twice in the response (RFC 6749 §3.1).
    #[error("`{name}` appears more than once in the response")]
    RepeatedParameter {
        /// The parameter.
        name: String,
    },
    /// 400: the body should be a form with the response, and does not parse as one, or is too long.
    #[error("the posted body is not a form with an authorization response")]
    UnreadableForm,
    /// 400: the response comes from another issuer (RFC 9207 §2.4).
    #[error("the response's `iss` is `{actual}`, expected `{expected}`")]
    IssMismatch {
        /// The issuer that the request was sent to.
        expected: String,
        /// The `iss` of the response.
        actual: String,
    },
    /// 400: `iss` is absent, and the metadata announces it in the response, or several providers have one redirect URI
    /// (RFC 9207 §2.4).
    #[error("the response has no `iss`, which the provider's metadata announces or `shared_redirect_uri` requires")]
    IssMissing,
    /// 400: the response arrived at another redirect URI than that of its attempt's provider.
    #[error("the response arrived at `{actual}`, expected `{expected}`")]
    RedirectUriMismatch {
        /// The path of the redirect URI that was sent.
        expected: String,
        /// The path of the request.
        actual: String,
    },
    /// 400, 502 or 503: the provider returned an error (OpenID Connect Core 1.0 §3.1.2.6).
    #[error("the provider returned `{error}`: {description}")]
    Provider {
        /// The error code, such as `access_denied`.
        error: String,
        /// The provider's `error_description`.
        description: String,
    },
    /// 400: an error in a response that belongs to no attempt: it comes from a provider that omits `state`, or
    /// is forged.
    #[error(
        "`state` is missing, or was not issued by this app; the response, which is not authenticated, has the error `{error}`: {description}"
    )]
    Unverified {
        /// The error code, such as `access_denied`.
        error: String,
        /// The `error_description` of the response.
        description: String,
    },
    /// 400: neither a code nor an error.
    #[error("the response has no `code`")]
    CodeMissing,
}

impl ResponseError {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The HTTP status of the error page.
    pub fn status(&self) -> u16 {
        self.facts().status
    }

    /// How to fix it, mostly for the operator.
    pub fn remedy(&self) -> String {
        self.facts().remedy.into_owned()
    }

    pub(crate) fn facts(&self) -> Facts {
        match self {
            ResponseError::StateMismatch => Facts::new(
                "state_mismatch",
                400,
                "sign in again; if it happens often, set the same `oidc.secret_key` on all nodes; otherwise users are sent forged responses",
            ),
            ResponseError::RepeatedParameter { .. } => Facts::new(
                "repeated_parameter",
                400,
                "sign in again; if it happens often, users are sent forged responses",
            ),
            ResponseError::UnreadableForm => Facts::new(
                "unreadable_form",
                400,
                "set `oidc.response_mode` to the mode in which the provider responds",
            ),
            ResponseError::IssMismatch { .. } => Facts::new(
                "response_iss_mismatch",
                400,
                "set `oidc.issuer` to the issuer of the provider that responds",
            ),
            ResponseError::IssMissing => Facts::new(
                "response_iss_missing",
                400,
                "set `oidc.issuer` to the issuer of the provider that responds; with several providers of which one omits `iss`, set `shared_redirect_uri = false`",
            ),
            ResponseError::RedirectUriMismatch { .. } => Facts::new(
                "redirect_uri_mismatch",
                400,
                "register the redirect URI of each provider at that provider alone; otherwise users are sent forged responses",
            ),
            ResponseError::Provider { error, description } => {
                let is_denial = self.is_denial();
                let reason = if is_denial {
                    "access_denied"
                } else {
                    "authorization_error"
                };
                Facts::new(reason, status(error), remedy(error, description))
            }
            ResponseError::Unverified { error, .. } if error == "access_denied" => Facts::new(
                "unproved_response",
                400,
                "none if the user denied the request; otherwise set the same `oidc.secret_key` on all nodes, or users are sent forged responses",
            ),
            ResponseError::Unverified { .. } => Facts::new(
                "unproved_response",
                400,
                "if users see it right after the redirect to the provider, the provider omits `state`: fix the error that it returns; otherwise set the same `oidc.secret_key` on all nodes, or users are sent forged responses",
            ),
            ResponseError::CodeMissing => Facts::new(
                "code_missing",
                400,
                "check that the provider's client allows the code flow with `openid`",
            ),
        }
    }

    /// Whether the user or the provider denied the request, as far as the response is trustworthy.
    pub(crate) fn is_denial(&self) -> bool {
        match self {
            ResponseError::Provider { error, .. } | ResponseError::Unverified { error, .. } => error == "access_denied",
            _ => false,
        }
    }

    /// Whether the provider must show a page to the user.
    pub(crate) fn requires_interaction(&self) -> bool {
        matches!(self, ResponseError::Provider { error, .. } if requires_interaction(error))
    }

    /// Whether another attempt would send the same request for the same client, and fail again.
    pub(crate) fn is_client_rejected(&self) -> bool {
        matches!(self, ResponseError::Provider { error, .. }
            if matches!(error.as_str(), "invalid_request" | "invalid_scope" | "unauthorized_client"))
    }
}

/// Whether the error code says that a request with `prompt=none` cannot be completed without showing a page to the user
/// ([Core §3.1.2.6](https://openid.net/specs/openid-connect-core-1_0.html#AuthError)).
pub(super) fn requires_interaction(error: &str) -> bool {
    matches!(
        error,
        "login_required" | "interaction_required" | "consent_required" | "account_selection_required"
    )
}

/// The status of a page for the provider's error code (OpenID Connect Core 1.0 §3.1.2.6, RFC 6749 §4.1.2.1).
fn status(error: &str) -> u16 {
    match error {
        "temporarily_unavailable" => 503,
        "server_error" => 502,
        _ => 400,
    }
}

/// What to do about the provider's error code.
fn remedy(error: &str, description: &str) -> &'static str {
    match error {
        _ if demands_pushed_request(description) => PUSH_REQUESTS,
        "access_denied" => "none: the user or the provider denied the request",
        "invalid_scope" => "set `oidc.scopes` to scopes that the provider supports",
        "redirect_uri_mismatch" => {
            "register the redirect URI that is logged at liftoff at the provider; GitHub calls it the callback URL"
        }
        "application_suspended" => "ask GitHub's support why the registration of the app is suspended",
        "unauthorized_client" | "invalid_request" => {
            "compare the client's registration at the provider with these settings"
        }
        _ => "look into the provider's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_requests_must_be_pushed() {
        let remedy = |description: &str| {
            let error = ResponseError::Provider {
                error: "invalid_request".to_owned(),
                description: description.to_owned(),
            };
            error.remedy()
        };
        assert_eq!(
            remedy("Pushed Authorization Request is only allowed."),
            "set `oidc.pushed_authorization_requests = true`: the provider accepts this client's requests only when \
             they are pushed"
        );
        assert_eq!(
            remedy("Missing parameter: nonce"),
            "compare the client's registration at the provider with these settings"
        );
    }
}
