//! `LoggedIn`: a guard for signed-in users.

use std::{fmt, marker::PhantomData, ops::Deref};

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use serde::Serialize;
use thiserror::Error;

use super::{check_authentication, current_user, is_contradictory, is_fairing_missing};
use crate::{relying_party::User, request::RequestState, requirement::Requirement, session::NoSession, token::Claims};

/// A guard that succeeds for a signed-in user. It derefs to [`User`].
///
/// | outcome | when | what the user sees |
/// |---|---|---|
/// | success | signed in | the route |
/// | `Error(401)` | signed out | a page load: sign-in at the provider, then this page; anything else: 401 and the app's catcher |
/// | `Error(401)` | the authentication does not satisfy `R` | a page load: a sign-in that asks for it, then this page; anything else: 401 with the challenge of RFC 9470, and the app's catcher |
/// | `Error(403)` | a page of another origin sent a form, a script's request or a WebSocket handshake ([forms](crate::manual::forms)) | 403 and the app's catcher; the session is not read |
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
#[derive(Serialize)]
#[serde(transparent, bound = "")]
pub struct LoggedIn<C = Claims, R = ()>(User<C>, #[serde(skip)] PhantomData<fn() -> R>);

impl<C: Clone, R> Clone for LoggedIn<C, R> {
    fn clone(&self) -> Self {
        LoggedIn(self.0.clone(), PhantomData)
    }
}

impl<C: fmt::Debug, R> fmt::Debug for LoggedIn<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoggedIn").field(&self.0).finish()
    }
}

/// The error of [`LoggedIn`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoggedInError {
    /// 401; 503 when the session cannot be checked at the moment; 403 when a page of another origin sent the request.
    #[error(transparent)]
    NoSession(NoSession),
    /// 401: the user's authentication does not satisfy the guard's [`Requirement`];
    /// [`StepUp::of`](crate::StepUp::of) has what is demanded.
    #[error("the user's authentication does not satisfy what the guard demands")]
    Authentication,
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
            LoggedInError::NoSession(NoSession::CrossOrigin) => Status::Forbidden,
            LoggedInError::NoSession(_) | LoggedInError::Authentication => Status::Unauthorized,
            LoggedInError::Claims { .. } => Status::InternalServerError,
        }
    }
}

impl<C, R> LoggedIn<C, R> {
    /// The signed-in user.
    pub fn into_user(self) -> User<C> {
        self.0
    }
}

impl<C, R> Deref for LoggedIn<C, R> {
    type Target = User<C>;

    fn deref(&self) -> &User<C> {
        &self.0
    }
}

#[rocket::async_trait]
impl<'r, C, R> FromRequest<'r> for LoggedIn<C, R>
where
    C: DeserializeOwned + Send + Sync + 'static,
    R: Requirement,
{
    type Error = LoggedInError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, LoggedInError> {
        super::note_guard::<Self>(request, None);
        let user = current_user(request).await;
        let user = user.and_then(|user| check_authentication::<R, C>(request, &user).map(|()| user));
        match user {
            Ok(user) => Outcome::Success(LoggedIn(user, PhantomData)),
            Err(error) => {
                if let LoggedInError::NoSession(reason) = error {
                    let _ = RequestState::of(request).signed_out.set(reason);
                }
                Outcome::Error((error.status(), error))
            }
        }
    }
}

impl<C, R: Requirement> Sentinel for LoggedIn<C, R> {
    /// Aborts the launch without the fairing, or if nothing can satisfy `R`.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket) || is_contradictory::<Self, R>(rocket)
    }
}
