//! Where the app goes for its provider, and what it tells of one that does not answer.

use rocket::http::Status;
use serde_json::{Value, json};

use crate::{
    common::{App, Log, launch_failure},
    support::{Browser, Page, Reply, TestProvider},
};

const DISCOVERY: &str = TestProvider::DISCOVERY;
const FAILED: &str = "failed fairings: OpenID Connect";
/// Leads to this machine, and is no name of it to us: as the name of a container in its network.
const HOST: &str = "0.0.0.0";

/// An app whose provider calls itself by [`HOST`].
async fn in_a_closed_network() -> (TestProvider, String, App) {
    let provider = TestProvider::start().await;
    let issuer = format!("http://{HOST}:{}", provider.port());
    let own = provider.issuer();
    provider.metadata(|metadata| {
        for value in metadata.values_mut() {
            if let Value::String(text) = value {
                *text = text.replace(&own, &issuer);
            }
        }
    });
    let iss = issuer.clone();
    provider.on_id_token(move |token| token.set("iss", iss.clone()));
    let app = App::new(&provider).with("oidc.issuer", &issuer);
    (provider, issuer, app)
}

#[rocket::async_test]
async fn plain_http_needs_a_setting() {
    let (_provider, issuer, app) = in_a_closed_network().await;
    for (hosts, url) in [
        (json!([]), &issuer),
        (json!(["127.0.0.1"]), &issuer),
        (json!(["0.0.0.0.example"]), &issuer),
    ] {
        let rocket = app
            .bare()
            .configure(app.bare().figment().clone().merge(("oidc.insecure_http_hosts", hosts)));
        let rocket = rocket.attach(rocket_openidconnect::Oidc::fairing());
        let (kind, lines) = launch_failure(rocket).await;
        assert_eq!(kind, FAILED);
        assert!(
            lines[0].ends_with(&format!(": `{url}/` is neither `https` nor on loopback")),
            "{lines:?}"
        );
        assert_eq!(
            lines[1],
            format!(
                "INFO: use a URL with `https`; in a closed network, list `{HOST}` in \
                 `insecure_http_hosts`"
            )
        );
    }
}

#[rocket::async_test]
async fn plain_http_of_a_host_that_the_settings_list() {
    let (provider, issuer, app) = in_a_closed_network().await;
    let app = app.with("oidc.insecure_http_hosts", HOST);
    let log = Log::listen();
    let browser = app.open().await;
    let told = format!(
        "WARN: `insecure_http_hosts`: anyone on the network path to {HOST} can read client secrets, codes and tokens"
    );
    let lines = log.lines_with_report();
    assert_eq!(lines.iter().filter(|line| **line == told).count(), 1, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("on loopback")), "{lines:#?}");

    let page = browser.visit("/oidc/login").await;
    page.redirects_to(&format!("{issuer}/authorize?"));
    let callback = provider.authorize(page.location.as_deref().unwrap());
    let path = callback.set("iss", &issuer).path_and_query();
    browser.arrive_from_provider(&path).await.redirects_to("/");
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).json::<Value>()["iss"], issuer);
}

/// What the metadata of an https issuer may not lead to. It is read where the settings say, so that no test needs TLS.
#[rocket::async_test]
async fn metadata_of_an_https_issuer_names_no_address_that_is_not_https() {
    let provider = TestProvider::start().await;
    let metadata_at = format!("{}/metadata", provider.issuer());
    let app = || {
        App::new(&provider)
            .with("oidc.issuer", "https://op.example")
            .with("oidc.server_metadata_url", &metadata_at)
    };
    let document = |member: &str, value: &str| {
        let mut document = json!({
            "issuer": "https://op.example",
            "authorization_endpoint": "https://op.example/authorize",
            "token_endpoint": "https://op.example/token",
            "jwks_uri": "https://op.example/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        document[member] = json!(value);
        provider.on_path("/metadata", Reply::json(document));
    };
    let tls = "configure the proxy in front of the provider to send `X-Forwarded-Proto: https`, and the provider to trust it; in a closed network, list its host in `oidc.insecure_http_hosts`";
    let private = "configure the provider to publish its public host names; to accept the address, set `oidc.issuer` or `oidc.server_metadata_url` to a URL on that host, all endpoints in `oidc.client_secrets`, or `jwks_uri` of a further issuer";
    for (member, url, cause, remedy) in [
        (
            "token_endpoint",
            "http://op.example/token",
            "the provider's token endpoint is at `http://op.example/token`, plain http, and its issuer is https: the provider does not know that it is behind TLS",
            tls,
        ),
        (
            "jwks_uri",
            "http://169.254.169.254/latest/meta-data",
            "the provider's key set is at `http://169.254.169.254/latest/meta-data`, plain http, and its issuer is https: the provider does not know that it is behind TLS",
            tls,
        ),
        (
            "userinfo_endpoint",
            "https://169.254.169.254/latest",
            "the provider's UserInfo endpoint is at `https://169.254.169.254/latest`, a loopback or private address that no setting names",
            private,
        ),
        (
            "introspection_endpoint",
            "https://167772162/introspect",
            "the provider's introspection endpoint is at `https://10.0.0.2/introspect`, a loopback or private address that no setting names",
            private,
        ),
        (
            "revocation_endpoint",
            "https://[::ffff:10.0.0.1]:6443/revoke",
            "the provider's revocation endpoint is at `https://[::ffff:a00:1]:6443/revoke`, a loopback or private address that no setting names",
            private,
        ),
    ] {
        document(member, url);
        let (kind, lines) = launch_failure(app().rocket()).await;
        assert_eq!(kind, FAILED, "{member}");
        assert_eq!(lines, [format!("ERROR: {cause}"), format!("INFO: {remedy}")]);
    }
    assert_eq!(provider.requests().len(), provider.count("/metadata"));

    // Listed, or the host where the settings find the metadata, they are the operator's word.
    document("jwks_uri", "http://10.0.0.1:6443/openid/v1/jwks");
    app().with("oidc.insecure_http_hosts", "10.0.0.1").open().await;
    document("jwks_uri", &format!("{}/jwks", provider.issuer()));
    app().open().await;
}

/// So are addresses that stand in the settings themselves.
#[rocket::async_test]
async fn private_addresses_in_the_settings_are_accepted() {
    let provider = TestProvider::start().await;
    let web = json!({
        "issuer": "https://kubernetes.default.svc",
        "auth_uri": "https://10.0.0.1:6443/authorize",
        "token_uri": "https://10.0.0.1:6443/token",
        // The keys are asked for before anybody is sent there.
        "jwks_uri": format!("{}/jwks", provider.issuer()),
    });
    let app = App::new(&provider)
        .with("oidc.issuer", "https://kubernetes.default.svc")
        .with("oidc.client_secrets", json!({ "web": web }));
    app.open()
        .await
        .visit("/oidc/login")
        .await
        .redirects_to("https://10.0.0.1:6443/authorize?");
}

// ---- What the person reads of a provider that is down.

/// Signs in while this path of the provider answers so.
async fn sign_in(path: &str, reply: Reply) -> Page {
    let provider = TestProvider::start().await;
    provider.on_path(path, reply);
    let browser: Browser = App::new(&provider).open().await;
    browser.sign_in(&provider, "/me").await
}

#[rocket::async_test]
async fn an_outage_is_shown_as_one_with_retry_after() {
    let again = "The sign-in service is not responding. Please try again in a few minutes.";
    for path in ["/token", "/userinfo"] {
        for (status, retry_after, told) in [
            (503, Some("17"), Some("17")),
            (429, Some("86400"), Some("300")),
            (500, None, None),
            (502, Some("soon"), None),
            (504, None, None),
        ] {
            let mut reply = Reply::text("text/html", "<h1>Sorry</h1>").with_status(status);
            if let Some(retry_after) = retry_after {
                reply = reply.with_header("Retry-After", retry_after);
            }
            let page = sign_in(path, reply).await;
            page.is(Status::ServiceUnavailable).sees(again);
            assert_eq!(page.header("Retry-After"), told, "{path} {status}");
        }
    }
    // In the words of RFC 6749.
    let reply = Reply::error(400, "temporarily_unavailable", "").with_header("Retry-After", "5");
    let page = sign_in("/token", reply).await;
    page.is(Status::ServiceUnavailable).sees(again);
    assert_eq!(page.header("Retry-After"), Some("5"));

    // What is no outage is not told as one, whatever it says of waiting.
    let reply = Reply::error(401, "invalid_client", "").with_header("Retry-After", "5");
    let page = sign_in("/token", reply).await;
    page.is(Status::BadGateway)
        .sees("This site is not set up correctly for its sign-in service.");
    assert_eq!(page.header("Retry-After"), None);
}

/// Nobody is sent to the provider while it takes no request, and it is asked once in a while.
#[rocket::async_test]
async fn requests_that_cannot_be_pushed_read_as_an_outage() {
    let provider = TestProvider::start().await;
    let par = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        metadata.insert("pushed_authorization_request_endpoint".into(), par.into());
        metadata.insert("require_pushed_authorization_requests".into(), true.into());
    });
    let reply = Reply::status(503).with_header("Retry-After", "30");
    provider.on_path("/par", reply);
    let app = App::new(&provider);
    let browser = app.open().await;
    for _ in 0..3 {
        let page = browser.visit("/oidc/login").await;
        page.is(Status::ServiceUnavailable);
        assert_eq!(page.header("Retry-After"), Some("30"));
    }
    assert_eq!((provider.count("/par"), provider.count(DISCOVERY)), (1, 1));
    provider.on_path(
        "/par",
        Reply::json(json!({ "request_uri": "urn:x", "expires_in": 60 })).with_status(201),
    );
    app.advance(std::time::Duration::from_secs(30));
    let page = browser.visit("/oidc/login").await;
    assert!(page.location.as_deref().unwrap().contains("request_uri=urn%3Ax"));
}
