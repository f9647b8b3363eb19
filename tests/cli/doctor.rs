//! `rocket-oidc doctor`: green when all is well, and red at one place with its remedy after one change.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use rocket_openidconnect::__private::SessionCookies;
use serde_json::json;
use time::{OffsetDateTime, macros::format_description};

use crate::{
    support::{GitHub, Reply, SigningKey, TestProvider, message},
    tool::{Report, Tool},
};

pub const SECRET: &str = "doctor-secret-0123456789";

/// An app that is registered at this provider.
pub fn app(provider: &TestProvider) -> Tool {
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", provider.issuer())
        .env("OIDC_CLIENT_ID", "client")
        .env("OIDC_CLIENT_SECRET", SECRET);
    provider.metadata(|metadata| drop(metadata.remove("backchannel_logout_supported")));
    tell_time(provider, 0);
    tool
}

/// Has the provider say what time it has: that many seconds ahead of this machine.
pub fn tell_time(provider: &TestProvider, ahead: i64) {
    let mut document = None;
    provider.metadata(|metadata| document = Some(json!(metadata)));
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let date = OffsetDateTime::now_utc() + time::Duration::seconds(ahead);
    let reply = Reply::json(document.unwrap());
    let reply = reply.with_header("Date", &date.format(format).unwrap());
    provider.on_path(TestProvider::DISCOVERY, reply);
}

#[rocket::async_test]
async fn an_app_that_can_sign_in_is_green() {
    let provider = TestProvider::start().await;
    let report = app(&provider).report(&["doctor"]);
    assert_eq!(
        report.with("ok"),
        [
            "settings",
            "secret_key",
            "cookies",
            "session store",
            "session size",
            "connection",
            "metadata",
            "clock",
            "keys",
            "supported",
            "redirect URI",
            "scopes",
            "UserInfo",
            "sign-out",
            "back-channel logout",
            "client authentication",
            "revocation",
            "introspection",
        ]
    );
    // What liftoff says too: plain http.
    assert_eq!(report.with("warning"), ["insecure"]);
    assert_eq!(report.code, Some(0));

    // It asked what only a client is asked, and in the way that sign-in does.
    let request = provider.last_request("/token");
    assert_eq!(request.basic(), Some(("client".into(), SECRET.into())));
    assert_eq!(request.form_value("grant_type"), Some("authorization_code"));
    let request = provider.last_request("/authorize");
    assert_eq!(request.query_value("prompt"), Some("none"));
}

#[test]
fn the_development_provider_is_green() {
    let mut tool = Tool::new();
    tool.env("OIDC_DEV_PROVIDER", "true");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.with("warning"), ["insecure"]);
    let found = &report.check("client authentication")["finding"];
    assert_eq!(found, "`dev-client` and its secret are accepted (client_secret_basic)");
    let found = &report.check("redirect URI")["finding"];
    assert_eq!(found, "http://localhost:8000/oidc/authorize");
}

#[rocket::async_test]
async fn a_table_without_colours_and_secrets() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    provider.on_path("/token", Reply::error(401, "invalid_client", "no"));
    let ran = tool.run(&["doctor"]);
    assert_eq!(ran.code, Some(1));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "✓ settings               read for the profile `debug` from the environment only; there is no Rocket.toml in \
         this directory"
    );
    assert_eq!(
        lines[lines.len() - 4..],
        [
            "✗ client authentication  the provider's token endpoint rejected the request with `invalid_client`: no (client_secret_basic)",
            "                         → check `oidc.client_id`, `oidc.client_secret` and \
             `oidc.token_endpoint_auth_method`",
            "  not checked because of the failures above: revocation, introspection",
            "15 ok, warnings: 1, failures: 1",
        ]
    );
    assert_eq!(ran.stderr, "");
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stdout.contains(SECRET));

    // Nor is a wrong setting shown that is a secret.
    tool.env("OIDC_CLIENT_SECRETS", format!("{{web={{client_secret={SECRET}"));
    let ran = tool.run(&["doctor"]);
    assert_eq!(ran.code, Some(1));
    assert!(!ran.stdout.contains(SECRET), "{}", ran.stdout);
}

#[rocket::async_test]
async fn a_wrong_secret() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    provider.on_path("/token", Reply::error(401, "invalid_client", "no"));
    let report = tool.report(&["doctor"]);
    report.fails_at(
        "client authentication",
        "the provider's token endpoint rejected the request with `invalid_client`: no (client_secret_basic)",
        "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`",
    );
    assert_eq!(report.not_checked, ["revocation", "introspection"]);
}

/// Keycloak and Auth0 have other codes for it than RFC 6749; the status is the standard's.
#[rocket::async_test]
async fn a_wrong_secret_by_the_status_alone() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    for code in ["unauthorized_client", "access_denied"] {
        provider.on_path("/token", Reply::error(401, code, "no"));
        let report = tool.report(&["doctor"]);
        report.fails_at(
            "client authentication",
            &format!("the provider's token endpoint rejected the request with `{code}`: no (client_secret_basic)"),
            "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`",
        );
        assert_eq!(report.not_checked, ["revocation", "introspection"]);
    }
    provider.on_path("/token", Reply::error(400, "unauthorized_client", "no"));
    tool.report(&["doctor"]).fails_at(
        "client authentication",
        "the provider's token endpoint rejected the request with `unauthorized_client`: no",
        "allow the grant type `authorization_code` for this client at the provider",
    );
}

/// `none` is no way to authenticate, and not every provider with public clients lists it.
#[rocket::async_test]
async fn a_public_client_where_none_is_not_listed() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        let listed = json!(["client_secret_basic", "private_key_jwt"]);
        metadata.insert("token_endpoint_auth_methods_supported".into(), listed);
    });
    let mut tool = app(&provider);
    tool.unset("OIDC_CLIENT_SECRET");
    let report = tool.report(&["doctor"]);
    assert_eq!(
        report.check("supported")["finding"],
        "the code flow, PKCE with S256, none"
    );
    // A way that is needed and not there is told.
    tool.env("OIDC_CLIENT_SECRET", SECRET);
    tool.env("OIDC_TOKEN_ENDPOINT_AUTH_METHOD", "client_secret_post");
    let report = tool.report(&["doctor"]);
    assert_eq!(
        report.check("supported")["finding"],
        "`token_endpoint_auth_methods_supported` in the metadata lacks `client_secret_post`"
    );
}

/// As LinkedIn: what the app does not send is not missed.
#[rocket::async_test]
async fn a_provider_without_pkce() {
    let provider = TestProvider::start().await;
    provider.refuse_pkce();
    provider.metadata(|metadata| drop(metadata.insert("code_challenge_methods_supported".into(), json!(["plain"]))));
    let mut tool = app(&provider);
    let report = tool.report(&["doctor"]);
    assert_eq!(
        report.check("supported")["finding"],
        "`code_challenge_methods_supported` in the metadata lacks `S256`"
    );
    tool.env("OIDC_INSECURE_OMIT_PKCE", "true");
    let report = tool.report(&["doctor"]);
    assert_eq!(
        report.check("supported")["finding"],
        "the code flow, without PKCE, client_secret_basic"
    );
}

/// Keycloak's code for it where requests are pushed; what is told is of the way that the client authenticates in.
#[rocket::async_test]
async fn wrong_credentials_where_requests_are_pushed() {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        let member = "pushed_authorization_request_endpoint";
        metadata.insert(member.into(), endpoint.into());
    });
    let mut tool = app(&provider);
    tool.env("OIDC_PUSHED_AUTHORIZATION_REQUESTS", "true");
    let reply = Reply::error(401, "invalid_request", "Authentication failed.");
    provider.on_path("/par", reply);
    let finding = "the provider's pushed authorization request endpoint rejected the request with `invalid_request`: Authentication failed.";
    tool.report(&["doctor"]).fails_at(
        "pushed request",
        finding,
        "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`",
    );

    tool.unset("OIDC_CLIENT_SECRET");
    let key = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let key = STANDARD.encode(key);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    tool.write("key.pem", &pem);
    tool.env("OIDC_PRIVATE_KEY_FILE", "key.pem");
    let report = tool.report(&["doctor"]);
    let check = report.check("pushed request");
    assert_eq!(check["finding"], finding, "{report:#?}");
    assert_eq!(
        check["remedy"],
        "register the public part of `oidc.private_key_file` at the provider, and compare \
         `oidc.private_key_id` and `oidc.client_assertion_audience` with its requirements"
    );

    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = STANDARD.encode(key.to_pkcs8v1().unwrap());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    tool.write("key.pem", &pem);
    tool.env("OIDC_PRIVATE_KEY_ID", "F6G7H8I9J0");
    tool.env("OIDC_CLIENT_SECRET_ISSUER", "A1B2C3D4E5");
    let report = tool.report(&["doctor"]);
    let check = report.check("pushed request");
    assert_eq!(check["finding"], finding, "{report:#?}");
    assert_eq!(
        check["remedy"],
        "compare `oidc.client_id`, `oidc.client_secret_issuer`, `oidc.private_key_id` and `oidc.private_key_file` \
         with the provider's console"
    );
}

#[rocket::async_test]
async fn a_client_whose_requests_must_be_pushed() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    let back = "http://localhost:8000/oidc/authorize?error=invalid_request&\
                error_description=Pushed+Authorization+Request+is+only+allowed.&state=x";
    provider.on_path("/authorize", Reply::redirect(back));
    tool.report(&["doctor"]).fails_at(
        "authorization",
        "http://localhost:8000/oidc/authorize is registered, but the request is rejected: \
         `invalid_request`: Pushed Authorization Request is only allowed.",
        "set `oidc.pushed_authorization_requests = true`: the provider accepts this client's \
         requests only when they are pushed",
    );
}

#[rocket::async_test]
async fn a_wrong_redirect_uri() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    let page = Reply::text("text/html", "<h1>redirect_uri_mismatch</h1>");
    provider.on_path("/authorize", page.with_status(400));
    tool.report(&["doctor"]).fails_at(
        "redirect URI",
        "http://localhost:8000/oidc/authorize is rejected: the authorization endpoint responds with status 400, and \
         its page contains `redirect_uri_mismatch`",
        "register exactly this redirect URI for `client` (`rocket-oidc register --update`, or the provider's \
         console), or change `base_url`, `mount` or `overwrite_redirect_uri` to match a registered one",
    );
}

#[rocket::async_test]
async fn a_scope_that_is_refused() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    let back = "http://localhost:8000/oidc/authorize?error=invalid_scope&state=x";
    provider.on_path("/authorize", Reply::redirect(back));
    tool.report(&["doctor"]).fails_at(
        "authorization",
        "http://localhost:8000/oidc/authorize is registered, but the request is rejected: \
         `invalid_scope`",
        "compare the client's registration with `scopes` and `extra_authorization_parameters`",
    );
}

#[rocket::async_test]
async fn a_wrong_issuer() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    let issuer = provider.issuer();
    tool.env("OIDC_ISSUER", format!("{issuer}/"));
    tool.report(&["doctor"]).fails_at(
        "metadata",
        &format!("the metadata's issuer is `{issuer}`, expected `{issuer}/`"),
        &format!("set `oidc.issuer` to `{issuer}` if that is the intended provider"),
    );
    let elsewhere = format!("{issuer}/realms/x");
    tool.env("OIDC_ISSUER", &elsewhere);
    tool.report(&["doctor"]).fails_at(
        "metadata",
        &format!(
            "the provider's metadata responded with status 404 (at \
             {elsewhere}/.well-known/openid-configuration)"
        ),
        "correct `oidc.issuer`, or set `oidc.server_metadata_url` to the URL of the metadata",
    );
}

#[rocket::async_test]
async fn plain_http_in_release() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_BASE_URL", "http://app.example")
        .env("ROCKET_SECRET_KEY", "a".repeat(64));
    let report = tool.report(&["doctor", "--profile", "release"]);
    report.fails_at(
        "settings",
        "`oidc.base_url` in environment variable OIDC_BASE_URL: `http://app.example/` is not \
         `https`",
        "use a URL with `https`; plain `http` is accepted only on loopback and in the debug profile",
    );
    assert_eq!(report.not_checked, ["the provider", "the app"]);
}

#[rocket::async_test]
async fn no_secret_key_in_release() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_BASE_URL", "https://app.example")
        .env("ROCKET_PROFILE", "release");
    tool.report(&["doctor"]).fails_at(
        "secret_key",
        "`secret_key` is missing: outside of the debug profile Rocket does not launch without one",
        "set ROCKET_SECRET_KEY to the output of `openssl rand -base64 32`",
    );
    tool.env("ROCKET_SECRET_KEY", "a".repeat(64));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    let keys = SessionCookies::new(&"a".repeat(64), &provider.issuer(), "client").unwrap();
    let tag = keys.client_tag();
    assert_eq!(
        report.check("cookies")["finding"],
        format!("__Host-oidc_session_{tag}; HttpOnly; SameSite=Lax; Secure; Path=/, for https://app.example")
    );
}

/// An API keeps no session.
#[rocket::async_test]
async fn an_api_needs_no_secret_key_in_release() {
    let provider = TestProvider::start().await;
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", provider.issuer())
        .env("OIDC_AUDIENCE", "notes-api")
        .env("OIDC_RESOURCE_SERVER_ONLY", "true")
        .env("ROCKET_PROFILE", "release");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    assert_eq!(
        report.check("secret_key")["finding"],
        "not set; an API does not need one"
    );
    // There are no credentials to try there.
    assert_eq!(provider.count("/introspect"), 0);
}

#[rocket::async_test]
async fn a_stopped_provider() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    provider.stop();
    let report = tool.report(&["doctor"]);
    report.fails_at(
        "connection",
        &format!(
            "the provider's metadata is not reachable: Connection refused (os error 111) (at {}{})",
            provider.issuer(),
            TestProvider::DISCOVERY,
        ),
        "start the provider, or correct host and port in `oidc.issuer`",
    );
    let rest = ["keys", "clock", "registration", "endpoints", "scopes"];
    assert_eq!(report.not_checked, rest);
}

/// A server is there: it is not an outage.
#[rocket::async_test]
async fn a_provider_that_does_not_speak_tls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
        }
    });
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_ISSUER", format!("https://{address}"));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["connection"]);
    let found = report.check("connection");
    let finding = found["finding"].as_str().unwrap();
    assert!(finding.contains(" responds, but TLS fails: "), "{finding}");
    let remedy = "correct `oidc.issuer`: the server at this port does not speak TLS";
    assert_eq!(found["remedy"], remedy);
}

#[rocket::async_test]
async fn a_post_logout_address_that_is_not_registered() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    tool.report(&["doctor"]).check("sign-out");
    let asked = provider.last_request("/end_session");
    assert_eq!(asked.query_value("client_id"), Some("client"));
    let address = asked.query_value("post_logout_redirect_uri").unwrap().to_owned();

    provider.on_path(
        "/end_session",
        Reply::error(400, "invalid_request", "post_logout_redirect_uri not registered"),
    );
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("warning"), ["insecure", "sign-out"]);
    let finding = report.check("sign-out")["finding"].as_str().unwrap().to_owned();
    assert!(
        finding.starts_with(&format!("{address} is rejected (status 400)")),
        "{finding}"
    );

    // A provider that wants an ID token first says nothing about the address.
    provider.on_path(
        "/end_session",
        Reply::error(400, "invalid_request", "id_token_hint is missing"),
    );
    assert_eq!(tool.report(&["doctor"]).with("warning"), ["insecure"]);
}

#[test]
fn a_name_that_nobody_has() {
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", "https://op.invalid")
        .env("OIDC_CLIENT_ID", "client");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["name"]);
    assert_eq!(
        report.check("name")["remedy"],
        "correct the host in `https://op.invalid/.well-known/openid-configuration`, or fix name resolution"
    );
}

#[rocket::async_test]
async fn a_moved_clock() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    for (ahead, verdict) in [(-30, "warning"), (30, "warning"), (-600, "failure")] {
        tell_time(&provider, ahead);
        let report = tool.report(&["doctor"]);
        assert_eq!(report.check("clock")["verdict"], verdict, "{ahead}");
    }
    tell_time(&provider, 600);
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["clock"]);
    let finding = report.check("clock")["finding"].as_str().unwrap();
    assert!(
        finding
            .contains("s behind the provider's, and `clock_skew` allows 60 s: tokens look expired, or not valid yet"),
        "{finding}"
    );
    assert_eq!(report.check("clock")["remedy"], "synchronise both clocks (NTP)");
}

/// Many send none, which nobody can change.
#[rocket::async_test]
async fn a_provider_that_does_not_tell_the_time() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    let mut document = None;
    provider.metadata(|metadata| document = Some(json!(metadata)));
    provider.on_path(TestProvider::DISCOVERY, Reply::json(document.unwrap()));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.check("clock")["verdict"], "ok", "{report:#?}");
    assert_eq!(
        report.check("clock")["finding"],
        "not compared: the provider's response has no `Date`"
    );
}

/// A key for encryption beside those that sign is as it should be.
#[rocket::async_test]
async fn keys_for_encryption_are_not_worth_a_look() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    let mut encryption = SigningKey::Rsa.jwk();
    encryption["use"] = json!("enc");
    encryption["alg"] = json!("RSA-OAEP");
    // Without `use`, the algorithm says so.
    let mut wrapping = encryption.clone();
    wrapping.as_object_mut().unwrap().remove("use");
    let agreement = json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "agreement" });
    provider.on_jwks(move |reply| {
        let keys = [
            encryption.clone(),
            wrapping.clone(),
            agreement.clone(),
            SigningKey::Ec.jwk(),
        ];
        *reply = Reply::json(json!({ "keys": keys }));
    });
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("warning"), ["insecure"], "{report:#?}");
}

#[rocket::async_test]
async fn keys_that_cannot_be_used() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    provider.on_jwks(|reply| {
        *reply = Reply::json(json!({ "keys": [
            SigningKey::Ec.jwk(),
            { "kty": "oct", "kid": "mac", "k": "AAAA" },
        ]}));
    });
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0));
    assert_eq!(
        report.check("keys")["finding"],
        "the key \"mac\" is not used: the key type \"oct\" holds a shared secret, not a public key"
    );

    provider.on_jwks(|reply| *reply = Reply::json(json!({ "keys": [] })));
    tool.report(&["doctor"]).fails_at(
        "keys",
        "0 usable keys, but none for the expected algorithms: RS256, PS256, ES256, EdDSA",
        "publish the signing keys at the provider, or correct `id_token_signing_algs`",
    );
}

#[rocket::async_test]
async fn scopes_that_the_provider_does_not_list() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_SCOPES", "openid notes:read");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("warning"), ["insecure", "scopes"]);
    let finding = &report.check("scopes")["finding"];
    assert_eq!(finding, "the provider does not list notes:read");
}

#[rocket::async_test]
async fn a_session_store_that_is_down() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_SESSION__STORE", "redis")
        .env("OIDC_SESSION__STORE_URL", "redis://:hush@127.0.0.1:1");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["session store"]);
    assert_eq!(
        report.check("session store")["remedy"],
        "check that the session store at `oidc.session.store_url` is running and that this machine can reach it"
    );
    assert!(!format!("{report:?}").contains("hush"));
}

#[rocket::async_test]
async fn backchannel_logout_is_tried_at_the_app() {
    let provider = TestProvider::start().await;
    let app_there = TestProvider::start().await;
    let mut tool = app(&provider);
    provider.clear_path(TestProvider::DISCOVERY);
    provider.metadata(|it| drop(it.insert("backchannel_logout_supported".into(), json!(true))));
    tell_time(&provider, 0);
    tool.env("OIDC_BASE_URL", app_there.issuer());
    let url = format!("{}/oidc/backchannel-logout", app_there.issuer());

    app_there.on_path("/oidc/backchannel-logout", Reply::status(400));
    let report = tool.report(&["doctor"]);
    let finding = &report.check("back-channel logout")["finding"];
    assert_eq!(*finding, format!("the app responds at {url}"));
    assert_eq!(app_there.last_request("/oidc/backchannel-logout").method, "POST");

    app_there.clear_path("/oidc/backchannel-logout");
    tool.report(&["doctor"]).fails_at(
        "back-channel logout",
        &format!("{url} responds with status 404, expected the app's 400"),
        "check `base_url`, `mount`, and that the proxy in front of the app forwards POST requests to this path",
    );

    app_there.stop();
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0));
    let finding = &report.check("back-channel logout")["finding"];
    let cause = "Connection refused (os error 111)";
    assert_eq!(*finding, format!("no response from {url}: {cause}"));
}

#[rocket::async_test]
async fn a_proxy_that_does_with_the_path_what_the_settings_do_not_say() {
    let provider = TestProvider::start().await;
    let app_there = TestProvider::start().await;
    let mut tool = app(&provider);
    let url = format!("{}/team/oidc/logged-out", app_there.issuer());
    tool.env("OIDC_BASE_URL", format!("{}/team", app_there.issuer()));
    for (strips, how, remedy) in [
        (
            "false",
            "kept",
            "if the proxy removes `/team`, set `proxy_strips_path = true`; otherwise check that it forwards this URL to the app",
        ),
        (
            "true",
            "stripped",
            "if the proxy keeps `/team`, remove `proxy_strips_path`; otherwise check that it forwards this URL to the app",
        ),
    ] {
        tool.env("OIDC_PROXY_STRIPS_PATH", strips);
        app_there.on_path("/team/oidc/logged-out", Reply::redirect("/team/"));
        let report = tool.report(&["doctor"]);
        assert_eq!(report.code, Some(0), "{report:#?}");
        let finding = &report.check("path")["finding"];
        assert_eq!(
            *finding,
            format!("the app responds at {url}; its proxy is expected to have {how} `/team`")
        );
        // Not of the app: its proxy has a sign-in of its own, or the host redirects.
        for (reply, answer) in [
            (Reply::status(404), "status 404"),
            (Reply::redirect("/login?from=/team/"), "a redirect to /login"),
            (Reply::status(200), "status 200"),
            (Reply::status(302), "status 302"),
        ] {
            app_there.on_path("/team/oidc/logged-out", reply);
            let finding = format!("{url} responds with {answer}, expected a redirect to /team/");
            tool.report(&["doctor"]).fails_at("path", &finding, remedy);
        }
    }
}

#[rocket::async_test]
async fn metadata_below_the_path_of_the_app() {
    let provider = TestProvider::start().await;
    let api = TestProvider::start().await;
    let mut tool = app(&provider);
    let base_url = format!("{}/team", api.issuer());
    tool.env("OIDC_BASE_URL", &base_url).env("OIDC_RESOURCE", &base_url);
    api.on_path("/team/oidc/logged-out", Reply::redirect("/team/"));
    let document = Reply::json(json!({ "resource": base_url }));
    api.on_path("/team/.well-known/oauth-protected-resource", document.clone());
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    let standard = "/.well-known/oauth-protected-resource/team";
    let found = format!("{report:?}");
    let remedy = format!("configure the proxy to forward {standard} to the app unchanged");
    assert!(found.contains(&remedy), "{found}");

    api.on_path(standard, document);
    let found = format!("{:?}", tool.report(&["doctor"]));
    assert!(!found.contains(&remedy), "{found}");
}

#[rocket::async_test]
async fn settings_come_from_where_the_fairing_has_them() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.write(
        "Rocket.toml",
        "[default.oidc]\nscopes = \"openid\"\n[staging.oidc]\nscopes = \"openid email\"\nissuer = 7\n",
    );
    // The environment goes before the file, and is not asked what the file gets wrong elsewhere.
    let report = tool.report(&["doctor", "--profile", "debug"]);
    assert_eq!(report.check("scopes")["finding"], "openid");
    let finding = report.check("settings")["finding"].as_str().unwrap();
    assert!(finding.contains("Rocket.toml` and the environment"), "{finding}");

    // A variable that is no setting is told, as at launch.
    tool.env("OIDC_CLIENTID", "x");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("warning"), ["settings", "insecure"]);
    assert_eq!(
        report.check("settings")["finding"],
        "environment variable OIDC_CLIENTID is ignored: there is no setting `oidc.clientid`; the \
         nearest is OIDC_CLIENT_ID"
    );

    tool.write("Rocket.toml", "[default.oidc]\nscope = \"openid\"\nenabled = 1\n");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["settings", "settings"]);
    assert_eq!(
        report.check("settings")["remedy"],
        "write `scopes` instead, or remove `scope`"
    );
}

/// Where client secrets name the endpoints, nothing is discovered, and the rest is checked all the same.
#[rocket::async_test]
async fn endpoints_in_client_secrets() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    let issuer = provider.issuer();
    let web = json!({
        "auth_uri": format!("{issuer}/authorize"),
        "token_uri": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
    });
    tool.env("OIDC_CLIENT_SECRETS", json!({ "web": web }).to_string());
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(provider.count(TestProvider::DISCOVERY), 0);
    let finding = &report.check("metadata")["finding"];
    assert_eq!(
        *finding,
        format!("not requested: the client secrets list the endpoints of {issuer}")
    );
    let found = &report.check("client authentication")["verdict"];
    assert_eq!(found, "ok");

    provider.stop();
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["connection"]);
}

#[rocket::async_test]
async fn further_issuers_are_asked_too() {
    let provider = TestProvider::start().await;
    let other = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_RESOURCE_SERVER_ONLY", "true").env(
        "OIDC_ISSUERS",
        format!("{{other={{issuer=\"{}\",audience=\"api\"}}}}", other.issuer()),
    );
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert!(report.with("ok").contains(&"issuers.other keys"));
    // Nobody signs in there: nobody is sent there.
    assert_eq!(provider.count("/authorize"), 0);

    other.stop();
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["issuers.other connection"]);
}

/// From the first second on, standard error says what is waited for.
#[rocket::async_test]
async fn a_slow_provider_is_said_to_be_waited_for() {
    let provider = TestProvider::start().await;
    let tool = app(&provider);
    let held = provider.hold("/jwks");
    let mut child = tool.spawn(&["doctor", "--json"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    held.release();
    assert_eq!(line, "reading the provider's keys …\n");
    let output = child.wait_with_output().unwrap();
    let ran = crate::tool::Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: line,
    };
    assert_eq!(Report::of(&ran).code, Some(0));
}

/// A proxy that serves nobody, and notes the first line of each request.
struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let notes = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                notes.lock().unwrap().push(line.trim().to_owned());
                let _ = (&stream).write_all(b"HTTP/1.1 502 -\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Proxy { address, asked }
    }

    /// Has the tool go through it, wherever it goes.
    fn before(&self, tool: &mut Tool) {
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            tool.env(name, &self.address);
            tool.env(&name.to_ascii_lowercase(), &self.address);
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[rocket::async_test]
async fn loopback_is_reached_past_every_proxy() {
    let proxy = Proxy::start();
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    proxy.before(&mut tool);
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.code, Some(0));

    let mut tool = Tool::new();
    tool.env("OIDC_DEV_PROVIDER", "true");
    proxy.before(&mut tool);
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(proxy.asked(), [""; 0]);

    // The variables are heeded where they should be.
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", "https://op.invalid")
        .env("OIDC_CLIENT_ID", "client");
    proxy.before(&mut tool);
    assert_eq!(tool.report(&["doctor"]).code, Some(1));
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(
        asked.iter().all(|line| line == "CONNECT op.invalid:443 HTTP/1.1"),
        "{asked:?}"
    );
}

/// What may go over plain http goes to that host, and to no proxy.
#[rocket::async_test]
async fn plain_http_goes_past_every_proxy() {
    let proxy = Proxy::start();
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", "http://keycloak.invalid:8080/realms/a")
        .env("OIDC_CLIENT_ID", "client");
    proxy.before(&mut tool);
    tool.report(&["doctor"]).fails_at(
        "settings",
        "`oidc.issuer` in environment variable OIDC_ISSUER: `http://keycloak.invalid:8080/realms/a` is \
         neither `https` nor on loopback",
        "use a URL with `https`; in a closed network, list `keycloak.invalid` in \
         `insecure_http_hosts`",
    );
    tool.env("OIDC_INSECURE_HTTP_HOSTS", "keycloak.invalid");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["name"], "{report:#?}");
    assert_eq!(
        report.check("insecure")["finding"],
        "`insecure_http_hosts`: anyone on the network path to keycloak.invalid can read client secrets, codes and tokens"
    );
    assert_eq!(proxy.asked(), [""; 0]);
}

/// A Redis that answers each command as a function of its words has it.
fn redis(answer: fn(&[String]) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Some(words) = command(&mut reader) {
                    let _ = (&stream).write_all(answer(&words).as_bytes());
                }
            });
        }
    });
    format!("redis://{address}")
}

/// The words of one command.
fn command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let number = |reader: &mut dyn BufRead| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.trim().get(1..)?.parse::<usize>().ok()
    };
    let count = number(reader)?;
    (0..count)
        .map(|_| {
            let mut word = vec![0; number(reader)? + 2];
            reader.read_exact(&mut word).ok()?;
            word.truncate(word.len() - 2);
            String::from_utf8(word).ok()
        })
        .collect()
}

/// The URL is that of another kind of deployment than the server.
#[rocket::async_test]
async fn a_session_store_of_another_kind() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_SESSION__STORE", "redis");
    let alone: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLUSTER" => "-ERR This instance has cluster support disabled\r\n".to_owned(),
        "SENTINEL" => {
            "-ERR unknown command 'SENTINEL', with args beginning with: 'GET-MASTER-ADDR-BY-NAME'\r\n".to_owned()
        }
        "PING" => "+PONG\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    };
    let url = redis(alone);
    for (url, finding, remedy) in [
        (
            url.replace("redis://", "redis-cluster://"),
            "the session store is not reachable: the Redis server is not part of a cluster",
            "set `oidc.session.store_url` to `redis://host`: `redis-cluster://` is the URL of a cluster",
        ),
        (
            url.replace("redis://", "redis+sentinel://") + "/sessions",
            "the session store is not reachable: a host in the URL is not a Sentinel",
            "write the hosts and ports of Sentinels in `oidc.session.store_url`, or `redis://host` for a Redis without them",
        ),
        (
            "redis+sentinel://:hush@127.0.0.1:1/sessions".to_owned(),
            "the session store is not reachable: no Sentinel is reachable: Connection refused (os error 111)",
            "check that the Sentinels in `oidc.session.store_url` are running and that this machine can reach them",
        ),
    ] {
        tool.env("OIDC_SESSION__STORE_URL", url);
        let report = tool.report(&["doctor"]);
        report.fails_at("session store", finding, remedy);
        assert!(!format!("{report:?}").contains("hush"));
    }
}

/// What is down, may be read only, or may be read by some: an app could not keep a session there.
#[rocket::async_test]
async fn a_session_store_that_cannot_be_used() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_SESSION__STORE", "redis");
    let write_refused: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLIENT" | "HELLO" => "+OK\r\n".to_owned(),
        "GET" => "$-1\r\n".to_owned(),
        _ => "-READONLY You can't write against a read only replica.\r\n".to_owned(),
    };
    let user_refused: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLIENT" | "HELLO" => "+OK\r\n".to_owned(),
        "GET" => "$-1\r\n".to_owned(),
        _ => "-NOPERM User reader has no permissions to run the 'set' command\r\n".to_owned(),
    };
    let nobody: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLIENT" | "HELLO" => "+OK\r\n".to_owned(),
        _ => "-NOAUTH Authentication required.\r\n".to_owned(),
    };
    let forgetful: fn(&[String]) -> String = |words| match words[0].as_str() {
        "GET" => "$-1\r\n".to_owned(),
        "EVAL" => ":0\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    };
    let in_cluster: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLIENT" | "HELLO" => "+OK\r\n".to_owned(),
        _ => "-MOVED 1 10.0.0.1:6379\r\n".to_owned(),
    };
    let loading: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLIENT" | "HELLO" => "+OK\r\n".to_owned(),
        _ => "-LOADING Redis is loading the dataset in memory\r\n".to_owned(),
    };
    let sentinel: fn(&[String]) -> String = |words| match words[0].as_str() {
        "CLIENT" | "HELLO" => "+OK\r\n".to_owned(),
        command => format!("-ERR unknown command '{command}', with args beginning with: \r\n"),
    };
    for (answer, finding, remedy) in [
        (
            in_cluster,
            "the session store is not reachable: Redis returned MOVED",
            "set `oidc.session.store_url` to `redis-cluster://host,host`: it is the URL of one node of a cluster",
        ),
        (
            loading,
            "the session store is not reachable: Redis returned LOADING",
            "wait until the server at `oidc.session.store_url` has loaded its data",
        ),
        (
            sentinel,
            "the session store is not reachable: the server does not know a command of Redis 7",
            "set `oidc.session.store_url` to Redis 7 or later, or Valkey, and that of a Sentinel to \
             `redis+sentinel://host/master_name`",
        ),
        (
            write_refused,
            "an entry cannot be written: Redis returned READONLY",
            "set `oidc.session.store_url` to the primary: it is the URL of a read-only replica",
        ),
        (
            user_refused,
            "an entry cannot be written: Redis returned NOPERM",
            "grant the user in `oidc.session.store_url` the keys `~oidc:*` and the commands `+@read +@write \
             +@scripting +@connection +role`, in a cluster also `+cluster|slots`",
        ),
        (
            nobody,
            "the session store is not reachable: Redis returned NOAUTH",
            "set `oidc.session.store_url` to a URL with the password, such as \
             `redis://user:password@host:6379`",
        ),
        (
            forgetful,
            "an entry that was written was not found",
            "check that the session store at `oidc.session.store_url` is running and that this machine can reach it",
        ),
    ] {
        tool.env("OIDC_SESSION__STORE_URL", redis(answer));
        let report = tool.report(&["doctor"]);
        report.fails_at("session store", finding, remedy);
    }
}

#[rocket::async_test]
async fn a_session_store_that_can_be_used() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_SESSION__STORE", "sql")
        .env("OIDC_SESSION__STORE_URL", "sqlite://sessions.db");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.check("session store")["verdict"], "ok");
}

#[rocket::async_test]
async fn what_is_around_credentials_is_found() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("OIDC_CLIENT_SECRET", format!("{SECRET}\n"));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    assert_eq!(report.with("warning"), ["credentials", "insecure"]);
    let check = report.check("credentials");
    assert_eq!(
        check["finding"],
        "`oidc.client_secret` in environment variable OIDC_CLIENT_SECRET has white space around it, which \
         is ignored"
    );
    assert_eq!(check["remedy"], "remove these characters from the value");
    let request = provider.last_request("/token");
    assert_eq!(request.basic(), Some(("client".into(), SECRET.into())));

    tool.unset("OIDC_CLIENT_SECRET");
    tool.env("OIDC_CLIENT_SECRET_FILE", "secret");
    for (text, what) in [
        (format!("{SECRET}\r\n"), None),
        (
            format!("\u{feff}{SECRET}\n"),
            Some("has a byte-order mark or another invisible character around it, which is ignored"),
        ),
        (
            format!("'{SECRET}'\n"),
            Some("is in quotes, which are part of the value"),
        ),
    ] {
        tool.write("secret", &text);
        let report = tool.report(&["doctor"]);
        let found = report.checks.iter().find(|check| check["check"] == "credentials");
        let found = found.map(|check| check["finding"].as_str().unwrap().to_owned());
        let what = what.map(|what| format!("the client secret in `secret` {what}"));
        assert_eq!(found, what);
        assert!(!format!("{report:?}").contains(SECRET));
    }
}

#[rocket::async_test]
async fn unused_endpoints_are_reported() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    let issuer = provider.issuer();
    let web = json!({ "auth_uri": format!("{issuer}/authorize"), "token_uri": format!("{issuer}/token") });
    tool.write("client_secrets.json", &json!({ "web": web }).to_string());
    tool.env("OIDC_CLIENT_SECRETS", "client_secrets.json");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("warning"), ["settings", "insecure"]);
    let check = report.check("settings");
    assert_eq!(
        (&check["finding"], &check["remedy"]),
        (
            &json!(
                "`oidc.client_secrets` in environment variable OIDC_CLIENT_SECRETS: the endpoints in it are \
                 not used (`auth_uri` and `token_uri`): without `jwks_uri` the endpoints are discovered"
            ),
            &json!("add `jwks_uri`, or remove the other endpoints")
        )
    );
}

#[rocket::async_test]
async fn variables_for_a_proxy_are_named() {
    let provider = TestProvider::start().await;
    let mut tool = app(&provider);
    tool.env("HTTPS_PROXY", "http://alice:hush@proxy.example:3128/")
        .env("no_proxy", "localhost,127.0.0.1");
    let report = tool.report(&["doctor"]);
    let check = report.check("proxy");
    assert_eq!(check["verdict"], "ok");
    assert_eq!(
        check["finding"],
        "HTTPS_PROXY is proxy.example:3128; no_proxy excludes localhost,127.0.0.1"
    );
    assert!(!format!("{report:?}").contains("hush"));
    assert!(!app(&provider).report(&["doctor"]).with("ok").contains(&"proxy"));
}

/// Each API of the setting `apis` has metadata of its own, and the app need have none.
#[rocket::async_test]
async fn resource_metadata_of_each_api_is_fetched() {
    let provider = TestProvider::start().await;
    let api = TestProvider::start().await;
    let mut tool = app(&provider);
    let (orders, stock) = (format!("{}/orders", api.issuer()), format!("{}/stock", api.issuer()));
    tool.env("OIDC_RESOURCE_SERVER_ONLY", "true").env(
        "OIDC_APIS",
        format!("{{orders={{resource=\"{orders}\"}},stock={{resource=\"{stock}\"}}}}"),
    );
    let path = |name: &str| format!("/.well-known/oauth-protected-resource/{name}");
    let url = |name: &str| format!("{}{}", api.issuer(), path(name));
    api.on_path(&path("orders"), Reply::json(json!({ "resource": orders })));
    // As an app whose two APIs are led to one place by a proxy.
    api.on_path(&path("stock"), Reply::json(json!({ "resource": orders })));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["apis.stock resource metadata"]);
    assert_eq!(
        report.check("apis.orders resource metadata")["finding"],
        format!("the app responds at {}", url("orders"))
    );
    report.fails_at(
        "apis.stock resource metadata",
        &format!("{} has the `resource` {orders}, expected {stock}", url("stock")),
        "check `apis.stock.resource`, and that the proxy in front of the app forwards GET requests to this path",
    );

    api.on_path(&path("stock"), Reply::json(json!({ "resource": stock })));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(api.count(&path("stock")), 2);
}

#[rocket::async_test]
async fn resource_metadata_is_fetched_at_its_public_address() {
    let provider = TestProvider::start().await;
    let api = TestProvider::start().await;
    let mut tool = app(&provider);
    let resource = format!("{}/v1", api.issuer());
    tool.env("OIDC_RESOURCE", &resource);
    let path = "/.well-known/oauth-protected-resource/v1";
    let url = format!("{}{path}", api.issuer());

    api.on_path(path, Reply::json(json!({ "resource": resource })));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    let finding = &report.check("resource metadata")["finding"];
    assert_eq!(*finding, format!("the app responds at {url}"));
    assert_eq!(api.last_request(path).method, "GET");

    let remedy = "check `resource`, `base_url`, and that the proxy in front of the app forwards GET requests to this \
                  path";
    api.on_path(path, Reply::json(json!({ "resource": "https://other.example" })));
    tool.report(&["doctor"]).fails_at(
        "resource metadata",
        &format!("{url} has the `resource` https://other.example, expected {resource}"),
        remedy,
    );
    api.on_path(path, Reply::text("text/html", "<html>"));
    tool.report(&["doctor"]).fails_at(
        "resource metadata",
        &format!("{url} responds with something other than the metadata"),
        remedy,
    );
    api.clear_path(path);
    tool.report(&["doctor"])
        .fails_at("resource metadata", &format!("{url} responds with status 404"), remedy);
    api.stop();
    let report = tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0));
    let finding = &report.check("resource metadata")["finding"];
    assert_eq!(
        *finding,
        format!("no response from {url}: Connection refused (os error 111)")
    );
}

/// It is no OpenID provider: it has neither metadata nor keys, which are not missed.
#[test]
fn github_is_checked_by_its_api_and_its_answer_to_a_made_up_code() {
    let github = GitHub::start();
    let mut tool = Tool::new();
    let provider = format!("{{name=\"github\",url=\"{}\"}}", github.url());
    tool.env("OIDC_PROVIDER", provider)
        .env("OIDC_CLIENT_ID", GitHub::CLIENT_ID)
        .env("OIDC_CLIENT_SECRET", GitHub::CLIENT_SECRET);
    let report = tool.report(&["doctor"]);
    assert_eq!(
        report.with("ok"),
        [
            "settings",
            "secret_key",
            "cookies",
            "session store",
            "session size",
            "connection",
            "clock",
            "client authentication",
            "scopes",
            "redirect URI",
            "sign-out",
        ]
    );
    assert_eq!(report.with("warning"), ["insecure"]);
    assert_eq!(report.code, Some(0));
    let id = GitHub::CLIENT_ID;
    assert_eq!(
        report.check("client authentication")["finding"],
        format!("`{id}` and its secret are accepted (client_secret_post)")
    );

    github.on_path(GitHub::USER, message(404, "Not Found"));
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("warning"), ["insecure", "connection"]);
    let finding = format!(
        "{}{} responds with status 404, expected 401",
        github.url(),
        GitHub::USER
    );
    assert_eq!(report.check("connection")["finding"], finding);

    github.honest(GitHub::USER);
    tool.env("OIDC_CLIENT_SECRET", "wrong").report(&["doctor"]).fails_at(
        "client authentication",
        "the provider's token endpoint rejected the request with `incorrect_client_credentials`: The client_id and/or \
         client_secret passed are incorrect. (client_secret_post)",
        "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`",
    );
}

/// A server that responds like the metadata route of an app: to requests with this header with another status.
fn app_side(header: &'static str, refusal: Option<&'static str>) -> u16 {
    use std::io::{BufRead, BufReader, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
            // All are read, so that the connection is not reset.
            let forged = lines.filter(|line| line.to_ascii_lowercase().starts_with(&header.to_ascii_lowercase()));
            let is_forged = forged.count() > 0;
            let (status, body) = match refusal {
                Some(reason) if is_forged => (400, reason.to_owned()),
                _ => (
                    200,
                    json!({ "resource": format!("http://localhost:{port}") }).to_string(),
                ),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    port
}

#[rocket::async_test]
async fn a_forged_header_of_a_client_certificate_is_sent_to_the_app() {
    const CHECK: &str = "client certificates";
    let provider = TestProvider::start().await;
    for (refusal, verdict, finding) in [
        (None, "ok", "a forged `X-SSL-Client-Cert` does not reach the app"),
        (
            Some("client_certificate_header"),
            "failure",
            "a forged `X-SSL-Client-Cert` reaches the app by a trusted proxy: a client can name any certificate",
        ),
        (
            Some("client_certificate_untrusted"),
            "warning",
            "a forged `X-SSL-Client-Cert` is refused, and so is any certificate: it comes from a peer that is not in \
             `client_certificate.proxies`",
        ),
    ] {
        let port = app_side("X-SSL-Client-Cert:", refusal);
        let mut tool = app(&provider);
        tool.env("OIDC_RESOURCE", format!("http://localhost:{port}"))
            .env("OIDC_CLIENT_CERTIFICATE__FORMAT", "nginx")
            .env("OIDC_CLIENT_CERTIFICATE__PROXIES", "127.0.0.1");
        let report = tool.report(&["doctor"]);
        assert_eq!(report.check(CHECK)["verdict"], verdict, "{report:#?}");
        assert_eq!(report.check(CHECK)["finding"], finding);
    }
}

#[rocket::async_test]
async fn the_clients_certificate_is_checked() {
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/client_certificate");
    let provider = TestProvider::start().await;
    let with_certificate = || {
        let mut tool = app(&provider);
        tool.env("OIDC_TLS_CLIENT_CERTIFICATE", format!("{files}/client.pem"))
            .env("OIDC_TLS_CLIENT_KEY", format!("{files}/client.key"));
        tool
    };
    let report = with_certificate().report(&["doctor"]);
    let all = report.all("client certificate");
    assert!(
        all[0]["finding"].as_str().unwrap().starts_with("valid until 2126-"),
        "{report:#?}"
    );
    assert_eq!(
        all[1]["finding"],
        "the provider does not say that it binds access tokens to certificates"
    );

    provider
        .metadata(|metadata| drop(metadata.insert("tls_client_certificate_bound_access_tokens".into(), true.into())));
    let report = with_certificate().report(&["doctor"]);
    assert_eq!(report.all("client certificate").len(), 1, "{report:#?}");

    let mut tool = with_certificate();
    tool.env("OIDC_TOKEN_ENDPOINT_AUTH_METHOD", "tls_client_auth");
    let report = tool.report(&["doctor"]);
    let all = report.all("client certificate");
    assert_eq!(all[1]["finding"], "the provider does not list `tls_client_auth`");
}
