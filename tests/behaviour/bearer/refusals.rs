//! What a caller is told: status, challenge, and the app's own body (RFC 6750 §3).

use serde_json::json;

use super::app::{Answer, Api, METADATA, refused};

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

#[rocket::async_test]
async fn a_malformed_header_is_a_bad_request() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |_| ());
    let good = format!("Bearer {token}");
    let twice = format!("Bearer {token} {token}");
    for (headers, description) in [
        (&["Bearer"][..], "the Authorization header has no token"),
        (
            &[&twice],
            "the Authorization header has more than one token",
        ),
        (
            &[&good, &good],
            "there is more than one Authorization header",
        ),
        (
            &["Bearer a\"b"],
            "the token has characters that no token has",
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
        api.call_with("/whoami", &[&format!("bEARER {token}")])
            .await
            .status,
        200
    );
}

#[rocket::async_test]
async fn a_token_without_the_scope_is_told_which() {
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
        api.log.lines().contains(
            &"INFO: the access token has the scopes [\"notes:write\"], expected \"notes:read\""
                .to_owned()
        )
    );
}

#[rocket::async_test]
async fn a_token_whose_claims_do_not_fit_is_refused() {
    let api = Api::open().await;
    let token = |desk: serde_json::Value| {
        api.provider
            .access_token("", |token| token.set("desk", desk))
    };
    assert_eq!(api.call("/staff", &token(json!(4))).await.body, "desk 4");
    let lacks = refused("the token lacks a claim that this API needs");
    assert_eq!(api.call("/staff", &token(json!("four"))).await, lacks);
    let line = "ERROR: the access token's claims are no `behaviour::bearer::app::Staff`: \
                the claim `desk` is of another type";
    assert!(
        api.log.lines().contains(&line.to_owned()),
        "{:#?}",
        api.log.lines()
    );
}

#[rocket::async_test]
async fn an_optional_token_runs_the_handler() {
    let api = Api::open().await;
    let good = api.whoami(|_| ()).await;
    assert_eq!(good.status, 200);
    let token = api.provider.access_token("", |_| ());
    assert_eq!(
        api.call("/optional", &token).await.body,
        "Some(Some(\"alice\"))"
    );
    let without = api.call_with("/optional", &["Bearer x"]).await;
    assert_eq!(
        (without.status, without.challenge, &*without.body),
        (200, None, "None")
    );
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
    let token = api
        .provider
        .access_token("", |token| token.break_signature = true);
    api.call("/notes", &token).await;
    api.call_with("/notes", &["Bearer opaque-token"]).await;
    let parts: Vec<&str> = token.split('.').chain(["opaque-token"]).collect();
    let lines = api.log.lines();
    assert!(lines.len() >= 4, "{lines:#?}");
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
    assert_eq!(
        api.provider.last_request("/userinfo").bearer(),
        Some(&*token)
    );

    api.provider.on_user_info(|reply| reply.set("sub", "bob"));
    let other = api.provider.access_token("", |_| ());
    assert_eq!(
        api.call("/person", &other).await.body,
        "the UserInfo response is about \"bob\", expected \"alice\""
    );
}
