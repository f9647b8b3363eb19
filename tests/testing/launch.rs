//! A launch that fails says everything that is wrong with the settings, and not one thing at each start.

use rocket::{
    Config,
    figment::Figment,
    local::blocking::Client,
    serde::json::{Value, json},
};
use rocket_openidconnect::Oidc;

use crate::logging;

/// What is logged about a launch that fails.
fn failure(config: Config, settings: Value) -> Vec<String> {
    logging::listen();
    let figment = Figment::from(config)
        .merge(("log_level", "off"))
        .merge(("oidc", settings));
    let rocket = rocket::custom(figment).attach(Oidc::fairing());
    logging::take();
    let error = Client::untracked(rocket).map(|_| ()).unwrap_err();
    let _ = error.kind();
    logging::take()
}

#[track_caller]
fn all_are_logged(lines: &[String], expected: &[&str]) {
    for expected in expected {
        let count = lines.iter().filter(|line| line.contains(expected)).count();
        assert_eq!(count, 1, "{expected}: {lines:#?}");
    }
}

#[test]
fn all_errors_of_the_settings_are_logged_at_one_launch() {
    let settings = json!({
        "session": { "idle_timeout": "2h", "absolute_timeout": "1h" },
        "issuers": {
            "a": { "issuer": "https://a.example?x", "audience": "api" },
            "b": { "issuer": "https://b.example#y", "audience": "api" },
        },
        "silent": true,
        "clear_site_data": "cookies",
        "extra_authorization_parameters": { "prompt": "login" },
        "label": "Work", "order": 2,
    });
    let lines = failure(Config::release_default(), settings);
    all_are_logged(
        &lines,
        &[
            // Values that contradict each other, each of them.
            "`oidc.session.absolute_timeout`, ",
            "\"https://a.example?x\" has a query",
            "\"https://b.example#y\" has a query",
            "every sign-in demands a new authentication",
            "it removes the cookie by which `silent`",
            "oidc.label`",
            "oidc.order`",
            // What is missing, which a launch would otherwise report one by one.
            "the provider's issuer is missing",
            "`oidc.base_url`",
            "`secret_key` is missing",
        ],
    );
}

#[test]
fn all_providers_are_logged_at_one_launch() {
    let settings = json!({ "providers": {
        "one": { "provider": "keycloak", "client_id": "app" },
        "two": { "provider": "okta", "client_id": "app" },
        "three": { "issuer": "https://three.example", "client_id": "app", "session": { "store": "redis" } },
    } });
    let lines = failure(Config::debug_default(), settings);
    all_are_logged(
        &lines,
        &[
            "providers.one.provider",
            "providers.two.provider",
            "providers.three.session",
        ],
    );

    let settings = json!({ "client_id": "app", "providers": {
        "one": { "issuer": "https://one.example?x", "client_id": "app" },
        "two": { "client_id": "app", "token_endpoint_auth_method": "private_key_jwt" },
        "three": { "issuer": "https://three.example" },
    } });
    let lines = failure(Config::release_default(), settings);
    all_are_logged(
        &lines,
        &[
            "move `client_id` to a table",
            "\"https://one.example?x\" has a query",
            "the provider's issuer is missing",
            // Once, and not for each provider.
            "the public URL of the app is missing",
        ],
    );
}

/// The development provider gives issuer and client: neither is missing.
#[test]
fn beside_a_development_provider_only_true_errors_are_logged() {
    let settings = json!({
        "dev_provider": { "port": 0 }, "token_endpoint_auth_method": "private_key_jwt",
        "session": { "idle_timeout": "2h", "absolute_timeout": "1h" },
    });
    let lines = failure(Config::debug_default(), settings);
    all_are_logged(
        &lines,
        &[
            "`oidc.session.absolute_timeout`, ",
            "`private_key_jwt` needs a private key",
        ],
    );
    assert!(!lines.iter().any(|line| line.contains("is missing")), "{lines:#?}");

    let settings = json!({ "dev_provider": true, "issuer": "https://op.example", "client_id": "app", "label": "Work" });
    let lines = failure(Config::debug_default(), settings);
    all_are_logged(&lines, &["there can be only one provider", "oidc.label`"]);
}
