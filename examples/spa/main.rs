//! It adds to `sign_in`: a page in JavaScript, and an API for it at the same origin. The browser has the session
//! and no token. `app.js` shows what a script does about a 401, and `FromOwnPage` what an API does about requests
//! that other sites' pages make.
//!
//! ```sh
//! cargo run --example spa     # open http://localhost:8000
//! ```

#[cfg(test)]
mod tests;
mod todos;

use rocket::{
    Build, Request, Responder, Rocket, State, catch, catchers, delete, get,
    http::{ContentType, Header, Status},
    launch, post,
    request::{FromRequest, Outcome},
    routes,
    serde::{
        Deserialize, Serialize,
        json::{Json, Value, json},
    },
};
use rocket_openidconnect::{LoggedIn, Oidc, RelyingParty, User, protect};

use self::todos::{Todo, Todos};

/// Scripts, styles and requests of this origin alone, and no frames: whatever a to-do says, it is no script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// A request that our own page made. Pages of other sites cannot set this header, unless the API allowed it by
/// CORS, which it does not. The session's cookie is `SameSite=Lax`, which keeps most of them out; this keeps
/// out those of the same site (`blog.example.com`) too.
struct FromOwnPage;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for FromOwnPage {
    type Error = &'static str;

    async fn from_request(request: &'r Request<'_>) -> Outcome<FromOwnPage, &'static str> {
        let headers = request.headers();
        let is_ours = headers.get_one("X-Requested-With") == Some("fetch");
        // What a browser says of itself, if it does.
        let site = headers.get_one("Sec-Fetch-Site").unwrap_or("same-origin");
        if is_ours && site == "same-origin" {
            Outcome::Success(FromOwnPage)
        } else {
            Outcome::Error((Status::Forbidden, "the request is not of our page"))
        }
    }
}

/// Who a to-do belongs to: issuer and subject together.
fn owner(user: &User) -> String {
    format!("{} {}", user.issuer(), user.subject())
}

#[derive(Deserialize)]
#[serde(crate = "rocket::serde")]
struct NewTodo<'r> {
    text: &'r str,
}

#[derive(Serialize)]
#[serde(crate = "rocket::serde")]
struct Me<'r> {
    name: &'r str,
    /// Where the sign-out form is sent.
    logout_url: String,
}

#[get("/me")]
fn me(user: LoggedIn, rp: &RelyingParty) -> Value {
    let name = user.name().unwrap_or(user.subject());
    let logout_url = rp.logout_url("/");
    json!(Me { name, logout_url })
}

#[get("/todos")]
fn list(user: LoggedIn, todos: &State<Todos>) -> Json<Vec<Todo>> {
    Json(todos.of(&owner(&user)))
}

#[post("/todos", data = "<todo>")]
fn add(
    user: LoggedIn,
    _own: FromOwnPage,
    todo: Json<NewTodo<'_>>,
    todos: &State<Todos>,
) -> Result<(Status, Json<Todo>), Status> {
    let added = todos.add(&owner(&user), todo.text.trim());
    let added = added.ok_or(Status::UnprocessableEntity)?;
    Ok((Status::Created, Json(added)))
}

#[delete("/todos/<id>")]
fn remove(id: u64, user: LoggedIn, _own: FromOwnPage, todos: &State<Todos>) -> Status {
    if todos.remove(&owner(&user), id) {
        Status::NoContent
    } else {
        Status::NotFound
    }
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
    rocket::build()
        .attach(Oidc::fairing())
        .manage(Todos::default())
        .mount("/", routes![index, script, style])
        // A route that is added here without a guard is guarded all the same.
        .mount("/api", protect(routes![me, list, add, remove]))
        .register("/api", catchers![failed])
}
