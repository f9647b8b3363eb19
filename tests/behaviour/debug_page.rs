//! `{mount}/debug`: for the developer at this machine, and for nobody else.

use std::{net::SocketAddr, time::Duration};

use rocket::{
    Request, get,
    http::{Header, Status},
    routes,
    serde::json::json,
};
use rocket_openidconnect::{Authorized, Bearer, Policy, User, scopes};

use crate::{
    common::{App, KEY, NOW},
    support::{Browser, TestProvider},
};

scopes! { Read = "notes:read"; }

struct Admins;

impl Policy for Admins {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        user.subject() == "root"
    }
}

#[get("/admin")]
fn admin(user: Authorized<Admins>) -> String {
    user.subject().to_owned()
}

#[get("/api/notes")]
fn notes_api(_token: Bearer<Read>) -> &'static str {
    "notes"
}

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
        "<th scope=\"row\">oidc.client_secret</th><td data-name=\"value\">Secret(…)</td>",
        // How long it took, and what was checked.
        "the session began <span class=\"took\">+0 ms</span>",
        "<li>nonce: that of the request</li>",
        "<li>aud: this client</li>",
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

/// The cells of the row that begins with this, in the table of this title.
fn row(page: &str, title: &str, name: &str) -> Vec<String> {
    let (_, table) = page.split_once(&format!("<summary>{title}</summary>")).expect(title);
    let table = table.split("</details>").next().unwrap();
    let name = name.replace('/', "&#x2F;").replace('<', "&lt;").replace('>', "&gt;");
    let start = format!("<th scope=\"row\">{name}</th>");
    let (_, row) = table.split_once(&start).unwrap_or_else(|| panic!("{start}\n{table}"));
    let row = row.split("</tr>").next().unwrap();
    let cells = row.split("</td>").filter_map(|cell| cell.split_once('>'));
    let plain = |text: &str| text.replace("&#x2F;", "/").replace("&lt;", "<").replace("&gt;", ">");
    cells.map(|(_, cell)| plain(cell)).collect()
}

#[rocket::async_test]
async fn the_page_shows_guards_ends_tokens_and_origins() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider)
        .with("oidc.session.store", "memory")
        .with("oidc.audience", TestProvider::API);
    let rocket = app.rocket().mount("/", routes![admin, notes_api]);
    let browser = Browser::open(rocket).await;
    let shown = async |browser: &Browser| page(browser, LOOPBACK[0], &[HOST]).await.1;
    const GUARDS: &str = "Guards and scopes of routes";

    // Before a request, a guard is known by its name alone.
    let before = shown(&browser).await;
    assert_eq!(row(&before, GUARDS, "GET /api/notes"), ["notes_api", "none yet", "-"]);
    assert!(before.contains("a route without a request yet"), "{before}");
    assert!(before.contains("No session has ended since the app started."));

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    browser.visit("/admin").await.is(Status::Forbidden);
    let token = provider.access_token("notes:read", |token| token.set("sub", "alice"));
    let call = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", &*authorization)];
        browser.fetch_with("/api/notes", &headers).await.status
    };
    assert_eq!(call(&token).await, 200);
    assert_eq!(call("of.no.token").await, 401);
    let during = shown(&browser).await;
    let admin = row(&during, GUARDS, "GET /admin");
    assert!(admin[1].contains("Authorized<Admins"), "{admin:?}");
    let api = row(&during, GUARDS, "GET /api/notes");
    assert!(api[1].starts_with("Bearer<Read"), "{api:?}");
    assert_eq!((&*api[0], &*api[2]), ("notes_api", "notes:read"));
    assert!(during.contains("<td data-name=\"outcome\">accepted</td>"), "{during}");
    assert!(during.contains("alice: notes:read"));
    let tokens = during.matches("GET &#x2F;api&#x2F;notes</td>").count();
    assert_eq!(tokens, 2);

    // Where settings come from.
    let settings = |key: &str| row(&during, "Settings", key);
    let store = settings("oidc.session.store");
    assert_eq!((&*store[0], &*store[2]), ("Memory", "Cookie"));
    assert!(store[1].starts_with("(&amp;str"), "{store:?}");
    assert_eq!(
        row(&during, "Settings with their defaults", "oidc.mount"),
        ["&quot;/oidc&quot;"]
    );

    // Why a user was signed out, in the browser whose cookie has the session.
    let copy = browser.another();
    for (name, value) in browser.cookies() {
        copy.set_cookie(rocket::http::Cookie::new(name, value));
    }
    browser.submit("/oidc/logout", "").await;
    let after = shown(&copy).await;
    assert!(
        after.contains("<summary>Why this browser is signed out</summary>"),
        "{after}"
    );
    assert!(after.contains("signed_out, of this browser"), "{after}");
    assert!(after.contains("<td data-name=\"user\">alice</td>"));
    for secret in [&token, "hush"] {
        assert!(!during.contains(secret) && !after.contains(secret));
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
