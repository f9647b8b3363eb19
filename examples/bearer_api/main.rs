//! An API that accepts access tokens, and nothing else. It adds to `sign_in`: `Bearer` with scopes, an
//! audience of its own, and `resource_server_only`. `README.md` beside this shows how to call it.

#[cfg(test)]
mod tests;

use rocket::{Build, Rocket, get, launch, routes};
use rocket_openidconnect::{Bearer, Oidc, scopes};

scopes! { NotesRead = "notes:read"; }

#[get("/notes")]
fn notes(token: Bearer<NotesRead>) -> String {
    let who = token.subject().or(token.client_id());
    format!("Dear {}: buy milk.\n", who.unwrap_or("whoever you are"))
}

#[launch]
fn rocket() -> Rocket<Build> {
    let oidc = Oidc::custom(|mut settings| {
        settings.resource_server_only = true;
        settings.audience = Some(vec!["https://notes.example.com".into()]);
        settings
    });
    rocket::build().attach(oidc).mount("/", routes![notes])
}
