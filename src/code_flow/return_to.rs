//! Where a browser goes after sign-in or sign-out: always a page of this app.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest return address that is kept; what is longer leads to `/`.
const LONGEST: usize = 2048;

/// A local address: a path with an optional query. Never another origin, never one of our own routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// The start page.
    pub(crate) fn home() -> ReturnTo {
        ReturnTo("/".into())
    }

    /// Takes an address that came from outside. What is not a local path, or is one of the routes
    /// under `mount` that change who is signed in, becomes the start page.
    pub(crate) fn parse(address: &str, mount: &str) -> ReturnTo {
        match is_local(address) && !is_ours(address, mount) {
            true => ReturnTo(address.into()),
            false => ReturnTo::home(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether every browser reads this as a path on the same origin: one leading slash, and nothing that
/// the URL Standard rewrites or strips (backslash, tab, newline, other controls, raw Unicode).
fn is_local(address: &str) -> bool {
    let bytes = address.as_bytes();
    bytes.len() <= LONGEST
        && bytes.first() == Some(&b'/')
        && bytes.get(1) != Some(&b'/')
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#'))
        && !has_dot_segment(address)
}

/// Whether a browser would collapse a part of the path, after which it may begin with two slashes.
fn has_dot_segment(address: &str) -> bool {
    let path = address.split('?').next().unwrap_or_default();
    path.split('/').any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    })
}

/// Whether this leads back to a route of ours, where it would go in circles.
fn is_ours(address: &str, mount: &str) -> bool {
    let path = address.split('?').next().unwrap_or_default();
    let mount = mount.trim_end_matches('/');
    ["login", "authorize", "logout"].iter().any(|route| {
        path.strip_prefix(mount)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|rest| rest.trim_end_matches('/') == *route)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_paths_are_kept() {
        for address in [
            "/",
            "/me",
            "/notes?page=2&sort=a%20b",
            "/a/b/c",
            "/@user",
            "/a:b",
            "/oidc",
            "/oidc/loginx",
            "/search?next=//x",
            "/%2f%2fevil.example",
            "/file.txt",
            "/a..b",
        ] {
            assert_eq!(ReturnTo::parse(address, "/oidc").as_str(), address);
        }
    }

    #[test]
    fn our_own_routes_become_home() {
        for (address, mount) in [
            ("/oidc/login?next=/oidc/login", "/oidc"),
            ("/oidc/authorize", "/oidc"),
            ("/oidc/logout/", "/oidc"),
            ("/login", "/"),
        ] {
            assert_eq!(ReturnTo::parse(address, mount), ReturnTo::home(), "{address}");
        }
    }
}
