//! It adds to `sign_in`: a page in JavaScript, and an API for it at the same origin. The browser has the session
//! and no token. `app.js` follows the session by `/oidc/session.js`: in other tabs, before its end, and at a 401.
//! The guards reject what other sites' pages send, and `motto` shows how the app asks another API for its page.
//!
//! ```sh
//! cargo run --example spa     # open http://localhost:8000
//! ```

#[cfg(test)]
mod tests;
mod todos;

use rocket::{
    Build, Request, Responder, Rocket, State, catch, catchers, delete,
    fairing::AdHoc,
    get,
    http::{ContentType, Header, Status},
    launch, post, routes,
    serde::{
        Deserialize,
        json::{Json, Value, json},
    },
};
use rocket_openidconnect::{ApiCallError, ApiClient, Bearer, LoggedIn, Oidc, User, protect};

use self::todos::{Todo, Todos};

/// Scripts, styles and requests of this origin alone, and no frames: whatever a to-do says, it is no script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Who a to-do belongs to: issuer and subject together.
fn owner(user: &User) -> String {
    format!("{} {}", user.issuer(), user.subject())
}

#[derive(Deserialize)]
#[serde(crate = "rocket::serde")]
struct NewTodo<'r> {
    text: &'r str,
}

#[get("/todos")]
fn list(user: LoggedIn, todos: &State<Todos>) -> Json<Vec<Todo>> {
    Json(todos.of(&owner(&user)))
}

#[post("/todos", data = "<todo>")]
fn add(user: LoggedIn, todo: Json<NewTodo<'_>>, todos: &State<Todos>) -> Result<(Status, Json<Todo>), Status> {
    let added = todos.add(&owner(&user), todo.text.trim());
    let added = added.ok_or(Status::UnprocessableEntity)?;
    Ok((Status::Created, Json(added)))
}

#[delete("/todos/<id>")]
fn remove(id: u64, user: LoggedIn, todos: &State<Todos>) -> Status {
    if todos.remove(&owner(&user), id) {
        Status::NoContent
    } else {
        Status::NotFound
    }
}

/// Hands on what another API says, which gets the user's access token from the app. The browser has none, and names no
/// address: a route for each request, and no proxy for all.
#[get("/motto")]
async fn motto(user: LoggedIn, api: &State<ApiClient>) -> Result<Value, Status> {
    let ask = async || {
        let api = user.bound_client(api);
        let response = api.send(api.get("motto")?).await?.error_for_status()?;
        Ok::<_, ApiCallError>(json!(response.text().await?))
    };
    ask().await.map_err(|_| Status::BadGateway)
}

/// The other API, which is here so that the example runs alone.
#[get("/motto")]
fn motto_of(token: Bearer) -> String {
    format!("Do one thing today, {}.", token.subject().unwrap_or("stranger"))
}

/// A script reads JSON, whatever went wrong.
#[catch(default)]
fn failed(status: Status, _: &Request<'_>) -> Value {
    json!({ "status": status.code, "error": status.reason_lossy() })
}

#[derive(Responder)]
struct Page {
    html: (ContentType, &'static str),
    policy: Header<'static>,
}

#[get("/")]
fn index() -> Page {
    Page {
        html: (ContentType::HTML, include_str!("index.html")),
        policy: Header::new("Content-Security-Policy", POLICY),
    }
}

#[get("/app.js")]
fn script() -> (ContentType, &'static str) {
    (ContentType::JavaScript, include_str!("app.js"))
}

#[get("/style.css")]
fn style() -> (ContentType, &'static str) {
    (ContentType::CSS, include_str!("../style.css"))
}

#[launch]
fn rocket() -> Rocket<Build> {
    let oidc = Oidc::custom(|mut settings| {
        settings.me_claims = Some(vec!["name".into(), "email".into()]);
        settings
    });
    let mottos = AdHoc::try_on_ignite("mottos", |rocket| async {
        let port: u16 = rocket.figment().extract_inner("port").unwrap_or(8000);
        match ApiClient::new(&format!("http://127.0.0.1:{port}/mottos")) {
            Ok(api) => Ok(rocket.manage(api)),
            Err(_) => Err(rocket),
        }
    });
    rocket::build()
        .attach(oidc)
        .attach(mottos)
        .manage(Todos::default())
        .mount("/", routes![index, script, style])
        .mount("/mottos", routes![motto_of])
        // A route that is added here without a guard is guarded all the same.
        .mount("/api", protect(routes![list, add, remove, motto]))
        .register("/api", catchers![failed])
}
