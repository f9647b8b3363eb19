//! Validation of settings that depend on each other.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{
    ClearSiteData, IssuerSettings, ProviderKind, Settings, SettingsError, TokenValidation,
    declaration::Parser,
    mistake::{Mistake, rule},
    resource_identifier,
    value::is_https_or_loopback,
};

impl Settings {
    /// Validates every value, whether it was read or set by the app, and the dependencies between values.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let mut errors = Parser::errors_of::<Settings>(self, &self.origins);
        let found = [
            self.check_scopes(),
            self.check_github(),
            self.check_lifetimes(),
            self.check_store(),
            self.issuer
                .as_ref()
                .map_or(Ok(()), |issuer| self.check_issuer("issuer", issuer)),
            self.check_endpoint("server_metadata_url", &self.server_metadata_url),
            self.check_silent(),
            self.check_me_claims(),
            self.check_silent_cookie(),
            self.check_client_certificate(),
        ];
        let mut mistakes: Vec<Mistake> = found.into_iter().filter_map(Result::err).collect();
        mistakes.extend(self.check_apis());
        mistakes.extend(self.check_issuers());
        mistakes.extend(self.check_providers());
        errors.extend(mistakes.into_iter().map(|mistake| self.error(mistake)));
        SettingsError::all(errors)
    }

    fn check_scopes(&self) -> Result<(), Mistake> {
        // OpenID Connect Core §3.1.2.1: without `openid` it is not an OpenID request.
        let is_openid_connect = self.provider_kind() == ProviderKind::OpenIdConnect;
        let is_needed = self.enabled && !self.resource_server_only && is_openid_connect;
        rule(
            "scopes",
            !is_needed || self.scopes.iter().any(|scope| scope == "openid"),
        )
        .cause(format!(
            "the scope `openid` is missing, found {:?}",
            self.scopes.join(" ")
        ))
        .remedy("add `openid` to `scopes`, for example `scopes = \"openid email profile\"`")
    }

    fn check_lifetimes(&self) -> Result<(), Mistake> {
        let (idle, lifetime) = (self.session.idle_timeout, self.session.absolute_timeout);
        rule("session.idle_timeout", idle <= lifetime)
            .cause(format!(
                "{idle:?} is longer than `oidc.session.absolute_timeout`, {lifetime:?}"
            ))
            .remedy("set `session.idle_timeout` to at most `session.absolute_timeout`")
    }

    /// A silent sign-in shows no page to the user, and a cookie prevents it after a sign-out.
    fn check_silent(&self) -> Result<(), Mistake> {
        let parameters = self.authorization_parameters();
        let prompt = parameters.iter().find(|(name, _)| name == "prompt");
        let mut prompts = prompt.map_or("", |(_, value)| value).split_whitespace();
        let demands_authentication = prompts.any(|prompt| prompt == "login") || self.max_age() == Some(Duration::ZERO);
        rule(
            "extra_authorization_parameters",
            !(self.silent && demands_authentication),
        )
        .cause("every sign-in demands a new authentication, which `silent` cannot do")
        .remedy("remove `silent`, or `prompt = \"login\"` and `max_age = 0`")
    }

    fn check_silent_cookie(&self) -> Result<(), Mistake> {
        let mut cleared = self.clear_site_data.iter();
        let clears_cookies = cleared.any(|it| matches!(it, ClearSiteData::Cookies | ClearSiteData::All));
        rule("clear_site_data", !(self.silent && clears_cookies))
            .cause("it removes the cookie by which `silent` does not sign a user in again after a sign-out")
            .remedy("remove `silent`, or `cookies` and `*`")
    }

    /// A claim that sessions do not keep would never be at `{mount}/me`.
    fn check_me_claims(&self) -> Result<(), Mistake> {
        let mut chosen = self.me_claims.iter().flatten();
        let missing = chosen.find(|name| !self.session.keeps_claim(name));
        rule("me_claims", missing.is_none())
            .cause(format!(
                "sessions do not keep the claim {:?}",
                missing.map_or("", String::as_str)
            ))
            .remedy("add it to `session.claims`, or remove it from `me_claims`")
    }

    /// Validates the named APIs.
    fn check_apis(&self) -> Vec<Mistake> {
        let mut mistakes = vec![];
        let mut resources = BTreeMap::new();
        if let Some(resource) = &self.resource {
            resources.insert(resource_identifier(resource), "oidc.resource".to_owned());
        }
        for (name, api) in &self.apis {
            let other = resources.insert(resource_identifier(&api.resource), format!("oidc.apis.{name}"));
            let own = rule(format!("apis.{name}.resource"), other.is_none())
                .cause(format!(
                    "`{}` is the resource of `{}` already",
                    api.resource,
                    other.unwrap_or_default()
                ))
                .remedy("give each API its own URL");
            mistakes.extend(own.err());
        }
        mistakes
    }

    fn check_issuers(&self) -> Vec<Mistake> {
        let mut mistakes = vec![];
        if let Some(name) = self.issuers.keys().next() {
            let introspected = rule(
                "token_validation",
                self.token_validation != TokenValidation::Introspection,
            )
            .cause(format!(
                "every token is introspected at `oidc.issuer`, which does not know the tokens of `oidc.issuers.{name}`"
            ))
            .remedy(format!("set `token_validation = \"auto\"`, or remove `issuers.{name}`"));
            mistakes.extend(introspected.err());
        }
        let mut names = BTreeMap::new();
        if let Some(issuer) = &self.issuer {
            names.insert(issuer, "oidc.issuer".to_owned());
        }
        for (name, other) in &self.issuers {
            mistakes.extend(self.check_further_issuer(name, other, &mut names).err());
        }
        mistakes
    }

    fn check_further_issuer<'a>(
        &'a self,
        name: &str,
        other: &'a IssuerSettings,
        names: &mut BTreeMap<&'a String, String>,
    ) -> Result<(), Mistake> {
        let key = |member: &str| format!("issuers.{name}.{member}");
        rule(
            key("server_metadata_url"),
            other.jwks_uri.is_none() || other.server_metadata_url.is_none(),
        )
        .cause("`jwks_uri` is set too, so no metadata is read")
        .remedy("remove one of them")?;
        self.check_endpoint(&key("jwks_uri"), &other.jwks_uri)?;
        self.check_is_not_github(&key("issuer"), &other.issuer)?;
        if other.jwks_uri.is_none() {
            self.check_issuer(&key("issuer"), &other.issuer)?;
        }
        self.check_endpoint(&key("server_metadata_url"), &other.server_metadata_url)?;
        let same = names.insert(&other.issuer, format!("oidc.issuers.{name}"));
        rule(key("issuer"), same.is_none())
            .cause(format!("{:?} is `{}` already", other.issuer, same.unwrap_or_default()))
            .remedy(format!("remove `issuers.{name}`"))?;
        rule(key("audience"), !other.audience.is_empty() || !other.apis.is_empty())
            .cause("no audience is set, so no token could be accepted")
            .remedy("set it to the `aud` of that issuer's tokens for this API")?;
        for api in other.apis.keys() {
            rule(key(&format!("apis.{api}")), self.apis.contains_key(api))
                .cause(format!("there is no API `oidc.apis.{api}`"))
                .remedy(format!("add a table `oidc.apis.{api}`, or remove this"))?;
        }
        Ok(())
    }

    /// OpenID Connect Discovery §3: an `https` URL without query and fragment. `http` is accepted on loopback too.
    pub(super) fn check_issuer(&self, key: &str, issuer: &str) -> Result<(), Mistake> {
        const REMEDY: &str =
            "set it to exactly the issuer in the provider's metadata, such as `https://accounts.example.com`";
        rule(key, !issuer.contains('@'))
            .cause("an issuer with an `@` is not accepted")
            .remedy(REMEDY)?;
        let url = Url::parse(issuer).ok();
        let url = url.filter(|url| issuer.starts_with(&format!("{}://", url.scheme())));
        rule(key, url.is_some())
            .cause(format!("{issuer:?} is not an absolute URL"))
            .remedy(REMEDY)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
        rule(key, !issuer.contains(odd))
            .cause(format!("the issuer {issuer:?} has a query, a fragment or a space"))
            .remedy(REMEDY)?;
        self.check_is_not_github(key, issuer)?;
        let meant = issuer_of_metadata(issuer);
        rule(key, meant.is_none())
            .cause(format!(
                "`{issuer}` is the address of the provider's metadata, not the issuer"
            ))
            .remedy(format!("write `{}`", meant.unwrap_or_default()))?;
        self.check_endpoint(key, &url)
    }

    /// Checks that an endpoint is `https`, on loopback, or on a host in `insecure_http_hosts`.
    pub(super) fn check_endpoint(&self, key: &str, url: &Option<Url>) -> Result<(), Mistake> {
        let Some(url) = url else {
            return Ok(());
        };
        let is_http = url.scheme() == "http";
        let mut remedy = "use a URL with `https`".to_owned();
        if let Some(host) = url.host_str().filter(|_| is_http) {
            remedy += &format!("; in a closed network, list `{host}` in `insecure_http_hosts`");
        }
        rule(
            key,
            is_https_or_loopback(url) || (is_http && self.insecure_hosts().has(url)),
        )
        .cause(format!("`{url}` is neither `https` nor on loopback"))
        .remedy(remedy)
    }
}

/// The issuer of the metadata at this URL, if it is a metadata URL: by OpenID Connect Discovery §4, or by RFC 8414
/// §3.1, where the issuer's path comes last.
fn issuer_of_metadata(url: &str) -> Option<String> {
    let names = ["openid-configuration", "oauth-authorization-server"];
    names.into_iter().find_map(|name| {
        let (before, after) = url.split_once(&format!("/.well-known/{name}"))?;
        let is_whole = after.is_empty() || after.starts_with('/');
        is_whole.then(|| format!("{before}{}", after.trim_end_matches('/')))
    })
}
