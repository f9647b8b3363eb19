//! The settings as an app's files and environment give them. A binary of its own: a jail changes the process.

// The error of a jail's closure is figment's.
#![allow(clippy::result_large_err)]

use std::{
    fmt::Debug,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use figment::Jail;
use rocket_openidconnect::settings::{CacheSize, ClientSecrets, Settings, SettingsError, SigningAlgorithm};
use tracing::field::Field;

mod access_tokens;
mod presets;
mod refusals;
mod security_profile;

/// Reads the settings as the fairing does, from a directory with this `Rocket.toml`.
fn extract(toml: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let mut result = None;
    Jail::expect_with(|jail| {
        jail.clear_env();
        jail.set_env("ROCKET_PROFILE", "debug");
        jail.create_file("Rocket.toml", toml)?;
        for (name, value) in variables {
            jail.set_env(name, value);
        }
        result = Some(Settings::extract(&rocket::Config::figment()));
        Ok(())
    });
    result.unwrap()
}

#[test]
fn no_table_gives_the_defaults() {
    let settings = extract("", &[]).unwrap();
    assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    assert!(settings.enabled && settings.user_info_enabled);
    assert_eq!(settings.scopes, ["openid", "email", "profile"]);
    assert_eq!(settings.clock_skew, Duration::from_secs(60));
    assert_eq!(settings.mount, "/oidc");
    assert!(settings.previous_secret_keys.is_empty());
    assert_eq!(settings.sign_in_timeout, Duration::from_secs(30 * 60));
    assert_eq!(settings.max_state_length, 500);
    assert_eq!(settings.session.cookie, None);
    assert_eq!(settings.session.refresh_grace, Duration::from_secs(4 * 3600));
    assert_eq!(settings.session.refresh_interval, Duration::from_secs(3600));
    assert_eq!(settings.session.max_generations, 1_000_000);
    assert_eq!(settings.session.max_cookies, 3);
}

#[test]
fn every_setting_in_a_file() {
    let toml = r#"
        [default.oidc]
        enabled = true
        testing_profile = { sub = "alice", groups = ["staff"], age = 30 }
        insecure_testing_profile = false
        issuer = "https://accounts.example.com/"
        client_id = "app"
        client_secret = "hush"
        server_metadata_url = "https://accounts.example.com/metadata"
        scopes = ["openid", "profile"]
        clock_skew = "2m"
        user_info_enabled = false
        resource_server_only = false
        overwrite_redirect_uri = "https://app.example.com/cb"
        base_url = "https://app.example.com"
        preserve_next_on_error = true
        token_endpoint_auth_method = "client_secret_post"
        id_token_signing_algs = ["RS256", "EdDSA"]
        post_logout_redirect_uri = "/goodbye"
        mount = "/auth/v1"
        trusted_audiences = ["a", "b"]
        previous_secret_keys = ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]
        sign_in_timeout = "45m"
        max_state_length = 1000

        [default.oidc.extra_authorization_parameters]
        prompt = "login"
        max_age = 300
        acr_values = ["gold", "silver"]
        debug = true

        [default.oidc.session]
        idle_timeout = 1800
        absolute_timeout = "1h30m"
        cookie = "notes.session"
        refresh_grace = 0
        refresh_interval = "10m"
        max_generations = 5000
        max_cookies = 5
        cache = 500

        [default.oidc.http]
        connect_timeout = "500ms"
        timeout = "3s"
        max_body = 1000

        [default.oidc.dev_provider]
        port = 0
        users = [{ sub = "carol", name = "Carol" }]
    "#;
    let settings = extract(toml, &[]).unwrap();
    assert_eq!(settings.testing_profile["age"], 30);
    assert_eq!(settings.issuer.as_deref(), Some("https://accounts.example.com/"));
    assert_eq!(settings.client_secret.as_ref().unwrap().expose(), "hush");
    assert_eq!(settings.scopes, ["openid", "profile"]);
    assert_eq!(settings.clock_skew, Duration::from_secs(120));
    assert!(!settings.user_info_enabled && settings.preserve_next_on_error);
    assert_eq!(
        settings.id_token_signing_algs.as_deref().unwrap(),
        [SigningAlgorithm::RS256, SigningAlgorithm::EdDSA]
    );
    assert_eq!(settings.trusted_audiences, ["a", "b"]);
    assert_eq!(
        settings.authorization_parameters(),
        [
            ("acr_values", "gold silver"),
            ("debug", "true"),
            ("max_age", "300"),
            ("prompt", "login"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(settings.max_age(), Some(Duration::from_secs(300)));
    assert_eq!(settings.requested_acr_values(), ["gold", "silver"]);
    assert_eq!(settings.session.idle_timeout, Duration::from_secs(1800));
    assert_eq!(settings.session.absolute_timeout, Duration::from_secs(5400));
    let [previous] = &settings.previous_secret_keys[..] else {
        panic!("not one key");
    };
    assert_eq!(previous.expose(), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    assert_eq!(settings.sign_in_timeout, Duration::from_secs(45 * 60));
    assert_eq!(settings.max_state_length, 1000);
    assert_eq!(settings.session.cookie.as_deref(), Some("notes.session"));
    assert_eq!(settings.session.refresh_grace, Duration::ZERO);
    assert_eq!(settings.session.refresh_interval, Duration::from_secs(600));
    assert_eq!(settings.session.max_generations, 5000);
    assert_eq!(settings.session.max_cookies, 5);
    assert_eq!(settings.session.cache, CacheSize::Entries(500));
    assert_eq!(settings.http.connect_timeout, Duration::from_millis(500));
    assert_eq!(settings.http.max_body, 1000);
    let dev_provider = settings.dev_provider.unwrap();
    assert_eq!(dev_provider.port, 0);
    assert_eq!(dev_provider.users[0]["name"], "Carol");
}

#[test]
fn a_profile_overrides_and_the_environment_wins() {
    let toml = r#"
        [default.oidc]
        client_id = "default"
        mount = "/default"
        scopes = "openid"
        [default.oidc.session]
        idle_timeout = "10m"
        [debug.oidc]
        client_id = "debug"
        mount = "/debug"
        [debug.oidc.session]
        absolute_timeout = "20m"
        [release.oidc]
        client_id = "release"
    "#;
    let variables = [
        (
            "ROCKET_OIDC",
            "{mount=\"/rocket\",client_id=\"rocket\",trusted_audiences=[\"x\"]}",
        ),
        ("OIDC_MOUNT", "/environment"),
        ("OIDC_SESSION__MAX_COOKIES", "1"),
    ];
    let settings = extract(toml, &variables).unwrap();
    assert_eq!(settings.client_id.as_deref(), Some("rocket"));
    assert_eq!(settings.mount, "/environment");
    assert_eq!(settings.scopes, ["openid"]);
    assert_eq!(settings.trusted_audiences, ["x"]);
    assert_eq!(settings.session.idle_timeout, Duration::from_secs(600));
    assert_eq!(settings.session.absolute_timeout, Duration::from_secs(1200));
    assert_eq!(settings.session.max_cookies, 1);

    let settings = extract(toml, &[]).unwrap();
    assert_eq!(settings.client_id.as_deref(), Some("debug"));
    assert_eq!(settings.mount, "/debug");
}

#[test]
fn the_stores_take_the_addresses_that_fit_them() {
    for (store, url) in [
        ("redis", "redis://localhost"),
        ("cookie", "rediss://user:hush@localhost:6380/1"),
        ("redis", "valkeys://:hush@[::1]:6380/1"),
        ("redis", "unix:///run/redis/redis.sock?db=1"),
        ("redis", "rediss+sentinel://app:hush@a,b:26380/primary/1"),
        ("cookie", "redis-cluster://app:hush@a,b:7000"),
        ("sql", "sqlite://sessions.db"),
        ("sql", "sqlite:///var/lib/app/sessions.db"),
        ("cookie", "sqlite://data/sessions.db"),
        ("sql", "postgres://user:hush@localhost:5433/app?sslmode=verify-full"),
        ("sql", "postgresql:///app?host=/run/postgresql"),
        ("cookie", "postgres://user@localhost/app"),
    ] {
        let toml = format!("[default.oidc.session]\nstore = \"{store}\"\nstore_url = \"{url}\"");
        let session = extract(&toml, &[]).unwrap().session;
        assert_eq!(session.store_url.as_ref().map(|url| url.expose()), Some(url));
        assert!(!format!("{session:?}").contains("hush"));
    }
}

#[test]
fn a_string_setting_takes_the_raw_text_of_a_variable() {
    for text in [
        "12345",
        "true",
        "0123",
        "1e5",
        "\"quoted\"",
        "a b",
        "{x=1}",
        "1.50",
        "[a]",
    ] {
        let variables = [("OIDC_CLIENT_SECRET", text), ("OIDC_CLIENT_ID", text)];
        let settings = extract("", &variables).unwrap();
        assert_eq!(settings.client_secret.unwrap().expose(), text);
        assert_eq!(settings.client_id.as_deref(), Some(text));
    }
}

#[test]
fn every_form_in_the_environment() {
    let settings = extract(
        "",
        &[
            ("OIDC_ENABLED", "False"),
            (
                "OIDC_TESTING_PROFILE",
                r#"{"sub":"alice","groups":["a"],"email_verified":true}"#,
            ),
            ("OIDC_SCOPES", "openid  groups"),
            ("OIDC_TRUSTED_AUDIENCES", r#"["a","b"]"#),
            ("OIDC_CLOCK_SKEW", "90"),
            ("OIDC_SESSION__IDLE_TIMEOUT", "15m"),
            ("OIDC_SESSION__CACHE", "false"),
            ("OIDC_SESSION__COOKIE", "0123"),
            ("OIDC_SESSION__REFRESH_GRACE", "90m"),
            ("OIDC_SESSION__MAX_GENERATIONS", "10"),
            ("OIDC_SIGN_IN_TIMEOUT", "600"),
            ("OIDC_MAX_STATE_LENGTH", "200"),
            (
                "OIDC_PREVIOUS_SECRET_KEYS",
                "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= 0123456789012345678901234567890123456789012345678901234567890123",
            ),
            ("OIDC_DEV_PROVIDER", "true"),
            ("OIDC_EXTRA_AUTHORIZATION_PARAMETERS__LOGIN_HINT", "0123"),
            ("OIDC_CLIENT_SECRETS__WEB__CLIENT_SECRET", "007"),
        ],
    )
    .unwrap();
    assert!(!settings.enabled);
    assert_eq!(settings.testing_profile["groups"][0], "a");
    assert_eq!(settings.testing_profile["email_verified"], true);
    assert_eq!(settings.scopes, ["openid", "groups"]);
    assert_eq!(settings.trusted_audiences, ["a", "b"]);
    assert_eq!(settings.clock_skew, Duration::from_secs(90));
    assert_eq!(settings.session.idle_timeout, Duration::from_secs(900));
    assert_eq!(settings.session.cache, CacheSize::Flag(false));
    assert_eq!(settings.session.cookie.as_deref(), Some("0123"));
    assert_eq!(settings.session.refresh_grace, Duration::from_secs(5400));
    assert_eq!(settings.session.max_generations, 10);
    assert_eq!(settings.sign_in_timeout, Duration::from_secs(600));
    assert_eq!(settings.max_state_length, 200);
    let keys: Vec<_> = settings
        .previous_secret_keys
        .iter()
        .map(|key| key.expose().len())
        .collect();
    assert_eq!(keys, [44, 64]);
    assert_eq!(settings.extra_authorization_parameters["login_hint"], "0123");
    let users = settings.dev_provider.unwrap().users;
    assert_eq!(users[0]["sub"], "alice");
    assert_eq!(users[0]["groups"], serde_json::json!(["users", "admin"]));
    assert_eq!(users[1]["groups"], serde_json::json!(["users"]));
    let Some(ClientSecrets::Table(table)) = settings.client_secrets else {
        panic!();
    };
    assert_eq!(table.client_secret.unwrap().expose(), "007");
}

#[test]
fn testing_profile_in_figments_syntax() {
    let variables = [("OIDC_TESTING_PROFILE", r#"{sub="alice",groups=["a"]}"#)];
    let settings = extract("", &variables).unwrap();
    assert_eq!(settings.testing_profile["sub"], "alice");
    assert_eq!(settings.testing_profile["groups"][0], "a");
}

/// Platforms inject such names.
#[test]
fn an_unknown_variable_is_a_warning_and_no_error() {
    let variables = [
        ("OIDC_CLIENTID", "hush"),
        ("OIDC_ISSUER__X", "1"),
        ("OIDC_SESSION__URL", "redis://:hush@localhost"),
        ("OIDC_ZEBRA", "1"),
    ];
    let warnings = Warnings::default();
    let extracted = tracing::subscriber::with_default(warnings.clone(), || extract("", &variables));
    assert_eq!(
        format!("{:?}", extracted.unwrap()),
        format!("{:?}", Settings::default())
    );
    let is_ignored = "is ignored: there is no setting";
    assert_eq!(
        *warnings.0.lock().unwrap(),
        [
            format!(
                "environment variable OIDC_CLIENTID {is_ignored} `oidc.clientid`; \
                 the nearest is OIDC_CLIENT_ID"
            ),
            format!(
                "environment variable OIDC_ISSUER__X {is_ignored} `oidc.issuer.x`; \
                 the nearest is OIDC_ISSUER"
            ),
            format!(
                "environment variable OIDC_SESSION__URL {is_ignored} `oidc.session.url`; \
                 the nearest is OIDC_SESSION__STORE_URL"
            ),
            format!("environment variable OIDC_ZEBRA {is_ignored} `oidc.zebra`"),
        ]
    );
}

/// A shell, an editor or a file put something around them.
#[test]
fn what_is_around_credentials_and_addresses_is_no_part_of_them() {
    let toml = "[default.oidc]\nclient_id = \" app\\n\"\nbase_url = \"\\uFEFFhttps://app.example\"\n\
                previous_secret_keys = \" \\uFEFFMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\\n\"\n\
                [default.oidc.client_secrets.web]\nissuer = \"https://op.example\\r\\n\"\n";
    let variables = [
        ("OIDC_CLIENT_SECRET", "hush\n"),
        ("OIDC_ISSUER", "\u{feff}https://op.example \n"),
        ("OIDC_SERVER_METADATA_URL", " https://op.example/m\t"),
        ("OIDC_OVERWRITE_REDIRECT_URI", "https://app.example/cb\n"),
        ("OIDC_SESSION__STORE_URL", "redis://:pass@127.0.0.1\n"),
        ("OIDC_SESSION__STORE", "redis\n"),
        ("OIDC_TOKEN_ENDPOINT_AUTH_METHOD", " client_secret_post\r\n"),
        ("OIDC_SCOPES", "\u{feff}openid email\n"),
    ];
    let warnings = Warnings::default();
    let extracted = tracing::subscriber::with_default(warnings.clone(), || extract(toml, &variables));
    let settings = extracted.unwrap();
    assert_eq!(settings.client_secret.unwrap().expose(), "hush");
    assert_eq!(settings.client_id.as_deref(), Some("app"));
    assert_eq!(settings.issuer.as_deref(), Some("https://op.example"));
    let shown = |url: Option<url::Url>| url.unwrap().to_string();
    assert_eq!(shown(settings.base_url), "https://app.example/");
    assert_eq!(shown(settings.server_metadata_url), "https://op.example/m");
    let uri = shown(settings.overwrite_redirect_uri);
    assert_eq!(uri, "https://app.example/cb");
    let url = settings.session.store_url.unwrap();
    assert_eq!(url.expose(), "redis://:pass@127.0.0.1");
    assert_eq!(settings.scopes, ["openid", "email"]);
    assert_eq!(settings.previous_secret_keys.len(), 1);

    // It is told, without the value.
    let blanks = "has white space around it, which is ignored";
    let mark = "has a byte-order mark or another invisible character around it, which is ignored";
    assert_eq!(
        *warnings.0.lock().unwrap(),
        [
            format!("`default.oidc.client_secrets.web.issuer` in Rocket.toml {blanks}"),
            format!("`oidc.issuer` in environment variable OIDC_ISSUER {mark}"),
            format!("`default.oidc.client_id` in Rocket.toml {blanks}"),
            format!("`oidc.client_secret` in environment variable OIDC_CLIENT_SECRET {blanks}"),
            format!("`oidc.server_metadata_url` in environment variable OIDC_SERVER_METADATA_URL {blanks}"),
            format!(
                "`oidc.overwrite_redirect_uri` in environment variable OIDC_OVERWRITE_REDIRECT_URI \
                 {blanks}"
            ),
            format!("`default.oidc.base_url` in Rocket.toml {mark}"),
            format!("`oidc.session.store_url` in environment variable OIDC_SESSION__STORE_URL {blanks}"),
        ]
    );
}

/// A secret may begin and end with quotes, and rarely does.
#[test]
fn quotes_are_part_of_the_value_and_reported() {
    let warnings = Warnings::default();
    let variables = [("OIDC_CLIENT_SECRET", "\"hush\"\n"), ("OIDC_CLIENT_ID", "'app'")];
    let extracted = tracing::subscriber::with_default(warnings.clone(), || extract("", &variables));
    let settings = extracted.unwrap();
    assert_eq!(settings.client_secret.unwrap().expose(), "\"hush\"");
    assert_eq!(settings.client_id.as_deref(), Some("'app'"));
    assert_eq!(
        *warnings.0.lock().unwrap(),
        [
            "`oidc.client_id` in environment variable OIDC_CLIENT_ID is in quotes, which are part of the value",
            "`oidc.client_secret` in environment variable OIDC_CLIENT_SECRET is in quotes, which are part of the value",
        ]
    );
}

/// The warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut |_: &Field, value: &dyn Debug| {
            self.0.lock().unwrap().push(format!("{value:?}"));
        });
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn client_secrets_and_secret_file_are_relative_to_the_file_that_names_them() {
    Jail::expect_with(|jail| {
        jail.clear_env();
        let conf = jail.create_dir("conf")?;
        let toml = "[default.oidc]\nclient_secrets = \"c.json\"\nclient_secret_file = \"../s\"";
        jail.create_file("conf/Rocket.toml", toml)?;
        jail.set_env("ROCKET_CONFIG", "conf/Rocket.toml");
        let file = |settings: &Settings| match &settings.client_secrets {
            Some(ClientSecrets::File(path)) => path.clone(),
            other => panic!("{other:?}"),
        };
        let settings = Settings::extract(&rocket::Config::figment()).unwrap();
        assert!(file(&settings).ends_with(Path::new("conf").join("c.json")));
        assert!(settings.client_secret_file.unwrap().ends_with("conf/../s"));
        assert!(conf.ends_with("conf"));

        jail.set_env("OIDC_CLIENT_SECRETS", "d.json");
        let settings = Settings::extract(&rocket::Config::figment()).unwrap();
        assert_eq!(file(&settings), Path::new("d.json"));
        Ok(())
    });
}

#[test]
fn client_secrets_as_a_table() {
    for table in ["client_secrets.web", "client_secrets"] {
        let toml = format!(
            "[default.oidc.{table}]\nclient_id = \"app\"\nclient_secret = \"hush\"\n\
             redirect_uris = [\"https://app.example.com/cb\"]\nproject_id = \"x\"\n"
        );
        let settings = extract(&toml, &[]).unwrap();
        let Some(ClientSecrets::Table(found)) = settings.client_secrets else {
            panic!();
        };
        assert_eq!(found.client_id.as_deref(), Some("app"));
        assert_eq!(found.redirect_uris[0].as_str(), "https://app.example.com/cb");
    }
}

#[test]
fn debug_shows_no_secret() {
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let toml = format!(
        "[default.oidc]\nclient_secret = \"hush\"\nclient_secrets = {{ client_secret = \"hush\" }}\n\
         previous_secret_keys = [\"{key}\"]"
    );
    let shown = format!("{:?}", extract(&toml, &[]).unwrap());
    assert_eq!(shown.matches("Secret(…)").count(), 3, "{shown}");
    assert!(!shown.contains("hush") && !shown.contains(&key[..8]), "{shown}");
}

#[test]
fn disabled_needs_no_openid() {
    assert!(extract("[default.oidc]\nenabled = false\nscopes = \"email\"", &[]).is_ok());
}

/// Whoever launches the app learns of all that is wrong, not of one setting at each attempt.
#[test]
fn all_errors_are_reported_at_once() {
    let toml = "[default.oidc]\nclientid = \"x\"\nenabled = 1\nmount = \"oidc\"\n\
                [default.oidc.session]\nidle_timeout = 0\nzebra = 1\n\
                [default.oidc.issuers.partner]\naudience = [\"a\", 1]";
    let variables = [("OIDC_SESSION__STORE", "disk"), ("OIDC_TESTING_PROFILE", "{sub=")];
    let error = extract(toml, &variables).unwrap_err();
    assert_eq!(
        error.cause(),
        "the value starts like a table or list, but is neither",
        "{error}"
    );
    let others: Vec<_> = error.others().iter().map(ToString::to_string).collect();
    assert_eq!(
        others,
        [
            "`default.oidc.clientid` in Rocket.toml: there is no setting `clientid` in `oidc`",
            "`default.oidc.enabled` in Rocket.toml: expected `true` or `false`, found the number `1`",
            "`default.oidc.mount` in Rocket.toml: \"oidc\" is not a path to mount at",
            "`default.oidc.issuers.partner` in Rocket.toml: `issuer` is missing",
            "`default.oidc.issuers.partner.audience.1` in Rocket.toml: expected a string, found the number `1`",
            "`default.oidc.session.zebra` in Rocket.toml: there is no setting `zebra` in `oidc.session`",
            "`default.oidc.session.idle_timeout` in Rocket.toml: the duration is zero",
            "`oidc.session.store` in environment variable OIDC_SESSION__STORE: unknown value \"disk\"",
        ]
    );

    // So too what does not go together.
    let toml = "[default.oidc]\nscopes = \"email\"\nissuer = \"http://a.example\"\n\
                session = { idle_timeout = \"2h\", absolute_timeout = \"1h\", store = \"sql\" }";
    let error = extract(toml, &[]).unwrap_err();
    let keys = [&error].into_iter().chain(error.others());
    let keys: Vec<_> = keys.map(SettingsError::key).collect();
    assert_eq!(
        keys,
        [
            "default.oidc.scopes",
            "default.oidc.session.idle_timeout",
            "default.oidc.session.store",
            "default.oidc.issuer",
        ]
    );
}

/// Whatever is wrong with the value, and whoever looks at the error.
#[test]
fn no_error_shows_a_secret() {
    for line in [
        "client_secret = [\"hush\"]",
        "client_secret = { a = \"hush\" }",
        "client_secret = \"two\\nhush\"",
        "client_secret_file = [\"hush\"]",
        "previous_secret_keys = \"hush\"",
        "previous_secret_keys = [[\"hush\"]]",
        "previous_secret_keys = { a = \"hush\" }",
        "client_secrets = [\"hush\"]",
        "client_secrets = \"{hush\"",
        "client_secrets = { web = \"hush\" }",
        "client_secrets = { web = { client_secret = [\"hush\"] } }",
        "client_secrets = { client_secret = \"two\\nhush\" }",
        "client_secrets = { client_secert = \"hush\" }",
        "session = { store_url = \"hush\" }",
        "session = { store_url = [\"hush\"] }",
        "session = { store_url = \"redis://:hush@\" }",
        "session = { url = \"redis://:hush@localhost\" }",
        "base_url = \"https://me:hush@app.example\"",
        "issuer = \"https://me:hush@op.example\"",
    ] {
        let error = extract(&format!("[default.oidc]\n{line}"), &[]).unwrap_err();
        let shown = format!("{error} {error:?} {}", error.remedy());
        assert!(!shown.contains("hush"), "{line}: {shown}");
        let value = line.split_once(" = ").unwrap();
        let variable = (format!("OIDC_{}", value.0.to_uppercase()), value.1);
        if let Err(error) = extract("", &[(&variable.0, variable.1)]) {
            let shown = format!("{error} {error:?} {}", error.remedy());
            assert!(!shown.contains("hush"), "{line}: {shown}");
        }
    }
}
