//! `rocket-oidc doctor` in an app with several providers: each is checked under its name.

use crate::{
    doctor::{SECRET, app, tell_time},
    support::{Reply, TestProvider},
    tool::Tool,
};

/// An app with two providers.
fn app_of_two(one: &TestProvider, two: &TestProvider) -> Tool {
    let mut tool = Tool::new();
    for (name, provider) in [("ONE", one), ("TWO", two)] {
        tool.env(&format!("OIDC_PROVIDERS__{name}__ISSUER"), provider.issuer())
            .env(&format!("OIDC_PROVIDERS__{name}__CLIENT_ID"), "client")
            .env(&format!("OIDC_PROVIDERS__{name}__CLIENT_SECRET"), SECRET);
        provider.metadata(|metadata| drop(metadata.remove("backchannel_logout_supported")));
        tell_time(provider, 0);
    }
    tool
}

#[rocket::async_test]
async fn each_of_several_providers_is_checked_under_its_name() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    let tool = app_of_two(&one, &two);
    two.on_path("/token", Reply::error(401, "invalid_client", "no"));
    let finding = "the provider's token endpoint rejected the request with `invalid_client`: no (client_secret_basic)";
    let report = tool.report(&["doctor"]);
    let check = report.check("two: client authentication");
    assert_eq!(report.with("failure"), ["two: client authentication"], "{report:#?}");
    assert_eq!(check["finding"], finding);
    assert_eq!(
        check["remedy"],
        "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`"
    );
    assert_eq!(report.not_checked, ["two: revocation", "two: introspection"]);
    for name in ["one", "two"] {
        assert_eq!(
            report.check(&format!("{name}: redirect URI"))["finding"],
            format!("http://localhost:8000/oidc/authorize/{name}")
        );
    }
    // What is the app's has no prefix.
    for check in ["settings", "secret_key", "cookies", "session store"] {
        assert!(report.with("ok").contains(&check), "{check}");
    }
    let ran = tool.run(&["doctor"]);
    assert!(
        ran.stdout.contains("\u{2717} two: client authentication"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains(SECRET));

    let report = tool.report(&["doctor", "--provider", "one"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert!(report.with("ok").contains(&"one: client authentication"));
    assert!(
        !report
            .checks
            .iter()
            .any(|check| check["check"].as_str().unwrap().starts_with("two"))
    );
    let report = tool.report(&["doctor", "--provider", "two"]);
    assert_eq!(report.with("failure"), ["two: client authentication"]);
}

#[rocket::async_test]
async fn a_provider_that_is_not_in_the_table() {
    let provider = TestProvider::start().await;
    let two = app_of_two(&provider, &TestProvider::start().await);
    for tool in [two, app(&provider)] {
        tool.report(&["doctor", "--provider", "three"]).fails_at(
            "settings",
            "there is no provider `three` in `oidc.providers`",
            "name a table of `oidc.providers`, or leave `--provider` out",
        );
        assert_eq!(provider.requests().len(), 0);
    }
}

#[test]
fn development_providers_of_several_are_green() {
    let mut tool = Tool::new();
    tool.env("OIDC_PROVIDERS__DEV__DEV_PROVIDER", "true")
        .env("OIDC_PROVIDERS__STAFF__DEV_PROVIDER", "true");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    for name in ["dev", "staff"] {
        assert_eq!(
            report.check(&format!("{name}: client authentication"))["finding"],
            "`dev-client` and its secret are accepted (client_secret_basic)"
        );
        assert_eq!(
            report.check(&format!("{name}: redirect URI"))["finding"],
            format!("http://localhost:8000/oidc/authorize/{name}")
        );
    }
}
