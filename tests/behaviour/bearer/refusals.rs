//! What a caller is told: status, challenge, and the app's own body (RFC 6750 §3).

use std::time::Duration;

use rocket::{fairing::AdHoc, http::Header, local::asynchronous::Client};
use rocket_openidconnect::{Bearer, Clock, Oidc};
use serde_json::json;

use super::app::{Answer, Api, METADATA, NotesRead, refused, rocket};
use crate::support::{JwtParts, Reply, TestProvider};

fn answer(status: u16, challenge: &str, body: &str) -> Answer {
    Answer {
        status,
        challenge: Some(format!("Bearer realm=\"api\"{challenge}, {METADATA}")),
        retry_after: None,
        body: body.to_owned(),
    }
}

#[rocket::async_test]
async fn without_a_token_the_challenge_is_bare() {
    let api = Api::open().await;
    let bare = answer(401, "", "no");
    assert_eq!(api.call_with("/whoami", &[]).await, bare);
    // Another scheme is no token.
    assert_eq!(api.call_with("/whoami", &["Basic YTpi"]).await, bare);
    // Nor is one in the query.
    let token = api.provider.access_token("notes:read", |_| ());
    let in_query = format!("/whoami?access_token={token}");
    assert_eq!(api.call_with(&in_query, &[]).await, bare);
    // The launch's own warning, and no line of these requests.
    assert_eq!(api.log.lines().len(), 1);
}

/// A client without a token learns what to ask for (RFC 6750 §3): of alternatives, the one of fewest words.
#[rocket::async_test]
async fn without_a_token_the_challenge_names_the_scope() {
    let api = Api::open().await;
    for (path, scope) in [("/notes", "notes:read"), ("/admin", "admin")] {
        let expected = answer(401, &format!(", scope=\"{scope}\""), "no");
        assert_eq!(api.call_with(path, &[]).await, expected);
        assert_eq!(api.call_with(path, &["Basic YTpi"]).await, expected);
    }
    // A route for people too asks them for no scope, and clients for this one.
    let either = answer(401, ", scope=\"notes:read\"", "no");
    assert_eq!(api.call_with("/either", &[]).await, either);
    // A token that is refused, or cannot be read, says nothing about its scope.
    for token in ["", "x"] {
        let refused = api.call("/notes", token).await;
        let challenge = refused.challenge.unwrap();
        assert!(!challenge.contains("scope"), "{challenge}");
    }
}

/// A script of another origin sees of an answer's headers those that are listed.
#[rocket::async_test]
async fn scripts_may_read_the_challenge() {
    const EXPOSE: &str = "Access-Control-Expose-Headers";
    let api = Api::open().await;
    let exposed = async |path: &'static str, authorization: &str| {
        let mut request = api.client.get(path);
        if !authorization.is_empty() {
            request.add_header(Header::new("Authorization", authorization.to_owned()));
        }
        let response = request.dispatch().await;
        let headers = response.headers().get(EXPOSE).map(str::to_owned);
        (response.status().code, headers.collect::<Vec<_>>())
    };
    let challenge = vec!["WWW-Authenticate".to_owned()];
    let without_scope = api.provider.access_token("", |_| ());
    let without_scope = format!("Bearer {without_scope}");
    let good = api.provider.access_token("notes:read", |_| ());
    for (path, authorization, expected) in [
        ("/notes", "", (401, challenge.clone())),
        ("/notes", "Bearer x", (401, challenge.clone())),
        ("/notes", &without_scope, (403, challenge.clone())),
        ("/notes", "Bearer", (400, challenge.clone())),
        ("/either", "", (401, challenge.clone())),
        ("/notes", &format!("Bearer {good}"), (200, vec![])),
        ("/optional", "Bearer x", (200, vec![])),
    ] {
        assert_eq!(exposed(path, authorization).await, expected, "{path}");
    }
    api.provider.on_path("/introspect", Reply::status(503));
    let expected = (503, vec!["Retry-After".to_owned()]);
    assert_eq!(exposed("/notes", "Bearer y").await, expected);
}

/// What the app exposes stays, and nobody is let in who was not.
#[rocket::async_test]
async fn an_apps_own_cors_headers_stay() {
    const EXPOSE: &str = "Access-Control-Expose-Headers";
    for (own, expected) in [
        (&["X-Total"][..], &["X-Total", "WWW-Authenticate"][..]),
        (&["*"], &["*", "WWW-Authenticate"]),
        (&["X-Total, www-authenticate"], &["X-Total, www-authenticate"]),
        (&["X-Total", "WWW-Authenticate"], &["X-Total", "WWW-Authenticate"]),
        (&[], &["WWW-Authenticate"]),
    ] {
        let cors = AdHoc::on_response("CORS", move |_, response| {
            Box::pin(async move {
                let origin = Header::new("Access-Control-Allow-Origin", "https://client.example");
                response.set_header(origin);
                for names in own {
                    response.adjoin_header(Header::new(EXPOSE, *names));
                }
            })
        });
        let provider = TestProvider::start().await;
        let clock = Clock::fixed_at(crate::common::NOW);
        let oidc = rocket(&provider, json!({}), &clock);
        let figment = oidc.figment().clone();
        #[rocket::get("/notes")]
        fn notes(_token: Bearer<NotesRead>) {}
        let app = ::rocket::custom(figment)
            .attach(cors)
            .attach(Oidc::fairing().clock(clock))
            .mount("/", ::rocket::routes![notes]);
        let client = Client::untracked(app).await.unwrap();
        let response = client.get("/notes").dispatch().await;
        let found: Vec<_> = response.headers().get(EXPOSE).collect();
        assert_eq!(found, expected);
        let origins: Vec<_> = response.headers().get("Access-Control-Allow-Origin").collect();
        assert_eq!(origins, ["https://client.example"]);
    }
}

/// Anybody can have a token refused, as often as they like.
#[rocket::async_test]
async fn refused_tokens_are_quiet() {
    let api = Api::open().await;
    let from_launch = api.log.lines();
    let token = |change: fn(&mut JwtParts)| {
        let token = api.provider.access_token("", change);
        format!("Bearer {token}")
    };
    for (what, authorization) in [
        ("expired", token(|token| token.set("exp", crate::common::NOW - 61))),
        ("for another", token(|token| token.set("aud", "other"))),
        ("by another", token(|token| token.set("iss", "https://evil.example"))),
        ("damaged", token(|token| token.break_signature = true)),
        ("by no key", token(|token| token.set_header("kid", "unknown"))),
        ("without the scope", token(|_| ())),
        ("opaque", "Bearer opaque".to_owned()),
        ("two", "Bearer a b".to_owned()),
        ("unsigned", "Bearer eyJhbGciOiJub25lIn0.e30.".to_owned()),
    ] {
        for _ in 0..200 {
            let status = api.call_with("/notes", &[&authorization]).await.status;
            assert!(matches!(status, 400 | 401 | 403), "{what}: {status}");
        }
        let lines = api.log.lines();
        assert_eq!(lines, from_launch, "{what}");
    }
    let refused = api.log.debug_lines();
    let of_expired = refused.iter().filter(|line| line.contains("the token expired at"));
    assert_eq!(of_expired.count(), 200);
}

/// What the operator has to look after is said once a minute, with how often it was.
#[rocket::async_test]
async fn warnings_for_operators_are_logged_once_a_minute() {
    let api = Api::open().await;
    let from_launch = api.log.lines().len();
    let lines = || api.log.lines().split_off(from_launch);
    let ill = api.provider.access_token("", |token| token.set("desk", "four"));
    api.provider.on_path("/introspect", Reply::status(503));
    let flood = async || {
        for _ in 0..200 {
            assert_eq!(api.call("/staff", &ill).await.status, 401);
        }
        for i in 0..200 {
            assert_eq!(api.call("/notes", &format!("opaque-{i}")).await.status, 503);
        }
    };
    flood().await;
    let claims = "ERROR: the access token's claims do not deserialize into `behaviour::bearer::app::Staff`: \
                  the claim `desk` is of another type";
    let make_optional = "INFO: make the claim optional in that type, or have the provider send it";
    let down = lines()[2].clone();
    let try_again = lines()[3].clone();
    assert!(
        down.starts_with("ERROR: the provider's introspection endpoint"),
        "{down}"
    );
    assert!(try_again.starts_with("INFO: "), "{try_again}");
    let expected = [claims, make_optional, &*down, &*try_again];
    assert_eq!(lines(), expected);

    api.clock.advance(Duration::from_secs(59));
    flood().await;
    assert_eq!(lines().len(), 4);
    api.clock.advance(Duration::from_secs(5));
    flood().await;
    let expected = [
        format!("{claims}; 399 similar lines were suppressed"),
        make_optional.to_owned(),
        format!("{down}; 399 similar lines were suppressed"),
        try_again,
    ];
    assert_eq!(lines()[4..], expected);
}

#[rocket::async_test]
async fn a_malformed_header_is_a_bad_request() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |_| ());
    let good = format!("Bearer {token}");
    let twice = format!("Bearer {token} {token}");
    for (headers, description) in [
        (&["Bearer"][..], "the Authorization header has no token"),
        (&[&twice], "the Authorization header has more than one token"),
        (&[&good, &good], "there is more than one Authorization header"),
        (
            &["Bearer a\"b"],
            "the token has characters that are not allowed in a token",
        ),
    ] {
        let challenge = format!(", error=\"invalid_request\", error_description=\"{description}\"");
        assert_eq!(
            api.call_with("/whoami", headers).await,
            answer(400, &challenge, "wrong")
        );
    }
    // The scheme is written in any case (RFC 9110 §11.1).
    assert_eq!(
        api.call_with("/whoami", &[&format!("bEARER {token}")]).await.status,
        200
    );
}

#[rocket::async_test]
async fn a_challenge_names_the_missing_scope() {
    let api = Api::open().await;
    let lacks = |scope: &str| {
        let challenge = format!(
            ", error=\"insufficient_scope\", error_description=\"the token does not allow this\", scope=\"{scope}\""
        );
        answer(403, &challenge, "not this")
    };
    for (path, scope, expected) in [
        ("/notes", "notes:write", Some("notes:read")),
        ("/notes", "", Some("notes:read")),
        ("/notes", "notes:read", None),
        ("/notes", "x notes:read y", None),
        ("/admin", "notes:write", Some("notes:read notes:write")),
        ("/admin", "", Some("admin")),
        ("/admin", "notes:write notes:read", None),
        ("/admin", "admin", None),
    ] {
        let token = api.provider.access_token(scope, |_| ());
        let found = api.call(path, &token).await;
        match expected {
            Some(missing) => assert_eq!(found, lacks(missing), "{path} with {scope:?}"),
            None => assert_eq!(found.status, 200, "{path} with {scope:?}"),
        }
    }
    assert!(
        api.log
            .debug_lines()
            .contains(&"DEBUG: the access token has the scopes [\"notes:write\"], expected \"notes:read\"".to_owned())
    );
}

#[rocket::async_test]
async fn a_token_whose_claims_do_not_fit_is_refused() {
    let api = Api::open().await;
    let token = |desk: serde_json::Value| api.provider.access_token("", |token| token.set("desk", desk));
    assert_eq!(api.call("/staff", &token(json!(4))).await.body, "desk 4");
    let lacks = refused("the token lacks a claim that this API needs");
    assert_eq!(api.call("/staff", &token(json!("four"))).await, lacks);
    let line = "ERROR: the access token's claims do not deserialize into `behaviour::bearer::app::Staff`: \
                the claim `desk` is of another type";
    assert!(api.log.lines().contains(&line.to_owned()), "{:#?}", api.log.lines());
}

#[rocket::async_test]
async fn an_optional_token_runs_the_handler() {
    let api = Api::open().await;
    let good = api.whoami(|_| ()).await;
    assert_eq!(good.status, 200);
    let token = api.provider.access_token("", |_| ());
    assert_eq!(api.call("/optional", &token).await.body, "Some(Some(\"alice\"))");
    let without = api.call_with("/optional", &["Bearer x"]).await;
    assert_eq!((without.status, without.challenge, &*without.body), (200, None, "None"));
}

#[rocket::async_test]
async fn the_realm_can_be_set() {
    let api = Api::with(json!({ "realm": "notes", "resource_metadata": false })).await;
    let found = api.call_with("/whoami", &[]).await;
    assert_eq!(found.challenge.as_deref(), Some("Bearer realm=\"notes\""));
}

#[rocket::async_test]
async fn no_line_of_the_log_has_the_token() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |token| token.break_signature = true);
    api.call("/notes", &token).await;
    api.call_with("/notes", &["Bearer opaque-token"]).await;
    let parts: Vec<&str> = token.split('.').chain(["opaque-token"]).collect();
    let mut lines = api.log.debug_lines();
    assert!(lines.len() >= 4, "{lines:#?}");
    lines.extend(api.log.lines());
    for line in &lines {
        assert!(!parts.iter().any(|part| line.contains(part)), "{line}");
    }
}

#[rocket::async_test]
async fn userinfo_is_asked_once_and_must_be_about_the_subject() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |_| ());
    for _ in 0..2 {
        assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
    }
    assert_eq!(api.provider.count("/userinfo"), 1);
    assert_eq!(api.provider.last_request("/userinfo").bearer(), Some(&*token));

    api.provider.on_user_info(|reply| reply.set("sub", "bob"));
    let other = api.provider.access_token("", |_| ());
    assert_eq!(
        api.call("/person", &other).await.body,
        "the UserInfo response is about \"bob\", expected \"alice\""
    );
}
