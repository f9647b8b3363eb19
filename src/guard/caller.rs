//! `Caller`: a guard for routes that serve both signed-in users and API clients.

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    outcome::try_outcome,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use thiserror::Error;

use super::{Bearer, LoggedIn, LoggedInError};
use crate::{
    groups,
    relying_party::{RelyingParty, User},
    request::RequestState,
    requirement::Requirement,
    resource_server::BearerError,
    scopes::{AnyScope, Demand, Scopes},
    token::Claims,
};

/// A guard that accepts a browser's session **or** an access token. If the request has an `Authorization`
/// header, whatever its scheme, only the token counts; otherwise the session does.
///
/// | outcome | when | what the caller sees |
/// |---|---|---|
/// | success, `Caller::Bearer` | as [`Bearer`] | the route |
/// | success, `Caller::User` | no `Authorization` header, and signed in | the route |
/// | `Error` | an `Authorization` header that is rejected | as [`Bearer`] |
/// | `Error(403)` | no `Authorization` header, and the user is not in the [groups](crate::groups!) | 403 and the app's catcher |
/// | `Error(401)` | no `Authorization` header, and signed out | a page load: sign-in; anything else: 401 and a challenge without `error` |
/// | `Error(403)` | no `Authorization` header, and a page of another origin sent a form, a script's request or a WebSocket handshake | as [`LoggedIn`] |
///
/// The scopes `S` apply to tokens only: they limit a client, and a signed-in user acts without one. Where `S` is declared
/// with [`groups!`](crate::groups), both need the groups: the user, and the user of the token.
///
/// # Security
///
/// A session counts only for requests of this app's own pages ([forms](crate::manual::forms)), except for a `GET`: do
/// not change state in one. A token is sent by a client that has it, so it counts whatever page sent the request.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::{Caller, scopes};
///
/// scopes! { pub NotesRead = "notes:read"; }
///
/// #[get("/notes")]
/// fn notes(caller: Caller<NotesRead>) -> String {
///     match &caller {
///         Caller::User(user) => format!("{} at a browser", user.subject()),
///         Caller::Bearer(token) => format!("{:?} by {:?}", token.subject(), token.client_id()),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub enum Caller<S = AnyScope, C = Claims, R = ()> {
    /// An API client with an access token.
    Bearer(Bearer<S, C, R>),
    /// A signed-in user.
    User(User<C>),
}

/// The error of [`Caller`].
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CallerError {
    /// As [`Bearer`].
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// As [`LoggedIn`].
    #[error(transparent)]
    LoggedIn(#[from] LoggedInError),
    /// 403: the user is not in the groups of [`groups!`](crate::groups).
    #[error("the user is not in the groups {0}")]
    Groups(String),
}

impl<S, C: 'static, R> Caller<S, C, R> {
    /// `sub`: the user, or the subject of the token.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Caller::Bearer(token) => token.subject(),
            Caller::User(user) => Some(user.subject()),
        }
    }

    /// The issuer of the session or of the token.
    pub fn issuer(&self) -> &str {
        match self {
            Caller::Bearer(token) => token.issuer(),
            Caller::User(user) => user.issuer(),
        }
    }

    /// The groups of the user or of the token, by one rule: the setting
    /// [`groups_claim`](crate::settings::Settings::groups_claim).
    pub fn groups(&self) -> Vec<&str> {
        match self {
            Caller::Bearer(token) => token.groups(),
            Caller::User(user) => user.groups(),
        }
    }

    /// The roles of the user or of the token, by one rule: the setting
    /// [`roles_claim`](crate::settings::Settings::roles_claim).
    pub fn roles(&self) -> Vec<&str> {
        match self {
            Caller::Bearer(token) => token.roles(),
            Caller::User(user) => user.roles(),
        }
    }

    /// All claims, deserialized into the app's type.
    pub fn claims(&self) -> &C {
        match self {
            Caller::Bearer(token) => token.claims(),
            Caller::User(user) => user.claims(),
        }
    }

    /// One claim. `None` when it is absent or of another type.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        match self {
            Caller::Bearer(token) => token.claim(name),
            Caller::User(user) => user.claim(name),
        }
    }
}

#[rocket::async_trait]
impl<'r, S, C, R> FromRequest<'r> for Caller<S, C, R>
where
    R: Requirement,
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Error = CallerError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, CallerError> {
        super::note_guard::<Self>(request, Some(S::ANY_OF));
        let has_session = request.rocket().state::<RelyingParty>().is_some();
        if !has_session || request.headers().contains("Authorization") {
            return Bearer::from_request(request)
                .await
                .map(Caller::Bearer)
                .map_error(|(status, error)| (status, error.into()));
        }
        let user = LoggedIn::<C, R>::from_request(request).await;
        if let Outcome::Error((status, LoggedInError::NoSession(_))) = user
            && status == Status::Unauthorized
        {
            RequestState::of(request).refuse(BearerError::Missing, Demand::of::<S>());
        }
        let user = try_outcome!(user.map_error(|(status, error)| (status, error.into()))).into_user();
        if groups::are_none_needed(S::GROUPS) || groups::are_met(S::GROUPS, &user.groups()) {
            Outcome::Success(Caller::User(user))
        } else {
            RequestState::of(request).not_permitted(user.session());
            Outcome::Error((Status::Forbidden, CallerError::Groups(groups::in_words(S::GROUPS))))
        }
    }
}

impl<S: Scopes, C, R: Requirement> Sentinel for Caller<S, C, R> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        Bearer::<S, C, R>::abort(rocket)
    }
}
