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

use crate::support::Browser;

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
