//! `rocket-oidc keys`, and what `doctor` and `register` do with the client's keys.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    doctor::app,
    support::{Reply, TestProvider},
    tool::{Report, Tool},
};

const FILE: &str = "client_keys.json";

fn keys(tool: &Tool) -> Vec<Value> {
    let text = fs::read_to_string(tool.file(FILE)).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    document["keys"].as_array().unwrap().clone()
}

fn kids(keys: &[Value]) -> Vec<&str> {
    keys.iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

/// As the app publishes a key.
fn published(key: &Value) -> Value {
    let mut key = key.clone();
    for member in ["d", "iat", "nbf"] {
        key.as_object_mut().unwrap().remove(member);
    }
    key
}

fn set_mode(path: &Path, mode: u32) {
    #[cfg(unix)]
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_file_is_readable_by_its_owner_alone_and_never_overwritten() {
    let tool = Tool::new();
    let ran = tool.run(&["keys", "new"]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{ran:?}");
    let made = keys(&tool);
    let [key] = &made[..] else { panic!("{made:?}") };
    let members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "d", "iat", "kid", "kty", "use", "x", "y"]);
    assert_eq!((&key["alg"], &key["use"]), (&json!("ES256"), &json!("sig")));
    let kid = key["kid"].as_str().unwrap();
    assert!(
        ran.stdout
            .starts_with(&format!("wrote {FILE} with the key {kid} (ES256)\n")),
        "{ran:?}"
    );
    assert!(
        ran.stdout.contains("private_key_file = \"client_keys.json\""),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains(key["d"].as_str().unwrap()));
    assert_eq!(tool.files(), [FILE]);
    #[cfg(unix)]
    assert_eq!(mode(&tool.file(FILE)), 0o600);

    let again = tool.run(&["keys", "new"]);
    assert_eq!(again.code, Some(1));
    assert_eq!(
        again.stderr,
        "error: `client_keys.json` already exists, and is never overwritten\n       → choose another `--output`, or \
         roll over its key with `rocket-oidc keys rotate`\n"
    );
    assert_eq!(keys(&tool), made);
    assert_eq!(tool.files(), [FILE]);
}

#[test]
fn keys_of_each_algorithm_are_generated() {
    let tool = Tool::new();
    for (alg, kty) in [
        ("ES256", "EC"),
        ("ES384", "EC"),
        ("EdDSA", "OKP"),
        ("RS256", "RSA"),
        ("PS256", "RSA"),
    ] {
        let output = format!("{alg}.json");
        let ran = tool.run(&["keys", "new", "--alg", alg, "--output", &output]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let text = fs::read_to_string(tool.file(&output)).unwrap();
        let key = &serde_json::from_str::<Value>(&text).unwrap()["keys"][0];
        assert_eq!((&key["alg"], &key["kty"]), (&json!(alg), &json!(kty)));
    }
    assert_eq!(tool.run(&["keys", "new", "--alg", "HS256"]).code, Some(2));
}

#[test]
fn a_roll_over_has_three_steps() {
    let tool = Tool::new();
    tool.run(&["keys", "new"]);
    set_mode(&tool.file(FILE), 0o640);
    let first = keys(&tool).remove(0);
    let rotate = || {
        let ran = tool.run(&["keys", "rotate", FILE, "--now"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(tool.files(), [FILE]);
        #[cfg(unix)]
        assert_eq!(mode(&tool.file(FILE)), 0o640);
        ran.stdout
    };

    let said = rotate();
    let [old, next] = &keys(&tool)[..] else {
        panic!("{said}")
    };
    assert_eq!(old, &first);
    assert!(next.get("d").is_some());
    assert_eq!(next["alg"], "ES256");
    let (old_kid, new_kid) = (old["kid"].as_str().unwrap(), next["kid"].as_str().unwrap());
    let done = format!("step 1 of 3: the key {new_kid} is published; {old_kid} still signs\n");
    assert!(said.starts_with(&done), "{said}");

    let said = rotate();
    let now = keys(&tool);
    assert_eq!(kids(&now), [new_kid, old_kid]);
    assert!(now[0].get("d").is_some());
    assert_eq!(published(&now[1]), published(&first));
    assert_eq!(now[1].get("d"), None);
    let done = format!("step 2 of 3: the key {new_kid} signs; of {old_kid} only the public part is left\n");
    assert!(said.starts_with(&done), "{said}");

    let said = rotate();
    assert_eq!(kids(&keys(&tool)), [new_kid]);
    let done = format!("step 3 of 3: removed {old_kid}; {new_kid} signs\n");
    assert!(said.starts_with(&done), "{said}");
}

#[test]
fn a_step_too_early_changes_nothing() {
    let tool = Tool::new();
    tool.run(&["keys", "new"]);
    assert_eq!(tool.run(&["keys", "rotate", FILE]).code, Some(0));
    let before = fs::read(tool.file(FILE)).unwrap();
    let ran = tool.run(&["keys", "rotate", FILE]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(" was published 0 minutes ago"), "{ran:?}");
    assert_eq!(fs::read(tool.file(FILE)).unwrap(), before);
    assert_eq!(tool.files(), [FILE]);
}

#[test]
fn files_that_cannot_be_rolled_over_stay_as_they_are() {
    let tool = Tool::new();
    tool.run(&["keys", "new"]);
    let key = keys(&tool).remove(0);
    let secret = key["d"].as_str().unwrap().to_owned();
    let mut broken = key.clone();
    broken["x"] = "hush".into();
    for (text, cause) in [
        (key.to_string(), "is not a JWK Set"),
        ("-----BEGIN PRIVATE KEY-----".to_owned(), "is not a JWK Set"),
        (json!({ "keys": [broken] }).to_string(), "of the JWK Set is not usable"),
        (
            json!({ "keys": [published(&key)] }).to_string(),
            "no key of the JWK Set can sign",
        ),
    ] {
        tool.write(FILE, &text);
        let ran = tool.run(&["keys", "rotate", FILE]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(cause), "{ran:?}");
        assert!(!ran.stderr.contains(&secret), "{ran:?}");
        assert_eq!(fs::read_to_string(tool.file(FILE)).unwrap(), text);
        assert_eq!(tool.files(), [FILE]);
    }
    let ran = tool.run(&["keys", "rotate", "nowhere.json"]);
    assert!(ran.stderr.contains("`nowhere.json` cannot be read"), "{ran:?}");
    // Another process is at it.
    tool.write(FILE, &json!({ "keys": [key] }).to_string());
    tool.write(".client_keys.json.draft", "");
    let ran = tool.run(&["keys", "rotate", FILE]);
    assert!(ran.stderr.contains("another `rocket-oidc keys` is running"), "{ran:?}");
    assert_eq!(kids(&keys(&tool)), [key["kid"].as_str().unwrap()]);
}

/// An app with a key file, whose public URL leads to what the provider answers at `/oidc/jwks.json`.
fn app_with_keys(provider: &TestProvider) -> Tool {
    let mut tool = app(provider);
    tool.run(&["keys", "new"]);
    tool.unset("OIDC_CLIENT_SECRET")
        .env("OIDC_PRIVATE_KEY_FILE", FILE)
        .env("OIDC_BASE_URL", provider.issuer());
    tool
}

fn publish(provider: &TestProvider, keys: &[Value]) {
    provider.on_path("/oidc/jwks.json", Reply::json(json!({ "keys": keys })));
}

fn finding<'r>(report: &'r Report, check: &str) -> (&'r str, &'r str) {
    let check = report.check(check);
    let text = |member: &str| check[member].as_str().unwrap();
    (text("verdict"), text("finding"))
}

#[rocket::async_test]
async fn the_doctor_checks_file_algorithm_and_publication() {
    let provider = TestProvider::start().await;
    let listed = "token_endpoint_auth_signing_alg_values_supported";
    provider.metadata(|it| drop(it.insert(listed.into(), json!(["RS256", "ES256"]))));
    let tool = app_with_keys(&provider);
    let made = keys(&tool);
    let kid = made[0]["kid"].as_str().unwrap();
    publish(&provider, &[published(&made[0])]);
    let report = tool.report(&["doctor"]);
    assert_eq!(
        finding(&report, "client key file"),
        ("ok", "`client_keys.json` is readable, and not by every user")
    );
    assert_eq!(
        finding(&report, "client key algorithm"),
        ("ok", "ES256, which the provider lists")
    );
    let url = format!("{}/oidc/jwks.json", provider.issuer());
    let (verdict, found) = finding(&report, "client keys");
    assert_eq!((verdict, found), ("ok", &*format!("{url} has the active key {kid}")));

    // The app still has the keys of its last launch.
    publish(&provider, &[]);
    let report = tool.report(&["doctor"]);
    let (verdict, found) = finding(&report, "client keys");
    assert_eq!(
        (verdict, found),
        ("failure", &*format!("{url} lacks the active key {kid}"))
    );

    provider.on_path("/oidc/jwks.json", Reply::status(404));
    let report = tool.report(&["doctor"]);
    let (verdict, found) = finding(&report, "client keys");
    assert_eq!(
        (verdict, found),
        ("failure", &*format!("{url} responds with status 404"))
    );

    publish(&provider, &[published(&made[0])]);
    set_mode(&tool.file(FILE), 0o644);
    #[cfg(unix)]
    {
        let report = tool.report(&["doctor"]);
        let (verdict, found) = finding(&report, "client key file");
        let expected = "every user of this machine may read or change `client_keys.json`";
        assert_eq!((verdict, found), ("failure", expected));
        set_mode(&tool.file(FILE), 0o600);
    }
}

#[rocket::async_test]
async fn the_doctor_names_an_algorithm_that_the_provider_does_not_list() {
    let provider = TestProvider::start().await;
    let listed = "token_endpoint_auth_signing_alg_values_supported";
    provider.metadata(|it| drop(it.insert(listed.into(), json!(["RS256", "PS256"]))));
    let tool = app_with_keys(&provider);
    publish(&provider, &[published(&keys(&tool)[0])]);
    let report = tool.report(&["doctor"]);
    report.fails_at(
        "client key algorithm",
        &format!("the active key signs with ES256, and `{listed}` in the metadata lacks it"),
        "generate a key for one of RS256, PS256: `rocket-oidc keys new --alg …`",
    );
}

#[rocket::async_test]
async fn a_client_is_registered_with_the_place_of_its_keys_or_with_the_keys() {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/register", provider.issuer());
    provider.metadata(|it| drop(it.insert("registration_endpoint".into(), json!(endpoint))));
    let reply = json!({ "client_id": "c1", "token_endpoint_auth_method": "private_key_jwt" });
    provider.on_path("/register", Reply::json(reply).with_status(201));
    let tool = Tool::new();
    tool.run(&["keys", "new"]);
    let key = keys(&tool).remove(0);
    let issuer = provider.issuer();
    let register = |arguments: &[&str]| {
        let ran = tool.run(&[&["register", &issuer, "--force", "--client-keys", FILE], arguments].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stdout.contains("\nprivate_key_file = \"client_keys.json\"\n"),
            "{ran:?}"
        );
        assert!(!ran.stderr.contains("no client secret"), "{ran:?}");
        assert!(!ran.stdout.contains(key["d"].as_str().unwrap()));
        let body = provider.last_request("/register").body;
        assert!(!body.contains(key["d"].as_str().unwrap()), "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let body = register(&["https://app.example"]);
    assert_eq!(body["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(body["token_endpoint_auth_signing_alg"], "ES256");
    assert_eq!(body["jwks_uri"], "https://app.example/oidc/jwks.json");
    assert_eq!(body.get("jwks"), None);

    let body = register(&["https://app.example/team/", "--provider", "acme"]);
    assert_eq!(body["jwks_uri"], "https://app.example/team/oidc/jwks.json/acme");

    let body = register(&["http://localhost:8000"]);
    assert_eq!(body.get("jwks_uri"), None);
    assert_eq!(body["jwks"], json!({ "keys": [published(&key)] }));

    let ran = tool.run(&[
        "register",
        &issuer,
        "https://app.example",
        "--force",
        "--client-keys",
        "nowhere.json",
    ]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("`nowhere.json` cannot be read"), "{ran:?}");
}
