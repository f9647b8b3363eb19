//! Errors, each for its reader: the operator at launch, the log and the person at sign-in.

use std::time::Duration;

use thiserror::Error;

use crate::{
    provider::{PUSH_REQUESTS, ProviderError, UserInfoRequestError, demands_pushed_request},
    session::SessionTooLarge,
    settings::SettingsError,
    store::StoreError,
    token::{IdTokenError, UserInfoError},
};

/// Why the app does not start. For the operator.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A setting is wrong or missing.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The provider answers, and its answer is not usable.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Rocket's `secret_key` cannot be read.
    #[error("`secret_key` is not a key: {cause}")]
    SecretKey {
        /// Figment's word on it, without the value.
        cause: String,
    },
    /// Rocket's `secret_key` is not there, outside of the debug profile.
    #[error(
        "`secret_key` is missing: outside of the debug profile Rocket does not launch without one"
    )]
    NoSecretKey,
    /// The function given to [`Oidc::try_custom`](crate::Oidc::try_custom) failed.
    #[error("the app's own settings function failed: {cause}")]
    Custom {
        /// Its error.
        cause: String,
    },
    /// The session store cannot be used as the settings say. One that is only down does not abort.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The development provider did not start.
    #[error("the development provider did not start: {cause}")]
    DevProvider {
        /// Why.
        cause: String,
        /// What to do.
        remedy: String,
    },
}

impl LaunchError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            LaunchError::Settings(error) => error.remedy().to_string(),
            LaunchError::Provider(error) => error.remedy().to_owned(),
            LaunchError::SecretKey { .. } => {
                "set `secret_key` to what `openssl rand -base64 32` prints".to_owned()
            }
            LaunchError::NoSecretKey => {
                "set ROCKET_SECRET_KEY to what `openssl rand -base64 32` prints".to_owned()
            }
            LaunchError::Custom { .. } => {
                "mend the function given to `Oidc::try_custom`".to_owned()
            }
            LaunchError::Store(error) => error.remedy().to_owned(),
            LaunchError::DevProvider { remedy, .. } => remedy.clone(),
        }
    }
}

/// Why a sign-in did not succeed. For the log; the person sees a page with the same id.
///
/// No variant holds a token, a code, a state or a secret.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SignInError {
    /// 400: another browser began the sign-in that the response belongs to, or this one did not keep its
    /// cookie.
    #[error("no sign-in is under way in this browser that this response belongs to")]
    NotPending,
    /// 400: the sign-in took longer than the setting `sign_in_timeout`.
    #[error("the sign-in was begun more than {} ago", duration(timeout))]
    Expired {
        /// The setting.
        timeout: Duration,
    },
    /// 400: the posted response came back to us more than a minute after the provider's page posted it.
    #[error("the response was posted more than a minute ago")]
    PostedTooLongAgo,
    /// 400: the sign-in was completed, or came to nothing, by an earlier response.
    #[error("the sign-in that this response belongs to is over")]
    Used,
    /// 503: there are as many sign-ins as this node takes at a time, in all or from one address.
    #[error("there are too many sign-ins at a time")]
    TooManySignIns {
        /// How long to wait.
        retry_after: Duration,
    },
    /// 400: `state` is absent, or not one that this app made (RFC 6749 §10.12).
    #[error("`state` is absent, or not one that this app made")]
    State,
    /// 400: a parameter stands twice in the response (RFC 6749 §3.1).
    #[error("`{name}` stands more than once in the response")]
    RepeatedParameter {
        /// The parameter.
        name: String,
    },
    /// 400: the response should be in a form, and what was posted is none, or is too long.
    #[error("what was posted is no form with an authorization response")]
    UnreadableForm,
    /// 400: a third party wants a sign-in at a provider that is not the app's (OpenID Connect Core 1.0 §4).
    #[error("a sign-in at {} was asked for, expected `{expected}`", actual.as_ref().map_or("no issuer".to_owned(), |iss| format!("`{iss}`")))]
    InitiatedBy {
        /// The app's provider.
        expected: String,
        /// The `iss` of the request.
        actual: Option<String>,
    },
    /// 400: the response comes from another issuer (RFC 9207 §2.4).
    #[error("the response's `iss` is `{actual}`, expected `{expected}`")]
    Iss {
        /// The provider that was asked.
        expected: String,
        /// What the response says.
        actual: String,
    },
    /// 400: the metadata announces `iss` in the response, and it is absent (RFC 9207 §2.4).
    #[error("the response has no `iss`, which the provider's metadata announces")]
    IssMissing,
    /// 400, 502 or 503: the provider answered with an error (OpenID Connect Core 1.0 §3.1.2.6).
    #[error("the provider answered `{error}`: {description}")]
    Response {
        /// The error code, such as `access_denied`.
        error: String,
        /// The provider's own words.
        description: String,
    },
    /// 400: an error, in a response that belongs to no attempt: the provider's, where it leaves out `state`, or anybody's.
    #[error(
        "`state` is absent, or not one that this app made; the response, which anybody can make, says `{error}`: {description}"
    )]
    UnprovedResponse {
        /// The error code, such as `access_denied`.
        error: String,
        /// The words that came with it.
        description: String,
    },
    /// 404: a response was posted, and the setting `response_mode` is `query`.
    #[error("a response was posted, and `response_mode` is `query`")]
    PostedResponse,
    /// 400: neither a code nor an error.
    #[error("the response has no `code`")]
    CodeMissing,
    /// 502: the token reply has no ID token (OpenID Connect Core 1.0 §3.1.3.3).
    #[error("the token reply has no `id_token`")]
    IdTokenMissing,
    /// 502: the ID token does not hold; 403 when it is of a tenant that `tenants` does not accept.
    #[error("the ID token is refused: {0}")]
    IdToken(#[from] IdTokenError),
    /// 502: UserInfo does not hold.
    #[error("UserInfo is refused: {0}")]
    UserInfo(#[from] UserInfoError),
    /// 502, 503 or 504: the provider did not do its part; 400 for a code that it does not accept.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// 502: what the provider says about this person does not fit into the session's cookies.
    #[error(transparent)]
    SessionTooLarge(#[from] SessionTooLarge),
    /// 503: the session store is not reachable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// 403: the app refused this person ([`Events::after_authorize`](crate::Events::after_authorize)).
    #[error("the app refused this person: {message}")]
    RefusedByApp {
        /// What the person is told.
        message: String,
    },
    /// 500: the app's [`Events::before_login_redirect`](crate::Events::before_login_redirect) set a parameter that
    /// it may not set.
    #[error("the app's `before_login_redirect` sets `{name}`, which it may not set")]
    ParameterOfApp {
        /// The parameter.
        name: String,
    },
    /// 400: the provider or the app ended the sessions of the user while they signed in, and once more while
    /// they signed in again.
    #[error("the sessions of the user were ended while they signed in")]
    Ended,
    /// 400: the browser signs in and comes back signed out, again and again.
    #[error("{times} sign-ins within a minute did not keep their session")]
    Loop {
        /// How many.
        times: u8,
    },
}

/// Minutes, or seconds when it is not so many minutes.
fn duration(duration: &Duration) -> String {
    match duration.as_secs() {
        60 => "a minute".to_owned(),
        seconds if seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
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

impl SignInError {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        match self {
            SignInError::NotPending => "not_pending",
            SignInError::Expired { .. } => "sign_in_expired",
            SignInError::PostedTooLongAgo => "posted_too_long_ago",
            SignInError::Used => "sign_in_over",
            SignInError::TooManySignIns { .. } => "too_many_sign_ins",
            SignInError::State => "state",
            SignInError::RepeatedParameter { .. } => "repeated_parameter",
            SignInError::UnreadableForm => "unreadable_form",
            SignInError::InitiatedBy { .. } => "initiated_by",
            SignInError::Iss { .. } => "iss",
            SignInError::IssMissing => "iss_missing",
            SignInError::Response { error, .. } if error == "access_denied" => "access_denied",
            SignInError::Response { .. } => "authorization_error",
            SignInError::UnprovedResponse { .. } => "unproved_response",
            SignInError::PostedResponse => "posted_response",
            SignInError::CodeMissing => "code_missing",
            SignInError::IdTokenMissing => "id_token_missing",
            SignInError::IdToken(error) => error.reason(),
            SignInError::UserInfo(error) => error.reason(),
            SignInError::Provider(error) => error.reason(),
            SignInError::SessionTooLarge(_) => "session_too_large",
            SignInError::Store(_) => "store_unavailable",
            SignInError::RefusedByApp { .. } => "refused_by_app",
            SignInError::ParameterOfApp { .. } => "parameter_of_app",
            SignInError::Ended => "ended_meanwhile",
            SignInError::Loop { .. } => "sign_in_loop",
        }
    }

    /// The HTTP status of the error page.
    pub fn status(&self) -> u16 {
        match self {
            SignInError::Response { error, .. } if error == "temporarily_unavailable" => 503,
            SignInError::Response { error, .. } if error == "server_error" => 502,
            SignInError::NotPending
            | SignInError::Expired { .. }
            | SignInError::PostedTooLongAgo
            | SignInError::Used
            | SignInError::State
            | SignInError::RepeatedParameter { .. }
            | SignInError::UnreadableForm
            | SignInError::InitiatedBy { .. }
            | SignInError::Iss { .. }
            | SignInError::IssMissing
            | SignInError::Response { .. }
            | SignInError::UnprovedResponse { .. }
            | SignInError::CodeMissing
            | SignInError::Ended
            | SignInError::Loop { .. } => 400,
            SignInError::RefusedByApp { .. } => 403,
            SignInError::IdToken(error) if error.is_about_tenant() => 403,
            SignInError::PostedResponse => 404,
            SignInError::ParameterOfApp { .. } => 500,
            SignInError::Store(_) | SignInError::TooManySignIns { .. } => 503,
            SignInError::Provider(error) => error.status(),
            SignInError::IdTokenMissing
            | SignInError::IdToken(_)
            | SignInError::UserInfo(_)
            | SignInError::SessionTooLarge(_) => 502,
        }
    }

    /// What to do about it: the operator, mostly.
    pub fn remedy(&self) -> String {
        match self {
            SignInError::NotPending => "sign in again; if it happens always, check that `oidc.base_url` is the address people use and that nothing removes cookies".into(),
            SignInError::Expired { .. } => "sign in again; if people need longer at the provider, raise `oidc.sign_in_timeout`".into(),
            SignInError::PostedTooLongAgo | SignInError::Used | SignInError::Ended => "sign in again".into(),
            SignInError::TooManySignIns { .. } => "wait; if these are people behind one proxy, list it in `oidc.trusted_proxies`".into(),
            SignInError::State => "sign in again; if it happens often, check that all nodes have the same `secret_key`; else somebody sends people forged responses".into(),
            SignInError::RepeatedParameter { .. } => "sign in again; if it happens often, somebody sends people forged responses".into(),
            SignInError::UnreadableForm => "check that the provider sends its response as `oidc.response_mode` says".into(),
            SignInError::InitiatedBy { .. } => "give the third party this app's issuer, `oidc.issuer`, to send as `iss`".into(),
            SignInError::Iss { .. } | SignInError::IssMissing => "check that `oidc.issuer` is the provider that answers".into(),
            SignInError::Response { description, .. } if demands_pushed_request(description) => PUSH_REQUESTS.into(),
            SignInError::Response { error, .. } => match error.as_str() {
                "access_denied" => "nothing: the person or the provider said no".into(),
                "invalid_scope" => "ask in `oidc.scopes` for what the provider gives".into(),
                "unauthorized_client" | "invalid_request" => "compare the client's registration at the provider with these settings".into(),
                _ => "look into the provider's log".into(),
            },
            SignInError::UnprovedResponse { error, .. } if error == "access_denied" => "nothing, if the person said no; else check that all nodes have the same `secret_key`, or somebody sends people forged responses".into(),
            SignInError::UnprovedResponse { .. } => "if people see it right after they were sent to the provider, it leaves out `state`, and the words are its own: do what they say; else check that all nodes have the same `secret_key`, or somebody sends people forged responses".into(),
            SignInError::PostedResponse => "set `oidc.response_mode = \"form_post\"`, or have the provider answer in the query".into(),
            SignInError::CodeMissing | SignInError::IdTokenMissing => "check that the provider's client allows the code flow with `openid`".into(),
            SignInError::IdToken(error) => error.remedy().to_string(),
            SignInError::UserInfo(error) => error.remedy().to_string(),
            SignInError::Provider(error) => error.remedy().to_owned(),
            SignInError::SessionTooLarge(error) => error.remedy(),
            SignInError::Store(error) => error.remedy().into(),
            SignInError::RefusedByApp { .. } => "nothing: the app's `after_authorize` said no".into(),
            SignInError::ParameterOfApp { .. } => "remove it there; `max_age` and `acr_values` belong into `oidc.extra_authorization_parameters`, by which the ID token is checked".into(),
            SignInError::Loop { .. } => "check that the browser keeps cookies, that `oidc.base_url` is the address people use, and that no proxy drops large headers".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_requests_must_be_pushed() {
        let remedy = |description: &str| {
            let error = SignInError::Response {
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

    #[test]
    fn the_timeout_is_the_settings() {
        for (seconds, expected) in [(60, "a minute"), (90, "90 seconds"), (1_800, "30 minutes")] {
            let timeout = Duration::from_secs(seconds);
            assert_eq!(
                SignInError::Expired { timeout }.to_string(),
                format!("the sign-in was begun more than {expected} ago")
            );
        }
    }
}
