//! The URLs of an app for its registration, and the application type that they imply.

use clap::ValueEnum;
use serde::Serialize;
use url::Url;

use crate::{
    cli::Failure,
    relying_party::PostLogout,
    settings::{Mode, Registration, RocketConfig, Settings, is_loopback},
};

/// All URLs of the app in its registration.
#[derive(Debug)]
pub(super) struct Addresses {
    pub redirect_uris: Vec<Url>,
    pub post_logout_redirect_uris: Vec<String>,
    pub backchannel_logout_uri: String,
    /// Where the app publishes the keys of this client.
    pub jwks_uri: Url,
    /// The app's `base_url`.
    pub base_url: String,
    /// The callback path of this app, whatever a proxy makes of it.
    pub callback_path: String,
    /// The provider and the location of its metadata, without a client id yet.
    pub registration: Registration,
}

/// OpenID Connect Dynamic Client Registration 1.0 §2, `application_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum ApplicationType {
    /// Redirect URIs with https
    Web,
    /// Redirect URIs with http on loopback, for development
    Native,
}

impl Addresses {
    /// Derives the URLs as the fairing does. An app URL with a path is already a redirect URI, unless it ends with a slash.
    pub(super) fn derive(settings: &Settings, app_urls: &[Url]) -> Result<Addresses, Failure> {
        // As in development, which accepts any URL: `ApplicationType::of` checks them.
        let rocket_config = RocketConfig {
            debug: true,
            port: 0,
            tls: false,
            mutual_tls: false,
        };
        let mut found: Option<Addresses> = None;
        for url in app_urls {
            let mut settings = settings.clone();
            if url.path().ends_with('/') {
                settings.base_url = Some(url.clone());
            } else {
                settings.overwrite_redirect_uri = Some(url.clone());
            }
            let Mode::RelyingParty { registration, site } = settings.mode(&rocket_config)? else {
                continue;
            };
            let of_several = settings.provider_name.as_ref().map(|name| format!("/{name}"));
            let of_several = of_several.unwrap_or_default();
            let jwks_path = site.paths.route(&format!("jwks.json{of_several}"));
            let addresses = found.get_or_insert_with(|| Addresses {
                jwks_uri: site.url(&jwks_path),
                redirect_uris: vec![],
                post_logout_redirect_uris: vec![],
                backchannel_logout_uri: format!("{}{}", site.url(&site.paths.route("backchannel-logout")), of_several,),
                base_url: site.base_url.as_str().trim_end_matches('/').to_owned(),
                callback_path: site.callback_path.clone(),
                registration,
            });
            let post_logout = PostLogout::new(&settings, &site).redirect_uri;
            if !addresses.post_logout_redirect_uris.contains(&post_logout) {
                addresses.post_logout_redirect_uris.push(post_logout);
            }
            if !addresses.redirect_uris.contains(&site.redirect_uri) {
                addresses.redirect_uris.push(site.redirect_uri);
            }
        }
        found.ok_or_else(|| Failure::new("APP_URL is missing", "pass the app's public URL"))
    }
}

/// The mount point of an app with this redirect URI, if the path is that of a callback: among several providers, of the
/// one with this name.
pub(super) fn mount_of(redirect_uri: &Url, provider: Option<&str>) -> Option<String> {
    let path = redirect_uri.path();
    let own = provider.and_then(|name| path.strip_suffix(name)?.strip_suffix('/'));
    let mount = own.unwrap_or(path).strip_suffix("/authorize")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-' | '/');
    if !mount.chars().all(is_plain) || format!("{mount}/").contains("//") {
        return None;
    }
    Some(match mount {
        "" => "/".to_owned(),
        mount => mount.to_owned(),
    })
}

impl ApplicationType {
    /// The application type for these redirect URIs.
    pub(super) fn of(redirect_uris: &[Url]) -> Result<ApplicationType, Failure> {
        let is_local = |url: &&Url| url.scheme() == "http" && is_loopback(url);
        let is_public = |url: &&Url| url.scheme() == "https";
        if let Some(url) = redirect_uris.iter().find(|u| !is_local(u) && !is_public(u)) {
            return Err(Failure::new(
                format!("{url} is plain http and not on loopback, which no application type permits"),
                "use an https URL, or pass `--application-type web` if this provider accepts it",
            ));
        }
        let local = redirect_uris.iter().find(is_local);
        let public = redirect_uris.iter().find(is_public);
        match (local, public) {
            (None, _) => Ok(ApplicationType::Web),
            (Some(_), None) => Ok(ApplicationType::Native),
            (Some(local), Some(public)) => Err(Failure::new(
                format!(
                    "{public} belongs to a `web` application and {local} to a `native` one, but a client has one type"
                ),
                "register two clients, each with its own `--output`, and set `client_secrets` in [debug.oidc] to the \
                 one for development; or pass `--application-type web` or `native` if this provider accepts both",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.issuer = Some("https://op.example".into());
        settings.client_id = Some("none yet".into());
        settings
    }

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| Url::parse(text).unwrap()).collect()
    }

    #[test]
    fn redirect_uris_follow_from_addresses_or_are_given_whole() {
        let app_urls = urls(&["https://a.example", "https://b.example/", "https://c.example/cb"]);
        let addresses = Addresses::derive(&settings(), &app_urls).unwrap();
        assert_eq!(
            addresses.redirect_uris,
            urls(&[
                "https://a.example/oidc/authorize",
                "https://b.example/oidc/authorize",
                "https://c.example/cb",
            ])
        );
        assert_eq!(
            addresses.post_logout_redirect_uris,
            ["https://a.example/", "https://b.example/", "https://c.example/"]
        );
        assert_eq!(
            addresses.backchannel_logout_uri,
            "https://a.example/oidc/backchannel-logout"
        );
    }

    #[test]
    fn a_redirect_uri_says_where_the_app_is_mounted() {
        for (url, expected) in [
            ("https://a.example/authorize", Some("/")),
            ("https://a.example/authorize?x=y", Some("/")),
            ("https://a.example/oidc/authorize", Some("/oidc")),
            ("https://a.example/a/b-c/authorize", Some("/a/b-c")),
            ("https://a.example/a%20b/authorize", None),
            ("https://a.example//authorize", None),
            ("https://a.example/a//authorize", None),
            ("https://a.example/authorize/", None),
            ("https://a.example/xauthorize", None),
            ("https://a.example/cb", None),
            ("https://a.example/", None),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(mount_of(&url, None).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn the_mount_point_is_part_of_them() {
        let mut settings = settings();
        settings.mount = "/".into();
        let addresses = Addresses::derive(&settings, &urls(&["https://a.example"])).unwrap();
        assert_eq!(addresses.redirect_uris, urls(&["https://a.example/authorize"]));
        assert_eq!(addresses.backchannel_logout_uri, "https://a.example/backchannel-logout");
    }

    #[test]
    fn the_application_type_follows_from_the_redirect_uris() {
        let of = |texts: &[&str]| ApplicationType::of(&urls(texts)).map_err(|f| f.cause);
        assert_eq!(of(&["https://a.example/x"]), Ok(ApplicationType::Web));
        for local in ["http://localhost/x", "http://127.0.0.1:1/x", "http://[::1]/x"] {
            assert_eq!(of(&[local]), Ok(ApplicationType::Native), "{local}");
        }
        assert_eq!(
            of(&["http://localhost/x", "https://a.example/x"]).unwrap_err(),
            "https://a.example/x belongs to a `web` application and http://localhost/x to a `native` one, but a \
             client has one type"
        );
        assert_eq!(
            of(&["http://a.lan/x"]).unwrap_err(),
            "http://a.lan/x is plain http and not on loopback, which no application type permits"
        );
    }
}
