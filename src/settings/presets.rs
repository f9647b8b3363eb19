//! The setting `oidc.provider`: presets of known providers, which expand to settings from their documentation.

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{
    Settings, SettingsError,
    declaration::{Field, Invalid, Parser, SettingType, named, settings},
    mistake::{Mistake, rule},
    syntax::{self, Syntax},
    value::Text,
};
use crate::token::{Accepts, TENANT_ID};

settings! {
    /// A preset of a known provider: its name, and the parameters of its issuer.
    ///
    /// It expands to other settings, each of which takes precedence if it is set:
    ///
    /// | `name` | with | stands for | see |
    /// |---|---|---|---|
    /// | `google` | | `issuer = "https://accounts.google.com"` | [Google](https://developers.google.com/identity/openid-connect/openid-connect#discovery) |
    /// | `microsoft` | `tenant` | `issuer = "https://login.microsoftonline.com/{tenant}/v2.0"`, `user_info_enabled = false`; for `organizations` and `common`, `issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"` and `server_metadata_url`, beside which [`Settings::tenants`] is needed | [Microsoft](https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc), [UserInfo](https://learn.microsoft.com/entra/identity-platform/userinfo#consider-using-an-id-token-instead) |
    /// | `auth0` | `domain` | `issuer = "https://{domain}/"`, `accepts = "untyped_tokens"`; with one `audience`, `extra_authorization_parameters.audience` | [Auth0](https://auth0.com/docs/secure/tokens/access-tokens/get-access-tokens#control-access-token-audience) |
    /// | `github` | `url`, for GitHub Enterprise alone | a plain OAuth 2.0 provider with the fixed issuer `https://github.com/login/oauth`, or `{url}/login/oauth`; `scopes = "read:user user:email"` | [GitHub](https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps) |
    /// | `keycloak` | `url`, `realm` | `issuer = "{url}/realms/{realm}"` | [Keycloak](https://www.keycloak.org/securing-apps/oidc-layers#_oidc_available_endpoints) |
    ///
    /// GitHub is not an OpenID provider: its issuer cannot be changed, and settings about ID tokens abort the launch. See
    /// [`User::kind`](crate::User::kind).
    ///
    /// It is expanded when files and variables are read, before the app changes settings in `Oidc::custom`.
    pub struct ProviderPreset {
        /// `google`, `microsoft`, `auth0`, `keycloak` or `github`.
        pub name: KnownProvider,
        /// For `microsoft`: the id of the directory, a GUID; or, for the directories in [`Settings::tenants`],
        /// `organizations`, or `common` if personal accounts are among them.
        ///
        /// _Default:_ none
        pub tenant: Option<String> as Option<Text> = None,
        /// For `auth0`: the tenant's domain, or its custom domain.
        ///
        /// _Default:_ none
        pub domain: Option<String> as Option<Text> = None,
        /// For `keycloak`: its URL, without `/realms`. For `github`: the address of GitHub Enterprise, such as
        /// `https://github.example.com` or `https://octocorp.ghe.com`.
        ///
        /// _Default:_ none
        pub url: Option<Url> = None,
        /// For `keycloak`: the name of the realm.
        ///
        /// _Default:_ none
        pub realm: Option<String> as Option<Text> = None,
    }
}

/// The providers that have a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KnownProvider {
    /// Google accounts.
    Google,
    /// One directory of Microsoft Entra ID, or those of the setting `tenants`.
    Microsoft,
    /// A tenant of Auth0.
    Auth0,
    /// A realm of a Keycloak.
    Keycloak,
    /// GitHub, or GitHub Enterprise: plain OAuth 2.0, without ID tokens.
    GitHub,
}

const MICROSOFT: &str = "https://login.microsoftonline.com";
/// The scopes to request from GitHub: the profile, and the e-mail addresses.
pub(super) const GITHUB_SCOPES: &str = "read:user user:email";
/// Microsoft's names for several directories; the second includes personal accounts.
const SHARED: [&str; 2] = ["organizations", "common"];

named!(KnownProvider);

/// The settings of a preset, with lower precedence than all explicit settings.
pub(super) struct Expansion {
    settings: Dict,
}

impl Settings {
    /// The settings to which `provider` expands, given the other settings.
    pub(super) fn expansion(&self) -> Result<Option<Expansion>, SettingsError> {
        let Some(preset) = &self.provider else {
            return Ok(None);
        };
        let mut settings = json!({});
        let client_secrets = self.client_secrets().map_err(|mistake| self.error(mistake))?;
        if client_secrets.is_none_or(|table| table.issuer.is_none())
            && let Ok(issuer) = preset.issuer()
        {
            settings["issuer"] = json!(issuer);
            // The shared metadata does not fit another issuer.
            if self.issuer.is_none()
                && let Some(url) = preset.shared_metadata()
            {
                settings["server_metadata_url"] = json!(url);
            }
        }
        match (preset.name, self.audience.as_deref()) {
            (KnownProvider::Microsoft, _) => settings["user_info_enabled"] = json!(false),
            (KnownProvider::Auth0, Some([audience])) => {
                settings["extra_authorization_parameters"] = json!({ "audience": audience });
            }
            _ => {}
        }
        if preset.name == KnownProvider::Auth0 {
            settings["accepts"] = json!(Accepts::UntypedTokens.as_str());
        }
        if preset.name == KnownProvider::GitHub {
            settings["scopes"] = json!(GITHUB_SCOPES);
        }
        let value = figment::value::Value::serialize(settings);
        let value = value.map_err(SettingsError::from_figment)?;
        Ok(Some(Expansion {
            settings: value.into_dict().unwrap_or_default(),
        }))
    }
}

impl ProviderPreset {
    fn issuer(&self) -> Result<String, Mistake> {
        match self.name {
            KnownProvider::Google => Ok("https://accounts.google.com".to_owned()),
            KnownProvider::Microsoft => {
                let tenant = self.needed(&self.tenant, "tenant")?;
                let is_shared = SHARED.contains(&&**tenant);
                // The metadata of `consumers`, or of a domain name, has another issuer.
                rule("", is_shared || is_guid(tenant))
                    .cause(format!("the tenant {tenant:?} is not the id of one directory"))
                    .remedy(
                        "write the directory (tenant) id, a GUID; personal accounts are in \
                         `9188040d-6c67-4c5b-b112-36a304b66dad`; for several directories, write \
                         `organizations`, or `common` with personal accounts, and set `tenants`",
                    )?;
                let tenant = if is_shared { TENANT_ID } else { tenant };
                Ok(format!("{MICROSOFT}/{tenant}/v2.0"))
            }
            KnownProvider::Auth0 => {
                let domain = self.needed(&self.domain, "domain")?;
                rule("", is_name(domain))
                    .cause(format!("{domain:?} is not a domain"))
                    .remedy("write the domain alone, such as `example.eu.auth0.com`")?;
                Ok(format!("https://{domain}/"))
            }
            KnownProvider::Keycloak => {
                let url = self.needed(&self.url, "url")?;
                let realm = self.needed(&self.realm, "realm")?;
                let url = url.as_str().trim_end_matches('/');
                rule("", is_name(realm))
                    .cause(format!("the realm {realm:?} is not a plain name"))
                    .remedy("set `issuer` to the issuer in the realm's metadata")?;
                Ok(format!("{url}/realms/{realm}"))
            }
            KnownProvider::GitHub => self.github_issuer(),
        }
    }

    /// The URL of the metadata that several tenants share.
    fn shared_metadata(&self) -> Option<String> {
        let tenant = self.tenant.as_deref().filter(|tenant| SHARED.contains(tenant))?;
        let is_microsoft = self.name == KnownProvider::Microsoft;
        is_microsoft.then(|| format!("{MICROSOFT}/{tenant}/v2.0/.well-known/openid-configuration"))
    }

    fn needed<'a, T>(&self, value: &'a Option<T>, member: &str) -> Result<&'a T, Mistake> {
        let example = match self.name {
            KnownProvider::Google => "\"google\"",
            KnownProvider::GitHub => "\"github\"",
            KnownProvider::Microsoft => "{ name = \"microsoft\", tenant = \"…\" }",
            KnownProvider::Auth0 => "{ name = \"auth0\", domain = \"…\" }",
            KnownProvider::Keycloak => "{ name = \"keycloak\", url = \"https://…\", realm = \"…\" }",
        };
        value.as_ref().ok_or_else(|| {
            let cause = format!("the preset needs `{member}` too");
            Mistake::new(cause, format!("write `provider = {example}`"))
        })
    }
}

/// A preset as a name or a table.
pub(super) struct NameOrTable;

impl SettingType for NameOrTable {
    type Value = ProviderPreset;
    const SYNTAX: Syntax = syntax::NAME_OR_TABLE;
    const FIELDS: &'static [Field] = ProviderPreset::FIELDS;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<ProviderPreset, Invalid> {
        if value.as_dict().is_some() {
            return ProviderPreset::parse(value, parser);
        }
        if value.as_str().is_none() {
            return Err(Invalid::Type(value.to_actual()));
        }
        Ok(ProviderPreset {
            name: KnownProvider::parse(value, parser)?,
            tenant: None,
            domain: None,
            url: None,
            realm: None,
        })
    }

    fn validate(preset: &ProviderPreset, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        ProviderPreset::validate(preset, parser)?;
        preset.issuer()?;
        Ok(())
    }
}

fn is_guid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    parts == [8, 4, 4, 4, 12] && text.chars().all(hex)
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
    text.chars().all(plain)
}

impl Provider for Expansion {
    fn metadata(&self) -> Metadata {
        Metadata::named("the expansion of `provider`")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}
