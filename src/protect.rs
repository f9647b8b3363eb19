//! `protect`: a wrapper that makes routes require a signed-in user.

use std::marker::PhantomData;

use rocket::{
    Data, Request, Route,
    http::{Method, Status},
    outcome::Outcome,
    request::FromRequest,
    route::{self, Handler},
};

use crate::{
    guard::{Authorized, KeptRequest, LoggedIn, Policy, current_session, drop_sent_form},
    relying_party::RelyingParty,
    request::RequestState,
    requirement::Requirement,
    token::Claims,
};

/// Requires a signed-in user for these routes: the app's own, a `FileServer`, or any other.
///
/// Each route keeps its name, method, path, rank, format and sentinels. [`LoggedIn`] runs before its handler and
/// its own guards:
///
/// | outcome | when | what the user sees |
/// |---|---|---|
/// | the outcome of the route, including forwards | signed in | the route |
/// | `Error(401)` | signed out | a page load: sign-in, then this page; anything else: 401 and the app's catcher |
/// | `Error(403)` | a page of another origin sent a form, a script's request or a WebSocket handshake ([forms](crate::manual::forms)) | 403 and the app's catcher |
/// | `Error(503)` | the session store is not reachable | 503 with `Retry-After` |
/// | `Error(500)` | the fairing [`Oidc`](crate::Oidc) is not attached, or is `resource_server_only` | 500; the log has the remedy |
///
/// A signed-out request is never forwarded, so that no other route responds in place of a protected one. A
/// protected `FileServer` at `/` therefore denies every path that no earlier route handles, and every request that
/// an earlier route forwards. The fairing's own routes take precedence by their rank.
///
/// ```
/// use rocket::{fs::FileServer, get, routes};
/// use rocket_openidconnect::{Oidc, protect};
///
/// #[get("/reports")]
/// fn reports() -> &'static str {
///     "for whoever is signed in"
/// }
///
/// let rocket = rocket::build()
///     .attach(Oidc::fairing())
///     .mount("/", protect(routes![reports]))
///     .mount("/files", protect(FileServer::new("/", rocket::fs::Options::None)));
/// ```
///
/// # Security
///
/// The protection applies to this mount only: mounting a route a second time without `protect` exposes it.
/// `assert_guarded` in the module `testing` finds such routes.
pub fn protect(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    guard_by::<LoggedIn>(routes.into())
}

/// As [`protect`], for users whom a [`Policy`] permits. Other users get 403.
///
/// ```
/// use rocket::{Request, get, routes};
/// use rocket_openidconnect::{Policy, User, protect_with};
///
/// struct Admin;
///
/// impl Policy for Admin {
///     async fn permits(user: &User, _request: &Request<'_>) -> bool {
///         user.groups().contains(&"admin")
///     }
/// }
///
/// #[get("/users")]
/// fn users() -> &'static str {
///     "all of them"
/// }
///
/// let rocket = rocket::build().mount("/admin", protect_with::<Admin>(routes![users]));
/// ```
pub fn protect_with<P: Policy>(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    guard_by::<Authorized<P>>(routes.into())
}

/// As [`protect`], for users whose authentication satisfies a [`Requirement`]. The others get the 401 of
/// [`LoggedIn`]: a page load goes to a sign-in that asks for it.
///
/// ```
/// use rocket::{get, routes};
/// use rocket_openidconnect::{Fresh, protect_requiring};
///
/// #[get("/accounts")]
/// fn accounts() -> &'static str {
///     "all of them"
/// }
///
/// let rocket = rocket::build().mount("/bank", protect_requiring::<Fresh<10>>(routes![accounts]));
/// ```
///
/// # Panics
///
/// If nothing can satisfy the requirement: two of its parts accept no common `acr`.
pub fn protect_requiring<R: Requirement>(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    assert!(
        !R::required().is_contradictory(),
        "no `acr` satisfies all parts of `{}`",
        std::any::type_name::<R>()
    );
    guard_by::<LoggedIn<Claims, R>>(routes.into())
}

/// Keeps the forms of these routes when their session has ended, as [`Kept`](crate::Kept) does: for routes whose guards are
/// in their signatures, and for those of [`protect`], [`protect_with`] and [`protect_requiring`].
///
/// A form that can be kept is not handed to the route: its user signs in again first. So it is for routes that need a
/// user. A form whose user must authenticate again is kept by `Kept` alone.
///
/// ```
/// use rocket::{form::Form, post, routes};
/// use rocket_openidconnect::{LoggedIn, keep_forms};
///
/// #[post("/notes", data = "<text>")]
/// fn add(user: LoggedIn, text: Form<String>) -> String {
///     format!("{} notes {}", user.subject(), *text)
/// }
///
/// let rocket = rocket::build().mount("/", keep_forms(routes![add]));
/// ```
pub fn keep_forms(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    let mut routes = routes.into();
    for route in &mut routes {
        let inner = route.handler.clone();
        route.handler = Box::new(Keeping(inner));
    }
    routes
}

/// A handler whose forms are kept.
#[derive(Clone)]
struct Keeping(Box<dyn Handler>);

#[rocket::async_trait]
impl Handler for Keeping {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        if let Some(kept) = Box::pin(KeptRequest::of(request)).await {
            Box::pin(kept.keep(request, data)).await;
            if let Err(reason) = current_session(request).await {
                let _ = RequestState::of(request).signed_out.set(*reason);
            }
            return Outcome::Error(Status::Unauthorized);
        }
        let outcome = self.0.handle(request, data).await;
        if let Outcome::Success(response) = &outcome
            && response.status().code < 400
            && request.method() != Method::Get
        {
            Box::pin(drop_sent_form(request)).await;
        }
        outcome
    }
}

fn guard_by<G: for<'r> FromRequest<'r> + 'static>(mut routes: Vec<Route>) -> Vec<Route> {
    for route in &mut routes {
        let inner = route.handler.clone();
        let guard = PhantomData::<fn() -> G>;
        route.handler = Box::new(Protected { inner, guard });
    }
    routes
}

/// A handler that runs only if its guard succeeds.
struct Protected<G> {
    inner: Box<dyn Handler>,
    guard: PhantomData<fn() -> G>,
}

#[rocket::async_trait]
impl<G: for<'r> FromRequest<'r> + 'static> Handler for Protected<G> {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        if request.rocket().state::<RelyingParty>().is_none() {
            tracing::error!("a route is protected, but this app has no sign-in");
            tracing::info!("attach `Oidc::fairing()`, without `resource_server_only`, or use `Bearer` in that route");
            return Outcome::Error(Status::InternalServerError);
        }
        // Boxed, so that the guard's future does not enlarge the handler's.
        let refused = match Box::pin(G::from_request(request)).await {
            Outcome::Success(_) => None,
            Outcome::Error((status, _)) | Outcome::Forward(status) => Some(status),
        };
        match refused {
            None => self.inner.handle(request, data).await,
            Some(status) => Outcome::Error(status),
        }
    }
}

impl<G> Clone for Protected<G> {
    fn clone(&self) -> Self {
        Protected {
            inner: self.inner.clone(),
            guard: PhantomData,
        }
    }
}
