//! `Authorized`: a guard for users whom a policy permits.

use std::{marker::PhantomData, ops::Deref};

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    outcome::try_outcome,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use thiserror::Error;

use super::{LoggedIn, LoggedInError, is_contradictory, is_fairing_missing};
use crate::{
    relying_party::{User, refused_by_policy},
    request::RequestState,
    requirement::Requirement,
    token::Claims,
};

/// An authorization rule: which signed-in users reach a route.
///
/// It receives the request, so that it can query the app's database. Groups alone are declared with
/// [`groups!`](crate::groups).
///
/// ```
/// use rocket::{Request, get};
/// use rocket_openidconnect::{Authorized, Policy, User};
///
/// struct Admin;
///
/// impl Policy for Admin {
///     async fn permits(user: &User, _request: &Request<'_>) -> bool {
///         user.groups().contains(&"admin")
///     }
/// }
///
/// #[get("/admin")]
/// fn admin(user: Authorized<Admin>) -> String {
///     format!("Hello {}", user.subject())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a policy for users with the claims `{C}`",
    label = "expected a type that implements `Policy<{C}>`",
    note = "implement it: `impl Policy<{C}> for {Self} {{ async fn permits(…) -> bool {{ … }} }}`",
    note = "or declare groups: `rocket_openidconnect::groups! {{ pub Admins = \"admin\"; }}`"
)]
pub trait Policy<C = Claims>: Send + Sync + 'static {
    /// Whether the policy permits this user. An implementation is a plain `async fn`.
    fn permits(user: &User<C>, request: &Request<'_>) -> impl Future<Output = bool> + Send;
}

/// A guard that succeeds for a signed-in user whom the [`Policy`] `P` permits. It derefs to [`User`].
///
/// | outcome | when | what the user sees |
/// |---|---|---|
/// | success | signed in and permitted | the route |
/// | `Error(401)` | signed out, or the authentication does not satisfy `R` | as [`LoggedIn`] |
/// | `Error(403)` | not permitted | 403 and the app's catcher; claims that the policy looked for in vain are in the log and on the debug page |
/// | `Error(403)` | a page of another origin sent the request | as [`LoggedIn`] |
/// | `Error(503)` | the session store is not reachable | as [`LoggedIn`] |
/// | `Error(500)` | the claims do not deserialize into `C` | 500; claim and type are in the log |
#[derive(Clone, Debug)]
pub struct Authorized<P, C = Claims, R = ()>(User<C>, PhantomData<fn() -> (P, R)>);

/// The error of [`Authorized`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthorizedError {
    /// 401, 403, 500 or 503, as [`LoggedIn`].
    #[error(transparent)]
    LoggedIn(#[from] LoggedInError),
    /// 403: the policy does not permit the user.
    #[error("the policy does not permit this user")]
    NotPermitted,
}

impl<P, C, R> Authorized<P, C, R> {
    /// The signed-in user.
    pub fn into_user(self) -> User<C> {
        self.0
    }
}

impl<P, C, R> Deref for Authorized<P, C, R> {
    type Target = User<C>;

    fn deref(&self) -> &User<C> {
        &self.0
    }
}

#[rocket::async_trait]
impl<'r, P, C, R> FromRequest<'r> for Authorized<P, C, R>
where
    R: Requirement,
    P: Policy<C>,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Error = AuthorizedError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, AuthorizedError> {
        super::note_guard::<Self>(request, None);
        let mut user = try_outcome!(
            LoggedIn::<C, R>::from_request(request)
                .await
                .map_error(|(status, error)| (status, error.into()))
        )
        .into_user();
        user.watch();
        if P::permits(&user, request).await {
            user.unwatch();
            Outcome::Success(Authorized(user, PhantomData))
        } else {
            refused_by_policy(request, &user, std::any::type_name::<P>());
            RequestState::of(request).not_permitted(user.session());
            Outcome::Error((Status::Forbidden, AuthorizedError::NotPermitted))
        }
    }
}

impl<P, C, R: Requirement> Sentinel for Authorized<P, C, R> {
    /// As [`LoggedIn`].
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket) || is_contradictory::<Self, R>(rocket)
    }
}
