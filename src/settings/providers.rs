//! The table `providers`: several providers in one app.

use std::collections::BTreeMap;

use figment::{
    Figment,
    value::{Dict, Value},
};

use super::{
    Accepts, AudienceClaim, InsecureSetting, Settings, SettingsError, TokenEndpointAuthMethod,
    declaration::{Invalid, Parser, Setting, SettingType},
    mistake::{Mistake, rule},
    syntax::{self, Syntax},
};
use crate::{
    observing::{ObservedProvider, RESERVED_NAMES},
    token::GroupPaths,
};

/// The name of the only provider of an app without the table `providers`.
pub(crate) const ONLY_PROVIDER: &str = "default";
/// The maximum length of a provider's name.
const MAX_NAME_LEN: usize = 64;

/// Declares the settings of the app as a whole, which no provider has for itself.
macro_rules! settings_of_the_app {
    ($($field:ident),* $(,)?) => {
        const OF_THE_APP: &[&str] = &[$(stringify!($field)),*];

        impl Settings {
            /// Takes the settings of the app as a whole from `app`.
            fn with_settings_of(mut self, app: &Settings) -> Settings {
                $( self.$field.clone_from(&app.$field); )*
                self
            }
        }
    };
}

settings_of_the_app!(
    enabled,
    testing_profile,
    testing_profile_data,
    insecure_testing_profile,
    providers,
    shared_redirect_uri,
    introspection_provider,
    insecure_http_hosts,
    internal_provider_hosts,
    clock_skew,
    resource_server_only,
    preserve_next_on_error,
    silent,
    me_claims,
    frontchannel_logout,
    clear_site_data,
    mount,
    proxy_strips_path,
    previous_secret_keys,
    sign_in_timeout,
    max_state_length,
    trusted_proxies,
    allowed_origins,
    token_cache,
    dpop_tokens,
    dpop_max_age,
    dpop_nonces,
    dpop_max_proofs,
    client_certificate,
    require_bound_tokens,
    apis,
    realm,
    resource_metadata,
    resource,
    scopes_supported,
    session,
    http,
);

/// The settings that identify a client at a provider, so that no other provider can have them.
const OF_ONE_PROVIDER: &[&str] = &[
    "provider",
    "issuer",
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_secret_issuer",
    "client_secrets",
    "private_key_file",
    "private_key_id",
    "tls_client_certificate",
    "tls_client_key",
    "server_metadata_url",
    "tenants",
    "overwrite_redirect_uri",
    "issuers",
    "dev_provider",
    "label",
    "logo",
    "order",
];

/// The table `providers`.
pub(super) struct Providers;

/// One provider in it.
struct ProviderTable;

impl SettingType for Providers {
    type Value = BTreeMap<String, Settings>;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        let providers = BTreeMap::<String, ProviderTable>::parse(value, parser)?;
        Self::validate(&providers, parser)?;
        Ok(providers)
    }

    fn validate(providers: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        for name in providers.keys() {
            check_name(name).map_err(|mistake| mistake.at(""))?;
        }
        BTreeMap::<String, ProviderTable>::validate(providers, parser)
    }

    fn member(_: &str) -> Option<Setting> {
        Some(Setting::of::<ProviderTable>())
    }
}

impl SettingType for ProviderTable {
    type Value = Settings;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Settings, Invalid> {
        let table = value.as_dict().ok_or_else(|| Invalid::Type(value.to_actual()))?;
        let of_the_app = table.keys().filter(|key| OF_THE_APP.contains(&key.as_str()));
        let mut is_refused = false;
        for key in of_the_app {
            let cause = "it is a setting of the app, and applies to all providers";
            parser.refuse::<Self>(key, Invalid::new(cause, format!("move `{key}` to the table `oidc`")));
            is_refused = true;
        }
        let parsed = Settings::parse(value, parser)?;
        if is_refused {
            return Err(Invalid::Reported);
        }
        Ok(parsed)
    }

    fn validate(settings: &Settings, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        Settings::validate(settings, parser)
    }

    fn member(name: &str) -> Option<Setting> {
        if OF_THE_APP.contains(&name) {
            return None;
        }
        Settings::member(name)
    }
}

/// Whether these tenants are several organisations.
fn are_several(tenants: &[String]) -> bool {
    tenants.len() > 1 || tenants.iter().any(|tenant| tenant == "any")
}

/// A name is part of URLs, cookies and environment variables.
fn check_name(name: &str) -> Result<(), Mistake> {
    rule("", is_provider_name(name))
        .cause(format!("{name:?} is not a name for a provider"))
        .remedy(format!(
            "use lowercase letters, digits, `-` and single `_`, at most {MAX_NAME_LEN} characters"
        ))?;
    rule("", !RESERVED_NAMES.contains(&name))
        .cause(format!(
            "{name:?} is reserved: metrics name what is not in the settings by it"
        ))
        .remedy("use another name")
}

/// Whether a provider may have this name.
pub(crate) fn is_provider_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.chars().all(is_plain) && !name.contains("__")
}

impl Settings {
    /// The name of the provider that these settings are about.
    pub(crate) fn provider_name(&self) -> &str {
        self.provider_name.as_deref().unwrap_or(ONLY_PROVIDER)
    }

    /// The provider that events of these settings are about.
    pub(crate) fn observed(&self) -> ObservedProvider {
        match &self.provider_name {
            None => ObservedProvider::default(),
            Some(name) if self.is_found => ObservedProvider::found(name),
            Some(name) => ObservedProvider::of_settings(name),
        }
    }

    /// Whether a value of `acr` counts: among several providers, one that this provider is trusted to assert.
    pub(crate) fn counts_acr(&self, acr: &str) -> bool {
        self.provider_name.is_none() || self.acr_values.iter().any(|trusted| trusted == acr)
    }

    /// Whether groups and roles of the provider's users count.
    pub(crate) fn counts_groups(&self) -> bool {
        self.trust_groups || (self.provider_name.is_none() && !self.has_several_tenants())
    }

    /// Where groups and roles are.
    pub(crate) fn group_paths(&self) -> GroupPaths {
        GroupPaths::new(&self.groups_claim, &self.roles_claim)
    }

    /// The same for tokens of a further issuer with these tenants, which names no roles of its own.
    pub(crate) fn counts_groups_of(&self, tenants: &[String]) -> bool {
        self.counts_groups() && (self.trust_groups || !are_several(tenants))
    }

    /// Whether administrators of several organisations decide about groups.
    fn has_several_tenants(&self) -> bool {
        are_several(&self.tenants)
    }

    /// The full key of a setting, for a text.
    pub(crate) fn key(&self, setting: &str) -> String {
        match &self.provider_name {
            Some(name) => format!("oidc.providers.{name}.{setting}"),
            None => format!("oidc.{setting}"),
        }
    }

    /// The settings of each provider in the table `providers`, with those of the app, in the order of the chooser.
    pub(crate) fn of_providers(&self) -> Vec<Settings> {
        let mut all: Vec<Settings> = self
            .providers
            .iter()
            .map(|(name, own)| {
                let mut own = own.clone().with_settings_of(self);
                own.providers.clear();
                own.provider_name = Some(name.as_str().into());
                own
            })
            .collect();
        all.sort_by_key(|provider| provider.order);
        all
    }

    /// The settings of this provider among several that make the app less secure.
    pub(crate) fn insecure_settings_of_provider(&self) -> Vec<InsecureSetting> {
        let of_provider = self.insecure_settings().into_iter();
        let of_provider = of_provider.filter(|found| !OF_THE_APP.contains(&&*found.setting));
        let named = of_provider.map(|found| InsecureSetting {
            setting: format!("providers.{}.{}", self.provider_name(), found.setting).into(),
            ..found
        });
        named.collect()
    }

    /// The settings of a provider that the app has found: those of the app, without any that makes it less secure.
    pub(crate) fn of_found_provider(&self, name: &str, has_tenants: bool) -> Settings {
        Settings {
            provider_name: Some(name.into()),
            is_found: true,
            providers: BTreeMap::new(),
            issuers: BTreeMap::new(),
            introspection_provider: None,
            shared_redirect_uri: false,
            overwrite_redirect_uri: None,
            client_assertion_audience: None,
            insecure_http_hosts: vec![],
            trusted_audiences: vec![],
            insecure_accept_missing_nonce: false,
            insecure_omit_pkce: false,
            client_secret_issuer: None,
            client_signer: None,
            // `none` would leave a registered secret unused.
            token_endpoint_auth_method: self
                .token_endpoint_auth_method
                .filter(|method| *method != TokenEndpointAuthMethod::None),
            insecure_introspection_without_audience: false,
            user_info_optional: false,
            id_token_signing_algs: self.id_token_signing_algs_of_profile(),
            accepts: Accepts::AccessTokens,
            audience_claim: AudienceClaim::Aud,
            trust_groups: has_tenants,
            acr_values: if has_tenants {
                self.requested_acr_values()
            } else {
                vec![]
            },
            ..self.clone()
        }
    }

    /// Reads each provider again, with the settings of the table `oidc` as defaults.
    pub(super) fn read_providers(&mut self, figment: &Figment) -> Result<(), SettingsError> {
        if self.providers.is_empty() {
            return Ok(());
        }
        let table = figment.find_value("").map_err(SettingsError::from_figment)?;
        let mut defaults = table.into_dict().unwrap_or_default();
        let tables = defaults
            .remove("providers")
            .and_then(Value::into_dict)
            .unwrap_or_default();
        defaults.retain(|key, _| !OF_ONE_PROVIDER.contains(&key.as_str()));
        let mut errors = vec![];
        for (name, table) in tables {
            match self.read_provider_table(&name, &defaults, table.into_dict().unwrap_or_default()) {
                Ok(settings) => drop(self.providers.insert(name, settings)),
                Err(error) => errors.extend(error.each()),
            }
        }
        SettingsError::all(errors)
    }

    fn read_provider_table(&self, name: &str, defaults: &Dict, own: Dict) -> Result<Settings, SettingsError> {
        let mut merged = defaults.clone();
        merge(&mut merged, own.clone());
        let settings = self.read_provider(name, merged)?;
        let Some(expansion) = settings.expansion()? else {
            return Ok(settings);
        };
        let mut merged = defaults.clone();
        merge(&mut merged, expansion.into_table());
        merge(&mut merged, own);
        self.read_provider(name, merged)
    }

    fn read_provider(&self, name: &str, table: Dict) -> Result<Settings, SettingsError> {
        let origins = self.origins.of_provider(name);
        let (mut settings, stray_characters) = Parser::parse::<Settings>(&Value::from(table), &origins)?;
        settings.stray_characters = stray_characters;
        settings.origins = origins;
        settings.provider_name = Some(name.into());
        Ok(settings)
    }

    /// Validates the table `providers` as a whole.
    pub(super) fn check_providers(&self) -> Vec<Mistake> {
        let mut mistakes = vec![];
        let is_known = |name: &String| self.providers.contains_key(name);
        let named = self.introspection_provider.as_ref();
        let introspection = rule(
            "introspection_provider",
            self.provider_name.is_some() || named.is_none_or(is_known),
        )
        .cause(format!("there is no provider `{}`", named.map_or("", String::as_str)))
        .remedy("name a table of `oidc.providers`");
        mistakes.extend(introspection.err());
        let is_alone = self.providers.is_empty();
        let of_a_button = [
            ("label", self.label.is_some()),
            ("logo", self.logo.is_some()),
            ("order", self.order != 0),
            ("trust_groups", self.trust_groups),
            ("acr_values", !self.acr_values.is_empty()),
        ];
        let of_a_button = of_a_button.into_iter().filter(|(key, _)| match *key {
            "trust_groups" => is_alone && !self.has_several_tenants(),
            "acr_values" => is_alone,
            _ => true,
        });
        for (key, is_set) in of_a_button {
            let alone = rule(key, !is_set || self.provider_name.is_some())
                .cause("it is about one of several providers")
                .remedy(format!("move `{key}` to a table of `oidc.providers`, or remove it"));
            mistakes.extend(alone.err());
        }
        if !is_alone {
            mistakes.extend(self.check_no_client_at_the_top());
            mistakes.extend(self.check_one_client_each().err());
        }
        mistakes
    }

    /// With several providers, nothing at the top says which one it is about.
    pub(super) fn check_no_client_at_the_top(&self) -> Vec<Mistake> {
        let mut mistakes = vec![];
        let at_the_top = [
            ("provider", self.provider.is_some()),
            ("issuer", self.issuer.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("client_secret_file", self.client_secret_file.is_some()),
            ("client_secret_issuer", self.client_secret_issuer.is_some()),
            ("client_secrets", self.client_secrets.is_some()),
            ("private_key_file", self.private_key_file.is_some()),
            ("private_key_id", self.private_key_id.is_some()),
            ("tls_client_certificate", self.tls_client_certificate.is_some()),
            ("tls_client_key", self.tls_client_key.is_some()),
            ("server_metadata_url", self.server_metadata_url.is_some()),
            ("tenants", !self.tenants.is_empty()),
            ("overwrite_redirect_uri", self.overwrite_redirect_uri.is_some()),
            ("dev_provider", self.dev_provider.is_some()),
        ];
        for (key, is_set) in at_the_top {
            let at_the_top = rule(key, !is_set)
                .cause("it is about one provider, and the app has several")
                .remedy(format!("move `{key}` to a table of `oidc.providers`, or remove it"));
            mistakes.extend(at_the_top.err());
        }
        let only_tokens = rule("resource_server_only", !self.resource_server_only)
            .cause("an app that only accepts access tokens has no sign-in at `oidc.providers`")
            .remedy("list the issuers of its tokens in `oidc.issuers`, and remove `providers`");
        mistakes.extend(only_tokens.err());
        mistakes
    }

    /// Two providers with one issuer and one client are one: the user's provider would be unclear.
    fn check_one_client_each(&self) -> Result<(), Mistake> {
        let mut clients = BTreeMap::new();
        for (name, provider) in &self.providers {
            let client_secrets = provider.client_secrets().ok().flatten();
            let table = client_secrets.as_deref();
            let issuer = provider.issuer.clone().or_else(|| table?.issuer.clone());
            let client_id = provider.client_id.clone().or_else(|| table?.client_id.clone());
            let Some(issuer) = issuer else { continue };
            let key = format!("providers.{name}.issuer");
            let other = clients.insert((issuer.clone(), client_id), name);
            rule(key.clone(), other.is_none())
                .cause(format!(
                    "`{issuer}` with the same client is `oidc.providers.{}` already",
                    other.map_or("", String::as_str)
                ))
                .remedy("give each provider its own issuer, or its own `client_id`")?;
            let is_shared = clients.keys().filter(|(other, _)| *other == issuer).count() > 1;
            rule(key, !is_shared || !self.shared_redirect_uri)
                .cause(format!(
                    "two providers have the issuer `{issuer}`, and one redirect URI: whose response it is would be \
                     unclear"
                ))
                .remedy("remove `shared_redirect_uri`")?;
        }
        Ok(())
    }
}

/// Adds a table to another one; its values take precedence.
fn merge(table: &mut Dict, over: Dict) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Dict(_, inner)), Value::Dict(_, over)) => merge(inner, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SecurityProfile, SigningAlgorithm};

    /// Names in the settings are few, those that a source finds may be any number.
    #[test]
    fn found_providers_have_one_label_in_metrics() {
        let mut app = Settings::default();
        assert_eq!(
            format!("{:?}", app.observed()),
            "ObservedProvider { name: None, label: Only, issuer: None }"
        );
        app.providers.insert("one".to_owned(), Settings::default());
        let observed = app.of_providers()[0].observed();
        assert_eq!(
            format!("{observed:?}"),
            "ObservedProvider { name: Some(\"one\"), label: Named(\"one\"), issuer: None }"
        );
        let observed = app.of_found_provider("acme", true).observed();
        assert_eq!(
            format!("{observed:?}"),
            "ObservedProvider { name: Some(\"acme\"), label: Dynamic, issuer: None }"
        );
    }

    #[test]
    fn a_name_of_metrics_is_not_one_of_a_provider() {
        for name in RESERVED_NAMES {
            let mistake = check_name(name).unwrap_err();
            let cause = format!("{name:?} is reserved: metrics name what is not in the settings by it");
            assert_eq!(mistake.cause, cause);
        }
        assert!(check_name("dynamics").is_ok());
    }

    /// What makes the app less secure is decided for the operator's providers, and never for those that others register.
    #[test]
    fn no_insecure_setting_applies_to_a_found_provider() {
        let app = Settings {
            insecure_http_hosts: vec!["op.example".to_owned()],
            id_token_signing_algs: Some(vec![SigningAlgorithm::HS256]),
            insecure_accept_missing_nonce: true,
            insecure_omit_pkce: true,
            trusted_audiences: vec!["other".to_owned()],
            insecure_introspection_without_audience: true,
            audience: Some(vec!["https://api.example".to_owned()]),
            user_info_optional: true,
            accepts: Accepts::UntypedTokens,
            audience_claim: AudienceClaim::ClientId,
            token_endpoint_auth_method: Some(TokenEndpointAuthMethod::None),
            ..Settings::default()
        };
        let insecure = |settings: &Settings| {
            let found = settings.insecure_settings().into_iter();
            found.map(|found| found.setting.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            insecure(&app),
            [
                "insecure_http_hosts",
                "id_token_signing_algs",
                "insecure_accept_missing_nonce",
                "insecure_omit_pkce",
                "trusted_audiences",
                "insecure_introspection_without_audience",
            ]
        );
        for has_tenants in [false, true] {
            let found = app.of_found_provider("acme", has_tenants);
            assert_eq!(insecure(&found), [""; 0]);
            assert!(!found.user_info_optional);
            assert_eq!(found.accepts, Accepts::AccessTokens);
            assert_eq!(found.audience_claim, AudienceClaim::Aud);
            assert_eq!(found.token_endpoint_auth_method, None);
            assert_eq!(found.counts_groups(), has_tenants);
        }
    }

    /// A profile demands algorithms of every provider.
    #[test]
    fn a_found_provider_has_the_algorithms_of_the_profile() {
        let mut app = Settings {
            id_token_signing_algs: Some(vec![SigningAlgorithm::ES256]),
            ..Settings::default()
        };
        assert_eq!(app.of_found_provider("acme", true).id_token_signing_algs, None);
        app.profile = Some(SecurityProfile::Fapi2);
        let algorithms = [
            SigningAlgorithm::PS256,
            SigningAlgorithm::ES256,
            SigningAlgorithm::EdDSA,
        ];
        let found = app.of_found_provider("acme", true);
        assert_eq!(found.id_token_signing_algs.as_deref(), Some(&algorithms[..]));
    }
}
