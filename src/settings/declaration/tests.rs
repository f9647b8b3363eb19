//! The declared documentation and defaults, compared with the behaviour.

use figment::Figment;

use super::*;
use crate::settings::{environment::Environment, syntax};

fn read(variables: &[(String, String)]) -> Settings {
    let variables = variables.iter();
    let environment = Environment::read(variables.map(|(name, text)| (name.into(), text.into())));
    Settings::parse_table(&Figment::from(environment)).unwrap()
}

/// The default in the documentation of a setting, if it is a single value.
fn documented_default(doc: &str) -> Option<&str> {
    let (_, default) = doc.split_once("_Default:_ `")?;
    let (default, rest) = default.split_once('`')?;
    rest.trim().is_empty().then_some(default)
}

#[test]
fn every_default_is_as_documented() {
    /// Settings whose default is derived at launch.
    const DERIVED: [&str; 4] = [
        "server_metadata_url",
        "overwrite_redirect_uri",
        "post_logout_redirect_uri",
        "resource",
    ];
    let tables = [("OIDC_DEV_PROVIDER", "true"), ("OIDC_CLIENT_SECRETS", "{}")];
    let tables = tables.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let expected = format!("{:?}", read(&tables));
    let mut count = 0;
    for (key, field) in declared("", Settings::FIELDS) {
        let Some(default) = documented_default(field.doc) else {
            continue;
        };
        if DERIVED.contains(&key.as_str()) || key == "dev_provider" {
            continue;
        }
        count += 1;
        let name = format!("OIDC_{}", key.replace('.', "__").to_uppercase());
        let mut variables = tables.to_vec();
        variables.push((name, default.to_owned()));
        assert_eq!(format!("{:?}", read(&variables)), expected, "{key}");
    }
    assert_eq!(count, 71);
}

#[test]
fn every_setting_is_documented() {
    for (key, field) in declared("", Settings::FIELDS) {
        let doc = field.doc;
        let first = doc.trim_start().chars().next();
        assert!(first.is_some_and(|c| c.is_uppercase() || c == '`'), "{key}");
        let is_table = ["session", "http", "client_certificate"].contains(&key.as_str());
        let has_default = key.starts_with("client_secrets.") || key == "provider.name";
        assert!(is_table || has_default || doc.contains("_Default:_ "), "{key}");
    }
}

#[test]
fn the_syntax_of_nested_and_open_keys() {
    for (key, expected) in [
        ("session.cookie", Some(syntax::TEXT)),
        ("session.cooky", None),
        ("client_secrets.web", Some(syntax::TABLE)),
        ("client_secrets.client_secret", Some(syntax::TEXT)),
        ("client_secrets.web.client_secret", Some(syntax::TEXT)),
        ("client_secrets.web.web", None),
        ("provider.realm", Some(syntax::TEXT)),
        ("dev_provider.port", Some(syntax::PORT)),
        ("testing_profile.sub", Some(syntax::TEXT)),
        ("testing_profile.address.country", Some(syntax::ANY)),
        ("extra_authorization_parameters.prompt", Some(syntax::WORDS)),
        ("extra_authorization_parameters.a.b", None),
        ("issuers.partner", Some(syntax::TABLE)),
        ("issuers.partner.issuer", Some(syntax::TEXT)),
        ("issuers.partner.apis.orders", Some(syntax::WORDS)),
        ("issuers.partner.apis.orders.x", None),
        ("apis.orders.resource", Some(syntax::URL)),
        ("issuer.x", None),
        ("", None),
    ] {
        let found = Setting::find(key).map(|setting| setting.syntax);
        assert_eq!(found, expected, "{key}");
    }
}

#[test]
fn nearest_finds_misspelt_shortened_and_flask_names() {
    let known = declared("", Settings::FIELDS);
    let known = || known.iter().map(|(key, _)| key.as_str());
    for (found, expected) in [
        ("clientid", Some("client_id")),
        ("scope", Some("scopes")),
        ("OIDC_CLIENT_SECRETS", Some("client_secrets")),
        ("metadata_url", Some("server_metadata_url")),
        ("base-url", Some("base_url")),
        ("zebra", None),
    ] {
        assert_eq!(nearest(found, known()), expected, "{found}");
    }
}

/// Naming rule: a setting that begins with `insecure_` logs a warning at launch.
#[test]
fn every_insecure_setting_has_its_warning() {
    let mut count = 0;
    for field in Settings::FIELDS {
        if !field.name.starts_with("insecure_") {
            continue;
        }
        count += 1;
        let value = match (field.setting)().syntax {
            syntax::FLAG => "true",
            _ => "keycloak",
        };
        let settings = read(&[
            (format!("OIDC_{}", field.name.to_uppercase()), value.to_owned()),
            ("OIDC_AUDIENCE".to_owned(), "api".to_owned()),
        ]);
        let found = settings.insecure_settings();
        let found: Vec<_> = found.iter().map(|insecure| &*insecure.setting).collect();
        assert_eq!(found, [field.name]);
    }
    assert_eq!(count, 5);
}
