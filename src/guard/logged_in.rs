//! `LoggedIn`: a guard for signed-in users.

use std::ops::Deref;

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use serde::Serialize;
use thiserror::Error;

use super::{current_user, is_fairing_missing};
use crate::{relying_party::User, request::RequestState, session::NoSession, token::Claims};

/// A guard that succeeds for a signed-in user. It derefs to [`User`].
///
/// | outcome | when | what the user sees |
/// |---|---|---|
/// | success | signed in | the route |
/// | `Error(401)` | signed out | a page load: sign-in at the provider, then this page; anything else: 401 and the app's catcher |
/// | `Error(503)` | the session store is not reachable, or a refresh has been due for longer than `session.refresh_grace` and the provider is down | 503 with `Retry-After`, and the app's catcher; the session is kept |
/// | `Error(500)` | the claims do not deserialize into `C` | 500; claim and type are in the log |
///
/// It never forwards. To branch, use [`OptionalUser`](crate::OptionalUser) or `Option<LoggedIn>`. If a handler
/// with `Option<LoggedIn>` responds with 401, a page load is redirected to sign-in too.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::LoggedIn;
///
/// #[get("/profile")]
/// fn profile(user: LoggedIn) -> String {
///     format!("Hello {}", user.name().unwrap_or(user.subject()))
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[serde(transparent, bound = "")]
pub struct LoggedIn<C = Claims>(User<C>);

/// The error of [`LoggedIn`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoggedInError {
    /// 401, or 503 when the session cannot be checked at the moment.
    #[error(transparent)]
    NoSession(NoSession),
    /// 500: the user's claims do not deserialize into the app's type.
    #[error("the claims do not deserialize into `{expected}`")]
    Claims {
        /// The app's type.
        expected: &'static str,
    },
}

impl LoggedInError {
    pub(crate) fn status(&self) -> Status {
        match self {
            LoggedInError::NoSession(reason) if reason.is_outage() => Status::ServiceUnavailable,
            LoggedInError::NoSession(_) => Status::Unauthorized,
            LoggedInError::Claims { .. } => Status::InternalServerError,
        }
    }
}

impl<C> LoggedIn<C> {
    /// The signed-in user.
    pub fn into_user(self) -> User<C> {
        self.0
    }
}

impl<C> Deref for LoggedIn<C> {
    type Target = User<C>;

    fn deref(&self) -> &User<C> {
        &self.0
    }
}

#[rocket::async_trait]
impl<'r, C: DeserializeOwned + Send + Sync + 'static> FromRequest<'r> for LoggedIn<C> {
    type Error = LoggedInError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, LoggedInError> {
        match current_user(request).await {
            Ok(user) => Outcome::Success(LoggedIn(user)),
            Err(error) => {
                if let LoggedInError::NoSession(reason) = error {
                    let _ = RequestState::of(request).signed_out.set(reason);
                }
                Outcome::Error((error.status(), error))
            }
        }
    }
}

impl<C> Sentinel for LoggedIn<C> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket)
    }
}
