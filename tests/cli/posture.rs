//! `rocket-oidc doctor --profile fapi2`: the demands of a security profile, one by one.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use serde_json::{Value, json};

use crate::{
    doctor::app,
    support::TestProvider,
    tool::{Report, Tool},
};

/// A provider that meets FAPI 2.0, but for what `change` takes away.
async fn provider(without: &[&str]) -> TestProvider {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        for (member, value) in [
            ("pushed_authorization_request_endpoint", json!(endpoint)),
            ("token_endpoint_auth_methods_supported", json!(["private_key_jwt"])),
            ("dpop_signing_alg_values_supported", json!(["ES256"])),
        ] {
            metadata.insert(member.into(), value);
        }
        for member in without {
            metadata.insert((*member).into(), Value::Null);
        }
    });
    provider
}

/// An app with a client key instead of a secret. The file lives as long as it.
fn client(provider: &TestProvider) -> (Tool, tempfile::NamedTempFile) {
    let key = Ed25519KeyPair::generate().unwrap();
    let pkcs8 = STANDARD.encode(key.to_pkcs8v1().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n"),
    )
    .unwrap();
    let mut tool = app(provider);
    tool.unset("OIDC_CLIENT_SECRET")
        .env("OIDC_PRIVATE_KEY_FILE", file.path().display().to_string());
    (tool, file)
}

fn of_profile<'r>(report: &'r Report, profile: &str) -> Vec<&'r Value> {
    report.checks.iter().filter(|check| check["check"] == profile).collect()
}

/// What failed of this profile.
fn failures(report: &Report, profile: &str) -> Vec<String> {
    let failed = of_profile(report, profile).into_iter();
    let failed = failed.filter(|check| check["verdict"] == "failure");
    failed
        .map(|check| check["finding"].as_str().unwrap().to_owned())
        .collect()
}

#[rocket::async_test]
async fn an_app_with_the_profile_meets_every_demand() {
    let provider = provider(&[]).await;
    let (mut tool, _key) = client(&provider);
    tool.env("OIDC_PROFILE", "fapi2");
    let report = tool.report(&["doctor", "--profile", "fapi2"]);
    assert_eq!(failures(&report, "fapi2"), [""; 0]);
    assert!(of_profile(&report, "fapi2").len() >= 15);
}

#[rocket::async_test]
async fn an_app_without_the_profile_sees_what_it_lacks() {
    let provider = provider(&["pushed_authorization_request_endpoint"]).await;
    let report = app(&provider).report(&["doctor", "--profile", "debug", "--profile", "fapi2"]);
    let failed = failures(&report, "fapi2");
    for expected in [
        "the client authenticates neither by a key nor by a certificate",
        "authorization requests are not pushed",
        "a stolen bearer token works for the thief",
        "`pushed_authorization_request_endpoint` in the metadata must be there (FAPI 2.0 §5.3.2.2, 2), and does not",
    ] {
        assert!(
            failed.iter().any(|finding| finding.ends_with(expected)),
            "{expected}: {failed:#?}"
        );
    }
    let warned = of_profile(&report, "fapi2")[0];
    assert_eq!(warned["verdict"], "warning");
    assert!(
        warned["remedy"]
            .as_str()
            .unwrap()
            .starts_with("set `profile = \"fapi2\"`")
    );
    // OAuth 2.1 has no such demands.
    let report = app(&provider).report(&["doctor", "--profile", "oauth21"]);
    assert_eq!(failures(&report, "oauth21"), [""; 0]);
}
