//! `{mount}/debug`: for the developer at this machine, and for nobody else.

use std::{net::SocketAddr, time::Duration};

use rocket::{
    http::{Header, Status},
    serde::json::json,
};

use crate::{
    common::{App, KEY, NOW},
    support::{Browser, TestProvider},
};

const LOOPBACK: [&str; 3] = ["127.0.0.1:50000", "[::1]:50000", "[::ffff:127.0.0.1]:50000"];

/// The page as a client at this address sees it, with the browser's cookies and these headers.
async fn page(browser: &Browser, remote: &str, headers: &[(&'static str, &'static str)]) -> (Status, String) {
    let mut request = browser.client().get("/oidc/debug");
    let remote: Option<SocketAddr> = remote.parse().ok();
    if let Some(remote) = remote {
        request = request.remote(remote);
    }
    for cookie in browser.cookies() {
        request = request.cookie(cookie);
    }
    for (name, value) in headers {
        request.add_header(Header::new(*name, *value));
    }
    let response = request.dispatch().await;
    let status = response.status();
    (status, response.into_string().await.unwrap_or_default())
}

const HOST: (&str, &str) = ("Host", "localhost:8000");

#[rocket::async_test]
async fn the_page_is_for_loopback_clients() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    for remote in LOOPBACK {
        assert_eq!(page(&browser, remote, &[HOST]).await.0, Status::Ok, "{remote}");
    }
    for remote in ["192.0.2.1:50000", "[2001:db8::1]:50000", "10.0.0.1:1", "nobody"] {
        assert_eq!(page(&browser, remote, &[HOST]).await.0, Status::NotFound, "{remote}");
    }
    // Behind a proxy on this machine, whoever the header names.
    for name in ["X-Real-IP", "X-Forwarded-For", "Forwarded", "Via"] {
        let headers = [HOST, (name, "127.0.0.1")];
        assert_eq!(
            page(&browser, LOOPBACK[0], &headers).await.0,
            Status::NotFound,
            "{name}"
        );
    }
    // A name of somebody else that leads here.
    for host in [&[("Host", "attacker.example")][..], &[]] {
        assert_eq!(page(&browser, LOOPBACK[0], host).await.0, Status::NotFound, "{host:?}");
    }
}

#[rocket::async_test]
async fn there_is_no_page_outside_of_the_debug_profile() {
    let provider = TestProvider::start().await;
    let browser = App::released(&provider).open().await;
    let (status, body) = page(&browser, LOOPBACK[0], &[HOST]).await;
    assert_eq!(status, Status::NotFound);
    assert!(!body.contains("OpenID"), "{body}");
}

#[rocket::async_test]
async fn the_page_shows_what_is_and_what_went_wrong() {
    let provider = TestProvider::start().await;
    provider.on_jwks(|reply| {
        reply.edit(|set| {
            let keys = set["keys"].as_array_mut().unwrap();
            keys.push(json!({ "kty": "oct", "kid": "shared", "k": "c2VjcmV0" }));
        });
    });
    let app = App::new(&provider)
        .with("oidc.client_secret", "correct horse battery staple")
        .with("secret_key", KEY);
    let browser = app.open().await;
    let (_, empty) = page(&browser, LOOPBACK[0], &[HOST]).await;
    assert!(empty.contains("No sign-ins since the app started."));
    assert!(empty.contains("the request carries no session (no_session)"));
    assert!(empty.contains("not fetched yet"));

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let other = browser.another();
    provider.on_id_token(|token| token.set("exp", 1));
    app.advance(Duration::from_secs(61));
    let failed = other.sign_in(&provider, "/notes?page=1&sort=x").await;
    failed.is(Status::BadGateway);
    let id = failed.body.split("id=\"error-id\">").nth(1).unwrap();
    let id = id.split('<').next().unwrap();

    let (_, shown) = page(&browser, LOOPBACK[0], &[HOST]).await;
    for text in [
        // The timeline of the sign-in that succeeded.
        "<time>22:13:20</time> the browser was redirected to the provider",
        "the response matches the request",
        "the code was exchanged for tokens",
        "the ID token was verified",
        "the session began",
        // And of the one that failed.
        "<time>22:14:21</time> <code>id_token_expired</code> the ID token is rejected: the token expired at 1",
        "Remedy: ",
        id,
        "page=1&amp;sort=x",
        // The session.
        "&quot;email&quot;: &quot;alice@example.com&quot;",
        "&quot;started&quot;: &quot;2023-11-14 22:13:20 UTC&quot;",
        "&quot;idle until&quot;: &quot;2023-11-14 23:13:20 UTC&quot;",
        "&quot;ends&quot;: &quot;2023-11-15 10:13:20 UTC&quot;",
        "&quot;access token ends&quot;: &quot;2023-11-14 22:18:20 UTC&quot;",
        // Metadata and keys.
        "&quot;token_endpoint&quot;",
        "&quot;kid&quot;:&quot;rsa-1&quot;",
        "&quot;kty&quot;:&quot;EC&quot;",
        "the key type \\&quot;oct\\&quot; holds a shared secret",
        // Settings.
        "client_secret: Some(",
        "Secret(…)",
    ] {
        let text = text.replace('/', "&#x2F;");
        let tags = text.replace("<&#x2F;", "</");
        assert!(shown.contains(&tags), "{tags}\n{shown}");
    }
    assert_eq!(shown.matches("class=\"failure\"").count(), 1);
    for (state, count) in [("signed-in", 1), ("failed", 1), ("under-way", 0)] {
        let class = format!("<section class=\"{state}\">");
        assert_eq!(shown.matches(&class).count(), count, "{state}");
    }

    // None of what is secret.
    let mut secrets = vec!["correct horse".to_owned(), KEY.to_owned(), "c2VjcmV0".to_owned()];
    for request in provider.requests() {
        for name in ["code", "code_verifier"] {
            secrets.extend(request.form_value(name).map(str::to_owned));
        }
        for name in ["state", "nonce"] {
            secrets.extend(request.query_value(name).map(|value| value[..8].to_owned()));
        }
    }
    secrets.extend(browser.cookies().into_iter().map(|(_, value)| value));
    let session = crate::common::opened_session(&browser, &provider);
    for name in ["id", "access_token", "refresh_token", "id_token", "nonce"] {
        secrets.push(session[name].as_str().expect("a text").to_owned());
    }
    assert!(secrets.len() > 10);
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret}");
    }
}

#[rocket::async_test]
async fn of_several_providers_those_that_were_reached_are_shown() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.set_time(NOW);
    let table =
        |provider: &TestProvider| json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" });
    let app = App::new(&one)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "providers": { "one": table(&one), "two": table(&two) } }));
    let browser = app.open().await;
    let shown = async || {
        let (status, shown) = page(&browser, LOOPBACK[0], &[HOST]).await;
        assert_eq!(status, Status::Ok);
        shown
    };
    let title = |of: &str| format!("<summary>{of}</summary>");
    let before = shown().await;
    for name in ["one", "two"] {
        let unread = format!("{}<pre>not read yet", title(&format!("Metadata of {name}")));
        assert!(before.contains(&unread), "{before}");
    }
    browser.sign_in(&two, "/oidc/login/two?next=/me").await.is(Status::Ok);
    let after = shown().await;
    assert!(after.contains("&quot;provider&quot;: &quot;two&quot;"), "{after}");
    assert!(after.contains(&title("Keys of two")) && !after.contains(&title("Keys of one")));
    let issuer = two.issuer().replace('/', "&#x2F;");
    assert!(
        after.contains(&format!("&quot;issuer&quot;: &quot;{issuer}&quot;")),
        "{after}"
    );
    // The page asks no provider.
    assert_eq!(one.requests().len(), 0);
    assert!(!after.contains("hush"));
}
