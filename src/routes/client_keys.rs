//! `GET {mount}/jwks.json`: the public keys of the client, for its providers.

use std::{
    collections::{BTreeMap, HashSet},
    io::Cursor,
    sync::Arc,
};

use rocket::{
    Data, Request, Response, Route,
    http::{ContentType, Header, Method, Status},
    route::{Handler, Outcome},
};
use serde_json::json;

use crate::{
    settings::{Mode, Registration},
    token::PublicKey,
};

/// How long a provider may cache the keys: `rocket-oidc keys rotate` publishes a key long before it signs.
const CACHE_CONTROL: &str = "public, max-age=300";

/// The JWK Sets that the app publishes ([RFC 7517 §5](https://www.rfc-editor.org/rfc/rfc7517#section-5)), made once at
/// launch from the settings: a provider that is found at run time has no part in them.
#[derive(Debug)]
pub(crate) struct PublishedKeys {
    all: String,
    /// Those of each of several providers that has any.
    of_provider: BTreeMap<String, String>,
}

impl PublishedKeys {
    /// The keys of all clients in the settings; `None` if there are none.
    pub(crate) fn of(mode: &Mode) -> Option<PublishedKeys> {
        let mut of_provider = BTreeMap::new();
        let all: Vec<&PublicKey> = match mode {
            Mode::Disabled { .. } => vec![],
            Mode::ResourceServerOnly(registration) | Mode::RelyingParty { registration, .. } => {
                keys_of(registration).iter().collect()
            }
            Mode::SeveralProviders { providers, .. } => {
                let with_keys = providers.iter().filter(|it| !keys_of(&it.registration).is_empty());
                for provider in with_keys.clone() {
                    let name = provider.settings.provider_name().to_owned();
                    of_provider.insert(name, jwk_set(keys_of(&provider.registration)));
                }
                with_keys.flat_map(|it| keys_of(&it.registration)).collect()
            }
        };
        let all = if all.is_empty() { None } else { Some(jwk_set(all)) };
        Some(PublishedKeys { all: all?, of_provider })
    }

    /// The routes, to be mounted at the setting `mount`.
    pub(crate) fn into_routes(self) -> Vec<Route> {
        let has_several = !self.of_provider.is_empty();
        let handler = ClientKeysRoute(Arc::new(self));
        let route = |path: &str, name: &'static str| {
            let mut route = Route::new(Method::Get, path, handler.clone());
            route.name = Some(name.into());
            route
        };
        let mut routes = vec![route("/jwks.json", "oidc_client_keys")];
        if has_several {
            routes.push(route("/jwks.json/<provider>", "oidc_client_keys_at"));
        }
        routes
    }
}

fn keys_of(registration: &Registration) -> &[PublicKey] {
    registration.client_key.as_ref().map_or(&[], |key| key.published())
}

/// Clients may share a key, which is listed once.
fn jwk_set<'k>(keys: impl IntoIterator<Item = &'k PublicKey>) -> String {
    let mut listed = HashSet::new();
    let keys = keys.into_iter().map(|key| json!(key.jwk()));
    let keys: Vec<_> = keys.filter(|key| listed.insert(key.to_string())).collect();
    json!({ "keys": keys }).to_string()
}

#[derive(Clone)]
struct ClientKeysRoute(Arc<PublishedKeys>);

#[rocket::async_trait]
impl Handler for ClientKeysRoute {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let keys = match request.param::<&str>(1) {
            None => Some(&self.0.all),
            Some(name) => name.ok().and_then(|name| self.0.of_provider.get(name)),
        };
        let Some(keys) = keys.cloned() else {
            return Outcome::Error(Status::NotFound);
        };
        let response = Response::build()
            // RFC 7517 §8.5.2.
            .header(ContentType::new("application", "jwk-set+json"))
            .header(Header::new("Cache-Control", CACHE_CONTROL))
            .sized_body(keys.len(), Cursor::new(keys))
            .finalize();
        Outcome::Success(response)
    }
}
