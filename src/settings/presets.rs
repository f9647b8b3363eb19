//! The setting `oidc.provider`: presets of known providers, which expand to settings from their documentation.

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use url::Url;

use super::{
    Settings, SettingsError,
    declaration::{Field, Invalid, Parser, SettingType, named, settings},
    mistake::{Mistake, rule},
    syntax::{self, Syntax},
    value::Text,
};
use crate::token::{Accepts, PERSONAL_ACCOUNTS, TENANT_ID};

settings! {
    /// A preset of a known provider: its name, and the parameters of its issuer.
    ///
    /// It expands to other settings, each of which takes precedence if it is set:
    ///
    /// | `name` | with | stands for | see |
    /// |---|---|---|---|
    /// | `google` | | `issuer = "https://accounts.google.com"` | [Google](https://developers.google.com/identity/openid-connect/openid-connect#discovery) |
    /// | `microsoft` | `tenant` | `issuer = "https://login.microsoftonline.com/{tenant}/v2.0"`, `user_info_enabled = false`, `resource_parameter = "scope"`, `token_exchange = "on_behalf_of"`; for `organizations` and `common`, `issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"` and `server_metadata_url`, beside which [`Settings::tenants`] is needed | [Microsoft](https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc), [UserInfo](https://learn.microsoft.com/entra/identity-platform/userinfo#consider-using-an-id-token-instead) |
    /// | `auth0` | `domain` | `issuer = "https://{domain}/"`, `accepts = "untyped_tokens"`, `resource_parameter = "audience"`; with one `audience`, `extra_authorization_parameters.audience` | [Auth0](https://auth0.com/docs/secure/tokens/access-tokens/get-access-tokens#control-access-token-audience) |
    /// | `okta` | `domain`, `authorization_server` | `issuer = "https://{domain}/oauth2/{authorization_server}"`; without `authorization_server`, `issuer = "https://{domain}"` | [Okta](https://developer.okta.com/docs/concepts/auth-servers/) |
    /// | `github` | `url`, for GitHub Enterprise alone | a plain OAuth 2.0 provider with the fixed issuer `https://github.com/login/oauth`, or `{url}/login/oauth`; `scopes = "read:user user:email"` | [GitHub](https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps) |
    /// | `keycloak` | `url`, `realm` | `issuer = "{url}/realms/{realm}"` | [Keycloak](https://www.keycloak.org/securing-apps/oidc-layers#_oidc_available_endpoints) |
    /// | `authentik` | `url`, `application` | `issuer = "{url}/application/o/{application}/"` | [Authentik](https://docs.goauthentik.io/add-secure-apps/providers/oauth2/) |
    /// | `zitadel` | `url` | `issuer = "{url}"` | [Zitadel](https://zitadel.com/docs/apis/openidoauth/endpoints) |
    /// | `gitlab` | `url`, if it is not GitLab.com | `issuer = "{url}"` | [GitLab](https://docs.gitlab.com/integration/openid_connect_provider/) |
    /// | `cognito` | `user_pool` | `issuer = "https://cognito-idp.{region}.amazonaws.com/{user_pool}"`, with the region in the id of the user pool; `audience_claim = "client_id"`; `rp_initiated_logout = false`, because its sign-out is another protocol | [Cognito](https://docs.aws.amazon.com/cognito/latest/developerguide/federation-endpoints.html), [sign-out](https://docs.aws.amazon.com/cognito/latest/developerguide/logout-endpoint.html) |
    /// | `apple` | `team_id` | `issuer = "https://appleid.apple.com"`, `response_mode = "form_post"`, `scopes = "openid email"`, `user_info_enabled = false`, `session.tokens = "id_token"`; without a client secret, `client_secret_issuer = "{team_id}"` | [Apple](https://developer.apple.com/documentation/signinwithapplerestapi/request-an-authorization-to-the-sign-in-with-apple-server.), [client secret](https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret) |
    /// | `linkedin` | | `issuer = "https://www.linkedin.com/oauth"`, `token_endpoint_auth_method = "client_secret_post"`, and what LinkedIn lacks, each a warning at liftoff: `insecure_accept_missing_nonce = true`, `insecure_omit_pkce = true` | [LinkedIn](https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2) |
    ///
    /// GitHub is not an OpenID provider: its issuer cannot be changed, and settings about ID tokens abort the launch. See
    /// [`User::kind`](crate::User::kind).
    ///
    /// It is expanded when files and variables are read, before the app changes settings in `Oidc::custom`.
    pub struct ProviderPreset {
        /// `google`, `microsoft`, `auth0`, `okta`, `keycloak`, `authentik`, `zitadel`, `gitlab`, `cognito`, `apple`,
        /// `linkedin` or `github`.
        pub name: KnownProvider,
        /// For `microsoft`: the id of the directory, a GUID; `consumers` for personal accounts; or, for the directories
        /// in [`Settings::tenants`], `organizations`, or `common` if personal accounts are among them.
        ///
        /// _Default:_ none
        pub tenant: Option<String> as Option<Text> = None,
        /// For `auth0` and `okta`: the tenant's or org's domain, or its custom domain.
        ///
        /// _Default:_ none
        pub domain: Option<String> as Option<Text> = None,
        /// For `okta`: the id of a custom authorization server, such as `default`; without it, the org's own.
        ///
        /// _Default:_ none
        pub authorization_server: Option<String> as Option<Text> = None,
        /// For `keycloak`: its URL, without `/realms`; for `authentik`: its URL, without `/application`; for `zitadel`:
        /// the URL of the instance; for `gitlab`: its URL, if it is not GitLab.com; for `github`: the address of GitHub
        /// Enterprise, such as `https://github.example.com` or `https://octocorp.ghe.com`.
        ///
        /// _Default:_ none; for `gitlab`, `https://gitlab.com`
        pub url: Option<Url> = None,
        /// For `keycloak`: the name of the realm.
        ///
        /// _Default:_ none
        pub realm: Option<String> as Option<Text> = None,
        /// For `authentik`: the slug of the application.
        ///
        /// _Default:_ none
        pub application: Option<String> as Option<Text> = None,
        /// For `cognito`: the id of the user pool, which begins with its region.
        ///
        /// _Default:_ none
        pub user_pool: Option<String> as Option<Text> = None,
        /// For `apple`: the Team ID of the developer account.
        ///
        /// _Default:_ none
        pub team_id: Option<String> as Option<Text> = None,
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
    /// An org of Okta, or one of its custom authorization servers.
    Okta,
    /// A realm of a Keycloak.
    Keycloak,
    /// An application of an Authentik.
    Authentik,
    /// An instance of Zitadel.
    Zitadel,
    /// GitLab.com, or a GitLab of one's own.
    GitLab,
    /// A user pool of Amazon Cognito.
    Cognito,
    /// Sign in with Apple.
    Apple,
    /// Sign In with LinkedIn.
    LinkedIn,
    /// GitHub, or GitHub Enterprise: plain OAuth 2.0, without ID tokens.
    GitHub,
}

const MICROSOFT: &str = "https://login.microsoftonline.com";
/// The scopes to request from GitHub: the profile, and the e-mail addresses.
pub(super) const GITHUB_SCOPES: &str = "read:user user:email";
/// Microsoft's names for several directories; the second includes personal accounts.
const SHARED: [&str; 2] = ["organizations", "common"];
/// Microsoft's name for personal accounts.
const CONSUMERS: &str = "consumers";

named!(KnownProvider);

/// The settings of a preset, with lower precedence than all explicit settings.
pub(super) struct Expansion {
    settings: Dict,
}

impl Settings {
    /// The settings to which `profile` and `provider` expand, given the other settings.
    pub(super) fn expansion(&self) -> Result<Option<Expansion>, SettingsError> {
        if self.provider.is_none() && self.profile.is_none() {
            return Ok(None);
        }
        let mut settings = json!({});
        self.set_profile_defaults(&mut settings);
        if let Some(preset) = &self.provider {
            self.set_preset_defaults(preset, &mut settings)?;
        }
        let value = figment::value::Value::serialize(settings);
        let value = value.map_err(SettingsError::from_figment)?;
        Ok(Some(Expansion {
            settings: value.into_dict().unwrap_or_default(),
        }))
    }

    fn set_preset_defaults(&self, preset: &ProviderPreset, settings: &mut Json) -> Result<(), SettingsError> {
        let client_secrets = self.client_secrets().map_err(|mistake| self.error(mistake))?;
        let table = client_secrets.as_deref();
        if table.is_none_or(|table| table.issuer.is_none())
            && let Ok(issuer) = preset.issuer()
        {
            settings["issuer"] = json!(issuer);
            // What belongs to the provider's own issuer alone: its metadata, and what it lacks.
            if self.issuer.is_none() {
                if let Some(url) = preset.shared_metadata() {
                    settings["server_metadata_url"] = json!(url);
                }
                if preset.name == KnownProvider::LinkedIn {
                    settings["insecure_accept_missing_nonce"] = json!(true);
                    settings["insecure_omit_pkce"] = json!(true);
                }
            }
        }
        match preset.name {
            KnownProvider::Microsoft => {
                settings["user_info_enabled"] = json!(false);
                settings["resource_parameter"] = json!("scope");
                settings["token_exchange"] = json!("on_behalf_of");
            }
            KnownProvider::Auth0 => {
                settings["resource_parameter"] = json!("audience");
                settings["accepts"] = json!(Accepts::UntypedTokens.as_str());
                if let Some([audience]) = self.audience.as_deref() {
                    settings["extra_authorization_parameters"] = json!({ "audience": audience });
                }
            }
            KnownProvider::Cognito => {
                settings["audience_claim"] = json!("client_id");
                settings["rp_initiated_logout"] = json!(false);
            }
            KnownProvider::Apple => {
                settings["response_mode"] = json!("form_post");
                // It has no scope `profile`.
                settings["scopes"] = json!("openid email");
                settings["user_info_enabled"] = json!(false);
                settings["session"] = json!({ "tokens": ["id_token"] });
                let has_secret = self.client_secret.is_some() || self.client_secret_file.is_some();
                if !has_secret && table.is_none_or(|table| table.client_secret.is_none()) {
                    settings["client_secret_issuer"] = json!(preset.team_id);
                }
            }
            KnownProvider::LinkedIn => settings["token_endpoint_auth_method"] = json!("client_secret_post"),
            KnownProvider::GitHub => settings["scopes"] = json!(GITHUB_SCOPES),
            KnownProvider::Google
            | KnownProvider::Okta
            | KnownProvider::Keycloak
            | KnownProvider::Authentik
            | KnownProvider::Zitadel
            | KnownProvider::GitLab => {}
        }
        Ok(())
    }
}

impl Expansion {
    pub(super) fn into_table(self) -> Dict {
        self.settings
    }
}

impl KnownProvider {
    /// The parameters of its preset, and how the preset is written.
    fn parameters(self) -> (&'static [&'static str], &'static str) {
        match self {
            KnownProvider::Google => (&[], "\"google\""),
            KnownProvider::Microsoft => (&["tenant"], "{ name = \"microsoft\", tenant = \"…\" }"),
            KnownProvider::Auth0 => (&["domain"], "{ name = \"auth0\", domain = \"…\" }"),
            KnownProvider::Okta => (
                &["domain", "authorization_server"],
                "{ name = \"okta\", domain = \"…\" }",
            ),
            KnownProvider::Keycloak => (
                &["url", "realm"],
                "{ name = \"keycloak\", url = \"https://…\", realm = \"…\" }",
            ),
            KnownProvider::Authentik => (
                &["url", "application"],
                "{ name = \"authentik\", url = \"https://…\", application = \"…\" }",
            ),
            KnownProvider::Zitadel => (&["url"], "{ name = \"zitadel\", url = \"https://…\" }"),
            KnownProvider::GitLab => (&["url"], "{ name = \"gitlab\", url = \"https://…\" }"),
            KnownProvider::Cognito => (&["user_pool"], "{ name = \"cognito\", user_pool = \"…\" }"),
            KnownProvider::Apple => (&["team_id"], "{ name = \"apple\", team_id = \"…\" }"),
            KnownProvider::LinkedIn => (&[], "\"linkedin\""),
            KnownProvider::GitHub => (&["url"], "\"github\""),
        }
    }
}

impl ProviderPreset {
    fn of(name: KnownProvider) -> ProviderPreset {
        ProviderPreset {
            name,
            tenant: None,
            domain: None,
            authorization_server: None,
            url: None,
            realm: None,
            application: None,
            user_pool: None,
            team_id: None,
        }
    }

    fn check_parameters(&self) -> Result<(), Mistake> {
        let given = [
            ("tenant", self.tenant.is_some()),
            ("domain", self.domain.is_some()),
            ("authorization_server", self.authorization_server.is_some()),
            ("url", self.url.is_some()),
            ("realm", self.realm.is_some()),
            ("application", self.application.is_some()),
            ("user_pool", self.user_pool.is_some()),
            ("team_id", self.team_id.is_some()),
        ];
        let (known, example) = self.name.parameters();
        let unknown = given.iter().find(|(name, is_set)| *is_set && !known.contains(name));
        let (name, _) = unknown.unwrap_or(&("", false));
        rule("", unknown.is_none())
            .cause(format!("this preset has no `{name}`"))
            .remedy(format!("write `provider = {example}`"))
    }

    fn issuer(&self) -> Result<String, Mistake> {
        self.check_parameters()?;
        match self.name {
            KnownProvider::Google => Ok("https://accounts.google.com".to_owned()),
            KnownProvider::Microsoft => self.microsoft_issuer(),
            KnownProvider::Auth0 => {
                let domain = self.domain("write the domain alone, such as `example.eu.auth0.com`")?;
                Ok(format!("https://{domain}/"))
            }
            KnownProvider::Okta => self.okta_issuer(),
            KnownProvider::Keycloak => {
                let (url, realm) = (self.base()?, self.needed(&self.realm, "realm")?);
                rule("", is_segment(realm))
                    .cause(format!("the realm {realm:?} is not a plain name"))
                    .remedy("set `issuer` to the issuer in the realm's metadata")?;
                Ok(format!("{url}/realms/{realm}"))
            }
            KnownProvider::Authentik => {
                let (url, application) = (self.base()?, self.needed(&self.application, "application")?);
                rule("", is_segment(application))
                    .cause(format!("the application {application:?} is not a slug"))
                    .remedy("write the slug of the application, such as `my-app`")?;
                Ok(format!("{url}/application/o/{application}/"))
            }
            KnownProvider::Zitadel => {
                let url = self.needed(&self.url, "url")?;
                rule("", url.path() == "/")
                    .cause("the issuer of a Zitadel has no path, and the URL has one")
                    .remedy("write the URL of the instance, such as `https://example.zitadel.cloud`")?;
                self.base()
            }
            KnownProvider::GitLab if self.url.is_none() => Ok("https://gitlab.com".to_owned()),
            KnownProvider::GitLab => self.base(),
            KnownProvider::Cognito => {
                let user_pool = self.needed(&self.user_pool, "user_pool")?;
                let region = user_pool.split_once('_').filter(|(_, id)| is_alphanumeric(id));
                let region = region.map_or("", |(region, _)| region);
                let is_region = region.contains('-') && region.split('-').all(is_alphanumeric);
                rule("", is_region)
                    .cause(format!("{user_pool:?} is not the id of a user pool"))
                    .remedy("write the user pool ID, such as `eu-central-1_aBcDeFgHi`")?;
                Ok(format!("https://cognito-idp.{region}.amazonaws.com/{user_pool}"))
            }
            KnownProvider::Apple => {
                let team_id = self.needed(&self.team_id, "team_id")?;
                rule("", team_id.len() == 10 && is_alphanumeric(team_id))
                    .cause(format!("{team_id:?} is not a Team ID"))
                    .remedy("write the Team ID of the Apple developer account, ten letters and digits")?;
                Ok("https://appleid.apple.com".to_owned())
            }
            KnownProvider::LinkedIn => Ok("https://www.linkedin.com/oauth".to_owned()),
            KnownProvider::GitHub => self.github_issuer(),
        }
    }

    fn microsoft_issuer(&self) -> Result<String, Mistake> {
        let given = self.needed(&self.tenant, "tenant")?;
        let tenant = given.to_ascii_lowercase();
        let is_shared = SHARED.contains(&&*tenant);
        // The metadata of a domain name has another issuer.
        rule("", is_shared || tenant == CONSUMERS || is_guid(&tenant))
            .cause(format!("the tenant {given:?} is not the id of one directory"))
            .remedy(
                "write the directory (tenant) id, a GUID; `consumers` for personal accounts; for several directories, \
                 write `organizations`, or `common` with personal accounts, and set `tenants`",
            )?;
        let tenant = match &*tenant {
            CONSUMERS => PERSONAL_ACCOUNTS,
            _ if is_shared => TENANT_ID,
            tenant => tenant,
        };
        Ok(format!("{MICROSOFT}/{tenant}/v2.0"))
    }

    fn okta_issuer(&self) -> Result<String, Mistake> {
        let domain = self.domain("write the domain alone, such as `example.okta.com`")?;
        let (org, rest) = domain.split_once('.').unwrap_or((domain, ""));
        let console = org.strip_suffix("-admin").filter(|_| rest.starts_with("okta"));
        rule("", console.is_none())
            .cause(format!("{domain:?} is the domain of Okta's admin console"))
            .remedy(format!("write `{}.{rest}`", console.unwrap_or_default()))?;
        let Some(server) = &self.authorization_server else {
            return Ok(format!("https://{domain}"));
        };
        rule("", is_segment(server))
            .cause(format!("the authorization server {server:?} is not a plain name"))
            .remedy("write the last part of its issuer, such as `default`")?;
        Ok(format!("https://{domain}/oauth2/{server}"))
    }

    fn domain(&self, remedy: &'static str) -> Result<&str, Mistake> {
        let domain = self.needed(&self.domain, "domain")?;
        rule("", is_domain(domain))
            .cause(format!("{domain:?} is not a domain"))
            .remedy(remedy)?;
        Ok(domain)
    }

    /// `url`, without a slash at its end.
    fn base(&self) -> Result<String, Mistake> {
        let url = self.needed(&self.url, "url")?;
        rule("", url.query().is_none() && url.fragment().is_none())
            .cause(format!("`{url}` has a query or a fragment"))
            .remedy("write scheme, host and path alone, such as `https://sso.example.com`")?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// The URL of the metadata that several tenants share.
    fn shared_metadata(&self) -> Option<String> {
        let tenant = self.tenant.as_deref()?.to_ascii_lowercase();
        let is_shared = self.name == KnownProvider::Microsoft && SHARED.contains(&&*tenant);
        is_shared.then(|| format!("{MICROSOFT}/{tenant}/v2.0/.well-known/openid-configuration"))
    }

    fn needed<'a, T>(&self, value: &'a Option<T>, member: &str) -> Result<&'a T, Mistake> {
        value.as_ref().ok_or_else(|| {
            let (_, example) = self.name.parameters();
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
        KnownProvider::parse(value, parser).map(ProviderPreset::of)
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

/// Whether this is a host name in ASCII, of two labels or more. Another name would be another host, or a path.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    text.contains('.') && text.split('.').all(is_label)
}

/// Whether this is one segment of a path, and stays what it is.
fn is_segment(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
    text.chars().all(plain) && !matches!(text, "" | "." | "..")
}

fn is_alphanumeric(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric())
}

impl Provider for Expansion {
    fn metadata(&self) -> Metadata {
        Metadata::named("the expansion of `provider`")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}
