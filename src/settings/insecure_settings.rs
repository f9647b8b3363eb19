//! Insecure settings, which log warnings at liftoff.

use std::{borrow::Cow, time::Duration};

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

impl Settings {
    /// The settings that make the app less secure.
    pub(crate) fn insecure_settings(&self) -> Vec<InsecureSetting> {
        let mut found = vec![];
        let mut add = |setting: &'static str, is_set: bool, risk: &str| {
            if is_set {
                found.push(InsecureSetting {
                    setting: setting.into(),
                    risk: risk.to_owned(),
                });
            }
        };
        let is_off = !self.enabled;
        let visitor = match self.testing_profile.get("sub").and_then(Value::as_str) {
            Some(sub) => format!("every visitor is the user {sub:?} of `testing_profile`"),
            None => "every visitor is anonymous".to_owned(),
        };
        add("enabled", is_off, &format!("sign-in is off: {visitor}"));
        add(
            "insecure_testing_profile",
            self.insecure_testing_profile,
            if is_off {
                "a testing profile is used in any profile"
            } else {
                "`enabled = false` would let every visitor in"
            },
        );
        if is_off {
            return found;
        }
        let is_plain =
            |issuer: &String| Url::parse(issuer).is_ok_and(|url| url.scheme() == "http" && is_loopback(&url));
        let plain_issuer = self.issuer.as_ref().filter(|issuer| is_plain(issuer));
        match (&self.dev_provider, plain_issuer) {
            (Some(_), _) => add(
                "dev_provider",
                true,
                "whoever reaches the provider for development signs in as any user",
            ),
            (None, Some(issuer)) => {
                let risk = format!("{issuer} is asked over plain http, on loopback");
                add("issuer", true, &risk);
            }
            (None, None) => {}
        }
        let hosts = self.insecure_http_hosts.join(", ");
        add(
            "insecure_http_hosts",
            !hosts.is_empty(),
            &format!("whoever is on the way to {hosts} reads client secrets, codes and tokens"),
        );
        let mut algorithms = self.id_token_signing_algs.iter().flatten();
        add(
            "id_token_signing_algs",
            algorithms.any(|algorithm| *algorithm == SigningAlgorithm::HS256),
            "HS256 lets whoever knows the client secret sign ID tokens",
        );
        let mut dropped = self.clear_site_data.iter();
        add(
            "clear_site_data",
            dropped.any(|it| matches!(it, ClearSiteData::Cookies | ClearSiteData::All)),
            "the cookies of sibling sub-domains are dropped too",
        );
        add(
            "insecure_accept_missing_nonce",
            self.insecure_accept_missing_nonce,
            "an ID token without `nonce` may be of another sign-in",
        );
        let audiences = self.trusted_audiences.join(", ");
        add(
            "trusted_audiences",
            !audiences.is_empty(),
            &format!("ID tokens may also name {audiences}"),
        );
        let skew = self.clock_skew;
        add(
            "clock_skew",
            skew > Duration::from_secs(5 * 60),
            &format!("expired tokens are accepted for {skew:?}"),
        );
        add(
            "insecure_introspection_without_audience",
            self.insecure_introspection_without_audience && self.has_audience(),
            "a token for another API is accepted when introspection does not say which it is for",
        );
        if !self.resource_server_only {
            self.add_insecure_addresses(add);
        }
        self.add_open_tenants(&mut found);
        found
    }

    fn add_insecure_addresses(&self, mut add: impl FnMut(&'static str, bool, &str)) {
        add(
            "token_endpoint_auth_method",
            self.token_endpoint_auth_method == Some(TokenEndpointAuthMethod::None)
                && (self.client_secret.is_some() || self.client_secret_file.is_some()),
            "with `none` the client secret is not used",
        );
        for (key, url) in [
            ("base_url", &self.base_url),
            ("overwrite_redirect_uri", &self.overwrite_redirect_uri),
        ] {
            if let Some(url) = url {
                let risk = format!("{url} is plain http, so cookies and codes can be read on the way");
                add(key, !is_https_or_loopback(url), &risk);
            }
        }
        let table = self.client_secrets().ok().flatten();
        let registered = table.as_ref().and_then(|table| table.redirect_uris.first());
        let (key, url) = match (&self.overwrite_redirect_uri, &self.base_url, registered) {
            (Some(url), ..) => ("overwrite_redirect_uri", url),
            (None, None, Some(url)) => ("client_secrets", url),
            (None, ..) => return,
        };
        let callback = self.callback_path();
        add(
            key,
            url.path() != callback,
            &format!("{url} is not at {callback}; something must forward it there with its query"),
        );
        if let Some(base_url) = &self.base_url {
            add(
                key,
                url.origin() != base_url.origin(),
                &format!("{url} is not below {base_url}; cookies set at one are not sent to the other"),
            );
        }
    }
}

impl std::fmt::Display for InsecureSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.setting, self.risk)
    }
}
