//! `Bearer`: a guard for API routes that verifies an access token and its scopes.

use std::{fmt, marker::PhantomData, net::IpAddr, sync::Arc};

use rocket::{
    Ignite, Phase, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use time::OffsetDateTime;

use super::is_contradictory;
use crate::{
    api_tokens::{ApiTokenError, IssuedToken, Target},
    clock::Clock,
    groups,
    observing::{self, RejectedToken},
    printable::printable,
    relying_party::{NoProvider, RelyingParty},
    request::{RequestState, resource_server},
    requirement::Requirement,
    resource_server::{Accepted, BearerError, BearerUserInfoError, ResourceServer},
    scopes::{AnyScope, Demand, Scopes, nearest},
    secret::Secret,
    token::Claims,
};

/// A guard for an API route: it accepts a request with a bearer token in the header `Authorization: Bearer …`
/// (RFC 6750) that has the scopes `S` and claims that deserialize into `C`.
///
/// | outcome | when | what the client sees |
/// |---|---|---|
/// | success | the token is accepted and has the scopes `S` | the route |
/// | `Error(401)` | no token; or a token that is rejected, or lacks a claim of `C` | 401 and a challenge: without `error`, or `error="invalid_token"` |
/// | `Error(401)` | the request does not prove the key that its token is bound to ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)) | 401, `error="invalid_dpop_proof"` or `"use_dpop_nonce"` |
/// | `Error(401)` | the user's authentication does not satisfy `R` ([RFC 9470](https://www.rfc-editor.org/rfc/rfc9470)) | 401, `error="insufficient_user_authentication"`, with `acr_values` and `max_age` |
/// | `Error(403)` | the token lacks the scopes, or its user is not in the [groups](crate::groups!) | 403, `error="insufficient_scope"` |
/// | `Error(400)` | the header does not parse as one token | 400, `error="invalid_request"` |
/// | `Error(503)`, `Error(502)` | the provider is down, or its response is invalid | 503 with `Retry-After`, or 502 |
/// | `Error(429)`, `Error(503)` | the used proofs of this user and client, or of all, are too many; or the store for them is down | 429 or 503 with `Retry-After` |
///
/// The app's catcher makes the body. The guard never forwards; `Option<Bearer>` runs the handler without a
/// token.
///
/// A token is accepted when its signature or the provider's introspection endpoint verifies it
/// (`token_validation`) and it is for this API (`audience`; in an app of several APIs, the one that `S` names). A token
/// that is bound to a key needs a proof of that key ([bound tokens](crate::manual::bound_tokens)).
/// With `enabled = false`, a request without a token is accepted as the testing profile, with the scopes in its
/// `scope`.
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
pub struct Bearer<S = AnyScope, C = Claims, R = ()> {
    accepted: Arc<Accepted>,
    claims: Arc<C>,
    clock: Clock,
    /// The client address, by which requests to the provider are rate limited.
    client_address: Option<IpAddr>,
    demands: PhantomData<fn() -> (S, R)>,
}

impl<S, C, R> Bearer<S, C, R> {
    /// `sub`: the user who authorized the client, if there is one. For a client that acts on its own behalf,
    /// `sub` may be the client id: distinguish users from clients by what your provider documents.
    pub fn subject(&self) -> Option<&str> {
        self.accepted.token.subject()
    }

    /// The client id of the client that the token was issued to: `client_id`, `azp`, `appid` or `cid`.
    pub fn client_id(&self) -> Option<&str> {
        self.accepted.token.client_id()
    }

    /// The issuer: `oidc.issuer`, or one of `oidc.issuers`.
    pub fn issuer(&self) -> &str {
        self.accepted.token.issuer()
    }

    /// The scopes of the token: `scope`, `scp`, and the roles of the setting `roles_claim`.
    pub fn scopes(&self) -> &[String] {
        &self.accepted.token.scopes
    }

    /// The groups of the token's user or client, by the rule for those of a signed-in user: see
    /// [`User::groups`](crate::User::groups).
    pub fn groups(&self) -> Vec<&str> {
        self.accepted.token.groups()
    }

    /// The roles of the token's user or client, by the setting `roles_claim`; they are among the [`scopes`](Self::scopes).
    pub fn roles(&self) -> Vec<&str> {
        self.accepted.token.roles()
    }

    /// Whether the token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().iter().any(|own| own == scope)
    }

    /// All claims, deserialized into the app's type.
    pub fn claims(&self) -> &C {
        &self.claims
    }

    /// One claim. `None` when it is absent or of another type.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.accepted.token.claims.get(name)
    }

    /// When the token expires; `None` when the provider does not say.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.accepted.token.exp()?).ok()
    }

    /// The token itself, to pass on to another API that accepts it; one that is bound to a key is of use to its client alone.
    pub fn token(&self) -> &Secret {
        &self.accepted.token.token
    }

    /// An access token for another API in exchange for this one, from its own issuer, at which the app must be a client
    /// with credentials: token exchange ([RFC 8693](https://www.rfc-editor.org/rfc/rfc8693)), or the on-behalf-of flow of
    /// Microsoft Entra ID, by the setting [`token_exchange`](crate::settings::Settings::token_exchange).
    ///
    /// `audience` is the name of the other API at the provider: for Keycloak the id of its client, for Microsoft Entra ID
    /// its application id URI. The provider decides which user the issued token names.
    ///
    /// The token is cached in this process until shortly before it expires, and never beyond the end of this token: call
    /// this for each request to the API. Simultaneous calls with this token share one request to the provider. After a
    /// failure, none is made for 5 s, then for longer, up to a minute.
    ///
    /// ```
    /// use rocket::get;
    /// use rocket_openidconnect::{ApiTokenError, Bearer};
    ///
    /// #[get("/api/report")]
    /// async fn report(token: Bearer) -> Result<String, ApiTokenError> {
    ///     let exchanged = token.exchange("orders", &["orders:read"]).await?;
    ///     Ok(fetch_orders(exchanged.expose()).await)
    /// }
    /// # async fn fetch_orders(_: &str) -> String { String::new() }
    /// # let _ = rocket::routes![report];
    /// ```
    ///
    /// # Errors
    ///
    /// When the app has no client credentials at the token's issuer, which is so for each of `oidc.issuers`; when the
    /// provider is down or rejects the exchange; and while `enabled = false`.
    pub async fn exchange(&self, audience: &str, scopes: &[&str]) -> Result<IssuedToken, ApiTokenError> {
        let target = Target::of_audience(audience, scopes)?;
        self.accepted.exchange(target, self.client_address, &self.clock).await
    }

    /// The source of tokens in exchange for this one: see [`exchange`](Self::exchange).
    #[cfg(feature = "api-client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "api-client")))]
    pub fn tokens_for(&self, audience: &str, scopes: &[&str]) -> crate::api_client::TokenSource {
        let subject = (self.accepted.clone(), self.client_address, self.clock.clone());
        crate::api_client::TokenSource::of_subject(subject, audience, scopes)
    }

    /// The UserInfo claims of the token's user (Flask-OIDC's `userinfo(token)`). They are fetched once per
    /// token and cached with it.
    ///
    /// # Errors
    ///
    /// When there is no UserInfo endpoint or the token has no `sub`, when the request to the provider fails, or
    /// when its response is rejected, such as one about another user.
    pub async fn userinfo(&self) -> Result<Arc<Claims>, BearerUserInfoError> {
        self.accepted.user_info(self.client_address, self.clock.now()).await
    }
}

impl<S, C, R> Clone for Bearer<S, C, R> {
    fn clone(&self) -> Self {
        Bearer {
            accepted: self.accepted.clone(),
            claims: self.claims.clone(),
            clock: self.clock.clone(),
            client_address: self.client_address,
            demands: PhantomData,
        }
    }
}

impl<S, C, R> fmt::Debug for Bearer<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer")
            .field("subject", &self.subject())
            .field("client_id", &self.client_id())
            .field("scopes", &self.scopes())
            .finish_non_exhaustive()
    }
}

impl<S, C, R> Bearer<S, C, R>
where
    R: Requirement,
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
{
    /// Judges a request for a guard with this demand.
    pub(super) async fn judge(request: &Request<'_>, demand: Demand) -> Outcome<Self, BearerError> {
        let accepted = Bearer::accept(request, demand).await;
        let server = request.rocket().state::<ResourceServer>();
        if let Some(nonce) = server.and_then(|server| server.nonce_for(request, accepted.is_err())) {
            let _ = RequestState::of(request).dpop_nonce.set(nonce);
        }
        let error = match accepted {
            Ok(bearer) => {
                observing::token_accepted();
                note_token(request, "accepted", || {
                    let subject = bearer.subject().or(bearer.client_id()).unwrap_or("a client");
                    format!("{}: {}", printable(subject), bearer.scopes().join(" "))
                });
                return Outcome::Success(bearer);
            }
            Err(error) => error,
        };
        let facts = error.facts();
        note_token(request, facts.reason, || error.to_string());
        match server {
            Some(server) => {
                let rejected = RejectedToken {
                    reason: facts.reason,
                    cause: &error,
                    remedy: &facts.remedy,
                    is_for_operators: error.is_for_operators(),
                    issuer: &|| server.issuer_of(S::API, request),
                };
                observing::token_rejected(&rejected, &server.throttle, server.clock.now());
            }
            None => {
                super::log_missing_fairing::<Self>();
            }
        }
        RequestState::of(request).refuse(error.clone(), demand);
        let status = Status::from_code(facts.status).unwrap_or(Status::Unauthorized);
        Outcome::Error((status, error))
    }

    async fn accept(request: &Request<'_>, demand: Demand) -> Result<Self, BearerError> {
        let resource_server = resource_server(request).await.map_err(|none| match none {
            NoProvider::Unknown => BearerError::NoProvider,
            NoProvider::Undecided => BearerError::ProviderUndecided,
        })?;
        let resource_server = resource_server.ok_or(BearerError::NoFairing)?;
        let accepted = resource_server.accept(demand, request).await?;
        if !S::are_met_by(&accepted.token.scopes) {
            let error = BearerError::Scope {
                required: nearest(S::ANY_OF, &accepted.token.scopes),
                actual: accepted.token.scopes.clone(),
            };
            RequestState::of(request).insufficient_token(&accepted, &error);
            return Err(error);
        }
        let groups = if groups::are_none_needed(S::GROUPS) {
            vec![]
        } else {
            accepted.token.groups()
        };
        if !groups::are_met(S::GROUPS, &groups) {
            let error = BearerError::Groups {
                required: groups::in_words(S::GROUPS),
                actual: groups.into_iter().map(str::to_owned).collect(),
            };
            RequestState::of(request).insufficient_token(&accepted, &error);
            return Err(error);
        }
        let required = R::required();
        if !accepted.satisfies(&required, resource_server.clock.now()) {
            let error = BearerError::Authentication { required };
            RequestState::of(request).insufficient_token(&accepted, &error);
            return Err(error);
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
            demands: PhantomData,
        })
    }
}

/// Records a decision for the page for developers.
fn note_token(request: &Request<'_>, outcome: &'static str, text: impl FnOnce() -> String) {
    if let Some(rp) = request.rocket().state::<RelyingParty>() {
        rp.events.developer_log.token(request, outcome, text, rp.clock.now());
    }
}

#[rocket::async_trait]
impl<'r, S, C, R> FromRequest<'r> for Bearer<S, C, R>
where
    R: Requirement,
    S: Scopes,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Error = BearerError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, BearerError> {
        super::note_guard::<Self>(request, Some(S::ANY_OF));
        Bearer::judge(request, Demand::of::<S>()).await
    }
}

impl<S: Scopes, C, R: Requirement> Sentinel for Bearer<S, C, R> {
    /// Aborts the launch without the fairing, without the API that `S` names, without an audience, if only GitHub could
    /// issue its tokens, or if nothing can satisfy `R`. Otherwise adds the scopes to the protected resource metadata.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        Self::is_unusable(rocket)
    }
}

impl<S: Scopes, C, R: Requirement> Bearer<S, C, R> {
    /// What its sentinel does, in any phase.
    pub(crate) fn is_unusable<P: Phase>(rocket: &Rocket<P>) -> bool {
        let Some(resource_server) = rocket.state::<ResourceServer>() else {
            return super::log_missing_fairing::<Self>();
        };
        if is_contradictory::<Self, R>(rocket) {
            return true;
        }
        let guard = std::any::type_name::<Self>();
        let Some(api) = resource_server.api(S::API) else {
            let name = S::API.unwrap_or_default();
            tracing::error!("`{guard}` is used in a route, but there is no API `oidc.apis.{name}`");
            tracing::info!("add a table `oidc.apis.{name}` with `resource`");
            return true;
        };
        let app = rocket.state::<RelyingParty>();
        // Tenants that the app finds at run time have issuers of their own.
        let finds_tenants = app.is_some_and(RelyingParty::finds_tenants);
        let accepts_nothing = !resource_server.is_disabled() && !finds_tenants && api.issuers().is_empty();
        if accepts_nothing && resource_server.has_no_tokens_of_provider() {
            tracing::error!(
                "`{guard}` is used in a route, but access tokens of GitHub are not for this API: any app of its users has some"
            );
            tracing::info!("add an issuer of access tokens for this API to `oidc.issuers`, or use `LoggedIn`");
            return true;
        }
        if accepts_nothing {
            tracing::error!("`{guard}` is used in a route, but no audience is set for it");
            tracing::info!("set `oidc.audience`, or name an API of `oidc.apis` in the guard's scopes");
            return true;
        }
        api.protected_resource.is_guarded_by(S::ANY_OF);
        if let Some(rp) = app {
            rp.events.developer_log.declare::<Self>();
        }
        false
    }
}
