//! Queries that carry a secret, at every spelling of the paths that they come to.

use rocket::http::Status;

use crate::{
    common::{App, KEY},
    recorder::{Recorder, Secrets},
    server::Server,
    support::{Browser, TestProvider},
};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// The ways to write a path of two segments, the first is the usual one.
fn spellings(path: &str) -> Vec<String> {
    let (first, second) = path[1..].split_once('/').unwrap();
    let escaped = |text: &str, upper: bool| -> String {
        let (head, tail) = text.split_at(1);
        let byte = head.as_bytes()[0];
        if upper {
            format!("%{byte:02X}{tail}")
        } else {
            format!("%{byte:02x}{tail}")
        }
    };
    vec![
        format!("/{first}/{second}"),
        format!("/{first}/{second}/"),
        format!("//{first}/{second}"),
        format!("/{first}//{second}//"),
        format!("/./{first}/./{second}/."),
        format!("/{first}/elsewhere/../{second}"),
        format!("/../{first}/{second}"),
        format!("/{first}/%2e/{second}"),
        format!("/{first}/x/%2E%2e/{second}"),
        format!("/{first}/{}", escaped(second, true)),
        format!("/{first}/{}", escaped(second, false)),
        format!("/{}/{second}", escaped(first, true)),
        format!("/{}/{second}", escaped(first, false)),
        format!("/{first}%2F{second}"),
        format!("/{first}%2f{second}%2f"),
        format!("/{first}%5C{second}"),
        format!("/{first}/%25{:02x}{}", second.as_bytes()[0], &second[1..]),
        format!("/{first}/{second};v=1"),
        format!("/{first}/{second}%20"),
        format!("/{first}/{second}%00"),
        format!("/{}/{}", first.to_ascii_uppercase(), second.to_ascii_uppercase()),
    ]
}

/// Sends each query to each spelling with each method, over the network, and reads Rocket's log.
pub async fn are_in_no_line(recorder: &Recorder) {
    const CODE: &str = "a-code-that-somebody-may-still-exchange";
    const STATE: &str = "a-state-that-belongs-to-the-code";
    const SID: &str = "a-sid-that-ends-the-session-of-somebody";

    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("log_level", "normal")
        .with("oidc.frontchannel_logout", true)
        .with("secret_key", KEY)
        .with("oidc.post_logout_redirect_uri", "/good/bye");
    // A sign-out under way.
    let browser = Browser::open(app.rocket()).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let page = browser.submit("/oidc/logout", "").await;
    let location = page.location.expect("the provider's end-session endpoint");
    let returned = provider.end_session(&location).expect("a way back");
    let logout_state = returned.split_once("state=").expect("a state").1;
    let cookies: Vec<_> = browser.cookies();
    let cookies = cookies.iter().map(|(name, value)| format!("{name}={value}"));
    let cookies = cookies.collect::<Vec<_>>().join("; ");

    let mut secrets = Secrets::default();
    secrets.add("code", CODE);
    secrets.add("state", STATE);
    secrets.add("sid", SID);
    secrets.add("state of a sign-out", logout_state);
    let server = Server::start(app.rocket()).await;
    let issuer = provider.issuer();
    let mut found = vec![];
    let mut requests = 0;
    for (path, query) in [
        ("/oidc/authorize", format!("code={CODE}&state={STATE}")),
        ("/oidc/authorize", format!("error=access_denied&&state={STATE}")),
        ("/oidc/frontchannel-logout", format!("iss={issuer}&sid={SID}")),
        ("/oidc/backchannel-logout", format!("logout_token={SID}")),
        ("/oidc/logged-out", format!("state={logout_state}")),
        ("/good/bye", format!("state={logout_state}")),
    ] {
        let mut spellings = spellings(path);
        // The query itself, as a part of the path.
        spellings.push(format!("{path}%3F{query}"));
        spellings.push(format!("{path}%3f{query}"));
        for (i, spelling) in spellings.iter().enumerate() {
            for method in METHODS {
                recorder.clear();
                let address = format!("{spelling}?{query}");
                let answer = server.send(method, &address, &[("Cookie", &cookies)]).await;
                assert!(answer.starts_with("HTTP/1.1 "), "{method} {address}: {answer}");
                assert!(recorder.heard("rocket::server"), "{method} {address}");
                for line in recorder.lines_with(&secrets) {
                    found.push(format!("{method} {address}: {line}"));
                }
                requests += 1;
                // Only the usual one is the route.
                if i > 0 && method != "OPTIONS" {
                    assert!(!answer.contains("Signed out."), "{method} {address}: {answer}");
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} of {requests}: {:#?}",
        found.len(),
        &found[..found.len().min(40)]
    );

    // A query of the app is the app's.
    recorder.clear();
    for path in ["/me", "/oidc/authorize/more", "/good", "/good/bye/all"] {
        let query = "state=a-state-of-the-app-itself-that-it-reads";
        server
            .send("GET", &format!("{path}?{query}"), &[("Cookie", &cookies)])
            .await;
        assert!(recorder.has(&format!("{path}?{query}")), "{path}");
    }
    let query = "state=without-a-sign-out-under-way-it-is-the-apps";
    server.send("GET", &format!("/good/bye?{query}"), &[]).await;
    assert!(recorder.has(&format!("/good/bye?{query}")));
    server.stop().await;
}
