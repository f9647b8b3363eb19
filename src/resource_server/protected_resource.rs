//! Protected resource metadata (RFC 9728), by which a rejected client finds the authorization server.

use std::{
    collections::BTreeSet,
    io::Cursor,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rocket::{
    Data, Request, Response, Route,
    futures::future::BoxFuture,
    http::{ContentType, Method, Status, uri::Host},
    route::{Handler, Outcome},
};
use serde_json::json;
use url::Url;

use super::{
    Api, BearerError, ResourceServer, Scheme,
    challenge::{Challenge, proof_algorithms},
};
use crate::{
    scopes::Demand,
    settings::{DpopTokens, Settings, resource_identifier},
};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The protected resource metadata and the challenges of one API.
#[derive(Debug)]
pub(crate) struct ProtectedResource {
    realm: String,
    /// `None` when no metadata is published.
    published: Option<Published>,
    authorization_servers: Vec<String>,
    /// The scopes of every `Bearer` in a route; `None` if no route has one.
    guards: OnceLock<ApiGuards>,
    further_scopes: Vec<String>,
    /// Published even if no `Bearer` was found in a route.
    is_requested: bool,
    dpop_tokens: DpopTokens,
    accepts_certificates: bool,
    requires_binding: bool,
}

/// The scopes of the guards of one API; `None` while no guard is found.
pub(super) type ApiGuards = Arc<Mutex<Option<BTreeSet<&'static str>>>>;

#[derive(Debug)]
struct Published {
    /// The resource identifier (§1.2).
    resource: String,
    /// The URL of its metadata in challenges.
    url: String,
    /// The paths in Rocket at which the metadata is served.
    paths: Vec<String>,
    /// The host of that URL.
    host: Option<String>,
    port: Option<u16>,
}

impl ProtectedResource {
    /// The metadata of the API `resource`; not published if its URL is not known. If `is_requested`, the metadata is
    /// published even if no `Bearer` was found in a route.
    pub(super) fn new(
        settings: &Settings,
        resource: Option<&Url>,
        further_scopes: &[String],
        authorization_servers: Vec<String>,
        is_requested: bool,
    ) -> ProtectedResource {
        ProtectedResource {
            realm: settings.realm.clone(),
            published: resource
                .filter(|_| settings.resource_metadata)
                .map(|resource| Published::new(resource, settings)),
            authorization_servers,
            guards: OnceLock::new(),
            further_scopes: further_scopes.to_vec(),
            is_requested,
            dpop_tokens: settings.dpop_tokens,
            accepts_certificates: settings.client_certificate.is_set(),
            requires_binding: settings.require_bound_tokens,
        }
    }

    /// Records a guard of the app, with the scopes it may require.
    pub(crate) fn is_guarded_by(&self, any_of: &'static [&'static [&'static str]]) {
        self.scopes()
            .get_or_insert_default()
            .extend(any_of.iter().copied().flatten());
    }

    /// Whether a route has a `Bearer`.
    pub(crate) fn is_guarded(&self) -> bool {
        self.scopes().is_some()
    }

    /// The scopes of its guards, and those of the settings.
    pub(super) fn scopes_supported(&self) -> BTreeSet<String> {
        let guards = self.scopes();
        let of_guards = guards.iter().flatten().map(|scope| (*scope).to_owned());
        of_guards.chain(self.further_scopes.iter().cloned()).collect()
    }

    pub(super) fn guards(&self) -> ApiGuards {
        self.guards.get_or_init(Arc::default).clone()
    }

    /// Has the same guards as another one, from now on.
    pub(super) fn share_guards(&self, guards: &ApiGuards) {
        let _ = self.guards.set(guards.clone());
    }

    fn scopes(&self) -> MutexGuard<'_, Option<BTreeSet<&'static str>>> {
        let guards = self.guards.get_or_init(Arc::default);
        guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of `WWW-Authenticate` for this error at a request of this scheme; empty if a token would not help.
    pub(super) fn challenges(&self, error: &BearerError, demand: Demand, used: Scheme) -> Vec<String> {
        // With a certificate, a bound token is sent as `Bearer` (RFC 8705 §3).
        let needs_proof = (demand.needs_binding || self.requires_binding) && !self.accepts_certificates;
        error.challenges(&Challenge {
            realm: &self.realm,
            needed: demand.scope().as_deref(),
            resource_metadata: self.published.as_ref().map(|published| &*published.url),
            offered: match self.dpop_tokens {
                DpopTokens::Off => &[Scheme::Bearer],
                DpopTokens::Accepted if !needs_proof => &[Scheme::Bearer, Scheme::Dpop],
                DpopTokens::Accepted | DpopTokens::Required => &[Scheme::Dpop],
            },
            used,
        })
    }

    /// The paths in Rocket at which the metadata is published.
    pub(crate) fn paths(&self) -> &[String] {
        self.published.as_ref().map_or(&[], |published| &published.paths)
    }

    /// The metadata document (§2); `None` if this app is not an API.
    fn metadata(&self) -> Option<String> {
        let published = self.published.as_ref()?;
        if !self.is_guarded() && !self.is_requested {
            return None;
        }
        let scopes = self.scopes_supported();

        let mut metadata = json!({
            "resource": published.resource,
            "bearer_methods_supported": ["header"],
        });
        if !self.authorization_servers.is_empty() {
            metadata["authorization_servers"] = json!(self.authorization_servers);
        }
        if !scopes.is_empty() {
            metadata["scopes_supported"] = json!(scopes);
        }
        if self.dpop_tokens != DpopTokens::Off {
            metadata["dpop_signing_alg_values_supported"] = proof_algorithms().collect();
        }
        if self.dpop_tokens == DpopTokens::Required {
            metadata["dpop_bound_access_tokens_required"] = json!(true);
        }
        // RFC 9728 §2: it says that the resource supports them.
        if self.accepts_certificates {
            metadata["tls_client_certificate_bound_access_tokens"] = json!(true);
        }
        Some(metadata.to_string())
    }
}

impl Published {
    fn new(resource: &Url, settings: &Settings) -> Published {
        let [url, standard] = metadata_urls(resource, settings);
        let app = settings.app_paths();
        let mut paths = vec![
            app.in_rocket(url.path()).to_owned(),
            // A proxy that forwards this path, outside of the app's, does not strip it.
            standard.path().to_owned(),
        ];
        paths.dedup();
        Published {
            url: url.to_string(),
            resource: resource_identifier(resource),
            paths,
            host: resource.host_str().map(str::to_owned),
            port: resource.port(),
        }
    }

    /// Whether a request is for its host.
    fn is_at(&self, host: &Host<'_>) -> bool {
        let domain = host.domain().as_str();
        let is_named = |own: &String| own.eq_ignore_ascii_case(domain);
        self.host.as_ref().is_some_and(is_named) && self.port == host.port()
    }
}

/// The URLs of the metadata of a resource: the one in challenges, and the one that clients derive from the resource
/// identifier (RFC 9728 §3.1). They differ for an app below a path: what the proxy forwards to the app is below it, and
/// the well-known path of the host is not.
pub(crate) fn metadata_urls(resource: &Url, settings: &Settings) -> [Url; 2] {
    let identifier = resource_identifier(resource);
    let origin = resource.origin();
    let path = &identifier[origin.ascii_serialization().len()..];
    let at = |path: String| {
        let mut url = resource.clone();
        url.set_path(&path);
        url.set_query(None);
        url
    };
    let standard = at(format!("{WELL_KNOWN}{path}"));
    let app = settings.app_paths();
    let is_of_app = settings
        .base_url
        .as_ref()
        .is_some_and(|base_url| base_url.origin() == origin);
    match app.below_base(path).filter(|_| is_of_app && !app.base().is_empty()) {
        Some(rest) => [
            at(format!("{}{WELL_KNOWN}{}", app.base(), rest.trim_end_matches('/'))),
            standard,
        ],
        None => [standard.clone(), standard],
    }
}

/// Finds the resource server for a request.
pub(crate) type Finder = for<'r> fn(&'r Request<'_>) -> BoxFuture<'r, Option<&'r ResourceServer>>;

/// The routes of the published metadata of these APIs.
pub(crate) fn routes(apis: &[Api], finder: Finder) -> Vec<Route> {
    let paths = apis.iter().flat_map(|api| api.protected_resource.paths());
    let paths: BTreeSet<&String> = paths.collect();
    let routes = paths.into_iter().flat_map(|path| {
        let named = |name: &'static str, method| {
            let metadata = Metadata {
                path: path.clone(),
                finder,
            };
            let mut route = Route::new(method, path, metadata);
            route.name = Some(name.into());
            route
        };
        [
            named("oidc_protected_resource", Method::Get),
            named("oidc_protected_resource_preflight", Method::Options),
        ]
    });
    routes.collect()
}

/// Serves `GET /.well-known/oauth-protected-resource` and paths below it, and their CORS preflight requests.
#[derive(Clone)]
struct Metadata {
    path: String,
    finder: Finder,
}

impl Metadata {
    /// The metadata at this path, which APIs on two hosts may share.
    async fn find(&self, request: &Request<'_>) -> Option<String> {
        let apis = (self.finder)(request).await?.apis();
        let resources = apis.iter().map(|api| &api.protected_resource);
        let here = resources.filter(|resource| resource.paths().contains(&self.path));
        let mut found = here.filter_map(|it| Some((it.published.as_ref()?, it.metadata()?)));
        let first = found.next()?;
        let host = request.host();
        let is_for_host = |published: &Published| host.is_some_and(|host| published.is_at(host));
        if is_for_host(first.0) {
            return Some(first.1);
        }
        // A proxy may have changed the host. Clients compare `resource` anyway (§3.3).
        let meant = found.find(|(published, _)| is_for_host(published));
        Some(meant.unwrap_or(first).1)
    }
}

#[rocket::async_trait]
impl Handler for Metadata {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        // `rocket-oidc doctor` finds out here whether a forged header reaches the app.
        if let Some(server) = (self.finder)(request).await
            && let Err(error) = server.client_certificate(request).await
        {
            let reason = error.reason();
            let mut response = Response::build();
            response.status(Status::BadRequest).header(ContentType::Plain);
            return Outcome::Success(response.sized_body(reason.len(), Cursor::new(reason)).finalize());
        }
        let Some(metadata) = self.find(request).await else {
            return Outcome::Forward((data, Status::NotFound));
        };
        // Public, and read by clients that run in browsers (CORS).
        let mut response = Response::build();
        response.raw_header("Access-Control-Allow-Origin", "*");
        if request.method() == Method::Options {
            // Clients send headers of their own, such as `MCP-Protocol-Version`.
            response
                .status(Status::NoContent)
                .raw_header("Allow", "GET, HEAD, OPTIONS")
                .raw_header("Access-Control-Allow-Methods", "GET, HEAD")
                .raw_header("Access-Control-Allow-Headers", "*, Authorization, DPoP")
                .raw_header("Access-Control-Max-Age", "7200");
        } else {
            response
                .header(ContentType::JSON)
                .raw_header("Cache-Control", "max-age=300")
                .sized_body(metadata.len(), Cursor::new(metadata));
        }
        Outcome::Success(response.finalize())
    }
}
