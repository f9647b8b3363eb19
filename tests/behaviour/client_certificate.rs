//! The app as a client with a certificate (RFC 8705): which endpoints it calls, how it authenticates, and which tokens it
//! accepts. Connections with TLS are tested beside `HttpClient`, and at a real provider by `tests/interop`.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rocket::{
    get,
    http::Status,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::Bearer;

use crate::{
    common::{App, Log, launch_failure, signed_in},
    support::{Browser, Reply, TestProvider},
};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/client_certificate");

fn file(name: &str) -> String {
    format!("{FILES}/{name}")
}

/// A client with a certificate and no secret.
fn app(provider: &TestProvider) -> App {
    App::public(provider)
        .with("oidc.tls_client_certificate", file("client.pem"))
        .with("oidc.tls_client_key", file("client.key"))
}

fn thumbprint() -> String {
    let pem = include_str!("client_certificate/client.pem");
    let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &STANDARD.decode(base64).unwrap()))
}

/// Has the provider issue access tokens with this `cnf`.
fn binds(provider: &TestProvider, cnf: Value) {
    let token = format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(json!({ "cnf": cnf }).to_string()));
    provider.on_token_response(move |reply| {
        if reply.status == 200 {
            reply.set("access_token", token.clone());
        }
    });
    // They are not its own any more.
    provider.on_id_token(|token| token.remove("at_hash"));
    provider.on_path("/userinfo", Reply::json(json!({ "sub": "alice" })));
}

#[rocket::async_test]
async fn a_client_with_a_certificate_sends_its_id_alone() {
    for method in [
        None,
        Some("tls_client_auth"),
        Some("self_signed_tls_client_auth"),
        Some("none"),
    ] {
        let provider = TestProvider::start().await;
        let app = app(&provider).with("oidc.token_endpoint_auth_method", method);
        let browser = signed_in(&app, &provider).await;
        browser.submit("/oidc/logout", "").await;
        provider.until_requested("/revoke", 1).await;
        for path in ["/token", "/revoke"] {
            let request = provider.last_request(path);
            assert_eq!(request.form_value("client_id"), Some("app"), "{method:?}");
            assert_eq!(request.form_value("client_secret"), None);
            assert_eq!(request.form_value("client_assertion"), None);
            assert_eq!(request.header("authorization"), None);
        }
    }
}

/// RFC 8705 §5: without a certificate, the usual endpoints; and in any case where the browser goes, and for the keys.
#[rocket::async_test]
async fn a_client_with_a_certificate_calls_the_endpoints_for_it() {
    const ALIASED: [(&str, &str); 5] = [
        ("token_endpoint", "/token"),
        ("userinfo_endpoint", "/userinfo"),
        ("revocation_endpoint", "/revoke"),
        ("introspection_endpoint", "/introspect"),
        ("pushed_authorization_request_endpoint", "/par"),
    ];
    for has_certificate in [true, false] {
        let provider = TestProvider::start().await;
        let issuer = provider.issuer();
        provider.metadata(|metadata| {
            let mut aliases = json!({
                "authorization_endpoint": format!("{issuer}/mtls/authorize"),
                "jwks_uri": format!("{issuer}/mtls/jwks"),
            });
            for (member, path) in ALIASED {
                metadata.insert(member.into(), format!("{issuer}{path}").into());
                aliases[member] = format!("{issuer}/mtls{path}").into();
            }
            metadata.insert("mtls_endpoint_aliases".into(), aliases);
        });
        let app = if has_certificate {
            app(&provider)
        } else {
            App::new(&provider)
        };
        let app = app.with_all(json!({ "pushed_authorization_requests": true, "audience": TestProvider::API }));
        let browser = Browser::open(app.rocket().mount("/", routes![whose])).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        browser
            .fetch_with("/whose", &[("Authorization", "Bearer opaque")])
            .await
            .is(Status::Unauthorized);
        browser.submit("/oidc/logout", "").await;
        let prefix = if has_certificate { "/mtls" } else { "" };
        provider.until_requested(&format!("{prefix}/revoke"), 1).await;
        for (_, path) in ALIASED {
            let [aliased, usual] = [format!("/mtls{path}"), path.to_owned()].map(|path| provider.count(&path) > 0);
            assert_eq!((aliased, usual), (has_certificate, !has_certificate), "{path}");
        }
        assert_eq!(provider.count("/mtls/authorize") + provider.count("/mtls/jwks"), 0);
    }
}

#[rocket::async_test]
async fn an_alias_that_is_not_an_address_is_ignored() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        metadata.insert("mtls_endpoint_aliases".into(), json!({ "token_endpoint": 1 }));
    });
    signed_in(&app(&provider), &provider).await;
    assert_eq!(provider.count("/token"), 1);
}

#[get("/whose")]
fn whose(token: Bearer) -> String {
    token.subject().unwrap_or_default().to_owned()
}

/// The endpoints of the document are trusted as little as the others.
#[rocket::async_test]
async fn the_endpoints_for_it_are_public_ones() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        metadata.insert(
            "mtls_endpoint_aliases".into(),
            json!({ "token_endpoint": "http://op.example/token" }),
        );
    });
    let (kind, lines) = launch_failure(app(&provider).rocket()).await;
    assert_eq!(kind, "failed fairings: OpenID Connect");
    assert!(lines[0].contains("http://op.example/token"), "{lines:#?}");
    App::public(&provider)
        .rocket()
        .ignite()
        .await
        .expect("no certificate, no such endpoint");
}

#[rocket::async_test]
async fn a_token_that_is_bound_to_the_certificate_is_accepted() {
    for cnf in [
        json!({ "x5t#S256": thumbprint() }),
        json!({}),
        json!(null),
        json!({ "jkt": "A".repeat(43) }),
    ] {
        let provider = TestProvider::start().await;
        binds(&provider, cnf);
        signed_in(&app(&provider), &provider).await;
    }
}

#[rocket::async_test]
async fn a_token_that_is_bound_to_another_certificate_is_refused() {
    let provider = TestProvider::start().await;
    binds(&provider, json!({ "x5t#S256": "A".repeat(43) }));
    let app = app(&provider);
    let browser = app.open().await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::BadGateway);
    let failures = app.failures();
    assert!(
        failures[0].contains("is bound to another certificate than that of this client"),
        "{failures:?}"
    );
    // A client without a certificate does not look into access tokens.
    signed_in(&App::public(&provider), &provider).await;
}

#[rocket::async_test]
async fn files_that_are_missing_or_do_not_match_abort_the_launch() {
    let provider = TestProvider::start().await;
    let (none, text) = ("missing.pem", "../client_certificate.rs");
    for (certificate, key, about, cause, remedy) in [
        (
            Some("client.pem"),
            None,
            "tls_client_key",
            "the private key of",
            "set `tls_client_key`",
        ),
        (
            None,
            Some("client.key"),
            "tls_client_certificate",
            "the certificate of",
            "set `tls_client_certificate`",
        ),
        (
            Some(none),
            Some("client.key"),
            "tls_client_certificate",
            "there is no file",
            "make `",
        ),
        (
            Some("client.pem"),
            Some(none),
            "tls_client_key",
            "there is no file",
            "make `",
        ),
        (
            Some("client.key"),
            Some("client.key"),
            "tls_client_certificate",
            "no certificate in PEM",
            "write the certificate",
        ),
        (
            Some("client.pem"),
            Some("client.pem"),
            "tls_client_key",
            "no private key in PEM",
            "write the private key",
        ),
        (
            Some("client.pem"),
            Some("other.key"),
            "tls_client_key",
            "is not the private key of",
            "set it to the key",
        ),
        (
            Some("client.pem"),
            Some("encrypted.key"),
            "tls_client_key",
            "is encrypted",
            "decrypt it",
        ),
        (
            Some(text),
            Some("client.key"),
            "tls_client_certificate",
            "is not a certificate",
            "write the certificate",
        ),
    ] {
        let mut app = App::public(&provider);
        for (setting, name) in [
            ("oidc.tls_client_certificate", certificate),
            ("oidc.tls_client_key", key),
        ] {
            if let Some(name) = name {
                app = app.with(setting, file(name));
            }
        }
        let (_, lines) = launch_failure(app.rocket()).await;
        assert!(lines[0].contains(about) && lines[0].contains(cause), "{lines:#?}");
        assert!(lines[1].contains(remedy), "{lines:#?}");
        let secret = include_str!("client_certificate/client.key").lines().nth(1).unwrap();
        assert!(!lines.join("\n").contains(&secret[..20]), "{lines:#?}");
    }
    let app = App::public(&provider).with("oidc.token_endpoint_auth_method", "tls_client_auth");
    let (_, lines) = launch_failure(app.rocket()).await;
    assert!(
        lines[0].contains("the method needs the certificate of the client"),
        "{lines:#?}"
    );
}

/// A key that everybody can read is a warning at liftoff.
#[cfg(unix)]
#[rocket::async_test]
async fn a_key_for_everybody_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;

    for (mode, is_warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        let provider = TestProvider::start().await;
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(file("client.key"), key.path()).unwrap();
        std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let log = Log::listen();
        let app = app(&provider).with("oidc.tls_client_key", key.path());
        let _browser = app.open().await;
        let lines = log.lines_with_report().join("\n");
        assert_eq!(
            lines.contains("every user of this machine can read the private key"),
            is_warned,
            "{mode:o}"
        );
    }
}
