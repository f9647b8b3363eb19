//! Insecure settings, which log warnings at liftoff.

use std::{borrow::Cow, fmt, time::Duration};

use serde_json::Value;
use url::Url;

use super::{
    ClearSiteData, Settings, TokenEndpointAuthMethod,
    value::{is_https_or_loopback, is_loopback},
};
use crate::token::SigningAlgorithm;

/// A setting that makes the app less secure.
pub(crate) struct InsecureSetting {
    /// The key of the setting.
    pub setting: Cow<'static, str>,
    /// The risk.
    pub risk: String,
}

/// The insecure setting of this key, if it is set: `insecure("clock_skew", is_set).risk("…")`.
pub(super) fn insecure(setting: impl Into<Cow<'static, str>>, is_set: bool) -> Candidate {
    let setting = setting.into();
    Candidate { setting, is_set }
}

/// See [`insecure`].
pub(super) struct Candidate {
    setting: Cow<'static, str>,
    is_set: bool,
}

impl Candidate {
    pub(super) fn risk(self, risk: impl Into<String>) -> Option<InsecureSetting> {
        self.is_set.then(|| InsecureSetting {
            setting: self.setting,
            risk: risk.into(),
        })
    }
}

impl Settings {
    /// The settings that make the app less secure.
    pub(crate) fn insecure_settings(&self) -> Vec<InsecureSetting> {
        let is_off = !self.enabled;
        let visitor = match self.testing_profile.get("sub").and_then(Value::as_str) {
            Some(sub) => format!("every visitor is the user {sub:?} of `testing_profile`"),
            None => "every visitor is anonymous".to_owned(),
        };
        let mut found = vec![
            insecure("enabled", is_off).risk(format!("sign-in is off: {visitor}")),
            insecure("insecure_testing_profile", self.insecure_testing_profile).risk(if is_off {
                "a testing profile is used in any profile"
            } else {
                "`enabled = false` would admit every visitor"
            }),
        ];
        if self.enabled {
            found.extend(self.insecure_checks());
            if !self.resource_server_only {
                found.extend(self.insecure_addresses());
            }
            found.extend(self.open_tenants());
        }
        found.into_iter().flatten().collect()
    }

    fn insecure_checks(&self) -> [Option<InsecureSetting>; 10] {
        let is_plain =
            |issuer: &&String| Url::parse(issuer).is_ok_and(|url| url.scheme() == "http" && is_loopback(&url));
        let plain_issuer = self.issuer.as_ref().filter(is_plain).map_or("", String::as_str);
        let hosts = self.insecure_http_hosts.join(", ");
        let mut algorithms = self.id_token_signing_algs.iter().flatten();
        let mut cleared = self.clear_site_data.iter();
        let audiences = self.trusted_audiences.join(", ");
        let skew = self.clock_skew;
        [
            insecure("dev_provider", self.dev_provider.is_some())
                .risk("anyone who can reach the development provider can sign in as any user"),
            insecure("issuer", self.dev_provider.is_none() && !plain_issuer.is_empty())
                .risk(format!("{plain_issuer} is called over plain http, on loopback")),
            insecure("insecure_http_hosts", !hosts.is_empty()).risk(format!(
                "anyone on the network path to {hosts} can read client secrets, codes and tokens"
            )),
            insecure(
                "id_token_signing_algs",
                algorithms.any(|it| *it == SigningAlgorithm::HS256),
            )
            .risk("with HS256, anyone who knows the client secret can sign ID tokens"),
            insecure(
                "clear_site_data",
                cleared.any(|it| matches!(it, ClearSiteData::Cookies | ClearSiteData::All)),
            )
            .risk("the cookies of sibling sub-domains are cleared too"),
            insecure("insecure_accept_missing_nonce", self.insecure_accept_missing_nonce)
                .risk("an ID token without `nonce` may belong to another sign-in"),
            insecure("insecure_omit_pkce", self.insecure_omit_pkce)
                .risk("without PKCE, whoever obtains an unused authorization code can sign in here with it"),
            insecure("trusted_audiences", !audiences.is_empty()).risk(format!("ID tokens may also name {audiences}")),
            insecure("clock_skew", skew > Duration::from_secs(5 * 60))
                .risk(format!("expired tokens are accepted for {skew:?}")),
            insecure(
                "insecure_introspection_without_audience",
                self.insecure_introspection_without_audience && self.has_audience(),
            )
            .risk("a token for another API is accepted when introspection does not say which it is for"),
        ]
    }

    fn insecure_addresses(&self) -> Vec<Option<InsecureSetting>> {
        let has_secret = self.client_secret.is_some() || self.client_secret_file.is_some();
        let is_public = self.token_endpoint_auth_method == Some(TokenEndpointAuthMethod::None);
        let mut found = vec![
            insecure("token_endpoint_auth_method", is_public && has_secret)
                .risk("with `none` the client secret is not used"),
            insecure("tls_client_key", self.tls_client_key_is_readable_by_all())
                .risk("every user of this machine can read the private key; `chmod 600` makes it the app's"),
        ];
        let set = [
            ("base_url", &self.base_url),
            ("overwrite_redirect_uri", &self.overwrite_redirect_uri),
        ];
        for (key, url) in set.into_iter().filter_map(|(key, url)| Some((key, url.as_ref()?))) {
            let risk = format!("{url} is plain http, so cookies and codes can be read on the network");
            found.push(insecure(key, !is_https_or_loopback(url)).risk(risk));
        }
        let table = self.client_secrets().ok().flatten();
        let registered = table.as_ref().and_then(|table| table.redirect_uris.first());
        let (key, url) = match (&self.overwrite_redirect_uri, &self.base_url, registered) {
            (Some(url), ..) => ("overwrite_redirect_uri", url),
            (None, None, Some(url)) => ("client_secrets", url),
            (None, ..) => return found,
        };
        let callback = self.callback_path(&self.app_paths());
        found.push(insecure(key, url.path() != callback).risk(format!(
            "{url} is not at {callback}; a proxy must forward it there with its query"
        )));
        if let Some(base_url) = &self.base_url {
            found.push(insecure(key, url.origin() != base_url.origin()).risk(format!(
                "{url} is not below {base_url}; cookies set at one are not sent to the other"
            )));
        }
        found
    }
}

impl fmt::Display for InsecureSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.setting, self.risk)
    }
}
