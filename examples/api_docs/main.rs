//! An API with its documentation, from which one signs in and calls it. It adds to `sign_in`: the feature `okapi`, by
//! which guards describe themselves to rocket_okapi, and `SecuritySchemes`, which completes the document.
//!
//! Run it with `cargo run --example api_docs --features okapi`, and open <http://localhost:8000/api-docs>.

#[cfg(test)]
mod tests;

use rocket::{
    Build, Rocket, State, get, http::ContentType, launch, post, response::Redirect, routes, serde::json::Json,
};
use rocket_okapi::{
    okapi::openapi3::OpenApi,
    openapi, openapi_get_routes_spec,
    swagger_ui::{SwaggerUIConfig, make_swagger_ui},
};
use rocket_openidconnect::{Bearer, Caller, LoggedIn, Oidc, SecuritySchemes, scopes};
use serde_json::Value;

scopes! {
    NotesRead = "notes:read";
    NotesWrite = "notes:read" & "notes:write" | "notes:admin";
}

/// The notes of a user or of a client.
#[openapi(tag = "Notes")]
#[get("/notes")]
fn notes(token: Bearer<NotesRead>) -> Json<Vec<String>> {
    let who = token.subject().or(token.client_id()).unwrap_or("whoever you are");
    Json(vec![format!("Dear {who}: buy milk.")])
}

/// Adds a note.
#[openapi(tag = "Notes")]
#[post("/notes", data = "<note>")]
fn add_note(token: Bearer<NotesWrite>, note: String) -> String {
    format!("{} adds: {note}", token.subject().unwrap_or("a client"))
}

/// How many notes there are, for a page of this app and for clients.
#[openapi(tag = "Notes")]
#[get("/notes/count")]
fn count(caller: Caller<NotesRead>) -> String {
    format!("one for {}", caller.subject().unwrap_or("a client"))
}

/// The user whose session this browser has.
#[openapi(tag = "Users")]
#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

/// The document, with the addresses of the provider.
#[get("/openapi.json")]
fn document(spec: &State<OpenApi>, schemes: SecuritySchemes) -> Option<Json<Value>> {
    schemes.complete(spec.inner()).ok().map(Json)
}

/// Swagger UI as it comes, and a client of its own: without a secret, so with PKCE, which is off unless it is asked for.
/// At another provider, register such a client with the redirect URI `…/api-docs/oauth2-redirect.html`.
#[get("/swagger-initializer.js")]
fn initializer() -> (ContentType, &'static str) {
    let script = "window.onload = () => {
        window.ui = SwaggerUIBundle({
            configUrl: './swagger-ui-config.json',
            dom_id: '#swagger-ui',
            presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
            layout: 'StandaloneLayout',
        });
        window.ui.initOAuth({ clientId: 'api-docs', usePkceWithAuthorizationCodeGrant: true });
    };";
    (ContentType::JavaScript, script)
}

#[get("/")]
fn index() -> Redirect {
    Redirect::to("/api-docs/index.html")
}

#[launch]
fn rocket() -> Rocket<Build> {
    let oidc = Oidc::custom(|mut settings| {
        settings.audience = Some(vec!["https://notes.example.com".into()]);
        settings
    });
    let (api, spec) = openapi_get_routes_spec![notes, add_note, count, me];
    // Before the file that Swagger UI comes with.
    let mut own_initializer = routes![initializer];
    own_initializer[0].rank = -20;
    let swagger_ui = make_swagger_ui(&SwaggerUIConfig {
        url: "/openapi.json".into(),
        ..SwaggerUIConfig::default()
    });
    rocket::build()
        .attach(oidc)
        .manage(spec)
        .mount("/", api)
        .mount("/", routes![index, document])
        .mount("/api-docs", own_initializer)
        .mount("/api-docs", swagger_ui)
}
