//! `Bearer`: a route for API clients, with an access token that allows it.

use std::{fmt, marker::PhantomData, net::IpAddr, sync::Arc};

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use time::OffsetDateTime;

use crate::{
    clock::Clock,
    observing::{self, RejectedToken},
    request::RequestState,
    resource_server::{Accepted, BearerError, BearerUserInfoError, ResourceServer},
    scopes::{AnyScope, Demand, Scopes, nearest},
    secret::Secret,
    token::Claims,
};

/// A route that only a request with an access token reaches, for an API: the header
/// `Authorization: Bearer …` (RFC 6750), with the scopes `S` and claims that fit `C`.
///
/// | outcome | when | what the caller sees |
/// |---|---|---|
/// | success | the token is accepted and allows `S` | the route |
/// | `Error(401)` | no token; or one that is refused, or lacks a claim of `C` | 401 and a challenge: without `error`, or `error="invalid_token"` |
/// | `Error(403)` | the token has not the scopes | 403, `error="insufficient_scope"` |
/// | `Error(400)` | the header cannot be read as one token | 400, `error="invalid_request"` |
/// | `Error(503)`, `Error(502)` | the provider is down, or its answer is of no use | 503 with `Retry-After`, or 502 |
///
/// The body is the app's catcher's. It never forwards; `Option<Bearer>` runs the handler without.
///
/// A token is accepted by its signature, or by the provider's word on it (`token_validation`), when it
/// is for this API (`audience`; of several in one app, the one that `S` names). With `enabled = false`, a request without a token is the testing
/// profile's, with the scopes in its `scope`.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::{Bearer, scopes};
///
/// scopes! { pub NotesRead = "notes:read"; }
///
/// #[get("/api/notes")]
/// fn notes(token: Bearer<NotesRead>) -> String {
///     format!("for {:?} by {:?}", token.subject(), token.client_id())
/// }
/// ```
pub struct Bearer<S = AnyScope, C = Claims> {
    accepted: Arc<Accepted>,
    claims: Arc<C>,
    clock: Clock,
    /// Whose calls to the provider it counts among.
    client_address: Option<IpAddr>,
    scopes: PhantomData<fn() -> S>,
}

impl<S, C> Bearer<S, C> {
    /// `sub`: who allowed the client this, if it was a person. A client that acts for itself may have
    /// its own id here: tell people and clients apart by what your provider documents.
    pub fn subject(&self) -> Option<&str> {
        self.accepted.token.subject()
    }

    /// The client that the token was issued to: `client_id`, `azp`, `appid` or `cid`.
    pub fn client_id(&self) -> Option<&str> {
        self.accepted.token.client_id()
    }

    /// The issuer: `oidc.issuer`, or one of `oidc.issuers`.
    pub fn issuer(&self) -> &str {
        self.accepted.token.issuer()
    }

    /// What the token allows: `scope`, `scp`, and the roles of the setting `roles_claim`.
    pub fn scopes(&self) -> &[String] {
        &self.accepted.token.scopes
    }

    /// Whether the token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().iter().any(|own| own == scope)
    }

    /// All claims, as the app's type.
    pub fn claims(&self) -> &C {
        &self.claims
    }

    /// One claim. `None` when it is absent or of another type.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.accepted.token.claims.get(name)
    }

    /// When the token ends; `None` when the provider does not say.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.accepted.token.exp()?).ok()
    }

    /// The token itself, to be passed on to an API that accepts it too.
    pub fn token(&self) -> &Secret {
        &self.accepted.token.token
    }

    /// What UserInfo says about the token's person (Flask-OIDC's `userinfo(token)`); asked once in the
    /// life of the token, as long as it is in the cache.
    ///
    /// # Errors
    ///
    /// When there is nobody to ask, the provider does not do its part, or its answer is about somebody
    /// else.
    pub async fn userinfo(&self) -> Result<Arc<Claims>, BearerUserInfoError> {
        self.accepted
            .user_info(self.client_address, self.clock.now())
            .await
    }
}

impl<S, C> Clone for Bearer<S, C> {
    fn clone(&self) -> Self {
        Bearer {
            accepted: self.accepted.clone(),
            claims: self.claims.clone(),
            clock: self.clock.clone(),
            client_address: self.client_address,
            scopes: PhantomData,
        }
    }
}

impl<S, C> fmt::Debug for Bearer<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer")
            .field("subject", &self.subject())
            .field("client_id", &self.client_id())
            .field("scopes", &self.scopes())
            .finish_non_exhaustive()
    }
}

impl<S, C> Bearer<S, C>
where
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
{
    async fn accept(request: &Request<'_>) -> Result<Self, BearerError> {
        let resource_server = request
            .rocket()
            .state::<ResourceServer>()
            .ok_or(BearerError::NoFairing)?;
        let accepted = resource_server.accept(S::API, request).await?;
        if !S::are_met_by(&accepted.token.scopes) {
            return Err(BearerError::Scope {
                required: nearest(S::ANY_OF, &accepted.token.scopes),
                actual: accepted.token.scopes.clone(),
            });
        }
        let claims = accepted.claims().map_err(|cause| BearerError::Claims {
            expected: std::any::type_name::<C>(),
            cause,
        })?;
        Ok(Bearer {
            accepted,
            claims,
            clock: resource_server.clock.clone(),
            client_address: resource_server.client(request),
            scopes: PhantomData,
        })
    }
}

#[rocket::async_trait]
impl<'r, S, C> FromRequest<'r> for Bearer<S, C>
where
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Error = BearerError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, BearerError> {
        match Bearer::accept(request).await {
            Ok(bearer) => {
                observing::token_accepted();
                Outcome::Success(bearer)
            }
            Err(error) => {
                match request.rocket().state::<ResourceServer>() {
                    Some(server) => {
                        let rejected = RejectedToken {
                            reason: error.reason(),
                            cause: &error,
                            remedy: &error.remedy(),
                            is_for_operators: error.is_for_operators(),
                            issuer: &|| server.issuer_of(S::API, request),
                        };
                        observing::token_rejected(&rejected, &server.throttle, server.clock.now());
                    }
                    None => {
                        super::tell_missing_fairing::<Self>();
                    }
                }
                RequestState::of(request).refuse(error.clone(), Demand::of::<S>());
                let status = Status::from_code(error.status()).unwrap_or(Status::Unauthorized);
                Outcome::Error((status, error))
            }
        }
    }
}

impl<S: Scopes, C> Sentinel for Bearer<S, C> {
    /// Aborts without the fairing, and without the API that `S` names; else notes the scopes for the protected
    /// resource metadata.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        let Some(resource_server) = rocket.state::<ResourceServer>() else {
            return super::tell_missing_fairing::<Self>();
        };
        let Some(api) = resource_server.api(S::API) else {
            let (guard, name) = (std::any::type_name::<Self>(), S::API.unwrap_or_default());
            tracing::error!("`{guard}` is used in a route, and there is no API `oidc.apis.{name}`");
            tracing::info!("add a table `oidc.apis.{name}` with `resource`");
            return true;
        };
        if !resource_server.is_disabled() && api.issuers().is_empty() {
            let guard = std::any::type_name::<Self>();
            tracing::error!("`{guard}` is used in a route, and no audience is set for it");
            tracing::info!(
                "set `oidc.audience`, or name an API of `oidc.apis` in the guard's scopes"
            );
            return true;
        }
        api.protected_resource.is_guarded_by(S::ANY_OF);
        false
    }
}
