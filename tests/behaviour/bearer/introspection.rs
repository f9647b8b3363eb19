//! Opaque tokens: what the provider says about them, how often it is asked, and by what right.

use std::time::Duration;

use rocket::futures::future::join_all;
use serde_json::json;

use super::app::{Answer, Api, METADATA, refused};
use crate::support::{Reply, TestProvider, case};

const INTROSPECT: &str = "/introspect";

/// The form in each request about the token `opaque`.
const QUESTION: [(&str, &str); 2] = [("token", "opaque"), ("token_type_hint", "access_token")];

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What the provider says about the token `opaque`, changed in one way.
fn say(provider: &TestProvider, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
    let issuer = provider.issuer();
    provider.on_introspection(move |reply| {
        *reply = Reply::json(json!({
            "active": true, "iss": issuer, "aud": TestProvider::API, "sub": "alice",
            "client_id": "client", "scope": "notes:read", "exp": crate::common::NOW + 300,
            "token_type": "Bearer",
        }));
        change(reply);
    });
}

async fn open(settings: serde_json::Value) -> Api {
    let api = Api::with(settings).await;
    say(&api.provider, |_| ());
    api
}

#[rocket::async_test]
async fn an_opaque_token_is_asked_about() {
    let api = open(json!({})).await;
    assert_eq!(api.call("/notes", "opaque").await.body, "notes of Some(\"alice\")");
    let request = api.provider.last_request(INTROSPECT);
    assert_eq!(request.basic(), Some(("client".to_owned(), "correct horse".to_owned())));
    assert_eq!(request.form, QUESTION.map(owned));
}

#[rocket::async_test]
async fn introspection_by_client_secret_post() {
    let api = open(json!({ "introspection_auth_method": "client_secret_post" })).await;
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
    let request = api.provider.last_request(INTROSPECT);
    let client = [("client_id", "client"), ("client_secret", "correct horse")];
    assert_eq!(
        request.form,
        [QUESTION, client].concat().into_iter().map(owned).collect::<Vec<_>>()
    );
    assert_eq!(request.header("authorization"), None);
}

/// The method of the token endpoint, chosen or negotiated there, if the metadata lists it or lists nothing; else what it
/// lists. A list without one that this client can use leaves it to the token endpoint.
#[rocket::async_test]
async fn introspection_as_the_metadata_lists() {
    const POST: &str = "client_secret_post";
    const BASIC: &str = "client_secret_basic";
    for (listed, at_token_endpoint, set, expected) in [
        (json!([BASIC]), json!([POST, BASIC]), None, BASIC),
        (json!(BASIC), json!([POST]), None, BASIC),
        (json!([POST]), json!([BASIC]), None, POST),
        (json!([POST, BASIC]), json!([POST]), None, POST),
        (json!([POST, BASIC]), json!([BASIC]), None, BASIC),
        (json!([POST, BASIC]), json!(null), None, BASIC),
        (json!(["private_key_jwt", POST]), json!([BASIC]), None, POST),
        (json!(["tls_client_auth", "Bearer"]), json!([POST]), None, POST),
        (json!([]), json!([BASIC]), None, BASIC),
        (json!(7), json!([BASIC]), None, BASIC),
        (json!(null), json!([BASIC]), None, BASIC),
        (json!(null), json!([POST]), None, POST),
        (json!(null), json!([BASIC, POST]), None, BASIC),
        (json!(null), json!(null), None, BASIC),
        // What is set takes precedence.
        (json!([BASIC]), json!([BASIC]), Some(POST), POST),
        (json!([POST]), json!([POST]), Some(BASIC), BASIC),
    ] {
        let name = format!("{listed} {at_token_endpoint} {set:?}");
        let provider = TestProvider::start().await;
        provider.metadata(|metadata| {
            let member = "introspection_endpoint_auth_methods_supported";
            metadata.insert(member.to_owned(), listed);
            let member = "token_endpoint_auth_methods_supported";
            metadata.insert(member.to_owned(), at_token_endpoint);
        });
        say(&provider, |_| ());
        let api = Api::at(provider, json!({ "introspection_auth_method": set })).await;
        assert_eq!(api.call("/notes", "opaque").await.status, 200, "{name}");
        let request = api.provider.last_request(INTROSPECT);
        let found = match (request.basic(), request.form_value("client_secret")) {
            (Some(_), None) => BASIC,
            (None, Some(_)) => POST,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(found, expected, "{name}");
    }
}

/// A client that is registered for one method at the token endpoint uses it here too, as at Keycloak, which lists all methods
/// and accepts the client's own. An endpoint of client secrets has no list.
#[rocket::async_test]
async fn introspection_by_the_method_that_is_set_for_the_token_endpoint() {
    let all = json!([
        "private_key_jwt",
        "client_secret_basic",
        "client_secret_post",
        "tls_client_auth",
        "client_secret_jwt"
    ]);
    for (method, is_in_a_header) in [("client_secret_basic", true), ("client_secret_post", false)] {
        for listed in [all.clone(), json!(null), json!([method])] {
            let provider = TestProvider::start().await;
            provider.metadata(|metadata| {
                let member = "introspection_endpoint_auth_methods_supported";
                metadata.insert(member.to_owned(), listed.clone());
            });
            say(&provider, |_| ());
            let settings = json!({ "token_endpoint_auth_method": method });
            let api = Api::at(provider, settings).await;
            assert_eq!(api.call("/notes", "opaque").await.status, 200);
            let request = api.provider.last_request(INTROSPECT);
            assert_eq!(request.basic().is_some(), is_in_a_header, "{listed}");
            assert_eq!(request.form_value("client_secret").is_some(), !is_in_a_header);
        }
        let provider = TestProvider::start().await;
        let web = json!({
            "issuer": provider.issuer(), "client_id": "client", "client_secret": "correct horse",
            "token_introspection_uri": format!("{}/introspect", provider.issuer()),
        });
        say(&provider, |_| ());
        let settings = json!({
            "token_endpoint_auth_method": method, "client_secrets": { "web": web },
            "issuer": null, "client_id": null, "client_secret": null,
        });
        let api = Api::at(provider, settings).await;
        assert_eq!(api.call("/notes", "opaque").await.status, 200);
        let request = api.provider.last_request(INTROSPECT);
        assert_eq!(request.basic().is_some(), is_in_a_header, "{method}");
    }
}

/// What stands for itself in neither a form nor a header.
#[rocket::async_test]
async fn introspection_with_an_odd_secret() {
    let secret = "ü:&=+ %\"";
    for method in ["client_secret_basic", "client_secret_post"] {
        let settings = json!({
            "introspection_auth_method": method, "client_id": "a:b c", "client_secret": secret,
        });
        let api = open(settings).await;
        assert_eq!(api.call("/notes", "o+p~a/que==").await.status, 200);
        let request = api.provider.last_request(INTROSPECT);
        assert_eq!(request.form_value("token"), Some("o+p~a/que=="));
        let in_form = (
            request.form_value("client_id").map(str::to_owned),
            request.form_value("client_secret").map(str::to_owned),
        );
        let expected = ("a:b c".to_owned(), secret.to_owned());
        match request.basic() {
            Some(basic) => assert_eq!((basic, in_form), (expected, (None, None))),
            None => assert_eq!(in_form, (Some(expected.0), Some(expected.1))),
        }
    }
}

/// A public client has nothing but its name.
#[rocket::async_test]
async fn introspection_without_a_secret() {
    let api = open(json!({ "client_secret": null })).await;
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
    let request = api.provider.last_request(INTROSPECT);
    let name = owned(("client_id", "client"));
    assert_eq!(request.form, [&QUESTION.map(owned)[..], &[name]].concat());
    assert_eq!(request.header("authorization"), None);
}

#[rocket::async_test]
async fn introspection_by_the_token_itself() {
    let api = open(json!({ "introspection_auth_method": "bearer" })).await;
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
    let request = api.provider.last_request(INTROSPECT);
    assert_eq!(request.bearer(), Some("opaque"));
    assert_eq!(request.form, QUESTION.map(owned));
}

#[rocket::async_test]
async fn the_claims_of_an_introspection_are_checked() {
    for (member, value, description) in [
        ("active", json!(false), "the token is not active"),
        ("aud", json!("other"), "the token is meant for another API"),
        ("exp", json!(crate::common::NOW - 60), "the token has expired"),
        ("nbf", json!(crate::common::NOW + 61), "the token is not valid yet"),
        ("token_type", json!("refresh_token"), "the token is not an access token"),
        ("cnf", json!({}), "the token is bound in a way that is not accepted"),
    ] {
        case(description);
        let api = open(json!({})).await;
        assert_eq!(api.call("/whoami", "opaque").await.status, 200);
        say(&api.provider, move |reply| reply.set(member, value.clone()));
        assert_eq!(api.call("/whoami", "other").await, refused(description), "{member}");
    }
}

#[rocket::async_test]
async fn times_may_be_floats_and_lesser_members_absent() {
    let api = open(json!({})).await;
    say(&api.provider, |reply| {
        reply.set("exp", json!(crate::common::NOW as f64 + 300.5));
        reply.set("iss", "");
        reply.set("client_id", json!(null));
        reply.remove("token_type");
    });
    assert_eq!(api.call("/whoami", "opaque").await.status, 200);
}

/// What does not say which API it is for is for none, unless a setting says otherwise.
#[rocket::async_test]
async fn introspection_without_audience() {
    let without = |reply: &mut Reply| reply.remove("aud");
    let nothing = |reply: &mut Reply| reply.set("aud", json!(null));
    let api = open(json!({})).await;
    assert_eq!(api.call("/whoami", "opaque").await.status, 200);
    let refusal = refused("the token has no audience");
    say(&api.provider, without);
    assert_eq!(api.call("/whoami", "without").await, refusal);
    say(&api.provider, nothing);
    assert_eq!(api.call("/whoami", "nothing").await, refusal);
    let said = [
        "DEBUG: the access token is rejected: the introspection response has no \"aud\", \
         expected one of [\"https://api.example.com\"]",
        "DEBUG: have the provider name this API in the `aud` of its introspection responses; if every token \
         that it reports as active may be used here, set `insecure_introspection_without_audience = true`",
    ];
    let lines = api.log.debug_lines();
    assert!(lines.windows(2).any(|pair| pair == said), "{lines:#?}");

    let api = open(json!({ "insecure_introspection_without_audience": true })).await;
    let warning = "WARN: `insecure_introspection_without_audience`: a token for another API is \
                   accepted when introspection does not say which it is for";
    let lines = api.log.lines();
    assert!(lines.iter().any(|line| line == warning), "{lines:#?}");
    say(&api.provider, without);
    for _ in 0..2 {
        assert_eq!(api.call("/whoami", "opaque").await.status, 200);
    }
    say(&api.provider, |reply| reply.set("aud", "other"));
    assert_eq!(
        api.call("/whoami", "other").await,
        refused("the token is meant for another API")
    );

    let api = open(json!({ "audience": null, "resource": "https://api.example.com" })).await;
    say(&api.provider, without);
    assert_eq!(api.call("/whoami", "opaque").await, refusal_at_resource());
}

fn refusal_at_resource() -> Answer {
    let mut refusal = refused("the token has no audience");
    let challenge = refusal.challenge.take().unwrap();
    refusal.challenge = Some(challenge.replace("http://localhost:8000", "https://api.example.com"));
    refusal
}

/// A yes counts for a minute, or until `exp`.
#[rocket::async_test]
async fn the_answer_is_cached_for_a_minute() {
    let api = open(json!({})).await;
    for _ in 0..3 {
        assert_eq!(api.call("/notes", "opaque").await.status, 200);
    }
    assert_eq!(api.provider.count(INTROSPECT), 1);
    api.clock.advance(Duration::from_secs(59));
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
    assert_eq!(api.provider.count(INTROSPECT), 1);
    api.clock.advance(Duration::from_secs(1));
    say(&api.provider, |reply| reply.set("active", false));
    assert_eq!(api.call("/notes", "opaque").await, refused("the token is not active"));
    assert_eq!(api.provider.count(INTROSPECT), 2);
}

#[rocket::async_test]
async fn the_answer_is_not_cached_beyond_exp() {
    let api = open(json!({ "clock_skew": 0 })).await;
    say(&api.provider, |reply| reply.set("exp", crate::common::NOW + 10));
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
    api.clock.advance(Duration::from_secs(10));
    assert_eq!(api.call("/notes", "opaque").await, refused("the token has expired"));
}

/// Clocks differ: from `exp` on, the provider decides, and is asked each time.
#[rocket::async_test]
async fn after_exp_the_provider_is_asked_again() {
    let api = open(json!({})).await;
    say(&api.provider, |reply| reply.set("exp", crate::common::NOW + 10));
    for _ in 0..2 {
        assert_eq!(api.call("/notes", "opaque").await.status, 200);
    }
    assert_eq!(api.provider.count(INTROSPECT), 1);
    api.clock.advance(Duration::from_secs(10));
    for _ in 0..2 {
        assert_eq!(api.call("/notes", "opaque").await.status, 200);
    }
    assert_eq!(api.provider.count(INTROSPECT), 3);
    say(&api.provider, |reply| reply.set("active", false));
    assert_eq!(api.call("/notes", "opaque").await, refused("the token is not active"));
}

/// A no counts for five seconds.
#[rocket::async_test]
async fn a_refusal_is_cached_for_a_short_time() {
    let api = open(json!({})).await;
    say(&api.provider, |reply| reply.set("active", false));
    for _ in 0..3 {
        assert_eq!(api.call("/notes", "opaque").await, refused("the token is not active"));
    }
    assert_eq!(api.provider.count(INTROSPECT), 1);
    say(&api.provider, |_| ());
    api.clock.advance(Duration::from_secs(4));
    assert_eq!(api.call("/notes", "opaque").await.status, 401);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
}

#[rocket::async_test]
async fn one_question_is_under_way_per_token() {
    let api = open(json!({})).await;
    let held = api.provider.hold(INTROSPECT);
    let calls = join_all((0..20).map(|_| api.call("/notes", "opaque")));
    let release = async {
        api.provider.until_requested(INTROSPECT, 1).await;
        held.release();
    };
    let (answers, ()) = rocket::futures::future::join(calls, release).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(api.provider.count(INTROSPECT), 1);
}

/// Nor does an outage make each of those who wait ask for itself.
#[rocket::async_test]
async fn waiting_requests_share_an_outage() {
    let api = open(json!({})).await;
    api.provider.on_introspection(|reply| *reply = Reply::status(500));
    let held = api.provider.hold(INTROSPECT);
    let calls = join_all((0..20).map(|_| api.call("/notes", "opaque")));
    let release = async {
        api.provider.until_requested(INTROSPECT, 1).await;
        held.release();
    };
    let (answers, ()) = rocket::futures::future::join(calls, release).await;
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    assert_eq!(api.provider.count(INTROSPECT), 1);
    say(&api.provider, |_| ());
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
}

#[rocket::async_test]
async fn without_the_cache_the_provider_is_asked_each_time() {
    let api = open(json!({ "token_cache": false })).await;
    for _ in 0..3 {
        assert_eq!(api.call("/notes", "opaque").await.status, 200);
    }
    assert_eq!(api.provider.count(INTROSPECT), 3);
}

/// Never a 401, which would make clients throw their tokens away.
#[rocket::async_test]
async fn a_provider_that_is_down_is_503() {
    let api = open(json!({})).await;
    assert_eq!(api.call("/notes", "seen").await.status, 200);
    api.provider.stop();
    let down = Answer {
        status: 503,
        challenge: None,
        retry_after: Some("5".to_owned()),
        body: "wrong".to_owned(),
    };
    assert_eq!(api.call("/notes", "opaque").await, down);
    assert_eq!(api.call("/notes", "seen").await.status, 200);
    api.provider.restart();
    assert_eq!(api.call("/notes", "opaque").await.status, 200);

    api.provider.on_path(INTROSPECT, Reply::status(500));
    assert_eq!(api.call("/notes", "another").await, down);
}

#[rocket::async_test]
async fn an_introspection_that_is_refused_is_502() {
    let api = open(json!({})).await;
    api.provider.on_path(INTROSPECT, Reply::status(401));
    assert_eq!(api.call("/notes", "opaque").await.status, 502);
    let lines = api.log.lines();
    assert!(
        lines.contains(
            &"INFO: check `oidc.client_id`, `oidc.client_secret` and \
              `oidc.introspection_auth_method`, and that this client may introspect tokens at the provider"
                .to_owned()
        ),
        "{lines:#?}"
    );
}

/// An answer that does not say whether the token is active says nothing about the token.
#[rocket::async_test]
async fn an_introspection_of_no_use_is_502() {
    let useless = [
        (
            Reply::text("text/html", "<h1>Welcome</h1>"),
            "sent an invalid response: the introspection response cannot be parsed: \
             not valid JSON: parsing failed at line 1, column 1",
        ),
        (
            Reply::json(json!([{ "active": true }])),
            "sent an invalid response: the introspection response cannot be parsed: \
             expected a JSON object, found an array",
        ),
        (
            Reply::text("application/json", r#"{"active":false,"active":true,"sub":"a"}"#),
            "sent an invalid response: the introspection response cannot be parsed: \
             the member \"active\" occurs more than once in one JSON object",
        ),
        (
            Reply::json(json!({ "sub": "alice" })),
            "sent an invalid response: the claim \"active\" is missing",
        ),
        (
            Reply::json(json!({ "active": "true", "sub": "alice" })),
            "sent an invalid response: the claim \"active\" is a string, not a boolean",
        ),
        (
            Reply::json(json!({ "active": null, "sub": "alice" })),
            "sent an invalid response: the claim \"active\" is missing",
        ),
        (
            Reply::json(json!({ "active": true, "sub": "alice", "exp": "1", "aud": TestProvider::API })),
            "sent an invalid response: the claim \"exp\" is a string, not a number",
        ),
        (
            Reply::json(json!({ "active": true, "sub": ["alice"], "aud": TestProvider::API })),
            "sent an invalid response: the claim \"sub\" is an array, not a string",
        ),
        (
            Reply::json(json!({ "active": true, "sub": "alice", "iss": 7, "aud": TestProvider::API })),
            "sent an invalid response: the claim \"iss\" is a number, not a string",
        ),
        (
            Reply::json(json!({ "active": true, "sub": "alice", "aud": 7 })),
            "sent an invalid response: the claim \"aud\" is a number, not a string or an array of strings",
        ),
        (Reply::status(204), "responded with status 204"),
        (Reply::status(404), "responded with status 404"),
        (
            Reply::error(400, "invalid_request", "no"),
            "rejected the request with `invalid_client`: status 400",
        ),
        (
            Reply::status(403),
            "rejected the request with `invalid_client`: status 403",
        ),
    ];
    let api = open(json!({})).await;
    for (i, (reply, logged)) in useless.into_iter().enumerate() {
        case(logged);
        api.provider.on_path(INTROSPECT, reply);
        let answer = api.call("/notes", "opaque").await;
        let bad_gateway = Answer {
            status: 502,
            challenge: None,
            retry_after: None,
            body: "wrong".to_owned(),
        };
        assert_eq!(answer, bad_gateway, "{logged}");
        // The first of a reason is an error, and those of the next minute are at `debug`.
        let line = format!("the provider's introspection endpoint {logged}");
        let lines = [api.log.lines(), api.log.debug_lines()].concat();
        let levels = ["ERROR", "DEBUG"].map(|level| format!("{level}: {line}"));
        assert!(levels.iter().any(|it| lines.contains(it)), "{line}");
        // Nothing of it is remembered.
        assert_eq!(api.provider.count(INTROSPECT), i + 1);
    }
    api.provider.clear_path(INTROSPECT);
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
}

/// A reply about another issuer's token is the provider's mistake, not the caller's.
#[rocket::async_test]
async fn introspection_of_another_issuer_is_502() {
    let api = open(json!({})).await;
    say(&api.provider, |reply| reply.set("iss", "https://other.example"));
    let answer = api.call("/notes", "opaque").await;
    assert_eq!((answer.status, answer.challenge), (502, None));
    say(&api.provider, |_| ());
    assert_eq!(api.call("/notes", "opaque").await.status, 200);
}

/// With the token as credential, 401 is the provider's word on the token (RFC 7662 §2.3).
#[rocket::async_test]
async fn introspection_by_the_token_itself_refuses_the_token() {
    let api = open(json!({ "introspection_auth_method": "bearer" })).await;
    let unauthorized = Reply::status(401).with_header("WWW-Authenticate", "Bearer error=\"invalid_token\"");
    api.provider.on_path(INTROSPECT, unauthorized);
    let refusal = refused("the token is not active");
    assert_eq!(api.call("/notes", "opaque").await, refusal);
    assert_eq!(api.call("/notes", "opaque").await, refusal);
    assert_eq!(api.provider.count(INTROSPECT), 1);
    api.provider.on_path(INTROSPECT, Reply::status(403));
    assert_eq!(api.call("/notes", "other").await.status, 502);
}

#[rocket::async_test]
async fn a_provider_without_introspection_leaves_jwts() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| drop(metadata.remove("introspection_endpoint")));
    let api = Api::at(provider, json!({})).await;
    assert_eq!(api.call("/notes", "opaque").await, refused("the token is not a JWT"));
    assert_eq!(api.whoami(|_| ()).await.status, 200);
}

#[rocket::async_test]
async fn tokens_can_be_checked_in_one_way_only() {
    let api = open(json!({ "token_validation": "jwt" })).await;
    let malformed = refused("the token is not a well-formed signed JWT");
    assert_eq!(api.call("/notes", "opaque").await, malformed);
    assert_eq!(api.provider.count(INTROSPECT), 0);

    let api = open(json!({ "token_validation": "introspection" })).await;
    let token = api.provider.access_token("notes:read", |_| ());
    assert_eq!(api.call("/notes", &token).await.status, 200);
    assert_eq!(api.provider.count(INTROSPECT), 1);
    assert_eq!(api.provider.count("/jwks"), 0);
}

/// With the endpoint of client secrets, nothing need be discovered to ask about a token.
#[rocket::async_test]
async fn client_secrets_name_the_endpoint() {
    let provider = TestProvider::start().await;
    let elsewhere = TestProvider::start().await;
    say(&elsewhere, |reply| reply.remove("iss"));
    let settings = json!({ "client_secrets": {
        "token_introspection_uri": format!("{}{INTROSPECT}", elsewhere.issuer()),
    } });
    let api = Api::at(provider, settings).await;
    let answer = api.call("/notes", "opaque").await;
    assert_eq!(answer.status, 200, "{:#?}", api.log.lines());
    assert_eq!((elsewhere.count(INTROSPECT), api.provider.count(INTROSPECT)), (1, 0));
}

#[rocket::async_test]
async fn the_challenge_of_an_opaque_token_is_as_any() {
    let api = open(json!({})).await;
    say(&api.provider, |reply| reply.set("scope", "notes:write"));
    let answer = api.call("/notes", "opaque").await;
    assert_eq!(answer.status, 403);
    assert!(answer.challenge.unwrap().ends_with(METADATA));
}
