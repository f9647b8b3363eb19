//! The reference application. It adds to `sign_in`: settings from the environment alone, JSON, a
//! policy, a refresh on request, and an API that accepts access tokens for `OIDC_AUDIENCE`. It reads no
//! `Rocket.toml`; run it with
//!
//! ```sh
//! OIDC_ISSUER=… OIDC_CLIENT_ID=… OIDC_CLIENT_SECRET=… cargo run --example notes
//! ```
//!
//! With `NOTES_ACCOUNTS_URL`, `GET /accounts` calls the resource of another API at that address.
//!
//! | route | for | answers |
//! |---|---|---|
//! | `GET /health` | everybody | whether the app runs |
//! | `GET /` | everybody | a page with a button to sign in or out |
//! | `GET /me` | signed-in users | their claims |
//! | `POST /me/refresh` | signed-in users, from a page of this app | what a refresh of the session changed |
//! | `GET /accounts` | signed-in users | what another API says about them: its status and its body |
//! | `GET /admin` | users in the group `admin` | their groups |
//! | `GET /api/whoami` | access tokens | whose token it is |
//! | `GET /api/notes` | access tokens with `notes:read` | the notes of the token's subject |
//! | `POST /api/notes` | access tokens with `notes:write` | the note that was added |
//! | `GET /api/either` | signed-in users, access tokens with `notes:read` | which of them it was |

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use rocket::{
    Build, Config, Request, Rocket, State, error,
    fairing::{AdHoc, Fairing},
    figment::{Figment, Profile, providers::Env},
    get,
    http::{RawStr, Status},
    launch, post,
    response::{content::RawHtml, status::Created},
    routes,
    serde::{
        Deserialize, Serialize,
        json::{Json, Value, json},
    },
};
use rocket_openidconnect::{
    ApiCallError, ApiClient, Authorized, Bearer, Caller, LoggedIn, NoSession, Oidc, OptionalUser, Policy, RefreshError,
    RelyingParty, Secret, User, scopes,
};

scopes! {
    /// Reads notes.
    NotesRead = "notes:read";
    /// Writes them.
    NotesWrite = "notes:write";
}

/// A note, and whose it is.
#[derive(Clone, Deserialize, Serialize)]
#[serde(crate = "rocket::serde")]
struct Note {
    #[serde(default)]
    author: String,
    text: String,
}

/// The newest notes.
#[derive(Default)]
struct Notes(Mutex<Vec<Note>>);

impl Notes {
    const MAX_NOTES: usize = 100;

    fn of(&self, author: &str) -> Vec<Note> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = notes.iter().filter(|note| note.author == author);
        own.cloned().collect()
    }

    fn add(&self, note: Note) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == Self::MAX_NOTES {
            notes.remove(0);
        }
        notes.push(note);
    }
}

/// People in the group `admin`.
struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _request: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

/// Whether the app runs. It knows no user, and the provider may be down.
#[get("/health")]
fn health() -> &'static str {
    "ok"
}

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    let body = match visitor.user() {
        Some(user) => format!(
            "<p id=\"who\">Signed in as {}</p><p><a href=\"/me\">What the provider says of you</a></p>\
             <form method=\"post\" action=\"{}\"><button class=\"button plain\" id=\"sign-out\">Sign out</button></form>",
            RawStr::new(user.name().unwrap_or(user.subject())).html_escape(),
            RawStr::new(&rp.logout_url("/")).html_escape(),
        ),
        None => format!(
            "<p id=\"who\">Not signed in</p><p><a class=\"button\" id=\"sign-in\" href=\"{}\">Sign in</a></p>",
            RawStr::new(&rp.login_url("/")).html_escape(),
        ),
    };
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Notes</title>\
         <style>{}</style></head><body><main><h1>Notes</h1>{body}</main></body></html>",
        include_str!("../style.css")
    ))
}

#[get("/me")]
fn me(user: LoggedIn) -> Json<Value> {
    Json(json!({
        "sub": user.subject(),
        "name": user.name(),
        "email": user.email(),
        "claims": user.claims(),
    }))
}

/// Refreshes the session now, and answers which claims that added, removed and changed, and whether there is
/// another access token. Within 10 s of the last refresh, be it this request's guard that made it, there is
/// no further one, and nothing changes.
///
/// | status | when | the session |
/// |---|---|---|
/// | 200 | it is refreshed | is as new |
/// | 401 | it has ended, or the provider asks for a new sign-in | ends, or waits for the sign-in |
/// | 403 | the request comes from another origin | stays |
/// | 409 | it has no refresh token | stays |
/// | 502 | the provider is not reachable, or refuses without ending the session | stays |
/// | 503 | the session store is not reachable | stays |
#[post("/me/refresh")]
async fn refresh(user: LoggedIn) -> Result<Json<Value>, (Status, Json<Value>)> {
    let refreshed = user.refresh().await;
    let refreshed = refreshed.map_err(|error| {
        let answer = json!({ "error": error.reason(), "message": error.to_string() });
        (status_of(&error), Json(answer))
    })?;
    let (before, after) = (user.claims().as_map(), refreshed.claims().as_map());
    let (mut added, mut changed) = (vec![], vec![]);
    for (name, value) in after {
        match before.get(name) {
            None => added.push(name),
            Some(old) if old != value => changed.push(name),
            Some(_) => {}
        }
    }
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    Ok(Json(json!({
        "added": added,
        "removed": removed.collect::<Vec<_>>(),
        "changed": changed,
        "new_access_token": access_token(&refreshed).await != access_token(&user).await,
    })))
}

fn status_of(error: &RefreshError) -> Status {
    match error {
        RefreshError::NoRefreshToken => Status::Conflict,
        RefreshError::NoSession(NoSession::StoreUnavailable | NoSession::UnknownKey) => Status::ServiceUnavailable,
        RefreshError::NoSession(_) => Status::Unauthorized,
        RefreshError::Failed { .. } => Status::BadGateway,
        _ => Status::InternalServerError,
    }
}

async fn access_token(user: &User) -> Option<&str> {
    user.access_token().ok().map(Secret::expose)
}

/// The API that `GET /accounts` calls, and the path of its resource.
struct Accounts(ApiClient, String);

/// Makes the client for this resource. It connects with the certificate of the app, if that has one.
fn accounts_at(url: String) -> impl Fairing {
    AdHoc::try_on_ignite("accounts", |rocket| async move {
        let (base, path) = url.rsplit_once('/').unwrap_or((&url, ""));
        let rp = rocket.state::<RelyingParty>().expect("the fairing `Oidc` is attached");
        let api = match ApiClient::with_certificate_of(rp, base) {
            Err(ApiCallError::NoCertificate) => ApiClient::new(base),
            api => api,
        };
        match api {
            Ok(api) => Ok(rocket.manage(Accounts(api, path.to_owned()))),
            Err(error) => {
                error!("NOTES_ACCOUNTS_URL: {error}");
                Err(rocket)
            }
        }
    })
}

/// Calls that API with the user's access token. A token that is bound to a key is sent with a proof.
#[get("/accounts")]
async fn accounts(user: LoggedIn, accounts: &State<Accounts>) -> Result<Json<Value>, (Status, String)> {
    let Accounts(api, path) = accounts.inner();
    let api = user.bound_client(api);
    let call = async {
        let response = api.send(api.get(path)?).await?;
        let status = response.status().as_u16();
        Ok(json!({ "status": status, "body": response.text().await? }))
    };
    let called: Result<_, ApiCallError> = call.await;
    called
        .map(Json)
        .map_err(|error| (Status::BadGateway, error.to_string()))
}

#[get("/admin")]
fn admin(user: Authorized<Admin>) -> Json<Value> {
    Json(json!({ "sub": user.subject(), "groups": user.groups() }))
}

/// Whose token this is.
#[get("/api/whoami")]
fn whoami(token: Bearer) -> Json<Value> {
    Json(json!({
        "sub": token.subject(),
        "client_id": token.client_id(),
        "scope": token.scopes().join(" "),
    }))
}

/// Who a token speaks of, with the issuer's word for it: the person, or the client itself.
fn author<S>(token: &Bearer<S>) -> String {
    let who = token.subject().or(token.client_id()).unwrap_or_default();
    format!("{} {who}", token.issuer())
}

#[get("/api/notes")]
fn list(token: Bearer<NotesRead>, notes: &State<Notes>) -> Json<Vec<Note>> {
    Json(notes.of(&author(&token)))
}

#[post("/api/notes", data = "<note>")]
fn add(token: Bearer<NotesWrite>, note: Json<Note>, notes: &State<Notes>) -> Created<Json<Note>> {
    let note = Note {
        author: author(&token),
        text: note.into_inner().text,
    };
    notes.add(note.clone());
    Created::new("/api/notes").body(Json(note))
}

/// For a browser's session and for tokens alike.
#[get("/api/either")]
fn either(caller: Caller<NotesRead>) -> Json<Value> {
    let kind = match &caller {
        Caller::User(_) => "user",
        Caller::Bearer(_) => "bearer",
    };
    Json(json!({ "kind": kind, "sub": caller.subject() }))
}

/// Rocket's defaults and `ROCKET_*` variables; `OIDC_*` variables are the fairing's part.
fn figment() -> Figment {
    Figment::from(Config::default())
        .merge(Env::prefixed("ROCKET_").ignore(&["PROFILE"]).global())
        .select(Profile::from_env_or("ROCKET_PROFILE", Config::DEFAULT_PROFILE))
}

fn app(figment: Figment) -> Rocket<Build> {
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .manage(Notes::default())
        .mount("/", routes![health, index, me, refresh, admin])
        .mount("/", routes![whoami, list, add, either])
}

/// The app with `GET /accounts`, which calls the resource at this address.
fn app_with_accounts(figment: Figment, url: String) -> Rocket<Build> {
    app(figment).attach(accounts_at(url)).mount("/", routes![accounts])
}

#[launch]
fn rocket() -> Rocket<Build> {
    match Env::var("NOTES_ACCOUNTS_URL") {
        Some(url) => app_with_accounts(figment(), url),
        None => app(figment()),
    }
}
