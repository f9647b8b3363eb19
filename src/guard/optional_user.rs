//! `OptionalUser`: a guard for every request, with the user if there is one.

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{LoggedInError, current_user, is_fairing_missing, silent::is_silent_sign_in_due};
use crate::{relying_party::User, request::RequestState, session::NoSession, token::Claims};

/// A guard for everyone: the signed-in user, or none.
///
/// | outcome | when |
/// |---|---|
/// | success with a user | signed in |
/// | success without | signed out; or the claims do not deserialize into `C`, or the session store is not reachable (both are logged) |
/// | `Error(403)` | a page of another origin sent a form, a script's request or a WebSocket handshake ([forms](crate::manual::forms)) |
/// | `Error(401)` | only with the setting `silent`: the page load is redirected to a [silent sign-in](crate::manual::silent), once per browser session, and comes back |
///
/// In a template it serializes as `{ logged_in, user }`.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::OptionalUser;
///
/// #[get("/")]
/// fn index(visitor: OptionalUser) -> String {
///     match visitor.user() {
///         Some(user) => format!("Hello {}", user.subject()),
///         None => "Hello stranger".into(),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct OptionalUser<C = Claims>(Option<User<C>>);

impl<C> OptionalUser<C> {
    /// The user, if signed in.
    pub fn user(&self) -> Option<&User<C>> {
        self.0.as_ref()
    }

    /// The user, if signed in.
    pub fn into_user(self) -> Option<User<C>> {
        self.0
    }

    /// Whether a user is signed in.
    pub fn logged_in(&self) -> bool {
        self.0.is_some()
    }
}

impl<C> Serialize for OptionalUser<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut visitor = serializer.serialize_struct("OptionalUser", 2)?;
        visitor.serialize_field("logged_in", &self.logged_in())?;
        visitor.serialize_field("user", &self.0)?;
        visitor.end()
    }
}

#[rocket::async_trait]
impl<'r, C: DeserializeOwned + Send + Sync + 'static> FromRequest<'r> for OptionalUser<C> {
    type Error = LoggedInError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, LoggedInError> {
        super::note_guard::<Self>(request, None);
        match current_user(request).await {
            Ok(user) => Outcome::Success(OptionalUser(Some(user))),
            // The handler does not run twice: it may show what is shown once.
            Err(LoggedInError::NoSession(reason)) if is_silent_sign_in_due(request, reason) => {
                Outcome::Error((Status::Unauthorized, LoggedInError::NoSession(reason)))
            }
            Err(error @ LoggedInError::NoSession(reason @ NoSession::CrossOrigin)) => {
                let _ = RequestState::of(request).signed_out.set(reason);
                Outcome::Error((error.status(), error))
            }
            Err(_) => Outcome::Success(OptionalUser(None)),
        }
    }
}

impl<C> Sentinel for OptionalUser<C> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket)
    }
}
