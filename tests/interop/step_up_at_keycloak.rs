//! Guards that demand an authentication context, at a Keycloak with two levels: a password, and a second factor.

use reqwest::Method;
use rocket::{
    Build, Config, Request, Rocket,
    figment::Figment,
    get,
    http::{Accept, Header, Status},
    response::{self, Responder},
    routes,
};
use rocket_openidconnect::{
    Acr, AnyScope, Bearer, Claims, Fresh, LoggedIn, Oidc, Pages, Secret, SignInFailure, acr_values,
};
use serde_json::{Value, json};

use crate::{
    keycloak_server::{APP, Realm, text},
    step_up::Visit,
    walker::{Form, Person, SECOND_FACTOR},
};

/// The audience of the app's own API.
const API: &str = "https://api.notes.test";

acr_values! {
    TwoFactor = "two-factor";
    /// A level that the realm does not have.
    HardwareKey = "hardware-key";
}

/// How the user of the session authenticated.
#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.claims().get("acr").unwrap_or_default()
}

#[get("/second")]
fn second(user: LoggedIn<Claims, Acr<TwoFactor>>) -> String {
    user.claims().get("acr").unwrap_or_default()
}

#[get("/second-and-fresh")]
fn second_and_fresh(user: LoggedIn<Claims, (Fresh<5>, Acr<TwoFactor>)>) -> String {
    user.claims().get("acr").unwrap_or_default()
}

#[get("/hardware")]
fn hardware(_user: LoggedIn<Claims, Acr<HardwareKey>>) -> &'static str {
    "a hardware key"
}

#[get("/token")]
fn token(user: LoggedIn) -> String {
    user.access_token().map(Secret::expose).unwrap_or_default().to_owned()
}

#[get("/api")]
fn api(token: Bearer<AnyScope, Claims, Acr<TwoFactor>>) -> String {
    token.claims().get("acr").unwrap_or_default()
}

/// A failed sign-in as its reason code.
struct Reasons;

impl Pages for Reasons {
    fn sign_in_failed(&self, request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        failure.error.reason().respond_to(request)
    }
}

/// A realm whose sign-in asks for a password at level 1, and for a code at level 2, once for each session.
async fn realm(name: &str) -> Realm {
    let realm = Realm::changed(name, |realm| {
        realm["attributes"] = json!({ "acr.loa.map": json!({ "password": "1", "two-factor": "2" }).to_string() });
        // A test may need one code twice. Keycloak reads a policy only as a whole.
        let policy = json!({
            "otpPolicyType": "totp",
            "otpPolicyAlgorithm": "HmacSHA1",
            "otpPolicyInitialCounter": 0,
            "otpPolicyDigits": 6,
            "otpPolicyLookAheadWindow": 1,
            "otpPolicyPeriod": 30,
            "otpPolicyCodeReusable": true,
        });
        let members = policy.as_object().unwrap().clone();
        realm.as_object_mut().unwrap().extend(members);
        let credentials = realm["users"][0]["credentials"].as_array_mut().unwrap();
        let parameters = json!({ "subType": "totp", "digits": 6, "period": 30, "algorithm": "HmacSHA1" });
        credentials.push(json!({
            "type": "otp",
            "secretData": json!({ "value": SECOND_FACTOR }).to_string(),
            "credentialData": parameters.to_string(),
        }));
    });
    let realm = realm.await;

    let flow = json!({ "alias": "levels", "providerId": "basic-flow", "topLevel": true, "builtIn": false });
    realm.admin(Method::POST, "/authentication/flows", flow).await;
    add_step(&realm, "levels", "auth-cookie", "ALTERNATIVE").await;
    add_flow(&realm, "levels", "levels-forms", "ALTERNATIVE").await;
    for (level, form) in [("1", "auth-username-password-form"), ("2", "auth-otp-form")] {
        let flow = format!("level-{level}");
        add_flow(&realm, "levels-forms", &flow, "CONDITIONAL").await;
        let condition = add_step(&realm, &flow, "conditional-level-of-authentication", "REQUIRED").await;
        let path = format!("/authentication/executions/{}/config", text(&condition));
        let config = json!({ "loa-condition-level": level, "loa-max-age": "36000" });
        let config = json!({ "alias": flow, "config": config });
        realm.admin(Method::POST, &path, config).await;
        add_step(&realm, &flow, form, "REQUIRED").await;
    }
    realm.admin(Method::PUT, "", json!({ "browserFlow": "levels" })).await;
    let audience = json!({ "included.custom.audience": API });
    realm.add_scope("api", audience, &[APP[0]]).await;
    realm
}

/// A step of a flow: its id.
async fn add_step(realm: &Realm, flow: &str, authenticator: &str, requirement: &str) -> Value {
    let path = format!("/authentication/flows/{flow}/executions/execution");
    let step = json!({ "provider": authenticator });
    let (id, _) = realm.call(Method::POST, &path, step).await;
    require(realm, flow, &id, requirement).await;
    id
}

async fn add_flow(realm: &Realm, flow: &str, name: &str, requirement: &str) {
    let path = format!("/authentication/flows/{flow}/executions/flow");
    let part = json!({ "alias": name, "type": "basic-flow", "provider": "", "description": "" });
    realm.admin(Method::POST, &path, part).await;
    // What was made has another id as a step.
    let path = format!("/authentication/flows/{flow}/executions");
    let steps = realm.admin(Method::GET, &path, Value::Null).await;
    let mut steps = steps.as_array().expect("they are a list").iter();
    let step = steps.find(|step| step["displayName"] == name).expect("it is there");
    require(realm, flow, &step["id"], requirement).await;
}

async fn require(realm: &Realm, flow: &str, step: &Value, requirement: &str) {
    let path = format!("/authentication/flows/{flow}/executions");
    let change = json!({ "id": step, "requirement": requirement });
    realm.admin(Method::PUT, &path, change).await;
}

fn rocket(realm: &Realm) -> Rocket<Build> {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("port", realm.app_port()))
        .merge(("oidc.issuer", realm.issuer()))
        .merge(("oidc.client_id", APP[0]))
        .merge(("oidc.client_secret", APP[1]))
        .merge(("oidc.scopes", "openid api"))
        .merge(("oidc.audience", API))
        .merge(("oidc.session.tokens", "access_token id_token refresh_token"));
    rocket::custom(figment)
        .attach(Oidc::fairing().pages(Reasons))
        .mount("/", routes![me, second, second_and_fresh, hardware, token, api])
}

/// Loads a page: its status and body, and the forms that the user filled in at Keycloak.
async fn load(visit: &mut Visit, path: &str) -> (Status, String, Vec<Form>) {
    visit.walker.forms.clear();
    let (status, body) = visit.load(path, || Person::SignsIn("alice")).await;
    (status, body, visit.walker.forms.clone())
}

async fn sees(visit: &mut Visit, path: &str, body: &str, forms: &[Form]) {
    let page = load(visit, path).await;
    assert_eq!(page, (Status::Ok, body.to_owned(), forms.to_vec()), "{path}");
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn a_page_of_the_second_level_asks_for_the_second_factor_alone() {
    let realm = realm("levels").await;
    let mut visit = Visit::open(rocket(&realm)).await;
    sees(&mut visit, "/me", "password", &[Form::Password]).await;
    sees(&mut visit, "/second", "two-factor", &[Form::SecondFactor]).await;
    // The session has it now.
    sees(&mut visit, "/second", "two-factor", &[]).await;
    sees(&mut visit, "/me", "two-factor", &[]).await;
    sees(&mut visit, "/second-and-fresh", "two-factor", &[]).await;
    // It is the same user's, of one session at Keycloak.
    assert_eq!(realm.sessions("alice").await, 1);

    // Another browser is asked for both.
    let mut visit = Visit::open(rocket(&realm)).await;
    let both = [Form::Password, Form::SecondFactor];
    sees(&mut visit, "/second", "two-factor", &both).await;
}

/// Keycloak ignores a value that it does not know, and answers with the level that it has.
#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn an_answer_of_another_level_is_an_error_page() {
    let realm = realm("unknown-level").await;
    let mut visit = Visit::open(rocket(&realm)).await;
    sees(&mut visit, "/me", "password", &[Form::Password]).await;
    let page = load(&mut visit, "/hardware").await;
    assert_eq!(page, (Status::BadGateway, "id_token_acr".to_owned(), vec![]));
    // The session is as it was.
    sees(&mut visit, "/me", "password", &[]).await;
    sees(&mut visit, "/second", "two-factor", &[Form::SecondFactor]).await;
}

/// Status, challenge and body of a call with this token.
async fn call(visit: &Visit, token: &str) -> (Status, Option<String>, String) {
    let request = visit.client.get("/api").header(Accept::JSON);
    let authorization = Header::new("Authorization", format!("Bearer {token}"));
    let response = request.header(authorization).dispatch().await;
    let challenge = response.headers().get_one("WWW-Authenticate").map(str::to_owned);
    (
        response.status(),
        challenge,
        response.into_string().await.unwrap_or_default(),
    )
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn an_access_token_of_the_first_level_gets_the_challenge() {
    let realm = realm("levels-of-tokens").await;
    let mut visit = Visit::open(rocket(&realm)).await;
    let (_, first, _) = load(&mut visit, "/token").await;
    let (status, challenge, _) = call(&visit, &first).await;
    let challenge = challenge.expect("a challenge");
    let parts: Vec<_> = challenge.split(", ").collect();
    assert_eq!(status, Status::Unauthorized, "{challenge}");
    for part in [
        "error=\"insufficient_user_authentication\"",
        "acr_values=\"two-factor\"",
    ] {
        assert!(parts.iter().any(|it| it.ends_with(part)), "{challenge}");
    }

    sees(&mut visit, "/second", "two-factor", &[Form::SecondFactor]).await;
    let (_, second, _) = load(&mut visit, "/token").await;
    assert_ne!(first, second);
    let answer = call(&visit, &second).await;
    assert_eq!(answer, (Status::Ok, None, "two-factor".to_owned()));
    // The step-up does not change a token that was issued before.
    assert_eq!(call(&visit, &first).await.0, Status::Unauthorized);
}
