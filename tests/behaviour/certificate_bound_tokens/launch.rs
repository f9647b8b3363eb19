//! Settings about certificates that abort the launch, each with its remedy.

use rocket::{
    local::asynchronous::Client,
    serde::json::{Value, json},
};

use super::app::rocket;
use crate::{
    common::{Log, launch_failure},
    support::TestProvider,
};

async fn refused(settings: Value) -> Vec<String> {
    let provider = TestProvider::start().await;
    let (kind, lines) = launch_failure(rocket(&provider, settings)).await;
    assert!(
        kind == "failed fairings: OpenID Connect" || kind.ends_with("abort"),
        "{kind}"
    );
    lines
}

#[rocket::async_test]
async fn what_belongs_together_is_set_together() {
    for (table, key, cause, remedy) in [
        (
            json!({ "format": "nginx" }),
            "proxies",
            "no proxy is trusted",
            "list the addresses of the proxies",
        ),
        (
            json!({ "format": "nginx", "proxies": [] }),
            "proxies",
            "no proxy is trusted",
            "list the addresses",
        ),
        (
            json!({ "proxies": ["::1"] }),
            "proxies",
            "the format of the header is not",
            "set `format` to",
        ),
        (
            json!({ "header": "A" }),
            "header",
            "the format of the header is not",
            "set `format` to",
        ),
        (
            json!({ "format": "apache" }),
            "format",
            "unknown value \"apache\"",
            "`rfc9440`, `nginx` or `envoy`",
        ),
        (
            json!({ "format": "nginx", "proxies": ["proxy"] }),
            "proxies",
            "neither an address",
            "list addresses",
        ),
        (
            json!({ "format": "nginx", "proxies": ["::1"], "header": "a b" }),
            "header",
            "not the name",
            "write a name",
        ),
        (
            json!({ "format": "nginx", "proxies": ["::1"], "header": "cookie" }),
            "header",
            "another meaning",
            "name the header",
        ),
    ] {
        let lines = refused(json!({ "client_certificate": table })).await;
        assert!(lines[0].contains(&format!("client_certificate.{key}")), "{lines:#?}");
        assert!(lines[0].contains(cause) && lines[1].contains(remedy), "{lines:#?}");
    }
}

#[rocket::async_test]
async fn the_report_says_where_certificates_come_from() {
    let provider = TestProvider::start().await;
    let log = Log::listen();
    let settings =
        json!({ "client_certificate": { "format": "envoy", "proxies": ["::1"] }, "require_bound_tokens": true });
    let _client = Client::untracked(rocket(&provider, settings)).await.unwrap();
    let expected =
        "INFO: client certificates: in `X-Forwarded-Client-Cert` of trusted proxies; bound tokens are required";
    let lines = log.lines_with_report();
    assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
}

#[rocket::async_test]
async fn mutual_tls_is_that_of_rocket() {
    let lines = refused(json!({ "client_certificate": { "tls": true } })).await;
    if cfg!(feature = "mtls") {
        assert!(lines[0].contains("`tls.mutual` is not set"), "{lines:#?}");
        assert!(lines[1].contains("set `tls.mutual.ca_certs`"), "{lines:#?}");
    } else {
        assert!(lines[0].contains("mutual TLS is not compiled in"), "{lines:#?}");
        assert!(lines[1].contains("enable the feature `mtls`"), "{lines:#?}");
    }
}

#[rocket::async_test]
async fn bound_tokens_are_not_demanded_where_none_is_accepted() {
    let lines = refused(json!({ "require_bound_tokens": true, "client_certificate": {} })).await;
    assert!(lines[0].contains("oidc.require_bound_tokens`"), "{lines:#?}");
    let lines = refused(json!({ "client_certificate": {} })).await;
    // The guard `BoundBearer` of a route.
    assert!(
        lines.iter().any(|line| line.contains("`oidc.client_certificate`")),
        "{lines:#?}"
    );
}
