//! The names of the settings and the form that each takes: environment variables are read and errors are worded by them.

/// The form of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Flag,
    Text,
    Url,
    Path,
    Words,
    Duration,
    Count,
    Port,
    Table,
    PathOrTable,
    NameOrTable,
    FlagOrTable,
    FlagOrCount,
    /// Inside a table whose keys are the app's own: any value.
    Any,
}

/// Every setting under `oidc`, those of its tables with a dot.
pub(super) const SETTINGS: &[(&str, Form)] = &[
    ("enabled", Form::Flag),
    ("testing_profile", Form::Table),
    ("insecure_testing_profile", Form::Flag),
    ("client_secrets", Form::PathOrTable),
    ("client_secrets.client_id", Form::Text),
    ("client_secrets.client_secret", Form::Text),
    ("client_secrets.issuer", Form::Text),
    ("client_secrets.redirect_uris", Form::Words),
    ("client_secrets.auth_uri", Form::Url),
    ("client_secrets.token_uri", Form::Url),
    ("client_secrets.userinfo_uri", Form::Url),
    ("client_secrets.jwks_uri", Form::Url),
    ("client_secrets.token_introspection_uri", Form::Url),
    ("provider", Form::NameOrTable),
    ("provider.name", Form::Text),
    ("provider.tenant", Form::Text),
    ("provider.domain", Form::Text),
    ("provider.url", Form::Url),
    ("provider.realm", Form::Text),
    ("issuer", Form::Text),
    ("client_id", Form::Text),
    ("client_secret", Form::Text),
    ("client_secret_file", Form::Path),
    ("private_key_file", Form::Path),
    ("private_key_id", Form::Text),
    ("client_assertion_audience", Form::Text),
    ("server_metadata_url", Form::Url),
    ("tenants", Form::Words),
    ("insecure_http_hosts", Form::Words),
    ("scopes", Form::Words),
    ("clock_skew", Form::Duration),
    ("user_info_enabled", Form::Flag),
    ("user_info_optional", Form::Flag),
    ("resource_server_only", Form::Flag),
    ("overwrite_redirect_uri", Form::Url),
    ("base_url", Form::Url),
    ("preserve_next_on_error", Form::Flag),
    ("token_endpoint_auth_method", Form::Text),
    ("id_token_signing_algs", Form::Words),
    ("post_logout_redirect_uri", Form::Text),
    ("rp_initiated_logout", Form::Flag),
    ("frontchannel_logout", Form::Flag),
    ("clear_site_data", Form::Words),
    ("mount", Form::Text),
    ("previous_secret_keys", Form::Words),
    ("sign_in_timeout", Form::Duration),
    ("max_state_length", Form::Count),
    ("trusted_proxies", Form::Words),
    ("trusted_audiences", Form::Words),
    ("insecure_accept_missing_nonce", Form::Flag),
    ("extra_authorization_parameters", Form::Table),
    ("pushed_authorization_requests", Form::Flag),
    ("response_mode", Form::Text),
    ("audience", Form::Words),
    ("audience_claim", Form::Text),
    ("accepts", Form::Text),
    ("access_token_signing_algs", Form::Words),
    ("require_at_jwt", Form::Flag),
    ("token_validation", Form::Text),
    ("introspection_auth_method", Form::Text),
    ("insecure_introspection_without_audience", Form::Flag),
    ("token_cache", Form::FlagOrCount),
    ("roles_claim", Form::Words),
    ("issuers", Form::Table),
    ("authorization_server", Form::Flag),
    ("apis", Form::Table),
    ("realm", Form::Text),
    ("resource_metadata", Form::Flag),
    ("resource", Form::Url),
    ("scopes_supported", Form::Words),
    ("session", Form::Table),
    ("session.idle", Form::Duration),
    ("session.lifetime", Form::Duration),
    ("session.cookie", Form::Text),
    ("session.refresh_grace", Form::Duration),
    ("session.refresh_interval", Form::Duration),
    ("session.max_generations", Form::Count),
    ("session.max_cookies", Form::Count),
    ("session.store", Form::Text),
    ("session.url", Form::Text),
    ("session.max_sessions", Form::Count),
    ("session.max_per_user", Form::Count),
    ("session.cache", Form::FlagOrCount),
    ("session.claims", Form::Words),
    ("session.tokens", Form::Words),
    ("session.refresh_user_info", Form::Flag),
    ("http", Form::Table),
    ("http.connect_timeout", Form::Duration),
    ("http.timeout", Form::Duration),
    ("http.max_body", Form::Count),
    ("dev_provider", Form::FlagOrTable),
    ("dev_provider.port", Form::Port),
    ("dev_provider.users", Form::Any),
];

impl Form {
    /// The form of the setting `key`, if there is such a setting.
    pub(super) fn of(key: &str) -> Option<Form> {
        let key = match key.strip_prefix("client_secrets.web.") {
            Some(member) => &format!("client_secrets.{member}"),
            None => key,
        };
        if let Some((_, form)) = SETTINGS.iter().find(|(name, _)| *name == key) {
            return Some(*form);
        }
        match key.split_once('.')? {
            ("client_secrets", "web") => Some(Form::Table),
            ("issuers", member) => match member.split_once('.')? {
                (_, "issuer") => Some(Form::Text),
                (_, "audience" | "tenants") => Some(Form::Words),
                (_, "server_metadata_url" | "jwks_uri") => Some(Form::Url),
                (_, "accepts" | "audience_claim") => Some(Form::Text),
                (_, "roles_claim") => Some(Form::Words),
                (_, "authorization_server") => Some(Form::Flag),
                (_, "apis") => Some(Form::Table),
                (_, member) => match member.split_once('.')? {
                    ("apis", api) if !api.contains('.') => Some(Form::Words),
                    _ => None,
                },
            },
            ("apis", member) => match member.split_once('.')? {
                (_, "resource") => Some(Form::Url),
                (_, "audience" | "scopes_supported") => Some(Form::Words),
                _ => None,
            },
            ("testing_profile", "sub") => Some(Form::Text),
            ("testing_profile", _) => Some(Form::Any),
            ("extra_authorization_parameters", member) if !member.contains('.') => {
                Some(Form::Words)
            }
            _ => None,
        }
    }

    /// What a value of this form is, to follow the word "expected".
    pub(super) fn expectation(self) -> &'static str {
        match self {
            Form::Flag => "`true` or `false`",
            Form::Text => "a string",
            Form::Url => "an absolute URL",
            Form::Path => "the path of a file",
            Form::Words => "a list of strings, or words in one string",
            Form::Duration => "seconds, or a duration such as `10m`",
            Form::Count => "a whole number",
            Form::Port => "a port from 0 to 65535",
            Form::Table => "a table",
            Form::PathOrTable => "the path of a client_secrets.json, or the same as a table",
            Form::NameOrTable => "the name of a provider, or a table with `name`",
            Form::FlagOrTable => "`true`, `false` or a table",
            Form::FlagOrCount => "`true`, `false` or a whole number",
            Form::Any => "a value",
        }
    }

    /// An example of a value, as a TOML file has it.
    pub(super) fn example(self) -> &'static str {
        match self {
            Form::Flag => "true",
            Form::Text | Form::Any => "\"…\"",
            Form::Url => "\"https://…\"",
            Form::Path => "\"secrets/file\"",
            Form::Words => "[\"…\", \"…\"]",
            Form::Duration => "\"10m\"",
            Form::Count => "2",
            Form::Port => "9400",
            Form::Table => "{ … = \"…\" }",
            Form::PathOrTable => "\"client_secrets.json\"",
            Form::NameOrTable => "\"google\"",
            Form::FlagOrTable | Form::FlagOrCount => "true",
        }
    }
}

/// The name among `known` that `found` was probably meant to be.
pub(super) fn nearest<'k>(
    found: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let found = found.to_lowercase().replace('-', "_");
    let found = found.strip_prefix("oidc_").unwrap_or(&found);
    let score = |name: &str| {
        let distance = edit_distance(found, name);
        if distance <= 2.max(name.len() / 4) && distance < name.len() {
            Some(distance)
        } else if found.len() >= 4 && (name.contains(found) || found.contains(name)) {
            Some(100 + name.len().abs_diff(found.len()))
        } else {
            None
        }
    };
    let candidates = known
        .into_iter()
        .filter_map(|name| Some((score(name)?, name)));
    candidates
        .min_by_key(|(score, _)| *score)
        .map(|(_, name)| name)
}

/// How many letters must be inserted, removed or replaced to make `a` into `b`.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest_setting(found: &str) -> Option<&'static str> {
        nearest(found, SETTINGS.iter().map(|(name, _)| *name))
    }

    #[test]
    fn nearest_finds_misspelt_shortened_and_flask_names() {
        assert_eq!(nearest_setting("clientid"), Some("client_id"));
        assert_eq!(nearest_setting("scope"), Some("scopes"));
        assert_eq!(
            nearest_setting("OIDC_CLIENT_SECRETS"),
            Some("client_secrets")
        );
        assert_eq!(nearest_setting("metadata_url"), Some("server_metadata_url"));
        assert_eq!(nearest_setting("base-url"), Some("base_url"));
        assert_eq!(nearest_setting("zebra"), None);
    }

    #[test]
    fn form_of_nested_and_open_keys() {
        assert_eq!(Form::of("session.idle"), Some(Form::Duration));
        assert_eq!(Form::of("session.idel"), None);
        assert_eq!(
            Form::of("client_secrets.web.client_secret"),
            Some(Form::Text)
        );
        assert_eq!(Form::of("testing_profile.sub"), Some(Form::Text));
        assert_eq!(Form::of("testing_profile.address.country"), Some(Form::Any));
        assert_eq!(Form::of("issuer.x"), None);
    }

    #[test]
    fn every_field_has_its_form() {
        use crate::settings::{
            DevProviderSettings, HttpSettings, ProviderPreset, SessionSettings, Settings,
        };

        fn fields<T: serde::de::DeserializeOwned>(prefix: &str) -> Vec<String> {
            let unknown = serde_json::json!({ "?": 1 });
            let error = serde_json::from_value::<T>(unknown)
                .err()
                .unwrap()
                .to_string();
            let names = error.split('`').skip(3).step_by(2);
            names.map(|name| format!("{prefix}{name}")).collect()
        }

        let mut expected = fields::<Settings>("");
        expected.extend(fields::<SessionSettings>("session."));
        expected.extend(fields::<HttpSettings>("http."));
        expected.extend(fields::<DevProviderSettings>("dev_provider."));
        expected.extend(fields::<ProviderPreset>("provider."));
        expected.sort();
        let mut found: Vec<_> = SETTINGS.iter().map(|(name, _)| *name).collect();
        found.retain(|name| !name.starts_with("client_secrets."));
        found.sort();
        assert_eq!(found, expected);
    }
}
