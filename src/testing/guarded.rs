//! The requests of `assert_guarded` and `assert_all_guarded`: which routes are requested, and how responses are checked.

use rocket::{
    Orbit, Request, Rocket, Route,
    http::{Accept, ContentType, HeaderMap, Method, Status},
};

use crate::relying_party::RelyingParty;

/// One request to a route.
pub(super) struct Visit {
    route: String,
    pub(super) method: Method,
    pub(super) path: String,
    format: Option<ContentType>,
}

/// The methods that change nothing.
pub(super) const SAFE: &[Method] = &[Method::Get, Method::Head];
/// All that a route can have.
pub(super) const ALL: &[Method] = &[
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Patch,
    Method::Delete,
    Method::Options,
    Method::Trace,
    Method::Connect,
];

/// The requests of these methods to send.
#[track_caller]
pub(super) fn visits(rocket: &Rocket<Orbit>, methods: &[Method], public: &[&str]) -> Vec<Visit> {
    let is_own = |route: &&Route| {
        let rp = rocket.state::<RelyingParty>();
        let below = rp.map_or("/".to_owned(), |rp| rp.routed_path(""));
        match route.name.as_deref() {
            Some("oidc_protected_resource" | "oidc_protected_resource_preflight") => true,
            Some(name) => name.starts_with("oidc_") && route.uri.path().starts_with(&below),
            None => false,
        }
    };
    let routes: Vec<_> = rocket.routes().filter(|route| !is_own(route)).collect();
    let public: Vec<_> = public.iter().map(|entry| (*entry, parsed(entry))).collect();
    for (entry, (method, uri)) in &public {
        let of_method = routes.iter().filter(|route| route.method == *method);
        let mut uris = of_method.map(|route| route.uri.as_str());
        assert!(
            uris.clone().any(|known| known == *uri),
            "there is no public route `{entry}`; the routes of {method} are {:?}",
            uris.by_ref().collect::<Vec<_>>()
        );
    }
    let is_public = |route: &Route| {
        let mut entries = public.iter();
        entries.any(|(_, (method, uri))| route.method == *method && route.uri.as_str() == *uri)
    };
    let routes = routes.into_iter();
    routes
        .filter(|route| methods.contains(&route.method) && !is_public(route))
        .map(Visit::to)
        .collect()
}

/// A public route: with its method in front, or without for `GET`.
fn parsed(entry: &str) -> (Method, &str) {
    let parts = entry.split_once(' ');
    let with_method = parts.and_then(|(method, uri)| Some((method.parse().ok()?, uri)));
    with_method.unwrap_or((Method::Get, entry))
}

/// Panics if there are unguarded routes.
#[track_caller]
pub(super) fn assert_none(unguarded: &[String]) {
    assert!(
        unguarded.is_empty(),
        "these routes respond without a session: guard them, or list them as public:\n  {}",
        unguarded.join("\n  ")
    );
}

impl Visit {
    fn to(route: &Route) -> Visit {
        let placeholder = |segment: &str| match segment.strip_prefix('<') {
            Some(dynamic) if dynamic.ends_with("..>") => "x".to_owned(),
            Some(_) => "1".to_owned(),
            None => segment.to_owned(),
        };
        let path: Vec<_> = route.uri.path().split('/').map(placeholder).collect();
        let query = route.uri.query().unwrap_or_default().split('&');
        let query: Vec<_> = query.filter(|pair| !pair.is_empty() && !pair.contains('<')).collect();
        let mut path = path.join("/");
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        Visit {
            route: match &route.name {
                Some(name) => format!("{} ({name})", route.uri),
                None => route.uri.to_string(),
            },
            method: route.method,
            path,
            format: route.format.clone().map(ContentType::from),
        }
    }

    /// Adds the headers by which Rocket selects the route.
    pub(super) fn write(&self, request: &mut Request<'_>) {
        match &self.format {
            Some(format) if self.method.supports_payload() => request.add_header(format.clone()),
            Some(format) => request.add_header(Accept::from(format.0.clone())),
            None => request.add_header(Accept::HTML),
        }
    }

    /// A message if the response is not a rejection.
    pub(super) fn finding(&self, rocket: &Rocket<Orbit>, status: Status, headers: &HeaderMap<'_>) -> Option<String> {
        let login = rocket.state::<RelyingParty>().map(|rp| rp.route_path("login"));
        let location = headers.get_one("Location").unwrap_or_default();
        let is_rejection = match status.code {
            401 | 403 => true,
            303 => login.is_some_and(|login| location.starts_with(&login)),
            _ => false,
        };
        (!is_rejection).then(|| format!("{} {}: {status} at {}", self.method, self.route, self.path))
    }
}
