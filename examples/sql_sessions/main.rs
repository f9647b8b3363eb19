//! It adds to `sign_in`: sessions in a SQL database, by a store of the app's own. They outlive the app, if
//! it keeps its `secret_key`.
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
use rocket_openidconnect::{LoggedIn, Oidc, RelyingParty};

use self::store::SqlStore;

#[get("/")]
fn index(rp: &RelyingParty) -> RawHtml<String> {
    let sign_in = rp.login_url("/sessions");
    RawHtml(format!(
        "<!DOCTYPE html><title>Sessions</title><a href=\"{sign_in}\">Sign in</a>"
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
