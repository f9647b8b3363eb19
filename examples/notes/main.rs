//! The reference application. It adds to `sign_in`: settings from the environment alone, JSON, and a
//! policy. It reads no `Rocket.toml`; run it with
//!
//! ```sh
//! OIDC_ISSUER=… OIDC_CLIENT_ID=… OIDC_CLIENT_SECRET=… cargo run --example notes
//! ```

#[cfg(test)]
mod tests;

use rocket::{
    Build, Config, Request, Rocket,
    figment::{Figment, Profile, providers::Env},
    get,
    http::RawStr,
    launch,
    response::content::RawHtml,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Authorized, LoggedIn, Oidc, OptionalUser, Policy, RelyingParty, User};

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
            "<p id=\"who\">Signed in as {}</p>\
             <form method=\"post\" action=\"{}\"><button id=\"sign-out\">Sign out</button></form>",
            RawStr::new(user.name().unwrap_or(user.subject())).html_escape(),
            RawStr::new(&rp.logout_url("/")).html_escape(),
        ),
        None => format!(
            "<p id=\"who\">Nobody is signed in</p><a id=\"sign-in\" href=\"{}\">Sign in</a>",
            RawStr::new(&rp.login_url("/")).html_escape(),
        ),
    };
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Notes</title></head>\
         <body><h1>Notes</h1>{body}</body></html>"
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
        .mount("/", routes![health, index, me, admin])
}

#[launch]
fn rocket() -> Rocket<Build> {
    app(figment())
}
