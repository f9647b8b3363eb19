//! Which claims a user has: those of the granted scopes, as at a real provider; and what a policy says about the others.

use rocket::{
    Build, Config, Request, Rocket,
    figment::Figment,
    get,
    http::{Status, uri::Host},
    local::blocking::Client,
    routes,
    serde::json::{Value, json},
    uri,
};
use rocket_openidconnect::{
    Authorized, Bearer, Caller, LoggedIn, Oidc, Policy, User, protect_with,
    testing::{TestProvider, TestRequest},
};

use crate::logging;

/// Reads the groups, and nothing else.
struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

/// Reads what the scope `profile` has, a claim of no standard, one of another type, and the roles.
struct Curious;

impl Policy for Curious {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        let badge = user.claim::<u32>("badge");
        let desk = user.claim::<String>("desk");
        user.name().is_some() && badge.is_some() && desk.is_some() && user.roles().contains(&"editor")
    }
}

/// Refuses without a reason that it could have read.
struct Closed;

impl Policy for Closed {
    async fn permits(_: &User, _: &Request<'_>) -> bool {
        false
    }
}

#[get("/me")]
fn me(user: LoggedIn) -> String {
    let claims = user.claims().as_map().keys();
    let ours = ["name", "email", "address", "phone_number", "groups", "desk"];
    let claims: Vec<_> = claims.filter(|name| ours.contains(&name.as_str())).cloned().collect();
    claims.join(" ")
}

#[get("/admin")]
fn admin(user: Authorized<Admin>) -> String {
    user.subject().to_owned()
}

#[get("/curious")]
fn curious(_user: Authorized<Curious>) -> &'static str {
    "in"
}

#[get("/closed")]
fn closed(_user: Authorized<Closed>) -> &'static str {
    "in"
}

#[get("/protected")]
fn protected() -> &'static str {
    "in"
}

#[get("/both")]
fn both(caller: Caller) -> String {
    format!("{} | {}", caller.groups().join("+"), caller.roles().join("+"))
}

#[get("/token")]
fn token(token: Bearer) -> String {
    format!("{} | {}", token.groups().join("+"), token.roles().join("+"))
}

fn rocket(settings: Value) -> Rocket<Build> {
    logging::listen();
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge((
            "oidc",
            json!({ "issuer": "https://accounts.example.com", "client_id": "notes" }),
        ))
        .merge(("oidc.audience", "https://notes.example.com"))
        .merge(("oidc", settings));
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![me, admin, curious, closed, both, token])
        .mount("/", protect_with::<Admin>(routes![protected]))
}

fn open(settings: Value) -> (TestProvider, Client) {
    let provider = TestProvider::new();
    let client = Client::untracked(provider.register(rocket(settings))).unwrap();
    (provider, client)
}

fn alice() -> Value {
    json!({
        "sub": "alice", "name": "Alice", "email": "alice@example.com", "address": { "country": "UK" },
        "phone_number": "1", "groups": ["admin"], "desk": 7,
    })
}

fn text_of(client: &Client, path: &'static str) -> String {
    let answer = client.get(path).signed_in_as(alice()).dispatch();
    assert_eq!(answer.status(), Status::Ok);
    answer.into_string().unwrap()
}

/// OpenID Connect Core 1.0 §5.4.
#[test]
fn claims_go_by_scope() {
    for (settings, expected) in [
        (json!({ "scopes": "openid" }), "desk"),
        (json!({ "scopes": "openid email" }), "desk email"),
        (json!({}), "desk email name"),
        (json!({ "scopes": "openid groups phone" }), "desk groups phone_number"),
        (json!({ "scopes": "openid address" }), "address desk"),
        // What the demo sends whatever the scopes, the tests have too.
        (
            json!({ "scopes": "openid", "dev_provider": { "unscoped_claims": "groups name" } }),
            "desk groups name",
        ),
    ] {
        let (_, client) = open(settings.clone());
        assert_eq!(text_of(&client, "/me"), expected, "{settings}");
    }
    let (provider, client) = open(json!({ "scopes": "openid" }));
    provider.send_unscoped(&["groups"]);
    assert_eq!(text_of(&client, "/me"), "desk groups");
}

fn refused(client: &Client, path: &'static str) -> Vec<String> {
    logging::take();
    let answer = client.get(path).signed_in_as(alice()).dispatch();
    assert_eq!(answer.status(), Status::Forbidden, "{path}");
    let mut lines = logging::take();
    lines.retain(|line| line.contains("policy") || line.contains("scope") || line.contains("roles"));
    lines
}

fn debug_page(client: &Client) -> String {
    let mut page = client.get("/oidc/debug").remote("127.0.0.1:50000".parse().unwrap());
    page.inner_mut().set_host(Host::from(uri!("localhost:8000")));
    let page = page.dispatch().into_string().unwrap();
    page.replace("&#x2F;", "/").replace("&#96;", "`")
}

#[test]
fn a_policy_says_which_claim_is_absent() {
    let (_, client) = open(json!({}));
    for path in ["/admin", "/protected"] {
        let lines = refused(&client, path);
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(
            lines[0].contains("Admin` refused a user: the user has no claim `groups`"),
            "{lines:#?}"
        );
        assert!(lines[1].starts_with("add `groups` to `oidc.scopes`, or"), "{lines:#?}");
    }
    let page = debug_page(&client);
    assert!(
        page.contains("<td data-name=\"path\">/admin</td><td data-name=\"policy\">Admin</td>"),
        "{page}"
    );
    assert!(page.contains("the user has no claim `groups`"), "{page}");
    assert!(page.contains("Remedy: add `groups` to `oidc.scopes`"), "{page}");
    // Who it was, and what they are, is not there.
    let section = page
        .split("Latest refusals")
        .nth(1)
        .unwrap()
        .split("<details")
        .next()
        .unwrap();
    assert!(!section.contains("alice"), "{section}");
}

#[test]
fn each_claim_has_a_remedy_of_its_own() {
    let (_, client) = open(json!({ "scopes": "openid", "roles_claim": "realm_access.roles" }));
    let lines = refused(&client, "/curious").join("\n");
    for expected in [
        "no claim `name`",
        "add `profile` to `oidc.scopes`",
        "no claim `badge`",
        "have the provider send `badge`, or add the scope that has it there to `oidc.scopes`",
        "claim `desk` is of another type",
    ] {
        assert!(lines.contains(expected), "{expected}: {lines}");
    }
    // What is not looked for is not missing.
    assert!(!lines.contains("groups"), "{lines}");

    // The scope is there: the provider does not send what belongs to it.
    let (_, client) = open(json!({ "scopes": "openid groups" }));
    logging::take();
    let bob = client.get("/admin").signed_in_as(json!({ "sub": "bob" })).dispatch();
    assert_eq!(bob.status(), Status::Forbidden);
    let remedy = "have the provider send `groups`: the scope `groups` is requested";
    assert!(logging::take().iter().any(|line| line == remedy));

    let (_, client) = open(json!({}));
    assert!(refused(&client, "/closed").is_empty());
    assert!(debug_page(&client).contains("<td data-name=\"path\">/closed</td>"));
}

/// By the same setting as those of access tokens.
#[test]
fn people_and_tokens_have_groups_and_roles_by_one_rule() {
    let claims = || {
        json!({
            "sub": "ann", "groups": "Domain Users", "cognito:groups": ["staff", "chess club"],
            "realm_access": { "roles": ["editor", "reader"] }, "urn:zitadel:roles": { "owner": { "1": "x" }, "no": 1 },
        })
    };
    for (settings, expected) in [
        (json!({ "scopes": "openid groups" }), "Domain Users | "),
        (
            json!({ "scopes": "openid groups", "groups_claim": "cognito:groups", "roles_claim": "realm_access.roles" }),
            "staff+chess club | editor+reader",
        ),
        (
            json!({ "groups_claim": ["/realm_access/roles"], "roles_claim": "urn:zitadel:roles groups", "scopes": "openid groups" }),
            "editor+reader | owner+Domain+Users",
        ),
        (json!({ "groups_claim": "nothing", "roles_claim": "nothing" }), " | "),
    ] {
        let (_, client) = open(settings.clone());
        let answers = [
            client.get("/both").signed_in_as(claims()).dispatch(),
            client.get("/both").bearer(claims()).dispatch(),
            client.get("/token").bearer(claims()).dispatch(),
        ];
        for answer in answers {
            assert_eq!(answer.status(), Status::Ok);
            assert_eq!(answer.into_string().unwrap(), expected, "{settings}");
        }
    }
}
