//! What the provider sends a browser with in a query: `code`, `state` and `sid`, which Rocket's log must not have.

use rocket::{
    Request,
    http::{Method, RawStr, uri::Origin},
};
use url::form_urlencoded;

use crate::{
    code_flow::PENDING_LOGOUT,
    relying_party::{LOGGED_OUT, RelyingParty},
};

/// The query that a request came with, for the route that it is meant for.
#[derive(Default)]
pub(crate) struct ReturnedQuery(String);

impl ReturnedQuery {
    /// The query; empty where it is not one of the provider's.
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r str {
        &request.local_cache(ReturnedQuery::default).0
    }
}

/// The paths whose query is not logged.
pub(crate) struct PrivatePaths {
    /// The routes that read such a query from a `GET` at exactly this path.
    readers: [String; 3],
    /// All of them, in their canonical form.
    canonical: [String; 4],
    logged_out: String,
    /// Where a browser comes back to after a sign-out at the provider, as it is and in its canonical form.
    post_logout: Option<(String, String)>,
}

impl PrivatePaths {
    pub(crate) fn new(rp: &RelyingParty) -> PrivatePaths {
        let callback = rp.site.callback_path.clone();
        let front_channel = rp.route_path("frontchannel-logout");
        let back_channel = rp.route_path("backchannel-logout");
        let logged_out = rp.route_path(LOGGED_OUT.trim_start_matches('/'));
        let post_logout = rp.post_logout.local_path.as_ref();
        PrivatePaths {
            canonical: [&callback, &front_channel, &back_channel, &logged_out]
                .map(|path| canonical(path)),
            readers: [callback, front_channel, logged_out.clone()],
            post_logout: post_logout.map(|path| (path.clone(), canonical(path))),
            logged_out,
        }
    }

    /// Takes the query out of the request's address before Rocket logs it, whatever the method and however the path
    /// is spelled. Only the usual spelling is the route: another one stays as it is, and has no query.
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
        if let Some((post_logout, canonical)) = &self.post_logout
            && *canonical == here
            && has_state(request)
            && rp
                .cookies
                .named(PENDING_LOGOUT, "/")
                .read(request.cookies())
                .is_some()
        {
            // Any path may be registered for it: the browser goes on at a route of ours.
            let leads_on = is_get && post_logout == path;
            take(request, leads_on, leads_on.then_some(&self.logged_out));
        }
    }
}

/// Whether the request has a `state`, in its query or in what should have been one.
fn has_state(request: &Request<'_>) -> bool {
    let uri = request.uri();
    let path = uri.path().as_str();
    let in_path = path[usable(path).len()..].contains("state");
    let query = uri.query().map_or("", |query| query.as_str());
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    in_path || pairs.any(|(name, _)| name == "state")
}

/// Takes the query out of the address, and keeps it for the route if it is the one that reads it. The path becomes
/// `path`, or stays.
fn take(request: &mut Request<'_>, is_kept: bool, path: Option<&String>) {
    let uri = request.uri();
    let bare = match path {
        Some(path) => path,
        None => usable(uri.path().as_str()),
    };
    // Hyper accepts characters in a path that Rocket does not.
    let bare = Origin::parse_owned(bare.to_owned()).unwrap_or_else(|_| rocket::uri!("/-"));
    let query = uri.query().map(|query| query.as_str().to_owned());
    if let Some(query) = query.filter(|_| is_kept) {
        request.local_cache(|| ReturnedQuery(query));
    }
    request.set_uri(bare);
}

/// How often a path may be escaped.
const MAX_ESCAPES: usize = 4;

/// The path as somebody may have meant it: decoded, without empty and dot segments, parameters (RFC 3986 §3.3), blanks
/// and an escaped query, in lower case. Only for comparisons.
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

/// The path up to an escaped `?` or `#`, which is kept, so that the path is not another one.
fn usable(path: &str) -> &str {
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
            assert_eq!(usable(path), expected);
        }
    }
}
