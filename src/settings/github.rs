//! GitHub, a plain OAuth 2.0 provider: its fixed issuer and endpoints, and the settings that do not apply to it.

use url::Url;

use super::{
    ClientSecretsTable, Dpop, ProviderPreset, Reach, Registration, ResponseMode, Settings, TokenEndpointAuthMethod,
    metadata_source::MetadataSource,
    mistake::{Mistake, rule},
    presets::GITHUB_SCOPES,
    provider_kind::ProviderKind,
};

/// The address of the public instance.
const PUBLIC: &str = "https://github.com";
/// The domain of the instances with data residency.
const DATA_RESIDENCY: &str = ".ghe.com";
/// What to do about an issuer that only this preset may have.
const USE_PRESET: &str = "write `provider = \"github\"` to let users sign in with GitHub";

impl ProviderPreset {
    /// The issuer [that GitHub documents](https://docs.github.com/en/apps/github-authentication-discovery-endpoints),
    /// which is also the `iss` of its authorization responses (RFC 9207).
    pub(super) fn github_issuer(&self) -> Result<String, Mistake> {
        Ok(format!("{}/login/oauth", self.github_address()?))
    }

    /// The address of the instance, without a `/` at its end.
    fn github_address(&self) -> Result<String, Mistake> {
        let Some(url) = &self.url else {
            return Ok(PUBLIC.to_owned());
        };
        let host = url.host_str().unwrap_or_default();
        rule("", !is_of_public_instance(host))
            .cause(format!("`url` is of GitHub Enterprise, and {host} is not"))
            .remedy("remove `url`")?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_bare = is_bare && url.username().is_empty() && url.password().is_none();
        rule("", is_bare && url.has_host())
            .cause("`url` is not the address of a host alone")
            .remedy("write the address of the instance, such as `https://github.example.com`")?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// The base URL of the REST API. GitHub Enterprise Server has it
    /// [below its own address](https://docs.github.com/en/enterprise-server/rest/quickstart).
    fn github_api(&self) -> Result<String, Mistake> {
        let address = self.github_address()?;
        let host = address.strip_prefix("https://").unwrap_or_default();
        if address == PUBLIC || host.ends_with(DATA_RESIDENCY) {
            Ok(format!("https://api.{host}"))
        } else {
            Ok(format!("{address}/api/v3"))
        }
    }
}

impl Settings {
    /// The registration at GitHub.
    pub(super) fn github_registration(
        &self,
        preset: &ProviderPreset,
        client_secrets: Option<&ClientSecretsTable>,
    ) -> Result<Registration, Mistake> {
        let at_provider = |mistake: Mistake| mistake.at("provider");
        let issuer = preset.github_issuer().map_err(at_provider)?;
        let api = preset.github_api().map_err(at_provider)?;
        let of_table = client_secrets.and_then(|table| table.client_id.as_ref());
        let client_id = self.client_id.as_ref().or(of_table).cloned().unwrap_or_default();
        if client_id.is_empty() {
            self.check_client_id_is_not_needed()?;
        }
        let client_secret = self.secret(client_secrets)?;
        rule("client_secret", client_secret.is_some())
            .cause("GitHub requires a client secret, and none is set")
            .remedy(
                "generate one in the settings of the app at GitHub, and set OIDC_CLIENT_SECRET or `client_secret_file`",
            )?;
        let of_table = client_secrets.and_then(ClientSecretsTable::first_endpoint);
        rule("client_secrets", of_table.is_none())
            .cause(format!(
                "it has `{}`, and the issuer and the endpoints of GitHub are fixed",
                of_table.unwrap_or_default()
            ))
            .remedy("remove it there; for GitHub Enterprise, set `provider.url`")?;
        let endpoint = |url: &str| {
            let url = Url::parse(url).map_err(|error| at_provider(Mistake::new(error.to_string(), "correct `url`")))?;
            self.check_endpoint("provider", &Some(url.clone()))?;
            Ok::<_, Mistake>(url)
        };
        let mut revocation_endpoint = endpoint(&api)?;
        if let Ok(mut path) = revocation_endpoint.path_segments_mut() {
            path.pop_if_empty().extend(["applications", &client_id, "token"]);
        }
        Ok(Registration {
            reach: Reach::Operator,
            metadata: MetadataSource::GitHub {
                authorization_endpoint: endpoint(&format!("{issuer}/authorize"))?,
                token_endpoint: endpoint(&format!("{issuer}/access_token"))?,
                user_endpoint: endpoint(&format!("{api}/user"))?,
                revocation_endpoint,
            },
            issuer,
            tenants: None,
            client_id,
            client_secret,
            client_key: None,
            client_identity: None,
            secret_issuer: None,
            introspection_endpoint: None,
        })
    }

    /// Rejects the settings that do not apply to GitHub: a setting without effect would promise what does not happen.
    pub(super) fn check_github(&self) -> Result<(), Mistake> {
        let Some(preset) = &self.provider else { return Ok(()) };
        if self.provider_kind() != ProviderKind::GitHub || !self.enabled {
            return Ok(());
        }
        let issuer = preset.github_issuer().map_err(|mistake| mistake.at("provider"))?;
        let other = self.issuer.as_ref().filter(|other| **other != issuer);
        rule("issuer", other.is_none())
            .cause(format!(
                "the issuer of this provider is `{issuer}`, and cannot be another one"
            ))
            .remedy("remove `issuer`; for GitHub Enterprise, set `provider.url`")?;
        for (key, is_set) in self.not_for_github() {
            rule(key, !is_set)
                .cause("it does not apply to GitHub, a plain OAuth 2.0 provider without ID tokens")
                .remedy(format!("remove `{key}`"))?;
        }
        rule("scopes", !self.scopes.iter().any(|scope| scope == "openid"))
            .cause("GitHub has no scope `openid`")
            .remedy(format!("remove `openid`, for example `scopes = \"{GITHUB_SCOPES}\"`"))?;
        let parameters = &self.extra_authorization_parameters;
        let demands = ["max_age", "acr_values"];
        let demand = demands.into_iter().find(|name| parameters.contains_key(*name));
        rule("extra_authorization_parameters", demand.is_none())
            .cause(format!(
                "GitHub does not state how or when a user authenticated, which `{}` demands",
                demand.unwrap_or_default()
            ))
            .remedy("remove it")
    }

    /// The settings that do not apply to GitHub, and whether each is set.
    fn not_for_github(&self) -> [(&'static str, bool); 15] {
        let method = self.token_endpoint_auth_method;
        let is_other_method = method.is_some_and(|method| method != TokenEndpointAuthMethod::ClientSecretPost);
        [
            ("server_metadata_url", self.server_metadata_url.is_some()),
            ("tenants", !self.tenants.is_empty()),
            ("private_key_file", self.private_key_file.is_some()),
            ("tls_client_certificate", self.tls_client_certificate.is_some()),
            ("token_endpoint_auth_method", is_other_method),
            ("id_token_signing_algs", self.id_token_signing_algs.is_some()),
            ("trusted_audiences", !self.trusted_audiences.is_empty()),
            ("user_info_enabled", !self.user_info_enabled),
            ("user_info_optional", self.user_info_optional),
            ("insecure_accept_missing_nonce", self.insecure_accept_missing_nonce),
            ("response_mode", self.response_mode != ResponseMode::Query),
            ("pushed_authorization_requests", self.pushed_authorization_requests),
            ("dpop", self.dpop == Dpop::Required),
            ("frontchannel_logout", self.frontchannel_logout),
            ("resource_server_only", self.resource_server_only),
        ]
    }

    /// Rejects GitHub's issuer in a setting: GitHub is no OpenID provider, and the users of another provider must not
    /// look like those of GitHub.
    pub(super) fn check_is_not_github(&self, key: &str, issuer: &str) -> Result<(), Mistake> {
        let is_of_preset = key == "issuer" && self.provider_kind() == ProviderKind::GitHub;
        let host = Url::parse(issuer).ok();
        let host = host.as_ref().and_then(Url::host_str).unwrap_or_default();
        rule(key, is_of_preset || !is_of_public_instance(host))
            .cause(format!(
                "`{issuer}` is not an OpenID provider: GitHub issues no ID tokens to users"
            ))
            .remedy(USE_PRESET)
    }
}

/// Whether a host is of the public instance. Only the preset may name it.
fn is_of_public_instance(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host == "github.com" || host.ends_with(".github.com")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{secret::Secret, settings::KnownProvider};

    /// The endpoints, and the issuer, of the preset with this `url`.
    fn registration(url: Option<&str>) -> Result<(Registration, [String; 4]), String> {
        let preset = ProviderPreset {
            name: KnownProvider::GitHub,
            tenant: None,
            domain: None,
            url: url.map(|url| Url::parse(url).unwrap()),
            realm: None,
            authorization_server: None,
            application: None,
            user_pool: None,
            team_id: None,
        };
        let settings = Settings {
            client_id: Some("Iv1.a/b".to_owned()),
            client_secret: Some(Secret::new("hush")),
            ..Settings::default()
        };
        let registration = settings.github_registration(&preset, None);
        let registration = registration.map_err(|mistake| format!("{}: {}", mistake.key, mistake.cause))?;
        let MetadataSource::GitHub {
            authorization_endpoint,
            token_endpoint,
            user_endpoint,
            revocation_endpoint,
        } = &registration.metadata
        else {
            panic!("{registration:?}");
        };
        let endpoints = [
            authorization_endpoint,
            token_endpoint,
            user_endpoint,
            revocation_endpoint,
        ];
        let endpoints = endpoints.map(Url::to_string);
        Ok((registration, endpoints))
    }

    #[test]
    fn the_endpoints_are_those_of_the_documentation() {
        for (url, web, api) in [
            (None, "https://github.com", "https://api.github.com"),
            (
                Some("https://octocorp.ghe.com"),
                "https://octocorp.ghe.com",
                "https://api.octocorp.ghe.com",
            ),
            (
                Some("https://github.example.com/"),
                "https://github.example.com",
                "https://github.example.com/api/v3",
            ),
            (
                Some("http://127.0.0.1:80"),
                "http://127.0.0.1",
                "http://127.0.0.1/api/v3",
            ),
            (
                Some("https://evil-ghe.com"),
                "https://evil-ghe.com",
                "https://evil-ghe.com/api/v3",
            ),
        ] {
            let (registration, endpoints) = registration(url).unwrap();
            assert_eq!(registration.issuer, format!("{web}/login/oauth"));
            assert_eq!(registration.kind(), ProviderKind::GitHub);
            let expected = [
                format!("{web}/login/oauth/authorize"),
                format!("{web}/login/oauth/access_token"),
                format!("{api}/user"),
                format!("{api}/applications/Iv1.a%2Fb/token"),
            ];
            assert_eq!(endpoints, expected);
        }
    }

    #[test]
    fn a_registration_has_a_secret_and_no_endpoints_of_its_own() {
        let preset = ProviderPreset {
            name: KnownProvider::GitHub,
            tenant: None,
            domain: None,
            url: None,
            realm: None,
            authorization_server: None,
            application: None,
            user_pool: None,
            team_id: None,
        };
        let refused = |change: fn(&mut ClientSecretsTable)| {
            let mut table = ClientSecretsTable {
                client_id: Some("app".to_owned()),
                client_secret: Some(Secret::new("hush")),
                ..ClientSecretsTable::default()
            };
            change(&mut table);
            let registration = Settings::default().github_registration(&preset, Some(&table));
            registration.err().map(|mistake| (mistake.key, mistake.cause))
        };
        assert_eq!(refused(|_| ()), None);
        let expected = |key: &str, cause: &str| Some((key.to_owned(), cause.to_owned()));
        assert_eq!(
            refused(|table| table.client_secret = None),
            expected("client_secret", "GitHub requires a client secret, and none is set")
        );
        assert_eq!(
            refused(|table| table.client_id = None),
            expected("client_id", "the client's identifier at the provider is missing")
        );
        assert_eq!(
            refused(|table| table.issuer = Some("https://github.com/login/oauth".to_owned())),
            expected(
                "client_secrets",
                "it has `issuer`, and the issuer and the endpoints of GitHub are fixed"
            )
        );
        assert_eq!(
            refused(|table| table.token_uri = Url::parse("https://evil.example/token").ok()),
            expected(
                "client_secrets",
                "it has `token_uri`, and the issuer and the endpoints of GitHub are fixed"
            )
        );
    }

    #[test]
    fn an_instance_is_a_host_with_tls() {
        let public = |host: &str| format!("provider: `url` is of GitHub Enterprise, and {host} is not");
        let bare = "provider: `url` is not the address of a host alone".to_owned();
        for (url, expected) in [
            ("https://github.com", public("github.com")),
            ("https://GitHub.com.", public("github.com.")),
            ("https://github.com:8443", public("github.com")),
            ("https://api.github.com", public("api.github.com")),
            ("https://ghe.example/api/v3", bare.clone()),
            ("https://ghe.example/?a", bare.clone()),
            ("https://ghe.example/#a", bare.clone()),
            ("https://user@ghe.example", bare.clone()),
            ("https://:hush@ghe.example", bare.clone()),
            ("data:text", bare),
            (
                "http://ghe.example",
                "provider: `http://ghe.example/api/v3` is neither `https` nor on loopback".to_owned(),
            ),
        ] {
            assert_eq!(registration(Some(url)).unwrap_err(), expected, "{url}");
        }
    }
}
