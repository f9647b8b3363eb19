//! The development provider, started by the fairing, over a real socket.

use rocket::{
    Build, Config, Rocket,
    figment::Figment,
    get,
    http::{Header, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, LoggedIn, Oidc, scopes};

use crate::{common::launch_failure, support::Browser};

scopes! { NotesRead = "notes:read"; }

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.name().unwrap_or_default().to_owned()
}

#[get("/notes")]
fn notes(token: Bearer<NotesRead>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

fn rocket() -> Rocket<Build> {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.dev_provider", json!({ "port": 0 })));
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![me, notes])
}

fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.build().unwrap()
}

async fn post(url: String, form: String) -> reqwest::Response {
    let request = http()
        .post(url)
        .header("Content-Type", "application/x-www-form-urlencoded");
    request.body(form).send().await.unwrap()
}

#[rocket::async_test]
async fn a_user_signs_in_at_the_dev_provider() {
    let browser = Browser::open(rocket()).await;
    let login = browser.visit("/me").await.location.unwrap();
    let at_provider = browser.visit(&login).await.location.unwrap();
    let page = http().get(&at_provider).send().await.unwrap();
    let page = page.text().await.unwrap();
    let field = page.split("name=\"request\" value=\"").nth(1).unwrap();
    let request = field.split('"').next().unwrap();
    let button = url::Url::parse(&at_provider).unwrap().join("/authorize");
    let form = format!("request={request}&user=alice");
    let answer = post(button.unwrap().into(), form).await;
    assert_eq!(answer.status(), 303);
    let callback = answer.headers()["location"].to_str().unwrap();
    let callback = callback.strip_prefix("http://localhost:8000").unwrap();
    browser.arrive_from_provider(callback).await.redirects_to("/me");
    browser.visit("/me").await.sees("Alice Liddell");
}

/// Two nodes share the development provider of one: the other knows its issuer, and who they are to it.
#[rocket::async_test]
async fn another_process_can_be_the_same_client() {
    let ask = async |app: Rocket<Build>| {
        let browser = Browser::open(app).await;
        let login = browser.visit("/oidc/login").await.location.unwrap();
        let (issuer, query) = login.split_once("/authorize?").unwrap();
        let form = "grant_type=client_credentials&client_id=nodes&client_secret=shared";
        let answer = post(format!("{issuer}/token"), form.to_owned()).await;
        let client_id = query.split('&').find(|it| it.starts_with("client_id="));
        (answer.status().as_u16(), client_id.unwrap().to_owned())
    };
    let settings = json!({ "client_id": "nodes", "client_secret": "shared" });
    let figment = rocket().figment().clone().merge(("oidc", settings));
    let named = ask(rocket().configure(figment)).await;
    assert_eq!(named, (200, "client_id=nodes".to_owned()));
    let unnamed = ask(rocket()).await;
    assert_eq!(unnamed, (401, "client_id=dev-client".to_owned()));
}

#[rocket::async_test]
async fn the_command_line_gets_a_token_of_the_dev_provider() {
    let browser = Browser::open(rocket()).await;
    let metadata = browser
        .fetch("/.well-known/oauth-protected-resource")
        .await
        .json::<Value>();
    let issuer = metadata["authorization_servers"][0].as_str().unwrap();
    let form = "grant_type=client_credentials&scope=notes:read&client_id=dev-cli&client_secret=dev-cli";
    let reply = post(format!("{issuer}/token"), form.to_owned()).await;
    let reply: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    let token = reply["access_token"].as_str().unwrap();
    let request = browser.client().get("/notes");
    let request = request.header(Header::new("Authorization", format!("Bearer {token}")));
    let answer = request.dispatch().await;
    assert_eq!(answer.status(), Status::Ok);
    assert_eq!(answer.into_string().await.unwrap(), "dev-cli");
}

#[get("/who")]
fn who(user: LoggedIn) -> String {
    user.key().to_string()
}

fn several(providers: Value) -> Rocket<Build> {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.providers", providers));
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![me, who])
}

/// The issuer in the address of an authorization request.
fn issuer_of(authorization: &str) -> &str {
    authorization.split_once("/authorize?").unwrap().0
}

/// Signs in on the provider's page; returns the page, and the path of the callback.
async fn choose(authorization: &str, user: &str) -> (String, String) {
    let page = http().get(authorization).send().await.unwrap();
    let page = page.text().await.unwrap();
    let field = page.split("name=\"request\" value=\"").nth(1).unwrap();
    let request = field.split('"').next().unwrap();
    let form = format!("request={request}&user={user}");
    let answer = post(format!("{}/authorize", issuer_of(authorization)), form).await;
    assert_eq!(answer.status(), 303);
    let callback = answer.headers()["location"].to_str().unwrap();
    let callback = callback.strip_prefix("http://localhost:8000").unwrap();
    (page, callback.to_owned())
}

/// Beside a real one, which is not asked.
#[rocket::async_test]
async fn of_several_providers_each_may_be_a_development_provider() {
    let users = json!([{ "sub": "carol", "name": "Carol" }]);
    let browser = Browser::open(several(json!({
        "dev": { "dev_provider": { "port": 0 } },
        "staff": { "dev_provider": { "port": 0, "users": users }, "label": "Staff <&>", "client_id": "staff-app" },
        "real": { "issuer": "https://op.example", "client_id": "app", "client_secret": "hush" },
    })))
    .await;
    browser.visit("/oidc/login").await.sees("Staff &lt;&amp;&gt;");
    let mut issuers = vec![];
    for (name, user, banner, client_id) in [
        (
            "dev",
            "alice",
            "Development provider <strong>dev</strong>:",
            "dev-client",
        ),
        (
            "staff",
            "carol",
            "Development provider <strong>Staff &lt;&amp;&gt;</strong>:",
            "staff-app",
        ),
    ] {
        let login = format!("/oidc/login/{name}?next=/who");
        let authorization = browser.visit(&login).await.location.unwrap();
        assert!(
            authorization.contains(&format!("client_id={client_id}&")),
            "{authorization}"
        );
        let (page, callback) = choose(&authorization, user).await;
        assert!(page.contains(banner), "{page}");
        assert!(callback.starts_with(&format!("/oidc/authorize/{name}?")), "{callback}");
        let done = browser.arrive_from_provider(&callback).await;
        done.redirects_to("/who");
        let issuer = issuer_of(&authorization);
        let key = browser.visit("/who").await.body;
        assert_eq!(key, format!("{name} {issuer} {user}"));

        // Sign-out is at the same provider, which redirects back.
        let page = browser.submit("/oidc/logout?next=/", "").await;
        let end_session = page.location.unwrap();
        assert!(
            end_session.starts_with(&format!("{issuer}/end_session?")),
            "{end_session}"
        );
        let back = http().get(&end_session).send().await.unwrap();
        let back = back.headers()["location"].to_str().unwrap();
        assert!(back.starts_with("http://localhost:8000/?state="), "{back}");
        let error = http()
            .get(format!("{issuer}/authorize?client_id=x"))
            .send()
            .await
            .unwrap();
        assert!(error.text().await.unwrap().contains(banner));
        issuers.push(issuer.to_owned());
    }
    assert_ne!(issuers[0], issuers[1]);
}

#[rocket::async_test]
async fn a_development_provider_may_be_alone_in_the_table() {
    let browser = Browser::open(several(json!({ "dev": { "dev_provider": { "port": 0 } } }))).await;
    let authorization = browser.visit("/oidc/login?next=/me").await.location.unwrap();
    let (_, callback) = choose(&authorization, "bob").await;
    browser.arrive_from_provider(&callback).await.redirects_to("/me");
    browser.visit("/me").await.sees("Bob");
}

#[rocket::async_test]
async fn the_rules_of_a_development_provider_hold_for_each() {
    let dev = |more: Value| {
        let mut table = json!({ "dev_provider": { "port": 0 } });
        let members = more.as_object().unwrap().clone();
        table.as_object_mut().unwrap().extend(members);
        several(json!({ "a": table.clone(), "b": { "dev_provider": { "port": 0 } } }))
    };
    let lines = async |rocket: Rocket<Build>| {
        let (_, lines) = launch_failure(rocket).await;
        lines.join("\n").replace(" in (&str, serde_json::value::Value)", "")
    };
    assert_eq!(
        lines(dev(json!({ "issuer": "https://op.example" }))).await,
        "ERROR: `global.oidc.providers.a.dev_provider`: `global.oidc.providers.a.issuer` is set too, and there can be only \
         one provider\nINFO: remove `issuer`, or set `dev_provider = false`"
    );

    let release = dev(json!({}));
    let figment = release.figment().clone().select("release");
    let figment = figment.merge(("oidc.base_url", "https://app.example"));
    let expected = ["a", "b"].map(|name| {
        format!(
            "ERROR: `global.oidc.providers.{name}.dev_provider`: the development provider starts in the debug profile \
             only\nINFO: remove `dev_provider` and set `issuer`, or select the profile with ROCKET_PROFILE=debug"
        )
    });
    // All that is wrong at one launch, the key that the release profile needs too.
    let key = "ERROR: `secret_key` is missing: outside of the debug profile Rocket does not launch without one\n\
               INFO: set ROCKET_SECRET_KEY to the output of `openssl rand -base64 32`";
    let expected = [&expected[..], &[key.to_owned()]].concat();
    assert_eq!(lines(release.configure(figment)).await, expected.join("\n"));
}
