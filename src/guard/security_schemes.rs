//! `SecuritySchemes`: a guard that completes an app's OpenAPI document with how its routes are signed in to.

#[cfg(feature = "okapi")]
pub(super) mod requirements;

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::log_missing_fairing;
use crate::{
    provider::Provider,
    relying_party::{NoProvider, RelyingParty},
    request::{relying_party, resource_server},
    resource_server::ResourceServer,
    settings::MetadataSource,
};

/// A guard for the route that serves an app's [OpenAPI document](crate::manual::openapi): the security schemes of this
/// app, with the addresses of its provider.
///
/// | scheme | type | when |
/// |---|---|---|
/// | `oidc` | `openIdConnect`, with the address of the provider's metadata | a provider has metadata and its access tokens are accepted |
/// | `oauth2` | `oauth2`, the authorization code flow, with the scopes of all guards in routes | as `oidc`, and the metadata is there |
/// | `bearer` | `http`, for a token from elsewhere | always |
/// | `session` | `apiKey`, the session cookie | users sign in to this app |
///
/// Those of a second issuer are `oidc_2` and `oauth2_2`, and so on, in the order of the settings. A document is completed
/// when it is requested, because only then everything is known: the settings, wherever they came from, the provider's
/// metadata, and the scopes of every route.
///
/// | outcome | when |
/// |---|---|
/// | success | also while the provider is down, without `oauth2` if its metadata was never read |
/// | `Error(404)`, `Error(503)` | with [`Oidc::provider_for`](crate::Oidc::provider_for), if the request has no provider, or it cannot be decided |
///
/// ```
/// use rocket::{State, get, serde::json::Value};
/// use rocket_openidconnect::SecuritySchemes;
///
/// /// The document of utoipa, rocket_okapi or another library, or one that is written by hand.
/// struct ApiDocument(Value);
///
/// #[get("/openapi.json")]
/// fn openapi(document: &State<ApiDocument>, schemes: SecuritySchemes) -> Option<Value> {
///     schemes.complete(&document.0).ok()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct SecuritySchemes {
    schemes: Map<String, Value>,
}

/// The scheme for a token from elsewhere.
pub(super) const BEARER: &str = "bearer";
/// The scheme of the session cookie.
pub(super) const SESSION: &str = "session";

impl SecuritySchemes {
    /// The schemes by name, as in `components.securitySchemes`.
    pub fn schemes(&self) -> &Map<String, Value> {
        &self.schemes
    }

    /// The document with these schemes in `components.securitySchemes`. A scheme of the same name that is there already
    /// is kept.
    ///
    /// With the feature `okapi`, the guards in the document's operations become requirements of these schemes.
    ///
    /// # Errors
    ///
    /// When the document does not serialize as JSON.
    pub fn complete(&self, document: impl Serialize) -> Result<Value, serde_json::Error> {
        let mut document = serde_json::to_value(document)?;
        #[cfg(feature = "okapi")]
        requirements::resolve(&mut document, &self.schemes);
        let components = document
            .as_object_mut()
            .map(|document| document.entry("components").or_insert_with(|| json!({})));
        let schemes = components
            .and_then(Value::as_object_mut)
            .map(|components| components.entry("securitySchemes").or_insert_with(|| json!({})));
        if let Some(Value::Object(known)) = schemes {
            for (name, scheme) in &self.schemes {
                known.entry(name).or_insert_with(|| scheme.clone());
            }
        }
        Ok(document)
    }

    async fn new(rp: Option<&RelyingParty>, server: Option<&ResourceServer>) -> SecuritySchemes {
        let mut schemes = Map::new();
        if let Some(server) = server {
            let scopes = server.scopes_supported();
            for (index, provider) in server.authorization_servers().into_iter().enumerate() {
                let name = |name: &str| match index {
                    0 => name.to_owned(),
                    _ => format!("{name}_{}", index + 1),
                };
                schemes.extend(openid_connect(provider).map(|scheme| (name("oidc"), scheme)));
                let metadata = provider.metadata(server.clock.now()).await;
                let endpoints = metadata.as_ref().ok().and_then(|metadata| {
                    let authorization_endpoint = metadata.authorization_endpoint().ok()?;
                    Some((authorization_endpoint, metadata.token_endpoint().ok()?))
                });
                schemes.extend(endpoints.map(|(authorization_endpoint, token_endpoint)| {
                    let scopes: Map<String, Value> = scopes.iter().map(|scope| (scope.clone(), json!(""))).collect();
                    let flow = json!({
                        "authorizationUrl": authorization_endpoint,
                        "tokenUrl": token_endpoint,
                        "scopes": scopes,
                    });
                    let scheme = json!({ "type": "oauth2", "flows": { "authorizationCode": flow } });
                    (name("oauth2"), scheme)
                }));
            }
            schemes.insert(BEARER.to_owned(), json!({ "type": "http", "scheme": "bearer" }));
        }
        if let Some(rp) = rp.filter(|rp| rp.is_enabled()) {
            let scheme = json!({
                "type": "apiKey",
                "in": "cookie",
                "name": rp.sessions.cookie_name(),
                "description": format!("The session of this browser, after a sign-in at {}", rp.route_path("login")),
            });
            schemes.insert(SESSION.to_owned(), scheme);
        }
        SecuritySchemes { schemes }
    }
}

/// `None` if the provider's endpoints are in the settings, and no metadata is known.
fn openid_connect(provider: &Provider) -> Option<Value> {
    match &provider.registration.metadata {
        MetadataSource::Discovery { url } => Some(json!({ "type": "openIdConnect", "openIdConnectUrl": url })),
        MetadataSource::Given { .. } | MetadataSource::Keys { .. } | MetadataSource::GitHub { .. } => None,
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for SecuritySchemes {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let app = request.rocket().state::<RelyingParty>();
        let found = async {
            let rp = match app {
                Some(app) => Some(relying_party(request, app).await?),
                None => None,
            };
            Ok((rp, resource_server(request).await?))
        };
        match found.await {
            Ok((None, None)) => Outcome::Error((Status::InternalServerError, ())),
            Ok((rp, server)) => Outcome::Success(Box::pin(SecuritySchemes::new(rp, server)).await),
            Err(NoProvider::Unknown) => Outcome::Error((Status::NotFound, ())),
            Err(NoProvider::Undecided) => Outcome::Error((Status::ServiceUnavailable, ())),
        }
    }
}

impl Sentinel for SecuritySchemes {
    /// Aborts the launch without the fairing.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        let is_attached = rocket.state::<RelyingParty>().is_some() || rocket.state::<ResourceServer>().is_some();
        !is_attached && log_missing_fairing::<Self>()
    }
}
