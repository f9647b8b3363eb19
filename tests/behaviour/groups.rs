//! `groups!`: a policy and a demand of tokens, from one declaration; and addresses from `uri!`.

use rocket::{
    get,
    http::{Header, Status},
    routes,
    serde::json::json,
    uri,
};
use rocket_openidconnect::{Authorized, Bearer, Caller, LoggedIn, RelyingParty, groups, protect_with};
use serde::Deserialize;

use crate::{
    bearer::app::METADATA,
    common::{App, NOW},
    support::{Browser, TestProvider},
};

groups! {
    /// Those who may change settings.
    pub Admins = "admin" | "owner";
    Signers = "accounting" & "right to sign";
}

#[derive(Deserialize)]
struct Employee {
    department: String,
}

#[get("/settings")]
fn settings(user: Authorized<Admins>) -> String {
    user.subject().to_owned()
}

#[get("/employee")]
fn employee(user: Authorized<Admins, Employee>) -> String {
    user.claims().department.clone()
}

#[get("/caller")]
fn caller(caller: Caller<Admins>) -> String {
    format!("{:?}", caller.subject())
}

#[get("/employee-caller")]
fn employee_caller(caller: Caller<Admins, Employee>) -> String {
    caller.claims().department.clone()
}

#[get("/token")]
fn token(token: Bearer<Admins>) -> String {
    format!("{:?}", token.subject())
}

#[get("/paper")]
fn paper() -> &'static str {
    "signed"
}

#[get("/go?<item>&<text>")]
fn go(_user: LoggedIn, item: u32, text: &str) -> String {
    format!("{item} {text}")
}

#[get("/urls")]
fn urls(rp: &RelyingParty) -> String {
    let page = uri!(go(7, "a & b"));
    [
        rp.login_url(&page),
        rp.login_url(page.to_string()),
        rp.logout_url(uri!(paper)),
        rp.sign_in_url().next(page).to_string(),
        rp.login_url("//evil.example"),
    ]
    .join("\n")
}

fn app(provider: &TestProvider) -> App {
    App::new(provider).with("oidc.audience", TestProvider::API)
}

async fn open(app: &App) -> Browser {
    let routes = routes![settings, employee, caller, employee_caller, token, go, urls];
    let rocket = app.rocket().mount("/", routes);
    Browser::open(rocket.mount("/", protect_with::<Signers>(routes![paper]))).await
}

const ALL: [&str; 5] = ["/settings", "/employee", "/caller", "/employee-caller", "/paper"];

#[rocket::async_test]
async fn a_user_in_a_group_is_permitted_and_another_is_not() {
    let provider = TestProvider::start().await;
    let app = app(&provider);
    for (groups, permitted) in [
        (json!(["owner"]), &ALL[..4]),
        (json!("admin"), &ALL[..4]),
        (json!(["right to sign", "accounting"]), &ALL[4..]),
        (json!(["accounting", "sign"]), &[]),
        (json!(["administrator", "Admin", "owner "]), &[]),
        (json!([]), &[]),
        (json!(null), &[]),
    ] {
        provider.user_claims(json!({ "sub": "alice", "department": "sales", "groups": groups }));
        let browser = open(&app).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        for path in ALL {
            let expected = if permitted.contains(&path) {
                Status::Ok
            } else {
                Status::Forbidden
            };
            assert_eq!(browser.visit(path).await.status, expected.code, "{groups} at {path}");
        }
    }
}

#[rocket::async_test]
async fn a_signed_out_visitor_goes_to_sign_in() {
    let provider = TestProvider::start().await;
    let browser = open(&app(&provider)).await;
    for path in ALL {
        browser.visit(path).await.redirects_to("/oidc/login?next=");
        browser.fetch(path).await.is(Status::Unauthorized);
    }
}

/// A scope is what a client asks for, and a group what a user is in: the word of one is not the other.
#[rocket::async_test]
async fn the_groups_of_a_token_are_those_of_the_setting() {
    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    for setting in [json!("teams"), json!("groups")] {
        let app = app(&provider).with("oidc.groups_claim", &setting);
        let browser = open(&app).await;
        for (scope, groups, is_member) in [
            ("admin", json!(null), false),
            ("admin owner", json!(["reader"]), false),
            ("", json!(["admin"]), true),
            ("notes:read", json!(["reader", "owner"]), true),
        ] {
            let token = provider.access_token(scope, |token| token.set("groups", groups.clone()));
            let authorization = format!("Bearer {token}");
            for path in ["/token", "/caller"] {
                let request = browser.client().get(path.to_owned());
                let response = request
                    .header(Header::new("Authorization", authorization.clone()))
                    .dispatch()
                    .await;
                let expected = if is_member && setting == "groups" {
                    Status::Ok
                } else {
                    Status::Forbidden
                };
                assert_eq!(response.status(), expected, "{scope:?} {groups} {setting} {path}");
                if expected == Status::Forbidden {
                    let challenge = format!(
                        "Bearer realm=\"api\", error=\"insufficient_scope\", \
                         error_description=\"the user of the token may not do this\", {METADATA}"
                    );
                    assert_eq!(response.headers().get_one("WWW-Authenticate"), Some(&*challenge));
                }
            }
        }
    }
}

#[rocket::async_test]
async fn groups_of_a_provider_that_is_not_trusted_do_not_count() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.rotate_rsa_key();
    for is_trusted in [false, true] {
        let client = |provider: &TestProvider| {
            json!({
                "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush", "trust_groups": is_trusted,
                "audience": TestProvider::API,
            })
        };
        let app = App::new(&one)
            .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
            .with_all(json!({ "providers": { "one": client(&one), "two": client(&two) } }));
        one.user_claims(json!({ "sub": "alice", "department": "sales", "groups": ["admin"] }));
        let browser = open(&app).await;
        browser.sign_in(&one, "/oidc/login/one?next=/me").await.is(Status::Ok);
        let expected = if is_trusted { Status::Ok } else { Status::Forbidden };
        for path in ["/settings", "/caller"] {
            browser.visit(path).await.is(expected);
        }
        let token = one.access_token("", |token| token.set("groups", json!(["admin"])));
        let request = browser.client().get("/token");
        let authorization = Header::new("Authorization", format!("Bearer {token}"));
        let response = request.header(authorization).dispatch().await;
        assert_eq!(response.status(), expected);
    }
}

#[rocket::async_test]
async fn the_testing_profile_is_in_its_groups() {
    let provider = TestProvider::start().await;
    for (groups, expected) in [(json!(["admin"]), Status::Ok), (json!(["reader"]), Status::Forbidden)] {
        let profile = json!({ "sub": "tess", "groups": groups });
        let app = app(&provider)
            .with("oidc.enabled", false)
            .with("oidc.testing_profile", profile);
        let browser = open(&app).await;
        for path in ["/settings", "/caller", "/token"] {
            assert_eq!(browser.visit(path).await.status, expected.code, "{path}");
        }
    }
}

#[rocket::async_test]
async fn addresses_come_from_uri() {
    let provider = TestProvider::start().await;
    let browser = open(&app(&provider)).await;
    let page = browser.visit("/urls").await;
    let next = "next=%2Fgo%3Fitem%3D7%26text%3Da%2520%2526%2520b";
    let login = format!("/oidc/login?{next}");
    let expected = [
        &*login,
        &login,
        "/oidc/logout?next=%2Fpaper",
        &login,
        "/oidc/login?next=%2F",
    ];
    assert_eq!(page.body.lines().collect::<Vec<_>>(), expected);
    let page = browser.sign_in(&provider, &login).await;
    assert_eq!(page.is(Status::Ok).body, "7 a & b");
}
