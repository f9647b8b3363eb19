//! Validation of settings that depend on each other.

use std::collections::BTreeMap;

use url::Url;

use super::{
    Settings, SettingsError, TokenValidation, declaration::Parser, resource_identifier, value::is_https_or_loopback,
};

impl Settings {
    /// Validates every value, whether it was read or set by the app, and the dependencies between values.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let mut errors = Parser::errors_of::<Settings>(self, &self.origins);
        let found = [
            self.check_scopes(),
            self.check_lifetimes(),
            self.check_store(),
            self.check_addresses(),
            self.check_apis(),
            self.check_issuers(),
        ];
        errors.extend(found.into_iter().filter_map(Result::err));
        SettingsError::all(errors)
    }

    fn check_scopes(&self) -> Result<(), SettingsError> {
        // OpenID Connect Core §3.1.2.1: without `openid` it is not an OpenID request.
        let is_needed = self.enabled && !self.resource_server_only;
        self.ensure(
            !is_needed || self.scopes.iter().any(|scope| scope == "openid"),
            "scopes",
            format!("the scope `openid` is missing, found {:?}", self.scopes.join(" ")),
            "add `openid` to `scopes`, for example `scopes = \"openid email\"`",
        )
    }

    fn check_lifetimes(&self) -> Result<(), SettingsError> {
        let (idle, lifetime) = (self.session.idle_timeout, self.session.absolute_timeout);
        self.ensure(
            idle <= lifetime,
            "session.idle_timeout",
            format!("{idle:?} is longer than `oidc.session.absolute_timeout`, {lifetime:?}"),
            "set `session.idle_timeout` to at most `session.absolute_timeout`",
        )
    }

    fn check_addresses(&self) -> Result<(), SettingsError> {
        if let Some(issuer) = &self.issuer {
            self.check_issuer("issuer", issuer)?;
        }
        if let Some(url) = &self.server_metadata_url {
            self.check_endpoint("server_metadata_url", url)?;
        }
        Ok(())
    }

    /// Validates the named APIs.
    fn check_apis(&self) -> Result<(), SettingsError> {
        let mut resources = BTreeMap::new();
        if let Some(resource) = &self.resource {
            resources.insert(resource_identifier(resource), "oidc.resource".to_owned());
        }
        for (name, api) in &self.apis {
            let identifier = resource_identifier(&api.resource);
            if let Some(other) = resources.insert(identifier, format!("oidc.apis.{name}")) {
                let cause = format!("`{}` is the resource of `{other}` already", api.resource);
                let key = format!("apis.{name}.resource");
                return Err(self.error(&key, cause, "give each API an address of its own"));
            }
        }
        Ok(())
    }

    fn check_issuers(&self) -> Result<(), SettingsError> {
        if self.token_validation == TokenValidation::Introspection
            && let Some(name) = self.issuers.keys().next()
        {
            return Err(self.error(
                "token_validation",
                format!("every token is asked about at `oidc.issuer`, which knows none of `oidc.issuers.{name}`"),
                format!("set `token_validation = \"auto\"`, or remove `issuers.{name}`"),
            ));
        }
        let mut names = BTreeMap::new();
        if let Some(issuer) = &self.issuer {
            names.insert(issuer, "oidc.issuer".to_owned());
        }
        for (name, other) in &self.issuers {
            let key = |member: &str| format!("issuers.{name}.{member}");
            self.ensure(
                other.jwks_uri.is_none() || other.server_metadata_url.is_none(),
                &key("server_metadata_url"),
                "`jwks_uri` is set too, with which no metadata is read",
                "remove one of them",
            )?;
            match &other.jwks_uri {
                Some(url) => self.check_endpoint(&key("jwks_uri"), url)?,
                None => self.check_issuer(&key("issuer"), &other.issuer)?,
            }
            if let Some(url) = &other.server_metadata_url {
                self.check_endpoint(&key("server_metadata_url"), url)?;
            }
            let same = names.insert(&other.issuer, format!("oidc.issuers.{name}"));
            self.ensure(
                same.is_none(),
                &key("issuer"),
                format!("{:?} is `{}` already", other.issuer, same.unwrap_or_default()),
                format!("remove `issuers.{name}`"),
            )?;
            self.ensure(
                !other.audience.is_empty() || !other.apis.is_empty(),
                &key("audience"),
                "no audience is left, so that no token could be accepted",
                "set it to what that issuer puts into `aud` for this API",
            )?;
            for api in other.apis.keys() {
                self.ensure(
                    self.apis.contains_key(api),
                    &key(&format!("apis.{api}")),
                    format!("there is no API `oidc.apis.{api}`"),
                    format!("add a table `oidc.apis.{api}`, or remove this"),
                )?;
            }
        }
        Ok(())
    }

    /// OpenID Connect Discovery §3: an `https` URL without query and fragment. `http` is accepted on loopback too.
    pub(super) fn check_issuer(&self, key: &str, issuer: &str) -> Result<(), SettingsError> {
        let remedy = "write the issuer exactly as the provider's metadata has it, such as \
                      `https://accounts.example.com`";
        if issuer.contains('@') {
            return Err(self.error(key, "an issuer with an `@` is not accepted", remedy));
        }
        let url = match Url::parse(issuer) {
            Ok(url) if issuer.starts_with(&format!("{}://", url.scheme())) => url,
            _ => return Err(self.error(key, format!("{issuer:?} is not an absolute URL"), remedy)),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
        if issuer.contains(odd) {
            let cause = format!("the issuer {issuer:?} has a query, a fragment or a space");
            return Err(self.error(key, cause, remedy));
        }
        if let Some(meant) = issuer_of_metadata(issuer) {
            let cause = format!("`{issuer}` is the address of the provider's metadata, not the issuer");
            let remedy = format!("write `{meant}`");
            return Err(self.error(key, cause, remedy));
        }
        self.check_endpoint(key, &url)
    }

    /// Checks that an endpoint is `https`, on loopback, or on a host in `insecure_http_hosts`.
    pub(super) fn check_endpoint(&self, key: &str, url: &Url) -> Result<(), SettingsError> {
        let is_http = url.scheme() == "http";
        if is_https_or_loopback(url) || (is_http && self.insecure_hosts().has(url)) {
            return Ok(());
        }
        let cause = format!("`{url}` is neither `https` nor on loopback");
        let remedy = match url.host_str().filter(|_| is_http) {
            Some(host) => {
                format!("write an address with `https`; in a closed network, list `{host}` in `insecure_http_hosts`")
            }
            None => "write an address with `https`".to_owned(),
        };
        Err(self.error(key, cause, remedy))
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
