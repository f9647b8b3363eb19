//! Protected resource metadata (RFC 9728): where a client that was refused finds the provider.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::Cursor,
    sync::{Mutex, PoisonError},
};

use rocket::{
    Data, Request, Response, Route,
    http::{ContentType, Method, Status},
    route::{Handler, Outcome},
};
use serde_json::json;
use url::Url;

use super::{BearerError, ResourceServer};
use crate::settings::{Settings, resource_identifier};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// This API, as its challenges and its metadata describe it.
#[derive(Debug)]
pub(crate) struct ProtectedResource {
    realm: String,
    /// The challenge to a request without a token, of which there are many.
    bare_challenge: Option<String>,
    /// `None` when no metadata is published.
    published: Option<Published>,
    authorization_servers: Vec<String>,
    /// The scopes of every `Bearer` in a route; `None` while there is none.
    scopes: Mutex<Option<BTreeSet<&'static str>>>,
    further_scopes: Vec<String>,
    /// Published whether the app has a `Bearer` that we see or not.
    is_asked_for: bool,
}

#[derive(Debug)]
struct Published {
    /// The resource identifier (§1.2).
    resource: String,
    /// Where its metadata is (§3.1), as an address and as a path of this app.
    url: String,
    path: String,
}

impl ProtectedResource {
    pub(super) fn new(
        settings: &Settings,
        base_url: Option<&Url>,
        authorization_servers: Vec<String>,
    ) -> ProtectedResource {
        let published = settings
            .resource
            .as_ref()
            .or(base_url)
            .filter(|_| settings.resource_metadata && !authorization_servers.is_empty())
            .map(Published::new);
        let url = published.as_ref().map(|published| &*published.url);
        ProtectedResource {
            realm: settings.realm.clone(),
            bare_challenge: BearerError::Missing.challenge(&settings.realm, url),
            published,
            authorization_servers,
            scopes: Mutex::default(),
            further_scopes: settings.scopes_supported.clone(),
            is_asked_for: settings.resource_server_only || settings.resource.is_some(),
        }
    }

    /// Notes a guard of the app, with the words it may ask for.
    pub(crate) fn is_guarded_by(&self, any_of: &'static [&'static [&'static str]]) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes
            .get_or_insert_default()
            .extend(any_of.iter().copied().flatten());
    }

    /// Whether a `Bearer` was seen in a route.
    pub(crate) fn is_guarded(&self) -> bool {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.is_some()
    }

    /// The value of `WWW-Authenticate` for this refusal, if a token would help.
    pub(crate) fn challenge(&self, error: &BearerError) -> Option<Cow<'_, str>> {
        if let BearerError::Missing = error {
            return self.bare_challenge.as_deref().map(Cow::Borrowed);
        }
        let url = self.published.as_ref().map(|published| &*published.url);
        error.challenge(&self.realm, url).map(Cow::Owned)
    }

    /// Where the metadata is published, as a path of this app.
    pub(crate) fn path(&self) -> Option<&str> {
        Some(&self.published.as_ref()?.path)
    }

    /// The metadata (§2), unless this app is no API.
    fn metadata(&self) -> Option<String> {
        let published = self.published.as_ref()?;
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if scopes.is_none() && !self.is_asked_for && self.further_scopes.is_empty() {
            return None;
        }
        let scopes: BTreeSet<&str> = scopes
            .iter()
            .flatten()
            .copied()
            .chain(self.further_scopes.iter().map(String::as_str))
            .collect();

        let mut metadata = json!({
            "resource": published.resource,
            "authorization_servers": self.authorization_servers,
            "bearer_methods_supported": ["header"],
        });
        if !scopes.is_empty() {
            metadata["scopes_supported"] = json!(scopes);
        }
        Some(metadata.to_string())
    }
}

impl Published {
    fn new(resource: &Url) -> Published {
        let identifier = resource_identifier(resource);
        let origin = resource.origin().ascii_serialization();
        let path = &identifier[origin.len()..];
        let well_known = format!("{WELL_KNOWN}{path}");
        Published {
            url: format!("{origin}{well_known}"),
            resource: identifier,
            path: well_known,
        }
    }
}

/// The route of the metadata, if it is published.
pub(crate) fn routes(resource: &ProtectedResource) -> Vec<Route> {
    let route = resource.path().map(|path| {
        let mut route = Route::new(Method::Get, path, Metadata);
        route.name = Some("oidc_protected_resource".into());
        route
    });
    route.into_iter().collect()
}

/// `GET /.well-known/oauth-protected-resource`.
#[derive(Clone)]
struct Metadata;

#[rocket::async_trait]
impl Handler for Metadata {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let metadata = request
            .rocket()
            .state::<ResourceServer>()
            .and_then(|resource_server| resource_server.protected_resource.metadata());
        let Some(metadata) = metadata else {
            return Outcome::Forward((data, Status::NotFound));
        };
        // Public, and read by clients that run in browsers.
        Outcome::Success(
            Response::build()
                .header(ContentType::JSON)
                .raw_header("Access-Control-Allow-Origin", "*")
                .raw_header("Cache-Control", "max-age=300")
                .sized_body(metadata.len(), Cursor::new(metadata))
                .finalize(),
        )
    }
}
