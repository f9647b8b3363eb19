//! The requests of `assert_guarded`: which routes are requested, and how responses are checked.

use rocket::{
    Orbit, Rocket, Route,
    http::{Accept, HeaderMap, Method, Status},
};

use crate::relying_party::RelyingParty;

/// One request to a route.
pub(super) struct Visit {
    route: String,
    pub(super) path: String,
    pub(super) accept: Accept,
}

/// The requests to send.
#[track_caller]
pub(super) fn visits(rocket: &Rocket<Orbit>, public: &[&str]) -> Vec<Visit> {
    let is_own = |route: &&Route| {
        let rp = rocket.state::<RelyingParty>();
        let below = rp.map_or("/".to_owned(), |rp| rp.routed_path(""));
        match route.name.as_deref() {
            Some("oidc_protected_resource") => true,
            Some(name) => name.starts_with("oidc_") && route.uri.path().starts_with(&below),
            None => false,
        }
    };
    let routes = rocket.routes().filter(|route| route.method == Method::Get);
    let routes: Vec<_> = routes.filter(|route| !is_own(route)).collect();
    for entry in public {
        assert!(
            routes.iter().any(|route| route.uri.as_str() == *entry),
            "there is no public route `{entry}`; the routes are {:?}",
            routes.iter().map(|route| route.uri.as_str()).collect::<Vec<_>>()
        );
    }
    let routes = routes.into_iter();
    routes
        .filter(|route| !public.contains(&route.uri.as_str()))
        .map(Visit::to)
        .collect()
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
            path,
            accept: route.format.clone().map_or(Accept::HTML, Accept::from),
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
        (!is_rejection).then(|| format!("GET {}: {status} at {}", self.route, self.path))
    }
}
