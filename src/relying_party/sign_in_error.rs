//! The error of a failed sign-in: for the log, the operator and the user.

use std::time::Duration;

use thiserror::Error;

use crate::{
    code_flow::{MAX_PARAMETERS_LEN, ResponseError},
    facts::Facts,
    provider::{Endpoint, GitHubUserError, ProviderError, UserInfoRequestError},
    session::{EarlierEnds, SessionTooLarge, store::StoreError},
    token::{IdTokenError, TokenError, UserInfoError},
};

/// Why a sign-in failed. This is for the log; the user sees a page with the same id.
///
/// No variant holds a token, a code, a `state` or a secret.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SignInError {
    /// 400: another browser began the sign-in that the response belongs to, or this browser did not keep its cookie.
    #[error("the response belongs to no sign-in of this browser")]
    NotPending,
    /// 400: the sign-in took longer than the setting `sign_in_timeout`.
    #[error("the sign-in began more than {} ago", duration(timeout))]
    Expired {
        /// The setting.
        timeout: Duration,
    },
    /// 400: the posted response reached this app more than a minute after the provider's page posted it.
    #[error("the response was posted more than a minute ago")]
    PostedTooLate,
    /// 400: an earlier response completed the sign-in, or failed it.
    #[error("the sign-in of this response was completed, or has failed")]
    AlreadyUsed,
    /// 503: the maximum number of simultaneous sign-ins is reached on this node, in total or from one address.
    #[error("too many simultaneous sign-ins")]
    TooManySignIns {
        /// When to retry.
        retry_after: Duration,
    },
    /// 400: a third party asked for a sign-in at a provider that is not the app's (OpenID Connect Core 1.0 §4).
    #[error("a sign-in at {} was requested, expected `{expected}`", actual.as_ref().map_or("no issuer".to_owned(), |iss| format!("`{iss}`")))]
    InitiatedByAnotherIssuer {
        /// The app's issuer.
        expected: String,
        /// The `iss` of the request.
        actual: Option<String>,
    },
    /// 400, 502 or 503: the authorization response is an error, or is rejected.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// 404: a response was posted, and the setting `response_mode` is `query`.
    #[error("a response was posted, and `response_mode` is `query`")]
    PostedResponse,
    /// 502: the token response has no ID token (OpenID Connect Core 1.0 §3.1.3.3).
    #[error("the token response has no `id_token`")]
    IdTokenMissing,
    /// 502: the ID token is rejected; 403 when it is from a tenant that `tenants` does not accept.
    #[error("the ID token is rejected: {0}")]
    IdToken(TokenError),
    /// 502: the UserInfo response is rejected.
    #[error(transparent)]
    UserInfo(TokenError),
    /// 502, 503 or 504: a request to the provider failed; 400 for a code that the provider rejects.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// 502: the user's claims do not fit into the session's cookies.
    #[error(transparent)]
    SessionTooLarge(#[from] SessionTooLarge),
    /// 503: the session store is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// 403: the app rejected this user ([`Events::after_authorize`](crate::Events::after_authorize)).
    #[error("the app rejected the user: {message}")]
    RefusedByApp {
        /// The message that the user sees.
        message: String,
    },
    /// 500: the app set a parameter that it may not set, by
    /// [`Events::before_login_redirect`](crate::Events::before_login_redirect) or [`SignInUrl`](crate::SignInUrl).
    #[error("the app sets the parameter `{name}`, which it may not set to this value or at all")]
    AppParameter {
        /// The parameter.
        name: String,
    },
    /// 500: the parameters that the app set for this sign-in do not fit into the attempt.
    #[error("the parameters of this sign-in have {length} bytes, expected at most {MAX_PARAMETERS_LEN}")]
    ParametersTooLong {
        /// Their length in bytes.
        length: usize,
    },
    /// 400: the URL of the sign-in was made by [`SignInUrl`](crate::SignInUrl) more than a day ago, or under another
    /// key, or was changed.
    #[error("the URL of the sign-in is not valid any more")]
    UrlExpired,
    /// 403: the sign-in demands a recent authentication or an authentication context, as by [`Fresh`](crate::Fresh) or
    /// [`Acr`](crate::Acr), and the provider states neither: it is a plain OAuth 2.0 provider.
    #[error("the sign-in demands an authentication of which the provider states nothing")]
    AuthenticationNotStated,
    /// 400: the browser did not send the cookie with what this sign-in asked for.
    #[error("the cookie with the parameters of this sign-in is missing")]
    ParametersMissing,
    /// 403: the provider did not grant scopes that this sign-in asked for by
    /// [`SignInUrl::scope`](crate::SignInUrl::scope).
    #[error("the provider did not grant the scopes {}", missing.join(" "))]
    ScopesNotGranted {
        /// The scopes.
        missing: Vec<String>,
    },
    /// 403: the session whose user wanted to link an account has ended, or is not the one in this browser.
    #[error("the session to whose user an account was to be linked has ended, or is not in this browser")]
    LinkSessionEnded,
    /// 500: a guard or a sign-in asks for values of `acr` of which this one of several providers is trusted with none
    /// ([`Settings::acr_values`](crate::settings::Settings::acr_values)).
    #[error("the provider `{provider}` is not trusted with any `acr` of {}", acr_values.join(" "))]
    AcrNotTrusted {
        /// The name of the provider in the settings.
        provider: String,
        /// The values.
        acr_values: Vec<String>,
    },
    /// 400: the provider or the app ended the user's sessions while they signed in, and again while they signed in a
    /// second time.
    #[error("the sessions of the user were ended while they signed in")]
    SessionsEnded,
    /// 400: the browser signs in and comes back without a session, again and again.
    #[error("{times} sign-ins within a minute did not keep their session")]
    Loop {
        /// The number of sign-ins.
        times: u8,
    },
}

/// Why no session begins.
#[derive(Clone, Debug, Error)]
pub(crate) enum NotBegun {
    #[error(transparent)]
    Failed(#[from] SignInError),
    /// A recorded end of the user's sessions may apply to it. The next attempt knows all recorded ends.
    #[error("the sessions of the user were ended while they signed in")]
    Ended(EarlierEnds),
}

impl From<NotBegun> for SignInError {
    fn from(error: NotBegun) -> SignInError {
        match error {
            NotBegun::Failed(error) => error,
            NotBegun::Ended(_) => SignInError::SessionsEnded,
        }
    }
}

/// Minutes, or seconds when it is not a whole number of minutes.
fn duration(duration: &Duration) -> String {
    match duration.as_secs() {
        60 => "a minute".to_owned(),
        seconds if seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

impl From<IdTokenError> for SignInError {
    fn from(error: IdTokenError) -> SignInError {
        SignInError::IdToken(error.into())
    }
}

impl From<UserInfoError> for SignInError {
    fn from(error: UserInfoError) -> SignInError {
        SignInError::UserInfo(error.into())
    }
}

impl From<UserInfoRequestError> for SignInError {
    fn from(error: UserInfoRequestError) -> SignInError {
        match error {
            UserInfoRequestError::Provider(error) => error.into(),
            UserInfoRequestError::UserInfo(error) => error.into(),
        }
    }
}

impl From<GitHubUserError> for SignInError {
    fn from(error: GitHubUserError) -> SignInError {
        match error {
            GitHubUserError::Provider(error) => error.into(),
            // GitHub issued the token a moment ago.
            error => SignInError::Provider(ProviderError::Malformed {
                endpoint: Endpoint::UserApi,
                cause: error.to_string(),
            }),
        }
    }
}

impl SignInError {
    /// The reason code, as listed in the manual.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The HTTP status of the error page.
    pub fn status(&self) -> u16 {
        self.facts().status
    }

    /// The remedy, mostly for the operator.
    pub fn remedy(&self) -> String {
        self.facts().remedy.into_owned()
    }

    /// Whether the provider must show a page to the user, which a silent sign-in does not.
    pub(crate) fn requires_interaction(&self) -> bool {
        matches!(self, SignInError::Response(error) if error.requires_interaction())
    }

    fn facts(&self) -> Facts {
        match self {
            SignInError::NotPending => Facts::new(
                "not_pending",
                400,
                "sign in again; if every sign-in fails, check that `oidc.base_url` is the address that users open, and that nothing removes cookies",
            ),
            SignInError::Expired { .. } => Facts::new(
                "sign_in_expired",
                400,
                "sign in again; if users need longer at the provider, raise `oidc.sign_in_timeout`",
            ),
            SignInError::PostedTooLate => Facts::new("response_posted_too_late", 400, "sign in again"),
            SignInError::AlreadyUsed => Facts::new("sign_in_already_used", 400, "sign in again"),
            SignInError::TooManySignIns { .. } => Facts::new(
                "too_many_sign_ins",
                503,
                "wait; if these users share one proxy, list it in `oidc.trusted_proxies`",
            ),
            SignInError::InitiatedByAnotherIssuer { .. } => Facts::new(
                "initiated_by_another_issuer",
                400,
                "give the third party this app's issuer, `oidc.issuer`, to send as `iss`",
            ),
            SignInError::Response(error) => error.facts(),
            SignInError::PostedResponse => Facts::new(
                "posted_response",
                404,
                "set `oidc.response_mode = \"form_post\"`, or configure the provider to respond in the query",
            ),
            SignInError::IdTokenMissing => Facts::new(
                "id_token_missing",
                502,
                "check that the provider's client allows the code flow with `openid`",
            ),
            SignInError::IdToken(error) | SignInError::UserInfo(error) => {
                let status = if error.is_about_tenant() { 403 } else { 502 };
                Facts::new(error.reason(), status, error.remedy())
            }
            SignInError::Provider(error) => Facts::new(error.reason(), error.status(), error.remedy()),
            SignInError::SessionTooLarge(error) => Facts::new("session_too_large", 502, error.remedy()),
            SignInError::Store(error) => Facts::new("store_unavailable", 503, error.remedy()),
            SignInError::RefusedByApp { .. } => Facts::new(
                "refused_by_app",
                403,
                "none: the app's `after_authorize` rejected the user",
            ),
            SignInError::AppParameter { .. } => Facts::new(
                "app_parameter_not_allowed",
                500,
                "remove it from `before_login_redirect` and from the `SignInUrl`; `max_age` is a number of seconds, and scopes have a method of their own",
            ),
            SignInError::ParametersTooLong { .. } => Facts::new(
                "app_parameters_too_long",
                500,
                "shorten what `before_login_redirect` and the `SignInUrl` set, or set what is the same for all sign-ins in `oidc.extra_authorization_parameters`",
            ),
            SignInError::UrlExpired => Facts::new(
                "sign_in_url_expired",
                400,
                "make a new URL for each page; it is valid for 24 hours, under the keys of `secret_key` and `previous_secret_keys`",
            ),
            SignInError::AuthenticationNotStated => Facts::new(
                "authentication_not_stated",
                403,
                "use an OpenID provider for what demands `Fresh` or `Acr`: a plain OAuth 2.0 provider does not state how or when a user authenticated",
            ),
            SignInError::ParametersMissing => Facts::new(
                "sign_in_cookie_missing",
                400,
                "sign in again; if it happens always, check that the browser keeps cookies and that no proxy drops large headers",
            ),
            SignInError::ScopesNotGranted { .. } => Facts::new(
                "scopes_not_granted",
                403,
                "ask the user again for their consent, or allow the scopes for this client at the provider",
            ),
            SignInError::LinkSessionEnded => Facts::new(
                "link_session_ended",
                403,
                "sign in, and link the account again from the app's page",
            ),
            SignInError::AcrNotTrusted { .. } => Facts::new(
                "acr_not_trusted",
                500,
                "list in `acr_values` of the provider's table the values that it checks as this app expects, or use other providers for this page",
            ),
            SignInError::SessionsEnded => Facts::new("sessions_ended_during_sign_in", 400, "sign in again"),
            SignInError::Loop { .. } => Facts::new(
                "sign_in_loop",
                400,
                "check that the browser keeps cookies, that `oidc.base_url` is the address that users open, and that no proxy drops large headers",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_the_settings() {
        for (seconds, expected) in [(60, "a minute"), (90, "90 seconds"), (1_800, "30 minutes")] {
            let timeout = Duration::from_secs(seconds);
            assert_eq!(
                SignInError::Expired { timeout }.to_string(),
                format!("the sign-in began more than {expected} ago")
            );
        }
    }
}
