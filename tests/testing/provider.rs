//! `TestProvider`: strict, and hostile on demand.

use std::time::Duration;

use rocket::{Config, Request, figment::Figment, http::Status, local::blocking::Client, serde::json::json};
use rocket_openidconnect::{
    Endpoint, Events, NewSignIn, Oidc, Refused,
    testing::{TestClient, TestProvider},
};

use crate::app::{app_with, figment, is_signed_in, open, visit};

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);

fn location(client: &rocket::local::blocking::Client, path: &str) -> String {
    let response = visit(client, path);
    let location = response.headers().get_one("Location");
    location.expect("a redirect").to_owned()
}

#[test]
fn a_sign_in_step_by_step() {
    let (provider, client) = open(figment());
    let login = location(&client, "/me");
    assert_eq!(login, "/oidc/login?next=%2Fme");
    let at_provider = location(&client, &login);
    assert!(at_provider.starts_with("https://provider.test/authorize?"));
    let callback = provider.authorize(&at_provider, json!({ "sub": "alice" }));
    assert_eq!(location(&client, &callback), "/me");
    assert!(is_signed_in(&client));

    let asked: Vec<_> = provider
        .requests()
        .iter()
        .map(|request| (request.method().to_owned(), request.endpoint()))
        .collect();
    let get = || "GET".to_owned();
    assert_eq!(
        asked,
        [
            (get(), Endpoint::Metadata),
            (get(), Endpoint::KeySet),
            ("POST".to_owned(), Endpoint::Token),
            (get(), Endpoint::UserInfo),
        ]
    );
    let token = &provider.requests_to(Endpoint::Token)[0];
    assert_eq!(token.form_value("grant_type"), Some("authorization_code"));
    assert!(token.form_value("code_verifier").is_some());
    assert!(token.authorization().unwrap().starts_with("Basic "));
    // What is printed of it is no secret.
    let debug = format!("{token:?}");
    assert!(!debug.contains(token.form_value("code").unwrap()), "{debug}");
    provider.clear_requests();
    assert_eq!(provider.requests().len(), 0);
}

/// The test's provider binds tokens, and judges proofs as an API of this crate does.
#[test]
fn tokens_are_bound_and_proofs_have_nonces() {
    let (provider, client) = open(figment().merge(("oidc.dpop", "required")));
    provider.demand_dpop_nonces();
    client.sign_in("/me", json!({ "sub": "alice" }));
    // Each with the nonce the second time.
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 2);
    let user_info = provider.requests_to(Endpoint::UserInfo);
    assert!(user_info[0].authorization().unwrap().starts_with("DPoP "));
    assert_eq!(user_info.len(), 1);

    provider.advance_clock(FIVE_MINUTES);
    assert!(is_signed_in(&client));
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 3);
    provider.demand_dpop_nonces();
    provider.advance_clock(FIVE_MINUTES);
    assert!(is_signed_in(&client));
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 5);

    // An app that asks for none gets bearer tokens.
    let (provider, client) = open(figment());
    client.sign_in("/me", json!({ "sub": "alice" }));
    let user_info = provider.requests_to(Endpoint::UserInfo);
    assert!(user_info[0].authorization().unwrap().starts_with("Bearer "));
}

/// An app that greets users by the name that Apple sends once.
#[test]
fn what_the_browser_says_of_a_user_is_added_to_the_callback() {
    struct Greets;
    #[rocket::async_trait]
    impl Events for Greets {
        async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
            let name = sign_in.unverified_user().and_then(|user| user.first_name());
            sign_in.set("desk", format!("the desk of {}", name.unwrap_or("nobody")));
            Ok(())
        }
    }
    let provider = TestProvider::new();
    let figment = figment().merge(("oidc.response_mode", "form_post"));
    let rocket = provider.register(app_with(figment, Oidc::fairing().events(Greets)));
    let client = Client::tracked(rocket).unwrap();
    for (user, expected) in [
        (
            "&user=%7B%22name%22%3A%7B%22firstName%22%3A%22Zo%C3%AB%22%7D%7D",
            "the desk of Zoë",
        ),
        ("", "the desk of nobody"),
    ] {
        let at_provider = location(&client, "/oidc/login?next=/desk");
        let callback = provider.authorize(&at_provider, json!({ "sub": "alice" }));
        assert_eq!(location(&client, &format!("{callback}{user}")), "/desk");
        assert_eq!(visit(&client, "/desk").into_string().unwrap(), expected);
    }
}

/// It takes the place of a provider that is not an OpenID provider too.
#[test]
fn an_app_of_github_signs_in() {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.provider", "github"))
        .merge(("oidc.client_id", "notes"))
        .merge(("oidc.audience", "https://notes.example.com"));
    let (provider, client) = open(figment);
    let at_provider = location(&client, "/oidc/login?next=/me");
    assert!(at_provider.contains("&scope=openid+email+profile"), "{at_provider}");
    let callback = provider.authorize(&at_provider, json!({ "sub": "583231" }));
    assert_eq!(location(&client, &callback), "/me");
    assert!(is_signed_in(&client));
}

#[test]
fn a_code_is_good_once() {
    let (provider, client) = open(figment());
    let at_provider = location(&client, "/oidc/login?next=/me");
    let callback = provider.authorize(&at_provider, json!({ "sub": "alice" }));
    assert_eq!(location(&client, &callback), "/me");
    let at_provider = location(&client, "/oidc/login?next=/me");
    let other = provider.authorize(&at_provider, json!({ "sub": "alice" }));
    // The first code, with the state of the second attempt.
    let code = callback.split_once("code=").unwrap().1.split('&').next();
    let (before, rest) = other.split_once("code=").unwrap();
    let (_, after) = rest.split_once('&').unwrap();
    let stolen = format!("{before}code={}&{after}", code.unwrap());
    // It is refused, and the sign-in begins once more.
    assert_eq!(visit(&client, &stolen).status(), Status::SeeOther);
}

#[test]
#[should_panic(expected = "The `redirect_uri` is not `http://localhost:8000/oidc/authorize`")]
fn a_wrong_redirect_uri_is_shown() {
    let (provider, client) = open(figment());
    let at_provider = location(&client, "/oidc/login");
    let wrong = at_provider.replace("%2Foidc%2Fauthorize", "%2Fcallback");
    assert_ne!(wrong, at_provider);
    provider.authorize(&wrong, json!({ "sub": "alice" }));
}

#[test]
fn an_id_token_for_another_request_is_refused() {
    let (provider, client) = open(figment());
    for (claim, value) in [
        ("nonce", json!("another")),
        ("aud", json!("another")),
        ("iss", json!("https://another.example.com")),
        ("exp", json!(1)),
    ] {
        provider.on_id_token(move |claims| {
            claims.insert(claim.to_owned(), value.clone());
        });
        let page = client.attempt_sign_in("/me", json!({ "sub": "alice" }));
        assert_eq!(page.status(), Status::BadGateway, "{claim}");
        assert!(!is_signed_in(&client), "{claim}");
        provider.recover();
    }
    let me = client.sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(me.status(), Status::Ok);
}

#[test]
fn user_info_of_somebody_else_is_refused() {
    let (provider, client) = open(figment());
    provider.swap_sub();
    let page = client.attempt_sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(page.status(), Status::BadGateway);
    provider.recover();
    client.sign_in("/me", json!({ "sub": "alice" }));

    // A refresh that speaks of somebody else ends the session.
    assert!(is_signed_in(&client));
    provider.swap_sub();
    provider.advance_clock(FIVE_MINUTES);
    assert!(!is_signed_in(&client));
}

#[test]
fn a_revoked_refresh_token_ends_the_session() {
    let (provider, client) = open(figment());
    client.sign_in("/me", json!({ "sub": "alice" }));
    provider.advance_clock(FIVE_MINUTES);
    assert!(is_signed_in(&client));
    let refresh = provider.requests_to(Endpoint::Token).pop().unwrap();
    // Of the family that this one was of.
    provider.revoke(refresh.form_value("refresh_token").unwrap());
    provider.advance_clock(FIVE_MINUTES);
    assert!(!is_signed_in(&client));

    client.sign_in("/me", json!({ "sub": "alice" }));
    provider.revoke_all_of("bob");
    provider.advance_clock(FIVE_MINUTES);
    assert!(is_signed_in(&client));
    provider.revoke_all_of("alice");
    provider.advance_clock(FIVE_MINUTES);
    assert!(!is_signed_in(&client));
}

#[test]
fn an_outage_signs_nobody_out() {
    let (provider, client) = open(figment());
    client.sign_in("/me", json!({ "sub": "alice" }));
    provider.respond_with(Endpoint::Token, 500);
    provider.advance_clock(FIVE_MINUTES);
    assert!(is_signed_in(&client));
    let failed = client.get("/token").dispatch().into_string().unwrap();
    assert!(failed.contains("was not refreshed"), "{failed}");
    assert!(failed.contains("responded with status 500"), "{failed}");
    provider.recover();
    provider.advance_clock(Duration::from_secs(5));
    let token = client.get("/token").dispatch().into_string().unwrap();
    assert!(token.starts_with("access-"), "{token}");
}

#[test]
fn a_slow_provider_is_a_time_out() {
    let (provider, client) = open(figment());
    let before = provider.clock().now();
    provider.delay(Endpoint::UserInfo, Duration::from_millis(4_999));
    let me = client.sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(me.status(), Status::Ok);
    let passed = provider.clock().now() - before;
    assert_eq!(passed.whole_milliseconds(), 5_000);

    provider.delay(Endpoint::UserInfo, Duration::from_secs(5));
    client.post("/oidc/logout").dispatch();
    let page = client.attempt_sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(page.status(), Status::GatewayTimeout);
}

#[test]
fn the_provider_ends_all_sessions_of_a_person() {
    for store in ["cookie", "memory"] {
        let (provider, client) = open(figment().merge(("oidc.session.store", store)));
        client.sign_in("/me", json!({ "sub": "alice" }));
        assert_eq!(client.send_backchannel_logout("bob"), Status::Ok);
        assert!(is_signed_in(&client), "{store}");
        assert_eq!(client.send_backchannel_logout("alice"), Status::Ok);
        assert!(!is_signed_in(&client), "{store}");
        // At the same time by this clock, and yet after it.
        client.sign_in("/me", json!({ "sub": "alice" }));
        assert!(is_signed_in(&client), "{store}");

        // A token of a key that nobody publishes does nothing.
        let forged = TestProvider::new();
        let _other = rocket::local::blocking::Client::untracked(forged.register(crate::app::rocket()));
        forged.rotate_keys();
        let form = format!("logout_token={}", forged.logout_token("alice"));
        let posted = client
            .post("/oidc/backchannel-logout")
            .header(rocket::http::ContentType::Form)
            .body(form);
        assert_eq!(posted.dispatch().status(), Status::BadRequest);
        assert!(is_signed_in(&client), "{store}");
        drop(provider);
    }
}

#[test]
fn sign_out_goes_by_the_provider_and_back() {
    let (_, client) = open(figment());
    client.sign_in("/me", json!({ "sub": "alice" }));
    let out = client.post("/oidc/logout?next=/bye").dispatch();
    let at_provider = out.headers().get_one("Location").unwrap();
    assert!(at_provider.starts_with("https://provider.test/end_session?"));
    for parameter in [
        "id_token_hint=",
        "post_logout_redirect_uri=http%3A%2F%2Flocalhost%3A8000%2F",
    ] {
        assert!(at_provider.contains(parameter), "{at_provider}");
    }
    assert!(!is_signed_in(&client));

    client.sign_in("/me", json!({ "sub": "alice" }));
    let page = client.sign_out("/?then=this");
    assert_eq!(page.status(), Status::Ok);
    assert_eq!(page.into_string().unwrap(), "nobody");
}
