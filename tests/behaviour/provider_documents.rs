//! What providers send that is careless, document by document: what is read all the same, and what is not.

use std::time::Duration;

use rocket::http::Status;
use serde_json::{Value, json};

use crate::{
    common::{App, Log, launch_failure},
    support::{Browser, JwtParts, Page, Reply, SigningKey, TestProvider},
};

const TOKEN: &str = "/token";
const JWKS: &str = "/jwks";
const USERINFO: &str = "/userinfo";
const DISCOVERY: &str = TestProvider::DISCOVERY;
/// A token of 300 s is refreshed by then.
const DUE: Duration = Duration::from_secs(285);

/// Signs in after this change, and answers what the app knows.
async fn signs_in(change: impl Fn(&TestProvider)) -> Value {
    let provider = TestProvider::start().await;
    change(&provider);
    let app = App::new(&provider);
    let browser = app.open().await;
    let page = browser.sign_in(&provider, "/me").await;
    assert_eq!(app.failures(), Vec::<String>::new());
    page.is(Status::Ok).json()
}

/// The error of a sign-in after this change.
async fn fails(change: impl Fn(&TestProvider)) -> String {
    let provider = TestProvider::start().await;
    change(&provider);
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    let failures = app.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    failures[0].clone()
}

/// The ID token, with the text of its claims changed.
fn claims_text(provider: &TestProvider, change: impl Fn(String) -> String + Send + Sync + 'static) {
    provider.on_id_token(move |token| {
        token.raw_claims = Some(change(json!(token.claims).to_string()));
    });
}

/// The text of an object, with these members after its own.
fn and(object: String, members: &str) -> String {
    format!("{},{members}}}", object.strip_suffix('}').unwrap())
}

// ---- Metadata.

#[rocket::async_test]
async fn strings_where_metadata_has_lists() {
    signs_in(|provider| {
        provider.metadata(|metadata| {
            for (member, value) in [
                ("token_endpoint_auth_methods_supported", "client_secret_basic"),
                ("scopes_supported", "openid email"),
                ("claims_supported", "sub"),
                ("ui_locales_supported", "en"),
                ("response_types_supported", "code"),
                ("grant_types_supported", "authorization_code"),
                ("display_values_supported", ""),
                ("claim_types_supported", "normal"),
            ] {
                metadata.insert(member.into(), json!(value));
            }
        });
    })
    .await;
}

/// The client authenticates as the string says.
#[rocket::async_test]
async fn a_string_names_the_method_of_authentication() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        let member = "token_endpoint_auth_methods_supported";
        metadata.insert(member.into(), json!("client_secret_post"));
    });
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let request = provider.last_request(TOKEN);
    assert_eq!(request.form_value("client_secret"), Some("hush"));
    assert_eq!(request.basic(), None);
}

#[rocket::async_test]
async fn an_endpoint_that_cannot_be_used_is_absent_and_logged() {
    for (value, actual) in [
        (json!(""), "the empty string"),
        (json!("/userinfo"), "another string"),
        (json!(["/userinfo"]), "an array"),
    ] {
        let provider = TestProvider::start().await;
        provider.metadata(|metadata| drop(metadata.insert("userinfo_endpoint".into(), value)));
        let app = App::new(&provider);
        let log = Log::listen();
        let browser = app.open().await;
        log.has(&format!(
            "WARN: the member `userinfo_endpoint` of the provider's metadata is {actual}, expected an absolute address; it is ignored"
        ));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        assert_eq!(provider.count(USERINFO), 0);
    }
}

/// The launch says which member it is.
#[rocket::async_test]
async fn a_member_that_is_needed_and_cannot_be_used() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| drop(metadata.insert("jwks_uri".into(), json!(7))));
    let error = launch_failure(App::new(&provider).rocket()).await;
    let cause = "the member `jwks_uri` of the provider's metadata is a number, expected an absolute address";
    let remedy =
        "correct the member at the provider, or set `auth_uri`, `token_uri` and `jwks_uri` in `oidc.client_secrets`";
    let lines = [format!("ERROR: {cause}"), format!("INFO: {remedy}")];
    assert_eq!(error.1, lines);
}

// ---- ID token.

#[rocket::async_test]
async fn null_in_an_id_token_is_absent() {
    let me = signs_in(|provider| {
        provider.on_id_token(|token| {
            for claim in ["azp", "at_hash", "nbf", "auth_time", "acr", "sid", "nickname"] {
                token.set(claim, Value::Null);
            }
        });
    })
    .await;
    assert_eq!(me.get("nickname"), None);
}

#[rocket::async_test]
async fn half_of_a_surrogate_pair_in_a_name() {
    let me = signs_in(|provider| {
        provider.on_user_info(|reply| reply.remove("name"));
        claims_text(provider, |claims| {
            and(claims, r#""nickname":"J\ud83d","address":{"formatted":"\ude00"}"#)
        });
    })
    .await;
    assert_eq!(me["nickname"], "J\u{fffd}");
    assert_eq!(me["address"]["formatted"], "\u{fffd}");
}

#[rocket::async_test]
async fn half_of_a_surrogate_pair_in_what_identifies() {
    for (member, value) in [
        ("roles", r#"["admin\ud83d"]"#),
        ("groups", r#"["\ud83d"]"#),
        ("scope", r#""a\ud83d""#),
        ("sid", r#""a\ud83d""#),
        ("jti", r#""a\ud83d""#),
        ("email", r#""a\ud83d@example.com""#),
        ("preferred_username", r#""a\ud83d""#),
        ("realm_access", r#"{"roles":["a\ud83d"]}"#),
    ] {
        let error = fails(|provider| {
            provider.on_id_token(move |token| {
                token.claims.remove(member);
                let claims = json!(token.claims).to_string();
                token.raw_claims = Some(and(claims, &format!("{member:?}:{value}")));
            });
        })
        .await;
        assert_eq!(
            error,
            format!(
                "the ID token is rejected: the payload of the token cannot be parsed: the member {member:?} has an unpaired surrogate, which is not a character"
            )
        );
    }
    for member in ["iss", "sub", "aud", "nonce"] {
        let error = fails(|provider| {
            claims_text(provider, move |claims| {
                let claims: Value = serde_json::from_str(&claims).unwrap();
                let value = claims[member].to_string();
                let broken = value.replacen('"', "\"\\ud83d", 1);
                claims
                    .to_string()
                    .replacen(&format!("{member:?}:{value}"), &format!("{member:?}:{broken}"), 1)
            });
        })
        .await;
        let cause = format!("the member {member:?} has an unpaired surrogate");
        assert!(error.contains(&cause), "{error}");
    }
}

#[rocket::async_test]
async fn a_claim_that_is_there_twice() {
    let email = r#""email":"alice@example.com""#;
    let twice = |other: &'static str| {
        move |provider: &TestProvider| {
            provider.on_id_token(move |token| {
                token.claims.remove("email");
                let claims = json!(token.claims).to_string();
                token.raw_claims = Some(and(claims, &format!("{email},{other}")));
            });
        }
    };
    let me = signs_in(twice(r#""email":"alice@example.com""#)).await;
    assert_eq!(me["email"], "alice@example.com");
    for other in [r#""email":"eve@example.com""#, r#""email":null"#] {
        assert_eq!(
            fails(twice(other)).await,
            "the ID token is rejected: the payload of the token cannot be parsed: the member \"email\" occurs more than once in one JSON object"
        );
    }
}

/// The header is read as the standard says, and nothing else.
#[rocket::async_test]
async fn nothing_is_tolerated_in_the_header() {
    let with_header = |change: fn(String) -> String| {
        move |provider: &TestProvider| {
            provider.on_id_token(move |token| {
                token.raw_header = Some(change(json!(token.header).to_string()));
            });
        }
    };
    for (change, cause) in [
        (
            (|header| and(header, r#""alg":"RS256""#)) as fn(String) -> String,
            "the member \"alg\" occurs more than once in one JSON object",
        ),
        (|header| and(header, r#""x":"\ud83d""#), "not valid JSON"),
        (|header| format!("\u{feff}{header}"), "not valid JSON"),
        (|header| and(header, r#""crit":null"#), "requires header extensions"),
    ] {
        let error = fails(with_header(change)).await;
        assert!(error.contains(cause), "{error}");
    }
}

#[rocket::async_test]
async fn an_id_token_without_nonce() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.remove("nonce"));
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    assert_eq!(
        app.failures(),
        ["the ID token is rejected: the claim \"nonce\" is missing"]
    );

    let app = App::new(&provider).with("oidc.insecure_accept_missing_nonce", true);
    let log = Log::listen();
    let browser = app.open().await;
    log.has("WARN: `insecure_accept_missing_nonce`: an ID token without `nonce` may belong to another sign-in");
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    // One that is there is the right one.
    provider.on_id_token(|token| token.set("nonce", "another"));
    let another = browser.another();
    another.sign_in(&provider, "/me").await.is(Status::BadGateway);
    let failures = app.failures();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("nonce"), "{failures:?}");
}

/// As Microsoft Entra ID does with more groups than it puts into a token.
#[rocket::async_test]
async fn groups_that_are_sent_as_a_reference_are_logged() {
    const TOLD: &str = "WARN: the provider sends `groups` as a reference (`_claim_names`), which is not followed: the session has no such claim";
    for (claims, is_told) in [
        (
            json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.example"}}}),
            true,
        ),
        (json!({"hasgroups": true}), true),
        (json!({"_claim_names": {"groups": "src1"}, "groups": ["a"]}), false),
        (json!({"_claim_names": {"groups": null}}), false),
        (json!({"_claim_names": null}), false),
        (json!({"_claim_names": {}}), false),
        (json!({"hasgroups": "x"}), false),
        (json!({"_claim_names": "groups"}), false),
    ] {
        let provider = TestProvider::start().await;
        let changes = claims.clone();
        provider.on_user_info(|reply| reply.remove("groups"));
        provider.on_id_token(move |token| {
            token.claims.remove("groups");
            token.claims.extend(changes.as_object().unwrap().clone());
        });
        let app = App::new(&provider);
        let browser = app.open().await;
        let log = Log::listen();
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        browser.visit("/me").await.is(Status::Ok);
        let told = log.lines().iter().filter(|line| *line == TOLD).count();
        assert_eq!(told, usize::from(is_told), "{claims} {:#?}", log.lines());
    }
}

// ---- Every document.

#[rocket::async_test]
async fn a_byte_order_mark_is_skipped() {
    fn marked(reply: &mut Reply) {
        reply.body.splice(0..0, *b"\xef\xbb\xbf");
    }
    signs_in(|provider| provider.on_token_response(marked)).await;
    signs_in(|provider| provider.on_jwks(marked)).await;
    signs_in(|provider| provider.on_user_info(marked)).await;
    signs_in(|provider| claims_text(provider, |claims| format!("\u{feff}{claims}"))).await;
    signs_in(|provider| {
        let mut document = Value::Null;
        provider.metadata(|metadata| document = json!(metadata));
        let mut reply = Reply::json(document);
        marked(&mut reply);
        provider.on_path(DISCOVERY, reply);
    })
    .await;
}

/// Adds members to the text of a reply.
fn with_members(reply: &mut Reply, members: &str) {
    let text = String::from_utf8(reply.body.clone()).unwrap();
    reply.body = and(text, members).into_bytes();
}

#[rocket::async_test]
async fn equal_members_and_null_in_replies() {
    signs_in(|provider| {
        provider.on_token_response(|reply| {
            with_members(
                reply,
                r#""token_type":"Bearer","token_type":"Bearer","x":null,"y":1,"y":2"#,
            );
        });
    })
    .await;
    let me = signs_in(|provider| {
        provider.on_user_info(|reply| {
            reply.remove("email");
            with_members(
                reply,
                r#""email":"a@example.com","email":"a@example.com","zoneinfo":null"#,
            );
        });
    })
    .await;
    assert_eq!(me["email"], "a@example.com");
    assert_eq!(me.get("zoneinfo"), None);
}

#[rocket::async_test]
async fn a_token_reply_that_says_two_things() {
    let error = fails(|provider| {
        provider.on_token_response(|reply| {
            with_members(reply, r#""access_token":"another""#);
        });
    })
    .await;
    assert_eq!(
        error,
        "the provider's token endpoint sent an invalid response: `access_token` is present twice, with different values"
    );
    let error = fails(|provider| {
        provider.on_token_response(|reply| {
            reply.remove("access_token");
            with_members(reply, r#""access_token":"a\ud83d""#);
        });
    })
    .await;
    assert_eq!(
        error,
        "the provider's token endpoint sent an invalid response: `access_token` is a string with an unpaired surrogate, which is not a character"
    );
}

/// What the provider says of an error is displayed.
#[rocket::async_test]
async fn half_of_a_surrogate_pair_in_the_words_of_an_error() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    let body = r#"{"error":"invalid_grant","error_description":"J\ud83d"}"#;
    let reply = Reply::text("application/json", body).with_status(400);
    provider.on_path(TOKEN, reply);
    browser.sign_in(&provider, "/me").await.is(Status::BadRequest);
    assert_eq!(
        app.failures(),
        ["the provider's token endpoint rejected the request with `invalid_grant`: J\u{fffd}"]
    );
}

// ---- Keys.

/// The provider has this key alone, under a name that it had before, and signs ID tokens with it.
fn key_named(provider: &TestProvider, key: SigningKey, kid: &'static str) {
    let mut jwk = key.jwk();
    jwk["kid"] = json!(kid);
    provider.on_jwks(move |reply| reply.set("keys", json!([jwk])));
    provider.on_id_token(move |token: &mut JwtParts| {
        token.sign_with(key.clone());
        token.set_header("kid", kid);
    });
}

async fn sign_in_again(browser: &Browser, provider: &TestProvider) -> Page {
    browser.another().sign_in(provider, "/me").await
}

#[rocket::async_test]
async fn a_new_key_of_the_same_name() {
    let provider = TestProvider::start().await;
    key_named(&provider, SigningKey::Rsa, "key");
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(provider.count(JWKS), 1);

    key_named(&provider, SigningKey::NextRsa, "key");
    sign_in_again(&browser, &provider).await.is(Status::Ok);
    assert_eq!(provider.count(JWKS), 2);

    // Once in half a minute: a signature that stays wrong is asked about no more often.
    key_named(&provider, SigningKey::Rsa, "key");
    let page = sign_in_again(&browser, &provider).await;
    assert_eq!((page.status, page.header("Retry-After")), (503, Some("30")));
    assert_eq!(provider.count(JWKS), 2);
    app.advance(Duration::from_secs(30));
    sign_in_again(&browser, &provider).await.is(Status::Ok);
    assert_eq!(provider.count(JWKS), 3);
}

/// A forged signature is refused once the keys are known to be the same.
#[rocket::async_test]
async fn a_wrong_signature_is_wrong_with_the_latest_keys() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.break_signature = true);
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    assert_eq!(provider.count(JWKS), 2);
    assert_eq!(
        app.failures(),
        ["the ID token is rejected: the RS256 signature of the token is wrong"]
    );
}

#[rocket::async_test]
async fn a_set_without_keys_does_not_replace_the_last_good_one() {
    for nothing in [
        json!({"keys": []}),
        json!({"keys": [{"kty": "oct", "k": "AAAA"}]}),
        json!({"keys": null}),
        json!({}),
        json!([]),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = app.open().await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        provider.on_path(JWKS, Reply::json(nothing.clone()));
        // They are due.
        app.advance(Duration::from_secs(2 * 60 * 60));
        for count in [2, 2] {
            sign_in_again(&browser, &provider).await.is(Status::Ok);
            provider.until_requested(JWKS, count).await;
        }
        // And for a key that is not among them, nothing is known.
        provider.on_id_token(|token| token.set_header("kid", "new"));
        sign_in_again(&browser, &provider).await.is(Status::BadGateway);
        assert_eq!(provider.count(JWKS), 3, "{nothing}");
        provider.on_id_token(|_| ());
        sign_in_again(&browser, &provider).await.is(Status::Ok);
    }
}

/// A code would be spent in vain.
#[rocket::async_test]
async fn no_user_is_sent_to_a_provider_without_keys() {
    for reply in [Reply::status(503), Reply::status(500), Reply::status(429)] {
        let provider = TestProvider::start().await;
        provider.on_path(JWKS, reply);
        let app = App::new(&provider);
        let browser = app.open().await;
        let page = browser.visit("/oidc/login").await;
        page.is(Status::ServiceUnavailable);
        assert_eq!(page.location, None);
        assert_eq!((provider.count(JWKS), provider.count(TOKEN)), (1, 0));
        let page = browser.visit("/oidc/login").await;
        page.is(Status::ServiceUnavailable);
        assert_eq!(page.header("Retry-After"), Some("1"));
        assert_eq!(provider.count(JWKS), 1, "the next attempt is not due");
        provider.clear_path(JWKS);
        app.advance(Duration::from_secs(1));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
}

// ---- Endpoints that have moved.

fn moved(provider: &TestProvider, member: &str, path: &str) {
    let url = format!("{}{path}", provider.issuer());
    provider.metadata(|metadata| drop(metadata.insert(member.into(), json!(url))));
}

#[rocket::async_test]
async fn a_key_set_that_has_moved() {
    let provider = TestProvider::start().await;
    let keys = Reply::json(json!({"keys": [SigningKey::Rsa.jwk()]}));
    let app = App::new(&provider);
    let browser = app.open().await;
    provider.on_path(JWKS, Reply::status(404));
    provider.on_path("/keys", keys);
    moved(&provider, "jwks_uri", "/keys");
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let counts = [DISCOVERY, JWKS, "/keys"].map(|path| provider.count(path));
    assert_eq!(counts, [2, 1, 1]);
}

/// A new key at a new place.
#[rocket::async_test]
async fn a_key_set_that_has_moved_after_it_was_read() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let mut jwk = SigningKey::Rsa.jwk();
    jwk["kid"] = json!("new");
    provider.on_path("/keys", Reply::json(json!({"keys": [jwk]})));
    provider.on_path(JWKS, Reply::status(410));
    provider.on_id_token(|token| token.set_header("kid", "new"));
    moved(&provider, "jwks_uri", "/keys");
    sign_in_again(&browser, &provider).await.is(Status::Ok);
    let counts = [DISCOVERY, JWKS, "/keys"].map(|path| provider.count(path));
    assert_eq!(counts, [2, 2, 1]);
}

#[rocket::async_test]
async fn a_token_endpoint_that_has_moved() {
    for status in [404, 405, 410, 308] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = app.open().await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        provider.on_path(TOKEN, Reply::status(status));
        provider.on_path("/token2", Reply::error(400, "invalid_scope", "asked here"));
        moved(&provider, "token_endpoint", "/token2");
        sign_in_again(&browser, &provider).await.is(Status::BadGateway);
        assert_eq!(
            app.failures(),
            ["the provider's token endpoint rejected the request with `invalid_scope`: asked here"]
        );
        let counts = [DISCOVERY, TOKEN, "/token2"].map(|path| provider.count(path));
        assert_eq!(counts, [2, 2, 1], "{status} {:#?}", provider.requests_to("/token2"));
    }
}

/// An endpoint that is gone for good causes a look in a minute, whoever asks.
#[rocket::async_test]
async fn an_endpoint_that_was_removed() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.on_path(TOKEN, Reply::status(404));
    for _ in 0..4 {
        sign_in_again(&browser, &provider).await.is(Status::BadGateway);
    }
    assert_eq!((provider.count(TOKEN), provider.count(DISCOVERY)), (5, 2));
    app.advance(Duration::from_secs(60));
    sign_in_again(&browser, &provider).await.is(Status::BadGateway);
    provider.until_requested(DISCOVERY, 3).await;
    // A refusal is no reason to look.
    provider.on_path(TOKEN, Reply::error(400, "invalid_grant", ""));
    app.advance(Duration::from_secs(60));
    browser.visit("/oidc/login").await;
    sign_in_again(&browser, &provider).await.is(Status::BadRequest);
}

// ---- UserInfo.

#[rocket::async_test]
async fn user_info_is_signed_as_its_metadata_says() {
    let es256 = |token: &mut JwtParts| token.sign_with(SigningKey::Ec);
    let listed = |provider: &TestProvider, value: Value| {
        provider.metadata(|metadata| {
            metadata.insert("id_token_signing_alg_values_supported".into(), json!(["RS256"]));
            metadata.insert("userinfo_signing_alg_values_supported".into(), value);
        });
        provider.user_info_as_jwt(es256);
    };
    signs_in(|provider| listed(provider, json!(["ES256", "none"]))).await;
    signs_in(|provider| listed(provider, json!("ES256"))).await;
    for other in [json!(["PS256"]), json!(["none"]), Value::Null] {
        let error = fails(|provider| listed(provider, other.clone())).await;
        assert!(
            error.contains("the token is signed with ES256, expected RS256"),
            "{error}"
        );
    }
    // An ID token is no UserInfo.
    let error = fails(|provider| {
        listed(provider, json!(["ES256"]));
        provider.on_id_token(es256);
    })
    .await;
    assert_eq!(
        error,
        "the ID token is rejected: the token is signed with ES256, expected RS256"
    );
}

#[rocket::async_test]
async fn user_info_is_optional_where_settings_say_so() {
    for reply in [Reply::status(503), Reply::status(500), Reply::status(429)] {
        let provider = TestProvider::start().await;
        provider.on_id_token(|token| token.set("nickname", "of the ID token"));
        provider.on_user_info(|reply| reply.set("nickname", "of UserInfo"));
        provider.on_path(USERINFO, reply);
        let app = App::new(&provider);
        let browser = app.open().await;
        browser.sign_in(&provider, "/me").await.is(Status::ServiceUnavailable);

        let app = App::new(&provider).with("oidc.user_info_optional", true);
        let browser = app.open().await;
        let log = Log::listen();
        let me: Value = browser.sign_in(&provider, "/me").await.json();
        assert_eq!(me["nickname"], "of the ID token");
        let told = log.lines();
        let told = told.iter().any(|line| {
            line.starts_with("WARN: the provider's UserInfo endpoint responded with status")
                && line.ends_with("the sign-in continues with the claims of the ID token (`user_info_optional`)")
        });
        assert!(told, "{:#?}", log.lines());
        provider.clear_path(USERINFO);
        let me: Value = sign_in_again(&browser, &provider).await.json();
        assert_eq!(me["nickname"], "of UserInfo");
    }
}

/// What is wrong is not an outage.
#[rocket::async_test]
async fn a_wrong_user_info_is_refused_all_the_same() {
    let changes: [fn(&mut Reply); 4] = [
        |reply| reply.set("sub", "bob"),
        |reply| *reply = Reply::text("text/html", "<h1>Hello</h1>"),
        |reply| *reply = Reply::status(401),
        |reply| *reply = Reply::status(404),
    ];
    for change in changes {
        let provider = TestProvider::start().await;
        provider.on_user_info(change);
        let app = App::new(&provider).with("oidc.user_info_optional", true);
        let browser = app.open().await;
        browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    }
}

/// Nobody is an administrator by what nobody vouches for now.
#[rocket::async_test]
async fn a_refresh_without_user_info_leaves_the_claims_of_the_id_token() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| {
        token.claims.remove("groups");
        token.set("nickname", "of the ID token");
    });
    provider.on_user_info(|reply| reply.set("groups", json!(["admin"])));
    let app = App::new(&provider)
        .with("oidc.user_info_optional", true)
        .with("oidc.session.refresh_user_info", true);
    let browser = app.open().await;
    let me: Value = browser.sign_in(&provider, "/me").await.json();
    assert_eq!(me["groups"], json!(["admin"]));
    provider.on_path(USERINFO, Reply::status(503));
    app.advance(DUE);
    let me: Value = browser.visit("/me").await.is(Status::Ok).json();
    assert_eq!(me.get("groups"), None);
    assert_eq!(me["nickname"], "of the ID token");
    // It is asked again when it is there.
    provider.clear_path(USERINFO);
    app.advance(Duration::from_secs(60));
    let me: Value = browser.visit("/me").await.is(Status::Ok).json();
    assert_eq!(me["groups"], json!(["admin"]));
}
