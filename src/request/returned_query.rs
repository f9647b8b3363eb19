//! Removal of the provider's query parameters (`code`, `state`, `sid`) from request URIs, so that Rocket does
//! not log them.

use rocket::{
    Request,
    http::{Method, RawStr, uri::Origin},
};
use url::form_urlencoded;

use crate::{
    code_flow::PENDING_LOGOUT,
    relying_party::{LOGGED_OUT, RelyingParty},
};

/// The query that was removed from the request's URI, for the route that reads it.
#[derive(Default)]
pub(crate) struct ReturnedQuery(String);

impl ReturnedQuery {
    /// The query; empty if none was removed.
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r str {
        &request.local_cache(ReturnedQuery::default).0
    }
}

/// The paths whose query is not logged.
pub(crate) struct PrivatePaths {
    /// The routes that read such a query, from a `GET` of exactly this path.
    readers: Vec<String>,
    /// The canonical forms of all private paths.
    canonical: Vec<String>,
    /// Among several providers, the callback and the front-channel logout of each are below these paths.
    readers_below: Vec<String>,
    /// And so are these and the back-channel logout of each below these, in their canonical forms.
    prefixes: Vec<String>,
    logged_out: String,
    /// The local paths of post-logout redirects, as configured and in their canonical forms.
    post_logout: Vec<(String, String)>,
}

impl PrivatePaths {
    pub(crate) fn new(rp: &RelyingParty) -> PrivatePaths {
        let (callback, front_channel) = (rp.routed_path("authorize"), rp.routed_path("frontchannel-logout"));
        let logged_out = rp.routed_path(LOGGED_OUT.trim_start_matches('/'));
        let readers_below = match rp.providers() {
            Some(_) => [&callback, &front_channel].map(|path| format!("{path}/")).to_vec(),
            None => vec![],
        };
        let providers = rp.providers().into_iter().flat_map(|providers| &providers.of_settings);
        let all: Vec<_> = providers.map(|rp| &**rp).chain([rp]).collect();
        // Also where a proxy does with the path of the app what the settings do not say: Rocket logs the URI.
        let canonical_forms = |names: &[&str]| -> Vec<String> {
            let forms = all.iter().flat_map(|rp| {
                let paths = names.iter().map(|name| rp.route_path(name));
                paths.flat_map(|path| rp.site.paths.forms(&path).map(canonical))
            });
            forms.collect()
        };
        let logged_out_route = LOGGED_OUT.trim_start_matches('/');
        let prefixes = canonical_forms(&["authorize", "backchannel-logout", "frontchannel-logout"]);
        let prefixes = prefixes.into_iter().map(|path| format!("{path}/"));
        let post_logout = all.iter().filter_map(|rp| {
            let path = rp.site.paths.in_rocket(rp.post_logout.local_path.as_deref()?);
            Some((path.to_owned(), canonical(path)))
        });
        PrivatePaths {
            canonical: canonical_forms(&[
                "authorize",
                "backchannel-logout",
                "frontchannel-logout",
                logged_out_route,
            ]),
            post_logout: post_logout.collect(),
            prefixes: if readers_below.is_empty() {
                vec![]
            } else {
                prefixes.collect()
            },
            readers_below,
            readers: vec![callback, front_channel, logged_out.clone()],
            logged_out,
        }
    }

    /// Removes the query from the request's URI before Rocket logs it, for every method and every spelling of
    /// the path. Only the exact path is the route; another spelling keeps its path and loses its query.
    pub(crate) fn hide_query(&self, rp: &RelyingParty, request: &mut Request<'_>) {
        let path = request.uri().path().as_str();
        let query = request.uri().query();
        if query.is_none() && !path.contains('%') {
            return;
        }
        let is_get = request.method() == Method::Get;
        let here = canonical(path);
        if self.canonical.contains(&here) {
            let is_read = is_get && self.readers.iter().any(|reader| reader == path);
            return take(request, is_read, None);
        }
        let is_below = |prefix: &String| here.starts_with(prefix) && here.len() > prefix.len();
        if self.prefixes.iter().any(is_below) {
            let is_reader = self.readers_below.iter().any(|reader| path.starts_with(reader));
            return take(request, is_get && is_reader, None);
        }
        if let Some((post_logout, _)) = self.post_logout.iter().find(|(_, canonical)| *canonical == here)
            && has_state(request)
            && has_pending_logout(rp, request)
        {
            // Any path may be registered as the post-logout redirect: reroute the request to our own route.
            let is_post_logout = is_get && post_logout == path;
            take(request, is_post_logout, is_post_logout.then_some(&self.logged_out));
        }
    }
}

/// Whether the browser has begun a sign-out at a provider.
fn has_pending_logout(rp: &RelyingParty, request: &Request<'_>) -> bool {
    if !rp.has_tenants() {
        return rp.cookies.named(PENDING_LOGOUT, "/").read(request.cookies()).is_some();
    }
    // Each tenant has a cookie of its own.
    request
        .cookies()
        .iter()
        .any(|cookie| cookie.name().contains(PENDING_LOGOUT))
}

/// Whether the request has a `state`, in its query or in a query that is escaped into the path.
fn has_state(request: &Request<'_>) -> bool {
    let uri = request.uri();
    let path = uri.path().as_str();
    let in_path = path[strip_escaped_query(path).len()..].contains("state");
    let query = uri.query().map_or("", |query| query.as_str());
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    in_path || pairs.any(|(name, _)| name == "state")
}

/// Removes the query from the URI, and keeps it for the route if `is_kept`. Replaces the path by `path`, if
/// there is one.
fn take(request: &mut Request<'_>, is_kept: bool, path: Option<&String>) {
    let uri = request.uri();
    let bare = match path {
        Some(path) => path,
        None => strip_escaped_query(uri.path().as_str()),
    };
    // Hyper accepts characters in a path that Rocket rejects.
    let bare = Origin::parse_owned(bare.to_owned()).unwrap_or_else(|_| rocket::uri!("/-"));
    let query = uri.query().map(|query| query.as_str().to_owned());
    if let Some(query) = query.filter(|_| is_kept) {
        request.local_cache(|| ReturnedQuery(query));
    }
    request.set_uri(bare);
}

/// How many levels of percent-encoding are decoded.
const MAX_ESCAPES: usize = 4;

/// The canonical form of a path, for comparisons only: decoded, in lower case, without empty and dot segments,
/// parameters (RFC 3986 §3.3), surrounding whitespace and an escaped query.
fn canonical(path: &str) -> String {
    let mut decoded = path.to_owned();
    for _ in 0..MAX_ESCAPES {
        if !decoded.contains('%') {
            break;
        }
        decoded = RawStr::new(&decoded).percent_decode_lossy().into_owned();
    }
    let path = decoded.split(['?', '#']).next().unwrap_or_default();
    let mut segments = vec![];
    for segment in path.split(['/', '\\']) {
        let segment = segment.split(';').next().unwrap_or_default();
        match segment.trim_matches(|c: char| c.is_whitespace() || c.is_control()) {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment.to_ascii_lowercase()),
        }
    }
    format!("/{}", segments.join("/"))
}

/// The path up to and including an escaped `?` or `#`. The mark is kept, so that the path does not become that
/// of a route.
fn strip_escaped_query(path: &str) -> &str {
    for (i, _) in path.match_indices('%') {
        let mut rest = &path[i + 1..];
        while let Some(escaped) = rest.strip_prefix("25") {
            rest = escaped;
        }
        if ["3F", "3f", "23"].iter().any(|mark| rest.starts_with(mark)) {
            return &path[..path.len() - rest.len() + 2];
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path() {
        for path in [
            "/oidc/authorize",
            "/oidc/authorize/",
            "//oidc///authorize",
            "/oidc/./x/../authorize",
            "/../../oidc/authorize",
            "/oidc/%61uthorize",
            "/%6Fidc/%61%75thorize",
            "/oidc%2Fauthorize",
            "/oidc%5cauthorize",
            "/oidc/%2e%2E/%25%36%66idc/authorize",
            "/oidc/%252561uthorize",
            "/oidc;a=b/authorize;c",
            "/OIDC/Authorize",
            "/oidc/authorize%00%20%09",
            "/oidc/authorize%3Fcode=1",
            "/oidc/authorize%253fcode=1/../..",
            "/oidc/authorize%23",
        ] {
            assert_eq!(canonical(path), "/oidc/authorize", "{path}");
        }
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/..", "/"),
            ("/oidc/authorize/more", "/oidc/authorize/more"),
            ("/oidc/authorized", "/oidc/authorized"),
            ("/%", "/%"),
            ("/%ff", "/\u{fffd}"),
        ] {
            assert_eq!(canonical(path), expected, "{path}");
        }
    }

    #[test]
    fn an_escaped_query_is_cut_off() {
        for (path, expected) in [
            ("/a%3Fcode=1", "/a%3F"),
            ("/a%3fcode%3F", "/a%3f"),
            ("/a%25253Fcode", "/a%25253F"),
            ("/a%23code", "/a%23"),
            ("/a%2Fb%2", "/a%2Fb%2"),
            ("/a%25", "/a%25"),
            ("/a", "/a"),
        ] {
            assert_eq!(strip_escaped_query(path), expected);
        }
    }
}
