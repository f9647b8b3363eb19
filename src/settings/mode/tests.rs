//! Tests of the mode, and of every error text that rejects the settings.

use std::{fs, path::PathBuf, time::Duration};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;
use crate::{
    settings::{
        ApiSettings, DevProviderSettings, IssuerSettings, ProviderPreset, TokenValidation, declaration::parsed,
    },
    token::SigningAlgorithm,
};

const DEBUG: RocketConfig = RocketConfig {
    debug: true,
    port: 8000,
    tls: false,
    mutual_tls: false,
};

const RELEASE: RocketConfig = RocketConfig { debug: false, ..DEBUG };

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Settings that are complete in every profile.
fn complete() -> Settings {
    Settings {
        issuer: Some("https://accounts.example.com".to_owned()),
        client_id: Some("app".to_owned()),
        base_url: Some(url("https://app.example.com")),
        ..Settings::default()
    }
}

fn table(json: serde_json::Value) -> Option<ClientSecrets> {
    Some(parsed::<ClientSecrets>(json))
}

fn registration(settings: &Settings) -> Registration {
    match settings.mode(&RELEASE).unwrap() {
        Mode::RelyingParty { registration, .. } => registration,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(settings: &Settings, rocket_config: &RocketConfig, error: &str, remedy: &str) {
    let found = settings.mode(rocket_config).unwrap_err();
    assert_eq!((found.to_string().as_str(), found.remedy()), (error, remedy));
}

fn warnings(settings: &Settings) -> Vec<String> {
    let found = settings.insecure_settings().into_iter();
    found.map(|setting| setting.to_string()).collect()
}

/// A temporary file of this test, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Scratch {
        let name = format!("rocket_openidconnect-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_relying_party_by_discovery() {
    let Mode::RelyingParty { registration, site } = complete().mode(&RELEASE).unwrap() else {
        panic!();
    };
    assert_eq!(registration.issuer, "https://accounts.example.com");
    assert_eq!(registration.client_id, "app");
    assert_eq!(registration.client_secret, None);
    let MetadataSource::Discovery { url } = registration.metadata else {
        panic!();
    };
    assert_eq!(
        url.as_str(),
        "https://accounts.example.com/.well-known/openid-configuration"
    );
    assert_eq!(site.base_url.as_str(), "https://app.example.com/");
    assert_eq!(site.redirect_uri.as_str(), "https://app.example.com/oidc/authorize");
    assert!(site.secure);
}

#[test]
fn discovery_drops_one_slash_of_the_issuer_and_keeps_its_path() {
    for (issuer, expected) in [
        (
            "https://a.example/",
            "https://a.example/.well-known/openid-configuration",
        ),
        (
            "https://a.example/t/v2.0",
            "https://a.example/t/v2.0/.well-known/openid-configuration",
        ),
        (
            "http://localhost:9/r/",
            "http://localhost:9/r/.well-known/openid-configuration",
        ),
    ] {
        let mut settings = complete();
        settings.issuer = Some(issuer.to_owned());
        let registration = registration(&settings);
        assert_eq!(registration.issuer, issuer);
        match registration.metadata {
            MetadataSource::Discovery { url } => assert_eq!(url.as_str(), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn issuers_refused() {
    let remedy = "set it to exactly the issuer in the provider's metadata, such as \
                  `https://accounts.example.com`";
    for (issuer, error, remedy) in [
        ("accounts", "`oidc.issuer`: \"accounts\" is not an absolute URL", remedy),
        (
            "HTTPS://a.example",
            "`oidc.issuer`: \"HTTPS://a.example\" is not an absolute URL",
            remedy,
        ),
        (
            "https://a.example?x=1",
            "`oidc.issuer`: the issuer \"https://a.example?x=1\" has a query, a fragment or a space",
            remedy,
        ),
        (
            "https://a.example ",
            "`oidc.issuer`: the issuer \"https://a.example \" has a query, a fragment or a space",
            remedy,
        ),
        (
            "https://me:pass@a.example",
            "`oidc.issuer`: an issuer with an `@` is not accepted",
            remedy,
        ),
        (
            "http://a.example",
            "`oidc.issuer`: `http://a.example/` is neither `https` nor on loopback",
            "use a URL with `https`; in a closed network, list `a.example` in `insecure_http_hosts`",
        ),
    ] {
        let mut settings = complete();
        settings.issuer = Some(issuer.to_owned());
        refused(&settings, &DEBUG, error, remedy);
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut settings = complete();
    settings.issuer = None;
    refused(
        &settings,
        &DEBUG,
        "`oidc.issuer`: the provider's issuer is missing",
        "set `issuer` in the table `oidc`, or OIDC_ISSUER; to run without a provider, set `enabled \
         = false` or, while developing, `dev_provider = true`",
    );
    settings.server_metadata_url = Some(url("https://a.example/.well-known/openid-configuration"));
    refused(
        &settings,
        &DEBUG,
        "`oidc.issuer`: the provider's issuer is missing",
        "set `issuer` to the `issuer` in the metadata, probably `https://a.example` or \
         `https://a.example/`",
    );
    let mut settings = complete();
    settings.client_id = None;
    refused(
        &settings,
        &DEBUG,
        "`oidc.client_id`: the client's identifier at the provider is missing",
        "set `client_id` in the table `oidc`, or OIDC_CLIENT_ID, to the identifier that the provider registered",
    );
    let mut settings = complete();
    settings.base_url = None;
    assert!(settings.mode(&DEBUG).is_ok());
    refused(
        &settings,
        &RELEASE,
        "`oidc.base_url`: the public URL of the app is missing",
        "set `base_url` in the table `oidc`, or OIDC_BASE_URL, for example `base_url = \
         \"https://app.example.com\"`",
    );
    settings.resource_server_only = true;
    assert!(matches!(settings.mode(&RELEASE), Ok(Mode::ResourceServerOnly(_))));
}

#[test]
fn disabled_needs_no_provider_no_scope_and_no_address() {
    let mut settings = Settings {
        enabled: false,
        scopes: vec!["email".to_owned()],
        ..Settings::default()
    };
    let mode = settings.mode(&RELEASE).unwrap();
    assert!(matches!(mode, Mode::Disabled { testing_profile: None }));
    assert_eq!(
        settings.site(&RELEASE).unwrap().base_url.as_str(),
        "http://localhost:8000/"
    );

    settings.testing_profile.insert("sub".to_owned(), json!("alice"));
    let mode = settings.mode(&DEBUG).unwrap();
    assert!(matches!(mode, Mode::Disabled { testing_profile: Some(p) } if p["sub"] == "alice"));
    refused(
        &settings,
        &RELEASE,
        "`oidc.testing_profile`: outside the debug profile, every visitor would be this user",
        "set `enabled = true`, or remove `testing_profile`; a closed test environment may set \
         `insecure_testing_profile = true`",
    );
    settings.insecure_testing_profile = true;
    assert!(settings.mode(&RELEASE).is_ok());
    assert_eq!(
        warnings(&settings),
        [
            "`enabled`: sign-in is off: every visitor is the user \"alice\" of `testing_profile`",
            "`insecure_testing_profile`: a testing profile is used in any profile",
        ]
    );
}

#[test]
fn client_secrets_with_all_endpoints_need_no_discovery() {
    let mut settings = Settings {
        client_secrets: table(json!({"web": {
            "client_id": "app",
            "client_secret": "hush",
            "issuer": "https://a.example",
            "redirect_uris": ["https://app.example/oidc/authorize", "http://localhost:8000/oidc/authorize"],
            "auth_uri": "https://a.example/auth",
            "token_uri": "https://a.example/token",
            "userinfo_uri": "https://a.example/userinfo",
            "jwks_uri": "https://a.example/jwks",
        }})),
        ..Settings::default()
    };
    let found = registration(&settings);
    assert_eq!(found.client_id, "app");
    assert_eq!(found.client_secret, Some(Secret::new("hush")));
    let MetadataSource::Given {
        authorization_endpoint,
        userinfo_endpoint,
        jwks_uri,
        ..
    } = found.metadata
    else {
        panic!();
    };
    assert_eq!(authorization_endpoint.as_str(), "https://a.example/auth");
    assert_eq!(jwks_uri.as_str(), "https://a.example/jwks");
    assert!(userinfo_endpoint.is_some());

    let site = settings.site(&RELEASE).unwrap();
    assert_eq!(site.base_url.as_str(), "https://app.example/");
    assert_eq!(site.redirect_uri.as_str(), "https://app.example/oidc/authorize");
    let site = settings.site(&DEBUG).unwrap();
    assert_eq!(site.redirect_uri.as_str(), "http://localhost:8000/oidc/authorize");

    // Settings that are set directly take precedence, and the endpoints of another issuer are not used.
    settings.client_id = Some("direct".to_owned());
    settings.issuer = Some("https://b.example".to_owned());
    settings.client_secret = Some(Secret::new("direct"));
    let found = registration(&settings);
    assert_eq!(found.client_id, "direct");
    assert_eq!(found.client_secret, Some(Secret::new("direct")));
    assert!(matches!(found.metadata, MetadataSource::Discovery { url } if url.domain() == Some("b.example")));
}

#[test]
fn client_secrets_with_some_endpoints_are_discovered() {
    let mut settings = complete();
    settings.client_secrets = table(json!({
        "auth_uri": "https://a.example/auth", "token_uri": "https://a.example/token",
    }));
    let metadata = registration(&settings).metadata;
    assert!(matches!(metadata, MetadataSource::Discovery { .. }));
}

#[test]
fn unused_endpoints_are_reported() {
    let unused = |settings: &Settings| {
        let error = settings.unused_endpoints()?;
        let cause = error.to_string();
        let cause = cause.strip_prefix("`oidc.client_secrets`: the endpoints in it are not used (");
        Some((cause.unwrap().to_owned(), error.remedy().to_owned()))
    };
    let unused_because = |cause: &str, remedy: &str| Some((cause.to_owned(), remedy.to_owned()));
    let with = |json| {
        let mut settings = complete();
        settings.client_secrets = table(json);
        settings
    };
    let uri = "https://a.example/x";
    let flask_oidc = json!({
        "auth_uri": uri, "token_uri": uri, "userinfo_uri": uri, "token_introspection_uri": uri,
    });
    assert_eq!(
        unused(&with(flask_oidc)),
        unused_because(
            "`auth_uri`, `token_uri` and `userinfo_uri`): without `jwks_uri` the endpoints are discovered",
            "add `jwks_uri`, or remove the other endpoints",
        )
    );
    assert_eq!(
        unused(&with(json!({ "userinfo_uri": uri }))),
        unused_because(
            "`userinfo_uri`): without `auth_uri`, `token_uri` and `jwks_uri` the endpoints are discovered",
            "add `auth_uri`, `token_uri` and `jwks_uri`, or remove the other endpoints",
        )
    );
    let whole = json!({ "auth_uri": uri, "token_uri": uri, "jwks_uri": uri, "issuer": "https://b.example" });
    let mut settings = with(whole);
    assert_eq!(
        unused(&settings),
        unused_because(
            "`auth_uri`, `token_uri` and `jwks_uri`): they belong to `https://b.example`, and `issuer` is \
             `https://accounts.example.com`",
            "remove them, or `issuer`",
        )
    );
    settings.issuer = None;
    assert_eq!(unused(&settings), None);
    settings.server_metadata_url = Some(url("https://b.example/m"));
    assert_eq!(
        unused(&settings),
        unused_because(
            "`auth_uri`, `token_uri` and `jwks_uri`): `server_metadata_url` names the metadata that has the \
             endpoints",
            "remove them, or `server_metadata_url`",
        )
    );
    settings.enabled = false;
    assert_eq!(unused(&settings), None);
    assert_eq!(unused(&with(json!({ "token_introspection_uri": uri }))), None);
    assert_eq!(unused(&complete()), None);
}

#[test]
fn what_the_app_sets_in_its_code_is_the_value_alone() {
    for (secret, is_refused) in [("hush\n", true), (" hush", true), ("hu sh", false), ("h\0", true)] {
        let mut settings = complete();
        settings.client_secret = Some(Secret::new(secret));
        let error = settings.mode(&RELEASE).err();
        let cause = "the value contains or is surrounded by a line break or another invisible character";
        assert_eq!(
            error.as_ref().map(|error| (error.key(), error.cause())),
            is_refused.then_some(("oidc.client_secret", cause)),
        );
    }
}

#[test]
fn a_client_secrets_file_with_a_byte_order_mark() {
    let content = "\u{feff}{\"web\": {\"client_secret\": \" hush\\n\"}}";
    let file = Scratch::new("mark.json", content.as_bytes());
    let mut settings = complete();
    settings.client_secrets = Some(ClientSecrets::File(file.0.clone()));
    let found = registration(&settings).client_secret;
    assert_eq!(found, Some(Secret::new("hush")));
    let shown = file.0.display();
    assert_eq!(
        settings.stray_characters(),
        [format!(
            "`web.client_secret` in `{shown}` has white space around it, which is ignored"
        )]
    );
}

#[test]
fn client_secrets_files_refused() {
    let check = |name: &str, content: &str, cause: &str, remedy: &str| {
        let file = Scratch::new(name, content.as_bytes());
        let shown = file.0.display().to_string();
        let settings = Settings {
            client_secrets: Some(ClientSecrets::File(file.0.clone())),
            ..Settings::default()
        };
        let error = format!("`oidc.client_secrets`: {}", cause.replace("FILE", &shown));
        refused(&settings, &DEBUG, &error, &remedy.replace("FILE", &shown));
    };
    check(
        "syntax.json",
        "{\"web\": hush",
        "`FILE` is not valid JSON (line 1, column 9)",
        "correct `FILE`",
    );
    check(
        "web.json",
        "{\"installed\": {\"client_secret\": \"hush\"}}",
        "`FILE` has no object `web`",
        "write `FILE` as {\"web\": {\"client_id\": \"…\", …}}",
    );
    check(
        "secret.json",
        "{\"web\": {\"client_secret\": 12345}}",
        "`web.client_secret` in `FILE`: expected a string, found another type",
        "put the value in quotes",
    );
    check(
        "id.json",
        "{\"web\": {\"client_id\": 12345}}",
        "`web.client_id` in `FILE`: expected a string, found a number",
        "give a string",
    );
    check(
        "typo.json",
        "{\"web\": {\"client_secert\": \"hush\"}}",
        "`web.client_secert` in `FILE`: there is no member `client_secert`",
        "write `client_secret` instead, or remove `client_secert`",
    );
    let settings = Settings {
        client_secrets: Some(ClientSecrets::File("/nowhere/client_secrets.json".into())),
        ..Settings::default()
    };
    refused(
        &settings,
        &DEBUG,
        "`oidc.client_secrets`: there is no file `/nowhere/client_secrets.json`",
        "make `/nowhere/client_secrets.json` readable, or correct the path",
    );
}

#[test]
fn client_secret_files() {
    for (name, content, expected) in [
        ("plain", "hush", "hush"),
        ("newline", " hush \n\n", "hush"),
        ("mark", "\u{feff}hush\n", "hush"),
        ("quotes", "\"hush\"", "\"hush\""),
        ("crlf", "hush\r\n", "hush"),
    ] {
        let file = Scratch::new(name, content.as_bytes());
        let mut settings = complete();
        settings.client_secret_file = Some(file.0.clone());
        let found = registration(&settings).client_secret;
        assert_eq!(found, Some(Secret::new(expected)));
    }

    let file = Scratch::new("lines", b"hush\nhush");
    let shown = file.0.display();
    let mut settings = complete();
    settings.client_secret_file = Some(file.0.clone());
    refused(
        &settings,
        &DEBUG,
        &format!("`oidc.client_secret_file`: `{shown}` has a line break or another invisible character in it"),
        &format!("write the client secret into `{shown}`, on one line, and nothing else"),
    );

    let file = Scratch::new("empty", b"\n");
    let shown = file.0.display();
    let mut settings = complete();
    settings.client_secret_file = Some(file.0.clone());
    refused(
        &settings,
        &DEBUG,
        &format!("`oidc.client_secret_file`: `{shown}` is empty"),
        &format!("write the client secret into `{shown}`, or remove `client_secret_file`"),
    );
    settings.client_secret = Some(Secret::new("hush"));
    refused(
        &settings,
        &DEBUG,
        "`oidc.client_secret_file`: `oidc.client_secret` is set too, and there can be only one secret",
        "remove `client_secret` or `client_secret_file`",
    );
    let file = Scratch::new("binary", b"\xff\xfe");
    let shown = file.0.display();
    let mut settings = complete();
    settings.client_secret_file = Some(file.0.clone());
    refused(
        &settings,
        &DEBUG,
        &format!("`oidc.client_secret_file`: `{shown}` is not valid UTF-8"),
        &format!("make `{shown}` readable, or correct the path"),
    );
    settings.client_secret_file = Some("/dev/zero".into());
    refused(
        &settings,
        &DEBUG,
        "`oidc.client_secret_file`: `/dev/zero` is larger than 65536 bytes",
        "make `/dev/zero` readable, or correct the path",
    );
}

#[test]
fn an_authentication_method_needs_its_secret() {
    let mut settings = complete();
    settings.token_endpoint_auth_method = Some(TokenEndpointAuthMethod::ClientSecretPost);
    refused(
        &settings,
        &DEBUG,
        "`oidc.token_endpoint_auth_method`: `client_secret_post` needs a client secret, and none is set",
        "set OIDC_CLIENT_SECRET or `client_secret_file`, or, for a public client, remove \
         `token_endpoint_auth_method`",
    );
    settings.client_secret = Some(Secret::new("hush"));
    assert!(settings.mode(&DEBUG).is_ok());
    settings.token_endpoint_auth_method = Some(TokenEndpointAuthMethod::None);
    assert_eq!(
        warnings(&settings),
        ["`token_endpoint_auth_method`: with `none` the client secret is not used"]
    );
}

#[test]
fn the_development_provider_stays_in_development() {
    let mut settings = Settings {
        dev_provider: Some(DevProviderSettings::default()),
        ..Settings::default()
    };
    let error = settings.dev_provider_to_start(&RELEASE).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.remedy()),
        (
            "`oidc.dev_provider`: the development provider starts in the debug profile only",
            "remove `dev_provider` and set `issuer`, or select the profile with ROCKET_PROFILE=debug",
        )
    );
    if cfg!(not(feature = "dev-provider")) {
        refused(
            &settings,
            &DEBUG,
            "`oidc.dev_provider`: the development provider is not compiled in",
            "enable the feature `dev-provider` of `rocket_openidconnect` in Cargo.toml, or remove \
             `dev_provider`",
        );
        return;
    }
    let started = settings.dev_provider_to_start(&DEBUG).unwrap().unwrap();
    assert_eq!((started.port, started.users.len()), (9400, 2));
    settings.issuer = Some("https://a.example".to_owned());
    let error = settings.dev_provider_to_start(&DEBUG).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.remedy()),
        (
            "`oidc.dev_provider`: `oidc.issuer` is set too, and there can be only one provider",
            "remove `issuer`, or set `dev_provider = false`",
        )
    );
    // A preset set the issuer.
    settings.provider = Some(parsed::<ProviderPreset>(json!({ "name": "google" })));
    let error = settings.dev_provider_to_start(&DEBUG).unwrap_err();
    assert_eq!(error.remedy(), "remove `provider`, or set `dev_provider = false`");
    settings.enabled = false;
    assert!(settings.dev_provider_to_start(&DEBUG).unwrap().is_none());
}

#[test]
fn every_insecure_setting_has_its_line() {
    let settings = Settings {
        issuer: Some("http://localhost:9000".to_owned()),
        insecure_testing_profile: true,
        id_token_signing_algs: Some(vec![SigningAlgorithm::HS256]),
        trusted_audiences: vec!["a".to_owned(), "b".to_owned()],
        clock_skew: Duration::from_secs(600),
        base_url: Some(url("http://dev.lan")),
        overwrite_redirect_uri: Some(url("http://proxy.lan/cb")),
        ..complete()
    };
    assert_eq!(
        warnings(&settings),
        [
            "`insecure_testing_profile`: `enabled = false` would admit every visitor",
            "`issuer`: http://localhost:9000 is called over plain http, on loopback",
            "`id_token_signing_algs`: with HS256, anyone who knows the client secret can sign ID tokens",
            "`trusted_audiences`: ID tokens may also name a, b",
            "`clock_skew`: expired tokens are accepted for 600s",
            "`base_url`: http://dev.lan/ is plain http, so cookies and codes can be read on the network",
            "`overwrite_redirect_uri`: http://proxy.lan/cb is plain http, so cookies and codes can be read on the network",
            "`overwrite_redirect_uri`: http://proxy.lan/cb is not at /oidc/authorize; a proxy must forward it there with its query",
            "`overwrite_redirect_uri`: http://proxy.lan/cb is not below http://dev.lan/; cookies set \
             at one are not sent to the other",
        ]
    );
    assert!(warnings(&complete()).is_empty());
}

/// A resource server needs no client id, unless it authenticates at the provider, or has no other audience.
#[test]
fn an_api_needs_a_client_id_for_two_things() {
    let api = Settings {
        client_id: None,
        base_url: None,
        resource_server_only: true,
        ..complete()
    };
    let cause = "`oidc.client_id`: the client's identifier is the audience of access tokens unless another is \
                 set, and is missing";
    let remedy = "set `audience` to the `aud` of access tokens for this API, or set `client_id`";
    refused(&api, &RELEASE, cause, remedy);

    let orders = parsed::<ApiSettings>(json!({ "resource": "https://api.example.com/orders" }));
    let orders = std::collections::BTreeMap::from([("orders".to_owned(), orders)]);
    let with_audience = Settings {
        audience: Some(vec!["notes-api".to_owned()]),
        ..api.clone()
    };
    let with_resource = Settings {
        resource: Some(url("https://api.example.com")),
        ..api.clone()
    };
    let with_named = Settings { apis: orders, ..api };
    let asks = |settings: &Settings, method| Settings {
        token_validation: TokenValidation::Introspection,
        introspection_auth_method: Some(method),
        ..settings.clone()
    };
    for settings in [with_audience, with_resource, with_named] {
        for settings in [settings.clone(), asks(&settings, IntrospectionAuthMethod::Bearer)] {
            match settings.mode(&RELEASE) {
                Ok(Mode::ResourceServerOnly(registration)) => {
                    assert_eq!(registration.client_id, "");
                }
                other => panic!("{other:?}"),
            }
        }
        for method in [
            IntrospectionAuthMethod::ClientSecretPost,
            IntrospectionAuthMethod::ClientSecretBasic,
        ] {
            let cause =
                "`oidc.client_id`: introspection needs the client's identifier at the provider, which is missing";
            let remedy = "set `client_id` in the table `oidc`, or OIDC_CLIENT_ID, to the identifier that the provider registered";
            refused(&asks(&settings, method), &RELEASE, cause, remedy);
        }
        // With sign-in, a client id is required.
        let signs_in = Settings {
            resource_server_only: false,
            base_url: Some(url("https://app.example.com")),
            ..settings
        };
        let cause = "`oidc.client_id`: the client's identifier at the provider is missing";
        let remedy =
            "set `client_id` in the table `oidc`, or OIDC_CLIENT_ID, to the identifier that the provider registered";
        refused(&signs_in, &RELEASE, cause, remedy);
    }
}

const ENTRA: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";
const TENANT: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";

/// Settings for tenants of Microsoft Entra ID.
/// A private key in a file, as openssl writes it.
fn key_file(name: &str, pkcs8: &[u8]) -> Scratch {
    let pem = STANDARD.encode(pkcs8);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n");
    Scratch::new(name, pem.as_bytes())
}

/// As Sign in with Apple wants it.
#[test]
fn a_client_secret_that_the_app_makes() {
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let p256 = key_file("p256.p8", p256.to_pkcs8v1().unwrap().as_ref());
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let ed25519 = key_file("ed25519.pem", ed25519.to_pkcs8v1().unwrap().as_ref());
    let settings = || Settings {
        client_secret_issuer: Some("A1B2C3D4E5".to_owned()),
        private_key_file: Some(p256.0.clone()),
        private_key_id: Some("F6G7H8I9J0".to_owned()),
        ..complete()
    };
    let made = registration(&settings());
    assert_eq!(made.secret_issuer.as_deref(), Some("A1B2C3D4E5"));
    assert!(made.has_secret());
    let by_post = Settings {
        token_endpoint_auth_method: Some(TokenEndpointAuthMethod::ClientSecretPost),
        ..settings()
    };
    assert!(registration(&by_post).has_secret());

    for (change, error, remedy) in [
        (
            Settings {
                client_secret: Some(Secret::new("hush")),
                ..settings()
            },
            "`oidc.client_secret_issuer`: a client secret is set too, and the app makes its own",
            "remove `client_secret`, `client_secret_file` and the one in `client_secrets`, or `client_secret_issuer`",
        ),
        (
            Settings {
                private_key_file: None,
                ..settings()
            },
            "`oidc.private_key_file`: the private key is missing that signs the client secret",
            "set `private_key_file` to the key file of the provider (Apple: `AuthKey_….p8`), and `private_key_id`",
        ),
        (
            Settings {
                private_key_file: Some(ed25519.0.clone()),
                ..settings()
            },
            "`oidc.private_key_file`: the client secret is signed with ES256, and the key is not a P-256 key",
            "set it to the key file of the provider (Apple: `AuthKey_….p8`)",
        ),
        (
            Settings {
                private_key_id: None,
                ..settings()
            },
            "`oidc.private_key_id`: it is not set, and the header of the client secret needs it",
            "set it to the id of the key at the provider (Apple: the ten characters in `AuthKey_….p8`)",
        ),
    ] {
        refused(&change, &RELEASE, error, remedy);
    }
}

#[test]
fn a_public_client_cannot_omit_pkce() {
    let omitted = || Settings {
        insecure_omit_pkce: true,
        client_secret: Some(Secret::new("hush")),
        ..complete()
    };
    assert!(registration(&omitted()).has_secret());
    assert_eq!(
        warnings(&omitted()),
        ["`insecure_omit_pkce`: without PKCE, whoever obtains an unused authorization code can sign in here with it"]
    );
    let without_secret = Settings {
        client_secret: None,
        ..omitted()
    };
    let without_authentication = Settings {
        token_endpoint_auth_method: Some(TokenEndpointAuthMethod::None),
        ..omitted()
    };
    for settings in [without_secret, without_authentication] {
        refused(
            &settings,
            &RELEASE,
            "`oidc.insecure_omit_pkce`: a public client has nothing but PKCE to protect an authorization code",
            "set OIDC_CLIENT_SECRET or `client_secret_file`, or remove `insecure_omit_pkce`",
        );
    }
}

fn of_tenants(tenants: &[&str]) -> Settings {
    let metadata = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration";
    Settings {
        issuer: Some(ENTRA.to_owned()),
        server_metadata_url: Some(url(metadata)),
        tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        ..complete()
    }
}

#[test]
fn a_template_with_the_tenants_that_are_accepted() {
    let accepted = |tenants: &[&str]| {
        let registration = registration(&of_tenants(tenants));
        assert_eq!(registration.issuer, ENTRA);
        registration.tenants.unwrap().to_string()
    };
    assert_eq!(accepted(&[TENANT]), TENANT);
    assert_eq!(accepted(&[&TENANT.to_uppercase(), TENANT]), TENANT);
    assert_eq!(accepted(&["any"]), "every organisation");
    assert_eq!(registration(&complete()).tenants, None);
}

#[test]
fn templates_refused() {
    let remedy_of_tenants = "list the ids of the tenants, or `any` for every organisation";
    refused(
        &of_tenants(&[]),
        &RELEASE,
        "`oidc.tenants`: it is not set, and the issuer is a template: the accepted tenants are unknown",
        remedy_of_tenants,
    );
    for entry in ["common", "contoso.onmicrosoft.com", "", "*", "ANY"] {
        refused(
            &of_tenants(&[TENANT, entry]),
            &RELEASE,
            &format!("`oidc.tenants`: {entry:?} is not the id of a tenant"),
            "list tenant ids, each a GUID, or `any` for every organisation; personal accounts are in \
             `9188040d-6c67-4c5b-b112-36a304b66dad`",
        );
    }
    let mut settings = of_tenants(&[TENANT]);
    settings.server_metadata_url = None;
    refused(
        &settings,
        &RELEASE,
        "`oidc.server_metadata_url`: the issuer is a template, so there is no metadata at \
         `https://login.microsoftonline.com/%7Btenantid%7D/v2.0/.well-known/openid-configuration`",
        "set it to the URL of the tenants' shared metadata, such as \
         `https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration`",
    );
    // Without a template issuer, `tenants` would have no effect, but seem to restrict access.
    let mut settings = complete();
    settings.tenants = vec![TENANT.to_owned()];
    let template = format!("`{ENTRA}`");
    refused(
        &settings,
        &RELEASE,
        "`oidc.tenants`: the issuer is not a template with `{tenantid}`: it would restrict no token",
        &format!("remove it, or set `issuer` to the template in the metadata, such as {template}"),
    );
    for issuer in [
        "https://{tenantid}.example.com/v2.0",
        "https://login.example.com/{tenantid}/{tenantid}",
        "https://login.example.com/x{tenantid}/v2.0",
        "https://login.example.com/{tenantid}x",
    ] {
        let mut settings = of_tenants(&[TENANT]);
        settings.issuer = Some(issuer.to_owned());
        refused(
            &settings,
            &RELEASE,
            &format!(
                "`oidc.issuer`: `{issuer}` does not have `{{tenantid}}` exactly once, as a whole segment of its path"
            ),
            &format!("write the template in the metadata, such as {template}"),
        );
    }
}

#[test]
fn templates_of_further_issuers_refused() {
    let of_further = |json: serde_json::Value| {
        let mut settings = complete();
        let further = parsed::<IssuerSettings>(json);
        settings.issuers.insert("v1".to_owned(), further);
        settings.issuers["v1"]
            .registration("v1", &settings)
            .map(|it| it.tenants.is_some())
    };
    let v1 = "https://sts.windows.net/{tenantid}/";
    let metadata = "https://login.microsoftonline.com/common/.well-known/openid-configuration";
    let further = json!({
        "issuer": v1, "server_metadata_url": metadata, "audience": "api", "tenants": TENANT,
    });
    assert_eq!(of_further(further), Ok(true));
    let keys = json!({
        "issuer": v1, "jwks_uri": "https://login.microsoftonline.com/common/discovery/keys",
        "audience": "api", "tenants": ["any"],
    });
    assert_eq!(of_further(keys), Ok(true));
    let error = |json| of_further(json).unwrap_err().to_string();
    assert_eq!(
        error(json!({"issuer": v1, "server_metadata_url": metadata, "audience": "api"})),
        "`oidc.issuers.v1.tenants`: it is not set, and the issuer is a template: the accepted tenants are unknown"
    );
    assert_eq!(
        error(json!({"issuer": v1, "audience": "api", "tenants": ["any"]})),
        "`oidc.issuers.v1.server_metadata_url`: the issuer is a template, so there is no metadata at \
         `https://sts.windows.net/%7Btenantid%7D/.well-known/openid-configuration`"
    );
    assert_eq!(
        error(json!({"issuer": "https://op.example", "audience": "api", "tenants": TENANT})),
        "`oidc.issuers.v1.tenants`: the issuer is not a template with `{tenantid}`: it would restrict no token"
    );
}
