//! The app under test, with a `rocket()` that knows of no test.

use std::sync::{Mutex, PoisonError};

use rocket::{
    Build, Config, Request, Rocket, State,
    figment::Figment,
    get,
    http::Accept,
    local::blocking::{Client, LocalResponse},
    post, routes,
    serde::json::{Json, Value, json},
    tokio::sync::RwLock,
};
use rocket_openidconnect::{
    Authorized, Bearer, Events, LoggedIn, NewSignIn, Oidc, OptionalUser, Policy, Refused, SessionChange, User, scopes,
    testing::TestProvider,
};

scopes! { pub NotesRead = "notes:read"; }

/// Held by the test that changes the environment, and by those for which it matters while they launch.
pub static ENVIRONMENT: RwLock<()> = RwLock::const_new(());

/// Its provider is not to be reached from here.
pub fn figment() -> Figment {
    figment_without_issuer().merge(("oidc.issuer", "https://accounts.example.com"))
}

/// For an app whose issuer comes from a preset.
pub fn figment_without_issuer() -> Figment {
    crate::logging::listen();
    Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.client_id", "notes"))
        .merge(("oidc.scopes", "openid email profile groups"))
        .merge(("oidc.audience", "https://notes.example.com"))
}

pub fn rocket() -> Rocket<Build> {
    rocket_with(figment())
}

pub fn rocket_with(figment: Figment) -> Rocket<Build> {
    app_with(figment, Oidc::fairing().events(Desks))
}

pub fn app_with(figment: Figment, oidc: Oidc) -> Rocket<Build> {
    rocket::custom(figment)
        .attach(oidc)
        .manage(Doorkeeper("admin"))
        .manage(Changes::default())
        .mount("/", routes![index, me, desk, admin, notes, add, token])
}

/// The app at a provider, with a tracked client before it.
pub fn open(figment: Figment) -> (TestProvider, Client) {
    let provider = TestProvider::new();
    let rocket = provider.register(rocket_with(figment));
    (provider, Client::tracked(rocket).unwrap())
}

/// What became of sessions, in order.
#[derive(Default)]
pub struct Changes(Mutex<Vec<String>>);

impl Changes {
    pub fn take(&self) -> Vec<String> {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changes)
    }
}

/// Gives everybody a desk, but for one.
struct Desks;

#[rocket::async_trait]
impl Events for Desks {
    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let subject = sign_in.subject().to_owned();
        match &*subject {
            "mallory" => Err(Refused::new("Not you.")),
            subject => {
                sign_in.set("desk", format!("the desk of {subject}"));
                Ok(())
            }
        }
    }

    async fn session_changed(&self, request: Option<&Request<'_>>, change: &SessionChange) {
        let changes = request.and_then(|request| request.rocket().state::<Changes>());
        if let Some(changes) = changes {
            let subject = change.subject().unwrap_or("?");
            let entry = format!("{subject} {}", change.reason());
            let mut changes = changes.0.lock().unwrap_or_else(PoisonError::into_inner);
            changes.push(entry);
        }
    }
}

struct Doorkeeper(&'static str);

struct Admitted;

impl Policy for Admitted {
    async fn permits(user: &User, request: &Request<'_>) -> bool {
        let doorkeeper = request.rocket().state::<Doorkeeper>().unwrap();
        user.groups().contains(&doorkeeper.0)
    }
}

#[get("/")]
fn index(visitor: OptionalUser) -> String {
    let name = visitor.user().map(|user| user.subject().to_owned());
    name.unwrap_or_else(|| "nobody".to_owned())
}

#[get("/me")]
fn me(user: LoggedIn) -> Json<Value> {
    Json(json!(user))
}

#[get("/desk")]
fn desk(user: LoggedIn) -> Option<String> {
    user.data("desk")
}

#[get("/admin")]
fn admin(user: Authorized<Admitted>, _doorkeeper: &State<Doorkeeper>) -> String {
    user.subject().to_owned()
}

#[get("/notes")]
fn notes(token: Bearer<NotesRead>) -> Json<Value> {
    Json(json!({ "sub": token.subject(), "client_id": token.client_id(), "claims": token.claims() }))
}

#[post("/notes", data = "<note>")]
fn add(user: LoggedIn, note: &str) -> String {
    format!("{}: {note}", user.subject())
}

/// An access token to call another API with.
#[get("/token")]
async fn token(user: LoggedIn) -> Result<String, String> {
    let token = user.access_token();
    token
        .map(|token| token.expose().to_owned())
        .map_err(|error| error.to_string())
}

/// What a page load is answered.
pub fn visit<'c>(client: &'c Client, path: &'c str) -> LocalResponse<'c> {
    client.get(path).header(Accept::HTML).dispatch()
}

/// Whether somebody is signed in, as a fetch sees it.
pub fn is_signed_in(client: &Client) -> bool {
    match client.get("/me").dispatch().status().code {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}
