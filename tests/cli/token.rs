//! `rocket-oidc token`: the verdict of every check of the guard.

use rocket::{Config, figment::Figment, local::asynchronous::Client, tokio::task::block_in_place};
use rocket_openidconnect::Oidc;
use serde_json::{Value, json};

use crate::{
    support::{SigningKey, TestProvider},
    tool::{Report, Tool},
};

fn api(provider: &TestProvider) -> Tool {
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", provider.issuer())
        .env("OIDC_CLIENT_ID", "client")
        .env("OIDC_RESOURCE_SERVER_ONLY", "true")
        .env("OIDC_AUDIENCE", TestProvider::API);
    tool
}

/// All checks of a JWT, in order.
const OF_JWT: [&str; 13] = [
    "token",
    "typ",
    "alg",
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "cnf",
    "use",
    "sub",
    "signature",
    "scope",
];

#[rocket::async_test]
async fn a_good_token() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    let token = provider.access_token("notes:read", |_| {});
    let report = tool.report(&["token", &token]);
    assert_eq!(report.with("ok"), OF_JWT, "{report:#?}");
    assert_eq!(report.code, Some(0));
    let aud = report.check("aud");
    assert_eq!(
        (&aud["expected"], &aud["actual"]),
        (&json!(TestProvider::API), &aud["expected"])
    );
    assert_eq!(report.check("typ")["actual"], "at+jwt");
    assert_eq!(report.check("signature")["actual"], "by the key \"rsa-1\"");

    // From standard input, as people paste it; and never written.
    let pasted = format!("Authorization: Bearer {token}\n");
    for arguments in [&["token"][..], &["token", "-"]] {
        let ran = tool.run_with(arguments, &pasted);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(!ran.stdout.contains(signature) && !ran.stdout.contains('\u{1b}'));
    }
}

/// Each changes one thing, and is refused by the check of that name alone.
#[rocket::async_test]
async fn one_wrong_field() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    let now = provider.now();
    let issuer = provider.issuer();
    let refused = |name: &str, token: String| -> Value {
        let report = tool.report(&["token", &token]);
        assert_eq!(report.with("failure"), [name], "{report:#?}");
        assert_eq!(report.code, Some(1));
        report.check(name).clone()
    };

    let token = provider.access_token("", |jwt| jwt.set_header("typ", "logout+jwt"));
    let check = refused("typ", token);
    assert_eq!(
        check["finding"],
        "the token is of type \"logout+jwt\", expected \"at+jwt\", \"JWT\", \"JOSE\" or none"
    );

    let check = refused("iss", provider.access_token("", |jwt| jwt.set("iss", "https://evil")));
    assert_eq!(
        check["finding"],
        format!("the token is issued by \"https://evil\", expected one of [{issuer:?}]")
    );

    let check = refused("aud", provider.access_token("", |jwt| jwt.set("aud", "other")));
    assert_eq!(check["expected"], TestProvider::API);
    assert_eq!(check["actual"], "other");
    assert_eq!(
        check["remedy"],
        "ask the provider for a token for this API, or set `audience` to what it puts into `aud`"
    );

    let token = provider.access_token("", |jwt| jwt.set("exp", now - 3600));
    let finding = refused("exp", token)["finding"].to_string();
    assert!(finding.contains("the token expired at"), "{finding}");
    let token = provider.access_token("", |jwt| jwt.set("nbf", now + 3600));
    refused("nbf", token);
    let token = provider.access_token("", |jwt| jwt.set("iat", now + 3600));
    refused("iat", token);
    refused("use", provider.access_token("", |jwt| jwt.set("events", json!({}))));
    refused(
        "cnf",
        provider.access_token("", |jwt| jwt.set("cnf", json!({"jkt": "x"}))),
    );
    let token = provider.access_token("", |jwt| {
        jwt.remove("sub");
        jwt.remove("client_id");
    });
    refused("sub", token);
    let mut forged = provider.access_token("", |_| {});
    forged.replace_range(forged.len() - 8.., "AAAAAAAA");
    let check = refused("signature", forged);
    assert_eq!(check["finding"], "the RS256 signature of the token is wrong");
}

#[rocket::async_test]
async fn several_wrong_fields_are_all_said() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    let token = provider.access_token("notes:read", |jwt| {
        jwt.set("aud", "other");
        jwt.set("exp", 1);
    });
    let report = tool.report(&["token", &token, "--scope=notes:read notes:write"]);
    assert_eq!(report.with("failure"), ["aud", "exp", "scope"]);
    assert_eq!(
        report.check("scope")["finding"],
        "the access token has the scopes [\"notes:read\"], expected \"notes:read notes:write\""
    );
}

/// Each API of the app has an audience of its own.
#[rocket::async_test]
async fn a_token_is_judged_for_the_api_that_is_named() {
    let provider = TestProvider::start().await;
    let mut tool = api(&provider);
    let orders = "https://api.example.com/orders";
    tool.env("OIDC_APIS__ORDERS__RESOURCE", orders);
    let token = provider.access_token("", |jwt| jwt.set("aud", orders));
    let report = tool.report(&["token", &token, "--api=orders"]);
    assert_eq!(report.with("ok"), OF_JWT, "{report:#?}");
    assert_eq!(report.check("aud")["expected"], orders);
    let report = tool.report(&["token", &token]);
    assert_eq!(report.with("failure"), ["aud"]);
    let ran = tool.run(&["token", &token, "--api=stock"]);
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains("there is no API `oidc.apis.stock`"), "{ran:?}");
}

#[rocket::async_test]
async fn offline_nobody_is_asked() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    let token = provider.access_token("notes:read", |_| {});
    let now = provider.now();
    let jwk = |key: SigningKey| json!({ "keys": [key.jwk()] }).to_string();
    tool.write("jwks.json", &jwk(SigningKey::Rsa));
    tool.write("other.json", &jwk(SigningKey::Ec));
    provider.stop();

    let report = tool.report(&["token", &token, "--jwks=jwks.json"]);
    assert_eq!(report.with("ok"), OF_JWT, "{report:#?}");
    let later = (now + 3600).to_string();
    let report = tool.report(&["token", &token, "--jwks=jwks.json", "--now", &later]);
    assert_eq!(report.with("failure"), ["exp"]);
    let report = tool.report(&["token", &token, "--jwks=other.json"]);
    assert_eq!(report.with("failure"), ["signature"]);
    let report = tool.report(&["token", "opaque", "--jwks=jwks.json"]);
    assert_eq!(report.with("failure"), ["format"]);
    assert!(provider.requests().is_empty());

    // Without keys the provider would have to be there.
    let report = tool.report(&["token", &token]);
    assert_eq!(report.with("failure"), ["provider"]);
}

/// What only the metadata says is not said without it: an app accepts these, or not.
#[rocket::async_test]
async fn offline_what_the_metadata_decides_is_left_open() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    let issuer = provider.issuer();
    let keys = |keys: &[SigningKey]| {
        let keys: Vec<_> = keys.iter().map(SigningKey::jwk).collect();
        json!({ "keys": keys }).to_string()
    };
    tool.write("jwks.json", &keys(&[SigningKey::Rsa]));
    // An identity token of a job: no scope, no type, no client.
    let of_a_job = provider.access_token("", |jwt| {
        jwt.remove_header("typ");
        jwt.remove("scope");
        jwt.remove("client_id");
        jwt.set("sub", "repo:notes:ref:main");
    });
    let report = tool.report(&["token", &of_a_job, "--jwks=jwks.json"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.with("warning"), ["use"]);
    assert_eq!(report.code, Some(0));
    let check = report.check("use");
    assert_eq!(
        (&check["finding"], &check["remedy"]),
        (
            &json!(format!(
                "the metadata of {issuer} is not read (`--jwks`): it is accepted if that names no endpoint to sign in or get tokens at and no response type but `id_token`, else the token does not show that it is an access token, and `oidc.accepts` is \"access_tokens\""
            )),
            &json!("omit `--jwks`, so that the metadata is fetched"),
        )
    );
    // With the metadata it is decided, either way.
    let report = tool.report(&["token", &of_a_job]);
    assert_eq!(report.with("failure"), ["use"]);
    provider.metadata(|metadata| {
        for endpoint in ["authorization_endpoint", "token_endpoint"] {
            metadata.remove(endpoint);
        }
        metadata.insert("response_types_supported".to_owned(), json!(["id_token"]));
    });
    let report = tool.report(&["token", &of_a_job]);
    assert_eq!(report.with("ok"), OF_JWT, "{report:#?}");

    // An algorithm that metadata need not list, by a key that does not name it.
    let mut key = SigningKey::Ec.jwk();
    key.as_object_mut().unwrap().remove("alg");
    tool.write("jwks.json", &json!({ "keys": [key] }).to_string());
    let token = provider.access_token("notes:read", |jwt| jwt.sign_with(SigningKey::Ec));
    let report = tool.report(&["token", &token, "--jwks=jwks.json"]);
    assert_eq!(report.with("warning"), ["alg"], "{report:#?}");
    assert_eq!(
        report.check("alg")["finding"],
        format!("the metadata of {issuer} is not read (`--jwks`): it is accepted if that lists ES256")
    );
}

#[rocket::async_test]
async fn opaque_tokens_are_asked_about() {
    let provider = TestProvider::start().await;
    let mut tool = api(&provider);
    tool.env("OIDC_CLIENT_SECRET", "s")
        .env("OIDC_TOKEN_VALIDATION", "introspection");
    let token = provider.access_token("notes:read", |_| {});
    let report = tool.report(&["token", &token]);
    assert_eq!(report.with("ok"), ["token", "introspection", "scope"]);

    provider.revoke_access_tokens();
    let report = tool.report(&["token", &token]);
    assert_eq!(report.with("failure"), ["introspection"]);
    let check = report.check("introspection");
    assert_eq!(check["finding"], "the provider reports that the token is not active");
}

#[rocket::async_test]
async fn what_is_no_token() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    let report = tool.report(&["token", "two words"]);
    assert_eq!(report.with("failure"), ["token"]);
    let ran = tool.run_with(&["token"], " \n");
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stderr,
        "error: standard input contains no token\n       → pass the token as an argument, or write it to standard \
         input\n"
    );
    let ran = tool.run(&["token", "x", "--jwks=none.json"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("error: `none.json` cannot be read"),
        "{}",
        ran.stderr
    );
    let _: Report = tool.report(&["token", "e30.e30."]);
}

/// One opaque token of 64 begins like an option.
#[rocket::async_test]
async fn an_opaque_token_that_begins_with_a_hyphen() {
    let provider = TestProvider::start().await;
    let tool = api(&provider);
    for arguments in [&["token", "-vS3cret"][..], &["token", "-vS3cret", "--json"]] {
        let ran = tool.run(arguments);
        assert_eq!((ran.code, &*ran.stderr), (Some(1), ""), "{ran:?}");
    }
    assert_eq!(provider.count("/introspect"), 2);
}

/// A token of the development provider that an app has started, judged from beside it.
#[rocket::async_test]
async fn a_token_of_the_development_provider() {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.resource_server_only", true))
        .merge(("oidc.audience", TestProvider::API))
        .merge(("oidc.dev_provider.port", 0));
    let rocket = rocket::custom(figment).attach(Oidc::fairing());
    let app = Client::untracked(rocket).await.unwrap();
    let metadata = app.get("/.well-known/oauth-protected-resource").dispatch();
    let metadata: Value = metadata.await.into_json().await.unwrap();
    let issuer = metadata["authorization_servers"][0].as_str().unwrap();
    let reply = reqwest::Client::new()
        .post(format!("{issuer}/token"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&scope=x&client_id=dev-cli&client_secret=dev-cli")
        .send();
    let reply = reply.await.unwrap().text().await.unwrap();
    let reply: Value = serde_json::from_str(&reply).unwrap();

    let mut tool = Tool::new();
    let port = issuer.rsplit(':').next().unwrap();
    tool.env("OIDC_DEV_PROVIDER", format!("{{port={port}}}"))
        .env("OIDC_RESOURCE_SERVER_ONLY", "true")
        .env("OIDC_AUDIENCE", TestProvider::API);
    let token = reply["access_token"].as_str().unwrap();
    let report = block_in_place(|| tool.report(&["token", token]));
    assert_eq!(report.with("ok"), OF_JWT, "{report:#?}");
}

/// Of several, without `--provider`: the `iss` of the token says which.
#[rocket::async_test]
async fn a_token_of_one_of_several_development_providers() {
    let dev = json!({ "dev_provider": { "port": 0 } });
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.audience", TestProvider::API))
        .merge(("oidc.providers", json!({ "one": dev.clone(), "two": dev })));
    let rocket = rocket::custom(figment).attach(Oidc::fairing());
    let app = Client::untracked(rocket).await.unwrap();
    let mut tool = Tool::new();
    tool.env("OIDC_AUDIENCE", TestProvider::API);
    let mut tokens = vec![];
    for name in ["one", "two"] {
        let login = app.get(format!("/oidc/login/{name}")).dispatch().await;
        let location = login.headers().get_one("Location").unwrap();
        let issuer = location.split_once("/authorize?").unwrap().0;
        let port = issuer.rsplit(':').next().unwrap();
        let variable = format!("OIDC_PROVIDERS__{}__DEV_PROVIDER", name.to_uppercase());
        tool.env(&variable, format!("{{port={port}}}"));
        let reply = reqwest::Client::new()
            .post(format!("{issuer}/token"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials&scope=x&client_id=dev-cli&client_secret=dev-cli")
            .send();
        let reply = reply.await.unwrap().text().await.unwrap();
        let reply: Value = serde_json::from_str(&reply).unwrap();
        tokens.push(reply["access_token"].as_str().unwrap().to_owned());
    }
    for token in tokens {
        let report = block_in_place(|| tool.report(&["token", &token]));
        assert_eq!(report.with("ok"), OF_JWT, "{report:#?}");
    }
}
