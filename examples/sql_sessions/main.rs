//! It adds to `sign_in`: a session store of the app's own, here in SQL. The library has one for SQLite and PostgreSQL
//! (`session.store = "sql"`); an app writes its own for another database, or for tables of its own. Sessions outlive
//! the app, if it keeps its `secret_key`.
//!
//! ```sh
//! ROCKET_SECRET_KEY=$(openssl rand -base64 32) cargo run --example sql_sessions
//! ```

mod store;
#[cfg(test)]
mod tests;

use rocket::{
    Build, Rocket, get, launch,
    response::content::RawHtml,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{LoggedIn, Oidc, OptionalUser, RelyingParty};

use self::store::SqlStore;

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    let body = if visitor.logged_in() {
        format!(
            "<p><a class=\"button\" href=\"/sessions\">Your sessions</a></p>\
         <form method=\"post\" action=\"{}\"><button class=\"button plain\">Sign out</button></form>",
            rp.logout_url("/")
        )
    } else {
        format!(
            "<p><a class=\"button\" href=\"{}\">Sign in</a></p>",
            rp.login_url("/sessions")
        )
    };
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Sessions</title>\
         <style>{}</style></head><body><main><h1>Sessions in a database</h1>\
         <p>They outlive the app, and whoever reads the database learns nothing of you.</p>{body}</main></body></html>",
        include_str!("../style.css")
    ))
}

/// The sessions of the person who asks, this one marked.
#[get("/sessions")]
async fn sessions(user: LoggedIn, rp: &RelyingParty) -> Option<Json<Value>> {
    let sessions = rp.sessions_of(user.subject()).await.ok()??;
    let list = sessions.iter().map(|session| {
        json!({
            "id": session.id,
            "since": session.started.unix_timestamp(),
            "this one": session.id == user.session_id(),
        })
    });
    Some(Json(list.collect()))
}

fn app(store: SqlStore) -> Rocket<Build> {
    rocket::build()
        .attach(Oidc::fairing().session_store(store))
        .mount("/", routes![index, sessions])
}

#[launch]
async fn rocket() -> _ {
    let database = std::env::var("DATABASE_URL");
    let database = database.unwrap_or_else(|_| "sqlite:target/sessions.db".to_owned());
    let store = SqlStore::open(&database).await;
    app(store.expect("the database opens"))
}
