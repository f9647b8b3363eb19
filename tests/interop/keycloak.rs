//! The examples and the command-line tool at a real Keycloak, in a realm of each test's own.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    example::Example,
    keycloak_server::{APP, APP_WITH_KEY, NOTES_API, ROBOT, Realm, text},
    visitor::{Answer, Visitor},
};

const CREDENTIALS: &str = "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`";
const PUSHED: &str = "set `oidc.pushed_authorization_requests = true`: the provider accepts this \
                      client's requests only when they are pushed";

const NOT_SET_UP: &str = "This site is not set up correctly for its sign-in service.";

/// What the app says of whoever is signed in.
async fn signs_in(realm: &Realm, user: &'static str) -> (Visitor, Value) {
    let mut visitor = Visitor::new();
    let answer = visitor.sign_in(&realm.app_url(), "/me", user).await;
    let me = profile(&answer);
    (visitor, me)
}

#[track_caller]
fn profile(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("it is JSON")
}

async fn is_signed_out(realm: &Realm, visitor: &Visitor) {
    let answer = visitor.visit(&format!("{}/me", realm.app_url())).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let location = answer.location.unwrap_or_default();
    assert!(location.starts_with("/oidc/login?"), "{location}");
}

async fn refresh(realm: &Realm, visitor: &Visitor) -> (u16, Value) {
    let url = format!("{}/me/refresh", realm.app_url());
    let answer = visitor.submit(&url).await;
    let body = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body)
}

#[rocket::async_test]
#[ignore = "needs Keycloak and Chromium: run scripts/interop"]
async fn people_sign_in_and_out_in_chromium() {
    let realm = Realm::new("chromium").await;
    let app = realm.start("notes", APP, &[]);
    let at = |path: &str| app.at("localhost", path);
    let browser = Browser::start().await;

    browser.goto(&at("/me?from=bookmark")).await;
    browser.screenshot("keycloak-1-sign-in").await;
    realm.fill_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == at("/me?from=bookmark")).await;
    let me: Value = serde_json::from_str(&browser.text("body").await).unwrap();
    let alice = realm.user("alice").await;
    assert_eq!(me["sub"], alice["id"]);
    assert_eq!(me["name"], "Alice Liddell");
    assert_eq!(me["email"], "alice@example.com");
    assert_eq!(me["claims"]["iss"], realm.issuer());
    assert_eq!(me["claims"]["preferred_username"], "alice");
    assert_eq!(me["claims"]["groups"], json!(["/staff/writers"]));
    assert_eq!(realm.sessions("alice").await, 1);

    // Keycloak ends its session, and asks nothing.
    browser.goto(&at("/oidc/logout")).await;
    browser.click("#sign-out").await;
    browser.wait_for_url(|url| url == at("/")).await;
    assert_eq!(browser.text("#who").await, "Not signed in");
    assert_eq!(realm.sessions("alice").await, 0);

    // So that the next person is asked who they are.
    browser.goto(&at("/me")).await;
    realm.fill_in(&browser, "bob").await;
    browser.wait_for_url(|url| url == at("/me")).await;
    let me: Value = serde_json::from_str(&browser.text("body").await).unwrap();
    assert_eq!(me["name"], "Bob Sawyer");
    assert_eq!(me["claims"]["groups"], json!(["/staff"]));
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn a_session_is_refreshed_until_the_user_is_disabled() {
    let realm = Realm::new("refresh").await;
    let _app = realm.start("notes", APP, &[]);
    let (alice, me) = signs_in(&realm, "alice").await;
    let (bob, _) = signs_in(&realm, "bob").await;
    // In one cookie of a size that every proxy takes.
    let size = alice.session().len();
    println!("an ordinary user: {size} bytes of cookies");
    assert!((1_500..3_000).contains(&size), "{size} bytes");

    let mut user = realm.user("alice").await;
    user["lastName"] = json!("Hargreaves");
    let path = format!("/users/{}", text(&user["id"]));
    realm.admin(Method::PUT, &path, user.clone()).await;
    let (status, changes) = refresh(&realm, &alice).await;
    assert_eq!(status, 200, "{changes}");
    assert_eq!(changes["new_access_token"], true);
    assert_eq!(changes["removed"], json!([]));
    let url = format!("{}/me", realm.app_url());
    let refreshed = profile(&alice.visit(&url).await);
    assert_eq!(refreshed["sub"], me["sub"]);
    assert_eq!(refreshed["name"], "Alice Hargreaves");

    let mut user = realm.user("bob").await;
    user["enabled"] = json!(false);
    let path = format!("/users/{}", text(&user["id"]));
    realm.admin(Method::PUT, &path, user).await;
    let (status, answer) = refresh(&realm, &bob).await;
    assert_eq!(status, 401, "{answer}");
    is_signed_out(&realm, &bob).await;
    assert_eq!(alice.visit(&url).await.status, 200);
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn the_administrator_ends_sessions_at_the_app() {
    let realm = Realm::new("administrator").await;
    let _app = realm.start("notes", APP, &[]);
    let (alice, _) = signs_in(&realm, "alice").await;
    let (elsewhere, _) = signs_in(&realm, "alice").await;
    let (bob, _) = signs_in(&realm, "bob").await;
    let url = format!("{}/me", realm.app_url());

    // One session, by its logout token with `sid`.
    let user = realm.user("alice").await;
    let sid = profile(&elsewhere.visit(&url).await)["claims"]["sid"].clone();
    let path = format!("/sessions/{}", text(&sid));
    realm.admin(Method::DELETE, &path, Value::Null).await;
    is_signed_out(&realm, &elsewhere).await;
    assert_eq!(alice.visit(&url).await.status, 200);

    // All of one user's.
    let path = format!("/users/{}/logout", text(&user["id"]));
    realm.admin(Method::POST, &path, Value::Null).await;
    is_signed_out(&realm, &alice).await;
    assert_eq!(bob.visit(&url).await.status, 200);
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn the_doctor_is_green() {
    let realm = Realm::new("doctor").await;
    let _app = realm.start("notes", APP, &[]);
    let report = realm.tool(APP).report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.with("warning"), ["insecure"], "{report:#?}");
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn a_wrong_secret_is_called_that() {
    let realm = Realm::new("wrong-secret").await;
    let client = [APP[0], "wrong"];
    let app = realm.start("notes", client, &[]);
    let mut visitor = Visitor::new();
    let answer = visitor.sign_in(&realm.app_url(), "/me", "alice").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains(NOT_SET_UP), "{answer:?}");
    let finding = "the provider's token endpoint rejected the request with `unauthorized_client`: Invalid \
                   client or Invalid client credentials";
    assert!(app.has_logged(finding), "{}", app.log());
    assert!(app.has_logged(CREDENTIALS), "{}", app.log());

    let report = realm.tool(client).report(&["doctor"]);
    let finding = format!("{finding} (client_secret_basic)");
    report.fails_at("client authentication", &finding, CREDENTIALS);

    // Where requests are pushed, Keycloak has another code for it.
    drop(app);
    let pushed = ("OIDC_PUSHED_AUTHORIZATION_REQUESTS", "true");
    let app = realm.start("notes", client, &[pushed]);
    let login = format!("{}/oidc/login", realm.app_url());
    let answer = Visitor::new().visit(&login).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains(NOT_SET_UP), "{answer:?}");
    assert!(app.has_logged(CREDENTIALS), "{}", app.log());
    let mut tool = realm.tool(client);
    let report = tool.env(pushed.0, pushed.1).report(&["doctor"]);
    let check = report.check("pushed request");
    assert_eq!(check["remedy"], CREDENTIALS, "{report:#?}");

    // A client that Keycloak does not have is another error there.
    let report = realm.tool(["nobody", "wrong"]).report(&["doctor"]);
    let check = report.check("client authentication");
    assert_eq!(check["remedy"], CREDENTIALS, "{report:#?}");
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn an_app_registers_itself_and_signs_people_in() {
    let realm = Realm::new("register").await;
    let mut tool = realm.tool(["", ""]);
    tool.unset("OIDC_CLIENT_ID").unset("OIDC_CLIENT_SECRET");
    let url = realm.app_url();
    let arguments = ["register", realm.issuer(), &url];

    let ran = tool.run(&arguments);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    // A registration that takes long is announced.
    let stderr = ran.stderr.trim_start_matches("registering the app …\n");
    assert_eq!(
        stderr,
        "error: the provider's registration endpoint rejected the request with `insufficient_scope`: Policy \
         'Trusted Hosts' rejected request to client-registration service. Details: Host not \
         trusted.\n       → get an initial access token from the provider's administrator and pass it with \
         `--initial-access-token`, or register the app in the provider's console\n"
    );
    assert_eq!(tool.files(), [""; 0]);

    let permission = json!({ "count": 1, "expiration": 600 });
    let path = "/clients-initial-access";
    let permission = realm.admin(Method::POST, path, permission).await;
    let more = ["--initial-access-token=-", "--scope=openid profile"];
    let all = [&arguments[..], &more].concat();
    let ran = tool.run_with(&all, text(&permission["token"]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("→ omit `--scope`"), "{ran:?}");

    let more = [
        "--initial-access-token=-",
        "--name=Notes",
        "--post-logout",
        "--backchannel-logout",
        "--introspection",
    ];
    let all = [&arguments[..], &more].concat();
    let ran = tool.run_with(&all, text(&permission["token"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "");

    let file = tool.file("client_secrets.json");
    let environment = [("OIDC_CLIENT_SECRETS", file.to_str().unwrap())];
    let app = Example::start("notes", realm.app_port(), &environment);
    let (alice, me) = signs_in(&realm, "alice").await;
    assert_eq!(me["email"], "alice@example.com");

    // Sign-out comes back, and Keycloak tells of its own.
    let mut visitor = alice.copy();
    let user = realm.user("alice").await;
    let path = format!("/users/{}/logout", text(&user["id"]));
    realm.admin(Method::POST, &path, Value::Null).await;
    is_signed_out(&realm, &alice).await;
    let answer = visitor.sign_in(&url, "/me", "alice").await;
    assert_eq!(profile(&answer)["sub"], me["sub"]);
    let answer = visitor.submit(&format!("{url}/oidc/logout")).await;
    let back = visitor.walker.sign_out(&answer.location.unwrap()).await;
    let back = back.expect("Keycloak sends the browser back");
    assert!(back.as_str().starts_with(&format!("{url}/?state=")), "{back}");

    let (_, settings) = ran.stdout.split_once("Rocket.toml:\n").unwrap();
    let (settings, _) = settings.split_once("\nThen ").unwrap();
    tool.write("Rocket.toml", settings);
    tool.unset("OIDC_ISSUER");
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.with("warning"), [""; 0], "{report:#?}");
    drop(app);

    // With the token that came with the registration.
    let ran = tool.run(&[&arguments[..], &["--update", "--name=Jottings"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let client_id = tool.web("client_secrets.json")["client_id"].clone();
    let client = realm.client(text(&client_id)).await;
    assert_eq!(client["name"], "Jottings");
    let ran = tool.run(&["register", "--delete"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(realm.client(text(&client_id)).await, Value::Null);
}

/// A P-256 key as a file of the app's, and as Keycloak is to be told it.
fn client_key() -> (tempfile::NamedTempFile, String) {
    let generator = "const { generateKeyPairSync } = require('crypto');
        const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
        const more = { kid: 'of-the-app', alg: 'ES256', use: 'sig' };
        console.log(JSON.stringify([privateKey, publicKey].map(
            key => ({ ...key.export({ format: 'jwk' }), ...more }))))";
    let output = std::process::Command::new("node").args(["-e", generator]).output();
    let keys: [Value; 2] = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keys[0].to_string()).unwrap();
    (file, json!({ "keys": [keys[1]] }).to_string())
}

#[rocket::async_test]
#[ignore = "needs Keycloak and Node.js: run scripts/interop"]
async fn a_client_with_a_key_pushes_its_requests_and_revokes_its_tokens() {
    let (key, jwks) = client_key();
    let realm = Realm::changed("key", |realm| {
        let clients = realm["clients"].as_array_mut().unwrap();
        let client = clients.iter_mut().find(|it| it["clientId"] == APP_WITH_KEY);
        client.unwrap()["attributes"]["jwks.string"] = json!(jwks);
    });
    let realm = realm.await;
    let url = realm.app_url();
    let settings = [
        ("OIDC_ISSUER", realm.issuer()),
        ("OIDC_CLIENT_ID", APP_WITH_KEY),
        ("OIDC_PRIVATE_KEY_FILE", key.path().to_str().unwrap()),
    ];

    // Its metadata does not say that this client must.
    let app = Example::start("notes", realm.app_port(), &settings);
    let answer = Visitor::new().sign_in(&url, "/me", "alice").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains(NOT_SET_UP), "{answer:?}");
    let finding = "the provider returned `invalid_request`: Pushed Authorization Request is only \
                   allowed.";
    assert!(app.has_logged(finding), "{}", app.log());
    assert!(app.has_logged(PUSHED), "{}", app.log());
    let mut tool = realm.tool(["", ""]);
    tool.unset("OIDC_CLIENT_SECRET");
    for (name, value) in settings {
        tool.env(name, value);
    }
    tool.report(&["doctor"]).fails_at(
        "authorization",
        &format!(
            "{url}/oidc/authorize is registered, but the request is rejected: \
             `invalid_request`: Pushed Authorization Request is only allowed."
        ),
        PUSHED,
    );
    drop(app);

    let pushed = ("OIDC_PUSHED_AUTHORIZATION_REQUESTS", "true");
    let app = Example::start("notes", realm.app_port(), &[&settings[..], &[pushed]].concat());
    let (alice, me) = signs_in(&realm, "alice").await;
    assert_eq!(me["name"], "Alice Liddell");
    let (status, changes) = refresh(&realm, &alice).await;
    assert_eq!((status, &changes["new_access_token"]), (200, &json!(true)));
    // Keycloak ends a session with the refresh token that is revoked: before the browser comes to it.
    assert_eq!(realm.sessions("alice").await, 1);
    let answer = alice.submit(&format!("{url}/oidc/logout")).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    realm.has_sessions("alice", 0).await;
    assert!(!app.log().contains("revocation"), "{}", app.log());

    tool.env(pushed.0, pushed.1);
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.with("warning"), ["insecure"], "{report:#?}");

    // A key that Keycloak does not know.
    let (other, _) = client_key();
    tool.env("OIDC_PRIVATE_KEY_FILE", other.path().to_str().unwrap());
    let report = tool.report(&["doctor"]);
    for name in ["pushed request", "client authentication"] {
        let remedy = text(&report.check(name)["remedy"]);
        assert!(remedy.contains("`oidc.private_key_file`"), "{report:#?}");
    }
}

/// Status and body of a call with this token.
async fn call(app: &Example, path: &str, token: &Value) -> (u16, Value) {
    let answer = crate::patience::client()
        .get(app.at("127.0.0.1", path))
        .bearer_auth(text(token))
        .header("Accept", "application/json")
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let body = serde_json::from_str(&answer.text().await.unwrap());
    (status, body.unwrap_or_default())
}

/// The API `notes-api`, and two scopes: one for it, one for another API.
async fn api(name: &str, mapper: Value, more: &[(&str, &str)]) -> (Realm, Example) {
    let realm = Realm::changed(name, |realm| {
        realm["clients"][0]["directAccessGrantsEnabled"] = json!(true);
    });
    let realm = realm.await;
    let clients = [APP[0], ROBOT[0]];
    let mut audience = json!({ "included.client.audience": NOTES_API[0] });
    let members = mapper.as_object().unwrap().clone();
    audience.as_object_mut().unwrap().extend(members);
    realm.add_scope("notes:read", audience, &clients).await;
    let elsewhere = json!({ "included.custom.audience": "https://elsewhere.example" });
    realm.add_scope("elsewhere", elsewhere, &clients).await;
    let settings = [("OIDC_AUDIENCE", NOTES_API[0])];
    let app = realm.start("notes", NOTES_API, &[&settings[..], more].concat());
    (realm, app)
}

async fn token_of_robot(realm: &Realm, scope: &str) -> Value {
    let form = [("grant_type", "client_credentials"), ("scope", scope)];
    let mut reply = realm.token(ROBOT, &form).await;
    assert!(reply["access_token"].is_string(), "{scope}: {reply}");
    reply["access_token"].take()
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn access_tokens_at_an_api() {
    let more = [("OIDC_TOKEN_VALIDATION", "introspection")];
    for (name, settings) in [("api-jwt", &[][..]), ("api-introspection", &more)] {
        let (realm, app) = api(name, json!({}), settings).await;
        let alice = realm.tokens_of_alice("openid notes:read").await;
        let (status, body) = call(&app, "/api/whoami", &alice["access_token"]).await;
        assert_eq!(status, 200, "{name}: {body}");
        assert_eq!(body["sub"], realm.user("alice").await["id"], "{name}");
        assert_eq!(call(&app, "/api/notes", &alice["access_token"]).await, (200, json!([])));

        let robot = token_of_robot(&realm, "notes:read").await;
        let (status, body) = call(&app, "/api/whoami", &robot).await;
        assert_eq!((status, &body["client_id"]), (200, &json!(ROBOT[0])));

        // For the other API, or for none.
        for scope in ["elsewhere", "profile"] {
            let robot = token_of_robot(&realm, scope).await;
            let (status, _) = call(&app, "/api/whoami", &robot).await;
            assert_eq!(status, 401, "{name}: {scope}");
        }
        // No access tokens.
        for other in ["id_token", "refresh_token"] {
            let (status, _) = call(&app, "/api/whoami", &alice[other]).await;
            assert_eq!(status, 401, "{name}: {other}");
        }
    }
}

/// One without `aud`, unless the mapper adds it there too; introspection knows it all the same.
#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn lightweight_access_tokens_at_an_api() {
    let introspection = [("OIDC_TOKEN_VALIDATION", "introspection")];
    for (name, mapper, settings, expected) in [
        ("lightweight", json!({}), &[][..], 401),
        ("lightweight-introspection", json!({}), &introspection[..], 200),
        (
            "lightweight-audience",
            json!({ "lightweight.claim": "true" }),
            &[][..],
            200,
        ),
    ] {
        let (realm, app) = api(name, mapper, settings).await;
        for client in [APP[0], ROBOT[0]] {
            let change = |client: &mut Value| {
                let attribute = "client.use.lightweight.access.token.enabled";
                client["attributes"][attribute] = json!("true");
            };
            realm.change_client(client, change).await;
        }
        let alice = realm.tokens_of_alice("openid notes:read").await;
        let robot = token_of_robot(&realm, "notes:read").await;
        for token in [&alice["access_token"], &robot] {
            let (status, body) = call(&app, "/api/notes", token).await;
            assert_eq!(status, expected, "{name}: {body}");
        }
    }
}

/// An ID token is for the client that signs in, and opens no API: not even one that is that client, nor with a
/// mapper that adds the API to it.
#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn id_tokens_open_no_api() {
    let mapper = json!({ "id.token.claim": "true" });
    let (realm, app) = api("id-token", mapper, &[]).await;
    let alice = realm.tokens_of_alice("openid notes:read").await;
    assert_eq!(call(&app, "/api/whoami", &alice["access_token"]).await.0, 200);
    assert_eq!(call(&app, "/api/whoami", &alice["id_token"]).await.0, 401);
    drop(app);

    let itself = json!({ "included.client.audience": APP[0] });
    realm.add_scope("itself", itself, &[APP[0]]).await;
    let app = realm.start("notes", APP, &[("OIDC_AUDIENCE", APP[0])]);
    let alice = realm.tokens_of_alice("openid itself").await;
    assert_eq!(call(&app, "/api/whoami", &alice["access_token"]).await.0, 200);
    assert_eq!(call(&app, "/api/whoami", &alice["id_token"]).await.0, 401);
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn id_tokens_of_every_algorithm() {
    let realm = Realm::changed("algorithms", |realm| {
        realm["clients"][0]["directAccessGrantsEnabled"] = json!(true);
    });
    let realm = realm.await;
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let change = |client: &mut Value| {
            client["attributes"]["id.token.signed.response.alg"] = json!(algorithm);
        };
        realm.change_client(APP[0], change).await;
        let tokens = realm.tokens_of_alice("openid").await;
        assert_eq!(header(&tokens["id_token"])["alg"], algorithm);
        let _app = realm.start("notes", APP, &[]);
        let (visitor, me) = signs_in(&realm, "alice").await;
        assert_eq!(me["email"], "alice@example.com", "{algorithm}");
        let (status, changes) = refresh(&realm, &visitor).await;
        assert_eq!(status, 200, "{algorithm}: {changes}");
    }
}

fn header(token: &Value) -> Value {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

    let header = text(token).split('.').next().unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn two_keys_within_two_seconds() {
    let realm = Realm::new("keys").await;
    let app = realm.start("notes", APP, &[]);
    signs_in(&realm, "alice").await;
    for priority in [200, 300] {
        realm.rotate_key(priority).await;
        let (_, me) = signs_in(&realm, "bob").await;
        assert_eq!(me["name"], "Bob Sawyer", "{priority}: {}", app.log());
    }
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn a_user_with_three_hundred_roles() {
    let names: Vec<String> = (0..300).map(|number| format!("role-of-the-app-{number:09}")).collect();
    let realm = Realm::changed("roles", |realm| {
        realm["clients"][0]["directAccessGrantsEnabled"] = json!(true);
        for name in &names {
            let roles = realm["roles"]["realm"].as_array_mut().unwrap();
            roles.push(json!({ "name": name }));
            let roles = realm["users"][0]["realmRoles"].as_array_mut().unwrap();
            roles.push(json!(name));
        }
    });
    let realm = realm.await;
    let tokens = realm.tokens_of_alice("openid").await;
    let size = text(&tokens["access_token"]).len();
    assert!(size > 10_000, "{size} bytes");

    let _app = realm.start("notes", APP, &[]);
    let (visitor, me) = signs_in(&realm, "alice").await;
    assert_eq!(me["name"], "Alice Liddell");
    let cookies = visitor.session().len();
    println!("300 roles: an access token of {size} bytes, {cookies} bytes of cookies");
    let (status, changes) = refresh(&realm, &visitor).await;
    assert_eq!((status, &changes["new_access_token"]), (200, &json!(true)));
}
