//! The reference application. It adds to `sign_in`: settings from the environment alone, JSON, a
//! policy, and an API that accepts access tokens for `OIDC_AUDIENCE`. It reads no `Rocket.toml`; run it with
//!
//! ```sh
//! OIDC_ISSUER=… OIDC_CLIENT_ID=… OIDC_CLIENT_SECRET=… cargo run --example notes
//! ```

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use rocket::{
    Build, Config, Request, Rocket, State,
    figment::{Figment, Profile, providers::Env},
    get,
    http::RawStr,
    launch, post,
    response::{content::RawHtml, status::Created},
    routes,
    serde::{
        Deserialize, Serialize,
        json::{Json, Value, json},
    },
};
use rocket_openidconnect::{
    Authorized, Bearer, Caller, LoggedIn, Oidc, OptionalUser, Policy, RelyingParty, User, scopes,
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
    const MOST: usize = 100;

    fn of(&self, author: &str) -> Vec<Note> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = notes.iter().filter(|note| note.author == author);
        own.cloned().collect()
    }

    fn add(&self, note: Note) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == Self::MOST {
            notes.remove(0);
        }
        notes.push(note);
    }
}

/// People in the group `admin`.
struct Admin;

#[rocket::async_trait]
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
            "<p id=\"who\">Nobody is signed in</p><p><a class=\"button\" id=\"sign-in\" href=\"{}\">Sign in</a></p>",
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
        .select(Profile::from_env_or(
            "ROCKET_PROFILE",
            Config::DEFAULT_PROFILE,
        ))
}

fn app(figment: Figment) -> Rocket<Build> {
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .manage(Notes::default())
        .mount("/", routes![health, index, me, admin])
        .mount("/", routes![whoami, list, add, either])
}

#[launch]
fn rocket() -> Rocket<Build> {
    app(figment())
}
