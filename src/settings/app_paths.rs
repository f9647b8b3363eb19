//! The paths of the app: as a browser has them, and as Rocket receives them behind a proxy that strips the first part.

use std::borrow::Cow;

use super::Settings;

/// Converts between the two, which differ only with `proxy_strips_path`: in the browser every path of the app is below
/// the path of `base_url`, and in Rocket none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppPaths {
    /// The path of `base_url`, without a slash at its end; empty for `/`.
    base: String,
    /// The path of this crate's routes in the browser; without a slash at its end.
    mount: String,
    is_stripped: bool,
}

impl AppPaths {
    /// `base` is the path of `base_url`, and `mount` is relative to it.
    pub(crate) fn new(base: &str, mount: &str, is_stripped: bool) -> AppPaths {
        let base = base.trim_end_matches('/');
        AppPaths {
            base: base.to_owned(),
            mount: format!("{base}{}", mount.trim_end_matches('/')),
            is_stripped,
        }
    }

    /// The path of `base_url`; empty for `/`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Whether Rocket receives paths without that of `base_url`.
    #[cfg(feature = "cli")]
    pub(crate) fn is_stripped(&self) -> bool {
        self.is_stripped
    }

    /// The start page of the app.
    pub(crate) fn home(&self) -> String {
        format!("{}/", self.base)
    }

    /// The path at which a browser finds a route of this crate.
    pub(crate) fn route(&self, route: &str) -> String {
        format!("{}/{route}", self.mount)
    }

    /// The path of this crate's routes, for cookies and for Rocket's `mount`.
    pub(crate) fn mount(&self) -> &str {
        match &*self.mount {
            "" => "/",
            mount => mount,
        }
    }

    /// The address in the browser of a path, with its query, that Rocket received or that the app's code names.
    pub(crate) fn in_browser<'a>(&self, address: &'a str) -> Cow<'a, str> {
        if self.is_stripped && address.starts_with('/') {
            format!("{}{address}", self.base).into()
        } else {
            address.into()
        }
    }

    /// The path in Rocket of an address in the browser.
    pub(crate) fn in_rocket<'a>(&self, address: &'a str) -> &'a str {
        match self.below_base(address) {
            Some("") if self.is_stripped => "/",
            Some(rest) if self.is_stripped && rest.starts_with('/') => rest,
            _ => address,
        }
    }

    /// A path in the browser, and the one that a proxy makes of it that strips the path of `base_url`. Rocket receives one of
    /// them, and the other where the settings are wrong.
    pub(crate) fn forms<'a>(&self, path: &'a str) -> [&'a str; 2] {
        [path, self.below_base(path).unwrap_or(path)]
    }

    /// Whether an address in the browser is one of this app's, as far as its path says.
    pub(crate) fn has(&self, address: &str) -> bool {
        self.below_base(address).is_some()
    }

    /// The route in an address in the browser, if it is below those of this crate: without query and final slashes.
    pub(crate) fn route_in<'a>(&self, address: &'a str) -> Option<&'a str> {
        let path = address.split('?').next().unwrap_or_default();
        let route = path.strip_prefix(&*self.mount)?.strip_prefix('/')?;
        Some(route.trim_end_matches('/'))
    }

    /// What follows the path of `base_url`: empty, or with `/` or `?` in front.
    pub(crate) fn below_base<'a>(&self, address: &'a str) -> Option<&'a str> {
        let rest = address.strip_prefix(&*self.base)?;
        matches!(rest.as_bytes().first(), None | Some(b'/' | b'?')).then_some(rest)
    }
}

impl Settings {
    /// The paths of an app with this `base_url`.
    pub(crate) fn app_paths(&self) -> AppPaths {
        let base = self.base_url.as_ref().map_or("", |url| url.path());
        AppPaths::new(base, &self.mount, self.proxy_strips_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(base: &str, is_stripped: bool) -> AppPaths {
        AppPaths::new(base, "/oidc", is_stripped)
    }

    #[test]
    fn without_a_path_both_are_the_same() {
        for is_stripped in [false, true] {
            let paths = paths("/", is_stripped);
            for address in ["/", "/me?a=b", "/oidc/login", "/team"] {
                assert_eq!(
                    (&*paths.in_browser(address), paths.in_rocket(address)),
                    (address, address)
                );
            }
            assert_eq!((paths.home().as_str(), paths.mount(), paths.base()), ("/", "/oidc", ""));
            assert_eq!(paths.route("login"), "/oidc/login");
        }
        let at_root = AppPaths::new("/", "/", false);
        assert_eq!((at_root.route("login").as_str(), at_root.mount()), ("/login", "/"));
    }

    #[test]
    fn a_kept_path_is_in_both() {
        for base in ["/team", "/team/"] {
            let paths = paths(base, false);
            for address in [
                "/team",
                "/team/",
                "/team/me?a=b",
                "/team/oidc/login",
                "/other",
                "/teams",
            ] {
                assert_eq!(
                    (&*paths.in_browser(address), paths.in_rocket(address)),
                    (address, address)
                );
            }
            assert_eq!(
                (paths.home().as_str(), paths.mount(), paths.base()),
                ("/team/", "/team/oidc", "/team")
            );
            assert_eq!(paths.route("login"), "/team/oidc/login");
        }
        assert_eq!(AppPaths::new("/a/b", "/", false).mount(), "/a/b");
    }

    #[test]
    fn a_stripped_path_is_in_the_browser_only() {
        let paths = paths("/team", true);
        for (browser, rocket) in [
            ("/team/", "/"),
            ("/team/me?a=b", "/me?a=b"),
            ("/team/oidc/login", "/oidc/login"),
            // The app has a path of that name, too.
            ("/team/team/x", "/team/x"),
        ] {
            assert_eq!(
                (&*paths.in_browser(rocket), paths.in_rocket(browser)),
                (browser, rocket)
            );
        }
        assert_eq!(paths.in_rocket("/team"), "/");
        // Not of this app.
        for other in ["/", "/teams", "/teams/me", "/Team/me", "https://a.example/team"] {
            assert_eq!(paths.in_rocket(other), other);
        }
        assert_eq!(paths.in_browser("https://a.example/me"), "https://a.example/me");
    }

    #[test]
    fn addresses_of_the_app() {
        let paths = paths("/team", true);
        for own in ["/team", "/team/", "/team?a=b", "/team/me"] {
            assert!(paths.has(own), "{own}");
        }
        for other in ["/", "", "/teams", "/other", "/oidc/login", "team/", "/TEAM/"] {
            assert!(!paths.has(other), "{other}");
        }
    }

    #[test]
    fn routes_of_this_crate() {
        let paths = paths("/team", false);
        assert_eq!(paths.route_in("/team/oidc/login?next=/"), Some("login"));
        assert_eq!(paths.route_in("/team/oidc/logout//"), Some("logout"));
        assert_eq!(paths.route_in("/oidc/login"), None);
        assert_eq!(paths.route_in("/team/oidcx/login"), None);
    }
}
