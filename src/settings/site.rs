//! The public URLs of the app, as a browser and the provider see them.

use url::Url;

use super::{
    AppPaths, RocketConfig, Settings, SettingsError,
    mistake::{Mistake, rule},
    value::{is_https_or_loopback, is_loopback},
};

/// The public URLs of the app, from which cookies and redirect URIs are derived.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Without a slash at the end of its path, unless the path is `/`.
    pub base_url: Url,
    pub redirect_uri: Url,
    pub paths: AppPaths,
    /// The path of the callback in the browser.
    pub callback_path: String,
    /// Whether the app is reached over `https`.
    pub secure: bool,
}

impl Settings {
    /// Resolves the public URLs. While sign-in is disabled, `base_url` is not required in any profile.
    pub(crate) fn site(&self, rocket_config: &RocketConfig) -> Result<Site, SettingsError> {
        let site = self.resolve_site(rocket_config);
        site.map_err(|mistake| self.error(mistake))
    }

    pub(super) fn resolve_site(&self, rocket_config: &RocketConfig) -> Result<Site, Mistake> {
        if let Some(base_url) = &self.base_url {
            check_public("base_url", base_url, rocket_config)?;
        }
        let sent = match &self.overwrite_redirect_uri {
            Some(url) => Some(("overwrite_redirect_uri", url.clone())),
            None if self.base_url.is_some() => None,
            None => self
                .registered_redirect_uri(rocket_config)?
                .map(|url| ("client_secrets", url)),
        };
        if let Some((key, url)) = &sent {
            // RFC 6749 §3.1.2: an absolute URI, without a fragment.
            rule(*key, url.fragment().is_none())
                .cause(format!("the redirect URI `{url}` has a fragment"))
                .remedy("remove the `#` and what follows it")?;
            check_public(key, url, rocket_config)?;
        }
        let sent = sent.map(|(_, url)| url);
        let base_url = match (&self.base_url, &sent) {
            (Some(base_url), _) => base_url.clone(),
            (None, Some(redirect_uri)) => at(redirect_uri, "/"),
            (None, None) if rocket_config.debug || !self.enabled => localhost(rocket_config),
            (None, None) => {
                let remedy = "set `base_url` in the table `oidc`, or OIDC_BASE_URL, for example \
                              `base_url = \"https://app.example.com\"`";
                return Err(Mistake::new("the public URL of the app is missing", remedy).at("base_url"));
            }
        };
        let paths = self.app_paths();
        let mut base_url = base_url;
        base_url.set_path(paths.base());
        let has_path = !paths.base().is_empty() || self.provider_name.is_some();
        rule("proxy_strips_path", has_path || !self.proxy_strips_path)
            .cause(format!("`{base_url}` has no path that a proxy could strip"))
            .remedy(
                "write the public URL of the app with its path in `base_url`, such as `https://example.com/team`, or \
                 remove this setting",
            )?;
        let callback_path = self.callback_path(&paths);
        Ok(Site {
            redirect_uri: sent.unwrap_or_else(|| at(&base_url, &callback_path)),
            paths,
            callback_path,
            secure: base_url.scheme() == "https",
            base_url,
        })
    }

    /// Checks that the routes at the paths of one of several providers are those of the app. A tenant may be below another
    /// path of the host, if the proxy strips it: Rocket then has the same routes.
    pub(crate) fn check_mount(&self, own: &AppPaths, app: &AppPaths, is_tenant: bool) -> Result<(), SettingsError> {
        let routes = |paths: &AppPaths| {
            let mount = paths.mount();
            if is_tenant { paths.in_rocket(mount) } else { mount }.to_owned()
        };
        let (own, app) = (routes(own), routes(app));
        let checked = rule("base_url", own == app)
            .cause(format!(
                "the routes of this provider are at `{own}`, those of the app at `{app}`"
            ))
            .remedy(
                "write the path of the app's `base_url`; tenants of `provider_for` may have others, where the proxy \
                 strips them and `proxy_strips_path` is set",
            );
        checked.map_err(|mistake| self.error(mistake))
    }

    /// The registered redirect URI to send: the first one, or in the debug profile the first on loopback.
    fn registered_redirect_uri(&self, rocket_config: &RocketConfig) -> Result<Option<Url>, Mistake> {
        let table = match self.client_secrets() {
            // No redirect URI is sent then.
            Err(_) if !self.enabled => None,
            result => result?,
        };
        let Some(table) = table else {
            return Ok(None);
        };
        let mut uris = table.redirect_uris.iter();
        let here = uris.clone().find(|uri| rocket_config.debug && is_loopback(uri));
        Ok(here.or_else(|| uris.next()).cloned())
    }

    /// The path of the callback: one for each of several providers, unless they share it.
    pub(super) fn callback_path(&self, paths: &AppPaths) -> String {
        let shared = paths.route("authorize");
        let is_set_to_shared = || {
            self.overwrite_redirect_uri
                .as_ref()
                .is_some_and(|url| url.path() == shared)
        };
        match &self.provider_name {
            Some(name) if !self.shared_redirect_uri && !is_set_to_shared() => format!("{shared}/{name}"),
            _ => shared,
        }
    }
}

#[cfg(feature = "cli")]
impl Site {
    /// The URL of this path in the browser.
    pub(crate) fn url(&self, path: &str) -> Url {
        at(&self.base_url, path)
    }
}

/// Checks for `https`, except on loopback and in the debug profile.
fn check_public(key: &str, url: &Url, rocket_config: &RocketConfig) -> Result<(), Mistake> {
    let is_development = rocket_config.debug && url.scheme() == "http";
    rule(key, is_https_or_loopback(url) || is_development)
        .cause(format!("`{url}` is not `https`"))
        .remedy("use a URL with `https`; plain `http` is accepted only on loopback and in the debug profile")
}

/// `path` on the host of `url`.
fn at(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn localhost(rocket_config: &RocketConfig) -> Url {
    let scheme = if rocket_config.tls { "https" } else { "http" };
    let port = rocket_config.port;
    Url::parse(&format!("{scheme}://localhost:{port}")).expect("a scheme, `localhost` and a number make a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBUG: RocketConfig = RocketConfig {
        debug: true,
        port: 8000,
        tls: false,
        mutual_tls: false,
    };

    const RELEASE: RocketConfig = RocketConfig { debug: false, ..DEBUG };

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[track_caller]
    fn refused(settings: &Settings, rocket_config: &RocketConfig, error: &str, remedy: &str) {
        let checked = settings.check();
        let found = checked.and_then(|()| settings.site(rocket_config)).unwrap_err();
        assert_eq!((found.to_string().as_str(), found.remedy()), (error, remedy));
    }

    #[test]
    fn sites() {
        let site = |base: Option<&str>, sent: Option<&str>, mount: &str, rocket_config| {
            let settings = Settings {
                base_url: base.map(url),
                overwrite_redirect_uri: sent.map(url),
                mount: mount.to_owned(),
                ..Settings::default()
            };
            let site = settings.site(&rocket_config).unwrap();
            (site.base_url.to_string(), site.redirect_uri.to_string(), site.secure)
        };
        let expected = |base: &str, sent: &str, secure| (base.to_owned(), sent.to_owned(), secure);
        assert_eq!(
            site(None, None, "/oidc", DEBUG),
            expected("http://localhost:8000/", "http://localhost:8000/oidc/authorize", false)
        );
        assert_eq!(
            site(None, None, "/", RocketConfig { tls: true, ..DEBUG }),
            expected("https://localhost:8000/", "https://localhost:8000/authorize", true)
        );
        assert_eq!(
            site(None, Some("https://a.example/x/cb?y=1"), "/oidc", RELEASE),
            expected("https://a.example/", "https://a.example/x/cb?y=1", true)
        );
        assert_eq!(
            site(
                Some("https://b.example"),
                Some("https://a.example/cb"),
                "/oidc",
                RELEASE
            ),
            expected("https://b.example/", "https://a.example/cb", true)
        );
        assert_eq!(
            site(Some("http://127.0.0.1:81"), None, "/oidc", RELEASE),
            expected("http://127.0.0.1:81/", "http://127.0.0.1:81/oidc/authorize", false)
        );
        assert_eq!(
            site(Some("http://dev.lan"), None, "/oidc", DEBUG),
            expected("http://dev.lan/", "http://dev.lan/oidc/authorize", false)
        );
    }

    #[test]
    fn sites_below_a_path() {
        for (base_url, mount, redirect_uri) in [
            (
                "https://a.example/team",
                "/oidc",
                "https://a.example/team/oidc/authorize",
            ),
            (
                "https://a.example/team/",
                "/oidc",
                "https://a.example/team/oidc/authorize",
            ),
            ("https://a.example/team", "/", "https://a.example/team/authorize"),
            ("https://a.example/a/b/", "/x/y", "https://a.example/a/b/x/y/authorize"),
        ] {
            for is_stripped in [false, true] {
                let settings = Settings {
                    base_url: Some(url(base_url)),
                    mount: mount.to_owned(),
                    proxy_strips_path: is_stripped,
                    ..Settings::default()
                };
                settings.check().unwrap();
                let site = settings.site(&RELEASE).unwrap();
                assert_eq!(site.redirect_uri.as_str(), redirect_uri);
                assert_eq!(site.base_url.as_str(), base_url.trim_end_matches('/'));
                let in_rocket = site.paths.in_rocket(site.paths.mount());
                let expected = site.paths.mount();
                let stripped = expected.strip_prefix(site.base_url.path()).unwrap();
                let stripped = if stripped.is_empty() { "/" } else { stripped };
                assert_eq!(in_rocket, if is_stripped { stripped } else { expected });
            }
        }
    }

    #[test]
    fn a_path_that_is_not_there_cannot_be_stripped() {
        for base_url in [None, Some(url("https://a.example/"))] {
            let settings = Settings {
                base_url,
                proxy_strips_path: true,
                overwrite_redirect_uri: Some(url("https://a.example/cb")),
                ..Settings::default()
            };
            refused(
                &settings,
                &RELEASE,
                "`oidc.proxy_strips_path`: `https://a.example/` has no path that a proxy could strip",
                "write the public URL of the app with its path in `base_url`, such as `https://example.com/team`, or \
                 remove this setting",
            );
        }
    }

    #[test]
    fn addresses_refused() {
        let https = "use a URL with `https`; plain `http` is accepted only on loopback and in the debug profile";
        for (base_url, error, remedy) in [
            (
                "http://a.example",
                "`oidc.base_url`: `http://a.example/` is not `https`",
                https,
            ),
            (
                "ftp://a.example",
                "`oidc.base_url`: `ftp://a.example/` is not `https`",
                https,
            ),
            (
                "https://a.example/app?x",
                "`oidc.base_url`: `https://a.example/app?x` has more than scheme, host, port and path",
                "write `https://a.example/app`",
            ),
            (
                "https://a.example/#x",
                "`oidc.base_url`: `https://a.example/#x` has more than scheme, host, port and path",
                "write `https://a.example/`",
            ),
            (
                "https://a.example/a%2fb",
                "`oidc.base_url`: no app can be at the path `/a%2fb`",
                "write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/team`",
            ),
            (
                "https://a.example/a//b",
                "`oidc.base_url`: no app can be at the path `/a//b`",
                "write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/team`",
            ),
            (
                "https://me:hush@a.example",
                "`oidc.base_url`: a user name or password is not accepted",
                "remove the user name and the password",
            ),
        ] {
            let settings = Settings {
                base_url: Some(url(base_url)),
                ..Settings::default()
            };
            refused(&settings, &RELEASE, error, remedy);
        }
        for (sent, error, remedy) in [
            (
                "https://a.example/cb#x",
                "`oidc.overwrite_redirect_uri`: the redirect URI `https://a.example/cb#x` has a fragment",
                "remove the `#` and what follows it",
            ),
            (
                "http://a.example/cb",
                "`oidc.overwrite_redirect_uri`: `http://a.example/cb` is not `https`",
                https,
            ),
        ] {
            let settings = Settings {
                overwrite_redirect_uri: Some(url(sent)),
                ..Settings::default()
            };
            refused(&settings, &RELEASE, error, remedy);
        }
    }
}
