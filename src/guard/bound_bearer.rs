//! `BoundBearer`: a guard for API routes that accepts only access tokens that are bound to a key or a client certificate.

use std::{fmt, ops::Deref};

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};

use super::Bearer;
use crate::{
    requirement::Requirement,
    resource_server::{BearerError, ResourceServer},
    scopes::{AnyScope, Demand, Scopes},
    token::Claims,
};

/// As [`Bearer`], for a route that needs more than a bearer token, which anyone who finds it can use: the token must be bound to a
/// key that the request proves ([DPoP](crate::manual::bound_tokens)), or to the client certificate of the request
/// ([mutual TLS](crate::manual::bound_tokens)). A bearer token is rejected with 401.
///
/// Needs the setting `dpop_tokens` or `client_certificate`. With `require_bound_tokens`, every guard demands it. With `enabled = false`, it accepts what
/// `Bearer` does.
///
/// ```
/// use rocket::post;
/// use rocket_openidconnect::{BoundBearer, scopes};
///
/// scopes! { pub Transfer = "transfer"; }
///
/// #[post("/api/transfer")]
/// fn transfer(token: BoundBearer<Transfer>) -> String {
///     format!("transferred by {:?}", token.subject())
/// }
/// ```
pub struct BoundBearer<S = AnyScope, C = Claims, R = ()>(Bearer<S, C, R>);

impl<S, C, R> Deref for BoundBearer<S, C, R> {
    type Target = Bearer<S, C, R>;

    fn deref(&self) -> &Bearer<S, C, R> {
        &self.0
    }
}

impl<S, C, R> Clone for BoundBearer<S, C, R> {
    fn clone(&self) -> Self {
        BoundBearer(self.0.clone())
    }
}

impl<S, C, R> fmt::Debug for BoundBearer<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundBearer").field(&self.0).finish()
    }
}

#[rocket::async_trait]
impl<'r, S, C, R> FromRequest<'r> for BoundBearer<S, C, R>
where
    R: Requirement,
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Error = BearerError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, BearerError> {
        super::note_guard::<Self>(request, Some(S::ANY_OF));
        Bearer::judge(request, Demand::with_binding::<S>())
            .await
            .map(BoundBearer)
    }
}

impl<S: Scopes, C, R: Requirement> Sentinel for BoundBearer<S, C, R> {
    /// Aborts the launch as `Bearer` does, and if no bound token is accepted.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        let server = rocket.state::<ResourceServer>();
        if server.is_some_and(|server| !server.is_disabled() && !server.accepts_bound_tokens()) {
            let guard = std::any::type_name::<Self>();
            tracing::error!("`{guard}` is used in a route, but tokens that are bound to a key are not accepted");
            tracing::info!(
                "set `oidc.dpop_tokens = \"accepted\"` or the table `oidc.client_certificate`, or use `Bearer`"
            );
            return true;
        }
        Bearer::<S, C, R>::abort(rocket)
    }
}
