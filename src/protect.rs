//! `protect`: a wrapper that makes routes require a signed-in user.

mod keep_forms;

use std::{any, cell::RefCell, collections::BTreeMap, marker::PhantomData, sync::OnceLock};

use rocket::{
    Data, Orbit, Request, Rocket, Route,
    http::Status,
    outcome::Outcome,
    request::FromRequest,
    route::{self, Handler},
};

pub use keep_forms::keep_forms;

use crate::{
    guard::{Authorized, Bearer, Caller, LoggedIn, Policy},
    observing,
    relying_party::RelyingParty,
    request::RequestState,
    requirement::Requirement,
    resource_server::ResourceServer,
    scopes::Scopes,
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
///
/// An access token is not a session: around routes with [`Bearer`] or [`Caller`] use [`protect_bearer`] or
/// [`protect_caller`]. Where a token arrives at a route that is protected for users, the log says so, once a minute.
pub fn protect(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    guard_by::<LoggedIn>(routes.into(), OF_SESSIONS)
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
    guard_by::<Authorized<P>>(routes.into(), OF_SESSIONS)
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
        any::type_name::<R>()
    );
    guard_by::<LoggedIn<Claims, R>>(routes.into(), OF_SESSIONS)
}

/// As [`protect`], for API clients: [`Bearer`] with the scopes `S` runs before each handler and its own guards.
///
/// | outcome | when | what the client sees |
/// |---|---|---|
/// | the outcome of the route, including forwards | the token is accepted and has the scopes `S` | the route |
/// | `Error(401)` | no token, or one that is rejected | 401 and a challenge: without `error`, or with `error="invalid_token"` |
/// | `Error(403)` | the token lacks the scopes | 403, `error="insufficient_scope"` |
/// | `Error(400)`, `Error(429)`, `Error(502)`, `Error(503)` | as [`Bearer`] | as [`Bearer`] |
/// | `Error(500)` | the fairing [`Oidc`](crate::Oidc) is not attached, or the API has no audience | 500; the log has the remedy, at liftoff too |
///
/// The routes may have guards of their own: a `Bearer` in a signature that needs further scopes, and reads the token.
/// The scopes `S` are in the protected resource metadata, as those of guards in signatures.
///
/// ```
/// use rocket::{get, routes};
/// use rocket_openidconnect::{Bearer, protect_bearer, scopes};
///
/// scopes! { pub NotesRead = "notes:read"; }
///
/// #[get("/notes")]
/// fn notes(token: Bearer) -> String {
///     format!("for {:?}", token.subject())
/// }
///
/// #[get("/notes/count")]
/// fn count() -> &'static str {
///     "3"
/// }
///
/// let rocket = rocket::build().mount("/api", protect_bearer::<NotesRead>(routes![notes, count]));
/// ```
pub fn protect_bearer<S: Scopes>(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    guard_by::<Bearer<S>>(routes.into(), of_tokens::<S>())
}

/// As [`protect`], for signed-in users and API clients: [`Caller`] runs before each handler and its own guards. The scopes
/// `S` limit clients, not users.
///
/// | outcome | when | what the caller sees |
/// |---|---|---|
/// | the outcome of the route, including forwards | a session, or an access token that has the scopes `S` | the route |
/// | `Error` | an `Authorization` header that is rejected | as [`protect_bearer`] |
/// | `Error(401)` | no `Authorization` header, and signed out | a page load: sign-in, then this page; anything else: 401 and a challenge without `error` |
/// | `Error(503)` | the session store is not reachable | 503 with `Retry-After` |
/// | `Error(500)` | as [`protect_bearer`] | 500; the log has the remedy, at liftoff too |
///
/// ```
/// use rocket::{get, routes};
/// use rocket_openidconnect::{Caller, protect_caller, scopes};
///
/// scopes! { pub NotesRead = "notes:read"; }
///
/// #[get("/notes")]
/// fn notes(caller: Caller) -> String {
///     format!("for {:?}", caller.subject())
/// }
///
/// let rocket = rocket::build().mount("/", protect_caller::<NotesRead>(routes![notes]));
/// ```
pub fn protect_caller<S: Scopes>(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    guard_by::<Caller<S>>(routes.into(), of_tokens::<S>())
}

/// Checks the guards of all protected routes of an app that was launched, as the sentinels of guards in signatures do
/// before, and logs what is wrong.
pub(crate) fn check_at_liftoff(rocket: &Rocket<Orbit>) {
    for check in checks_in(rocket) {
        (check.is_usable)(rocket);
    }
}

fn guard_by<G: for<'r> FromRequest<'r> + 'static>(mut routes: Vec<Route>, check: Check) -> Vec<Route> {
    for route in &mut routes {
        route.handler = Box::new(Protected {
            inner: route.handler.clone(),
            guard: PhantomData::<fn() -> G>,
            check: check.clone(),
            is_checked: OnceLock::new(),
        });
    }
    routes
}

/// What a guard of protected routes needs of the app.
#[derive(Clone, Debug)]
struct Check {
    /// Logs the error and its remedy if it is missing.
    is_usable: fn(&Rocket<Orbit>) -> bool,
    accepts_tokens: bool,
}

const OF_SESSIONS: Check = Check {
    is_usable: has_sign_in,
    accepts_tokens: false,
};

const fn of_tokens<S: Scopes>() -> Check {
    Check {
        is_usable: |rocket| !Bearer::<S>::is_unusable(rocket),
        accepts_tokens: true,
    }
}

fn has_sign_in(rocket: &Rocket<Orbit>) -> bool {
    let has_sign_in = rocket.state::<RelyingParty>().is_some();
    if !has_sign_in {
        tracing::error!("a route is protected, but this app has no sign-in");
        tracing::info!(
            "attach `Oidc::fairing()`, without `resource_server_only`, or use `Bearer` in that route, or `protect_bearer`"
        );
    }
    has_sign_in
}

thread_local! {
    /// The checks of the protected routes that this thread clones, while it looks for them.
    static FOUND: RefCell<Option<BTreeMap<&'static str, Check>>> = const { RefCell::new(None) };
}

/// The checks of all protected routes, one for each type of guard. A boxed handler can be called and cloned, and says nothing else: so each is cloned,
/// and ours leave their check here.
fn checks_in(rocket: &Rocket<Orbit>) -> impl Iterator<Item = Check> {
    FOUND.set(Some(BTreeMap::new()));
    for route in rocket.routes() {
        drop(route.handler.clone());
    }
    FOUND.take().unwrap_or_default().into_values()
}

/// A handler that runs only if its guard succeeds.
struct Protected<G> {
    inner: Box<dyn Handler>,
    guard: PhantomData<fn() -> G>,
    check: Check,
    /// Set once the app has what the guard needs.
    is_checked: OnceLock<()>,
}

#[rocket::async_trait]
impl<G: for<'r> FromRequest<'r> + 'static> Handler for Protected<G> {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        if self.is_checked.get().is_none() {
            if !(self.check.is_usable)(request.rocket()) {
                return Outcome::Error(Status::InternalServerError);
            }
            let _ = self.is_checked.set(());
        }
        // Boxed, so that the guard's future does not enlarge the handler's.
        let refused = match Box::pin(G::from_request(request)).await {
            Outcome::Success(_) => None,
            Outcome::Error((status, _)) | Outcome::Forward(status) => Some(status),
        };
        let outcome = match refused {
            None => self.inner.handle(request, data).await,
            Some(status) => Outcome::Error(status),
        };
        if let Outcome::Error(status) = outcome
            && status == Status::Unauthorized
            && !self.check.accepts_tokens
        {
            warn_of_tokens(request, refused.is_none());
        }
        outcome
    }
}

/// Logs, at most once a minute, that a protected route got an access token, or that a guard in its signature needs one.
fn warn_of_tokens(request: &Request<'_>, is_signed_in: bool) {
    let mut headers = request.headers().get("Authorization");
    let has_token = headers.any(|value| {
        let scheme = value.split(' ').next().unwrap_or_default();
        ["Bearer", "DPoP"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    });
    let needs_token = is_signed_in && RequestState::of(request).refusals().next().is_some();
    if (has_token || needs_token)
        && let Some(server) = request.rocket().state::<ResourceServer>()
    {
        observing::token_at_protected_route(&server.throttle, server.clock.now());
    }
}

impl<G> Clone for Protected<G> {
    fn clone(&self) -> Self {
        FOUND.with_borrow_mut(|found| {
            if let Some(found) = found {
                found.insert(any::type_name::<G>(), self.check.clone());
            }
        });
        Protected {
            inner: self.inner.clone(),
            guard: PhantomData,
            check: self.check.clone(),
            is_checked: OnceLock::new(),
        }
    }
}
