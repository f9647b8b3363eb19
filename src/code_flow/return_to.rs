//! The return address after sign-in or sign-out: always a page of this app.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings::AppPaths;

/// The maximum length of a return address, in bytes; a longer one is replaced by the start page.
const MAX_LEN: usize = 2048;

/// A local address: a path with an optional query. Never another origin, never one of this crate's routes that
/// begin or end a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// The start page.
    pub(crate) fn home(paths: &AppPaths) -> ReturnTo {
        ReturnTo(paths.home())
    }

    /// Parses an address as Rocket and the app's code have it.
    pub(crate) fn page(address: &str, paths: &AppPaths) -> ReturnTo {
        if is_local(address) {
            ReturnTo::parse(&paths.in_browser(address), paths)
        } else {
            ReturnTo::home(paths)
        }
    }

    /// Parses an untrusted address of the browser. An address that is not a path of this app, or is one of the routes
    /// that begin or end a session, becomes the start page.
    pub(crate) fn parse(address: &str, paths: &AppPaths) -> ReturnTo {
        if is_local(address) && paths.has(address) && !is_own_route(address, paths) {
            ReturnTo(address.into())
        } else {
            ReturnTo::home(paths)
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

/// Whether every browser parses this as a path on the same origin: one leading slash, and nothing that the URL
/// Standard rewrites or strips (backslash, tab, newline, other controls, raw Unicode).
fn is_local(address: &str) -> bool {
    let bytes = address.as_bytes();
    bytes.len() <= MAX_LEN
        && bytes.first() == Some(&b'/')
        && bytes.get(1) != Some(&b'/')
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#'))
        && !has_dot_segment(address)
}

/// Whether the path has a dot segment, which browsers collapse: the rest may begin with two slashes. Proxies collapse those
/// between escaped slashes too, and forward the request to another app of the host.
fn has_dot_segment(address: &str) -> bool {
    let path = address.split('?').next().unwrap_or_default();
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    let path = path.replace("%2f", "/").replace("%5c", "/");
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Whether this is one of this crate's own routes, which would cause a redirect loop.
fn is_own_route(address: &str, paths: &AppPaths) -> bool {
    matches!(
        paths.route_in(address),
        Some("login" | "initiate-login" | "authorize" | "logout" | "logged-out" | "frontchannel-logout")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(mount: &str) -> AppPaths {
        AppPaths::new("/", mount, false)
    }

    fn parse(address: &str) -> String {
        ReturnTo::parse(address, &paths("/oidc")).0
    }

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
            assert_eq!(parse(address), address);
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
            assert_eq!(ReturnTo::parse(address, &paths(mount)).as_str(), "/", "{address}");
        }
    }

    /// None of these reaches the `Location` header: each would leave the origin, be rewritten by a browser, or
    /// break the header.
    #[test]
    fn other_addresses_become_home() {
        let payloads = [
            "",
            " ",
            "me",
            "?x",
            "#x",
            "//",
            "///",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/\u{0}/evil.example",
            "/\u{b}/evil.example",
            "/\u{c}/evil.example",
            "/\u{7f}/evil.example",
            "/\u{a0}/evil.example",
            "/\u{2028}/evil.example",
            "/\u{ff0f}evil.example",
            "\u{ff0f}\u{ff0f}evil.example",
            "/\u{3002}",
            "http://evil.example",
            "https://evil.example",
            "HTTPS://evil.example",
            "https:evil.example",
            "https:/evil.example",
            "https:///evil.example",
            "http:\\\\evil.example",
            "ftp://evil.example",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "java\tscript:alert(1)",
            " javascript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:x",
            "about:blank",
            "mailto:x",
            "//evil.example@app.example",
            "https://app.example@evil.example",
            "@evil.example",
            "evil.example",
            "//evil.example:443",
            "//[::1]",
            "//127.0.0.1",
            "//0x7f000001",
            "//2130706433",
            "/.//evil.example",
            "/..//evil.example",
            "/./",
            "/../",
            "/..%2fevil.example",
            "/a%2F%2e%2e/b",
            "/a/..%5C",
            "/a/../..//evil.example",
            "/%2e//evil.example",
            "/%2e%2e//evil.example",
            "/%2E%2E/%2F",
            "/.%2e//evil.example",
            "/a/%2e./b",
            "/me\r\nSet-Cookie: a=b",
            "/me\u{85}",
            "/é",
            "/me#top",
            "/#//evil.example",
            "/\\",
            "/a\\b",
            "/me\u{feff}",
            "\u{feff}/me",
            "\u{200b}//evil.example",
            "/\u{202e}",
        ];
        for payload in payloads {
            assert_eq!(parse(payload), "/", "{payload:?}");
        }
    }

    #[test]
    fn an_address_that_is_too_long_becomes_home() {
        let longest = format!("/{}", "a".repeat(2047));
        assert_eq!(parse(&longest), longest);
        let longer = format!("{longest}a");
        assert_eq!(parse(&longer), "/");
    }

    /// A URL parser resolves each accepted address to a path on the same origin.
    #[test]
    fn accepted_addresses_stay_on_the_origin() {
        let base = url::Url::parse("https://app.example").unwrap();
        for address in [
            "/me",
            "/%2f%2fevil.example",
            "/@evil.example",
            "/a//b",
            "/?//evil.example",
            "/:80",
        ] {
            let kept = parse(address);
            assert_eq!(kept, address);
            assert_eq!(base.join(&kept).unwrap().origin(), base.origin());
        }
    }

    #[test]
    fn below_the_path_of_the_app() {
        for is_stripped in [false, true] {
            let paths = AppPaths::new("/team", "/oidc", is_stripped);
            for own in ["/team", "/team/", "/team/me?a=b", "/team?a", "/team/oidc"] {
                assert_eq!(ReturnTo::parse(own, &paths).as_str(), own);
            }
            for other in [
                "/",
                "/other",
                "/teams",
                "/team/../other",
                "/team/..%2fother",
                "/team/%2e%2e%2Fother",
                "/team/a%5c..%5cother",
                "/team/oidc/logout",
                "/%74eam/me",
                "/team\\me",
                "//team/",
            ] {
                assert_eq!(ReturnTo::parse(other, &paths).as_str(), "/team/", "{other}");
            }
        }
    }
}
