//! A whole small app: the to-do list of a team. It adds to `sign_in`: templates that know the visitor, groups, a form that
//! survives the end of a session, a page of one's sessions, an API for scripts of another origin, and a WebSocket that
//! closes with the session.
//!
//! ```sh
//! cargo run --example team     # open http://localhost:8000
//! ```

mod cors;
#[cfg(test)]
mod tests;
mod todos;

use rocket::{
    Build, Config, FromForm, Request, Rocket, State, catch, catchers,
    futures::{SinkExt, StreamExt},
    get,
    http::Status,
    launch, post,
    response::Redirect,
    routes,
    serde::{Deserialize, json::Json},
    tokio::select,
    uri,
};
use rocket_dyn_templates::{Template, context};
use rocket_openidconnect::{
    Authorized, Bearer, Draft, Events, Kept, LoggedIn, NewSignIn, Oidc, Refused, RelyingParty, VisitorTemplate, groups,
    render, scopes,
};
use rocket_ws::{Channel, Message, WebSocket};

use self::{
    cors::Cors,
    todos::{Todo, Todos},
};

groups! {
    /// Those who see the list and add to it.
    Members = "users" | "admin";
    /// Those who clear it.
    Admins = "admin";
}

scopes! {
    /// Reads the list.
    TodosRead = "todos:read";
    /// Adds to it.
    TodosWrite = "todos:write";
}

#[derive(FromForm, Deserialize)]
#[serde(crate = "rocket::serde")]
struct NewTodo<'r> {
    #[field(validate = len(1..=Todos::MAX_LEN))]
    text: &'r str,
}

/// A page for everyone. The template has the visitor.
#[get("/")]
fn index() -> VisitorTemplate {
    render("index", ())
}

#[get("/todos")]
fn list(_member: Authorized<Members>, todos: &State<Todos>, draft: Draft) -> VisitorTemplate {
    render("todos", context! { todos: todos.all(), draft })
}

/// If the session ends while a member types, the text is there again after the next sign-in.
#[post("/todos", data = "<todo>")]
fn add(todo: Kept<NewTodo<'_>, Authorized<Members>>, todos: &State<Todos>) -> Redirect {
    todos.add(todo.guard().name().unwrap_or("A member"), todo.text);
    Redirect::to(uri!(list))
}

#[post("/todos/clear")]
fn clear(_admin: Authorized<Admins>, todos: &State<Todos>) -> Redirect {
    todos.clear();
    Redirect::to(uri!(list))
}

/// Sends each new to-do to the page, until the session ends: on whichever node, and by whom.
#[get("/todos/live")]
fn live(member: Authorized<Members>, todos: &State<Todos>, socket: WebSocket) -> Channel<'static> {
    let (mut added, mut ended) = (todos.subscribe(), member.ended());
    socket.channel(move |mut stream| {
        Box::pin(async move {
            loop {
                select! {
                    // A page that is too slow misses some, and shows all when it is loaded again.
                    todo = added.recv() => if let Ok(todo) = todo {
                        stream.send(Message::Text(todo)).await?;
                    },
                    message = stream.next() => if !matches!(message, Some(Ok(_))) {
                        return Ok(());
                    },
                    _ = &mut ended => return stream.close(None).await,
                }
            }
        })
    })
}

/// The sessions of this person alone.
#[get("/sessions")]
async fn sessions(user: LoggedIn, rp: &RelyingParty) -> Result<VisitorTemplate, Status> {
    let sessions = rp.sessions_of_user(&user.key()).await;
    let sessions = sessions.map_err(|_| Status::ServiceUnavailable)?;
    Ok(render("sessions", context! { sessions, current: user.session_id() }))
}

#[post("/sessions/<id>/end")]
async fn end_session(id: &str, user: LoggedIn, rp: &RelyingParty) -> Result<Redirect, Status> {
    match rp.end_session_of(&user, id).await {
        Ok(true) => Ok(Redirect::to(uri!(sessions))),
        Ok(false) => Err(Status::NotFound),
        Err(_) => Err(Status::ServiceUnavailable),
    }
}

#[post("/sessions/end-others")]
async fn end_other_sessions(user: LoggedIn, rp: &RelyingParty) -> Result<Redirect, Status> {
    let ended = rp.end_other_sessions(&user).await;
    ended.map_err(|_| Status::ServiceUnavailable)?;
    Ok(Redirect::to(uri!(sessions)))
}

#[get("/todos")]
fn api_list(_token: Bearer<TodosRead>, todos: &State<Todos>) -> Json<Vec<Todo>> {
    Json(todos.all())
}

#[post("/todos", data = "<todo>")]
fn api_add(token: Bearer<TodosWrite>, todo: Json<NewTodo<'_>>, todos: &State<Todos>) -> Result<Status, Status> {
    if !(1..=Todos::MAX_LEN).contains(&todo.text.len()) {
        return Err(Status::UnprocessableEntity);
    }
    todos.add(token.subject().unwrap_or("A program"), todo.text);
    Ok(Status::Created)
}

/// Every error page shows who is signed in, too.
#[catch(default)]
fn failed(status: Status, _: &Request<'_>) -> VisitorTemplate {
    render("failed", context! { code: status.code, reason: status.reason_lossy() })
}

/// Keeps which browser a session is of, for the page of sessions.
struct Browsers;

#[rocket::async_trait]
impl Events for Browsers {
    async fn after_authorize(&self, request: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let browser = request.headers().get_one("User-Agent").unwrap_or("an unknown browser");
        sign_in.set("browser", browser.chars().take(100).collect::<String>());
        Ok(())
    }
}

#[launch]
fn rocket() -> Rocket<Build> {
    let settings = Config::figment()
        .merge((
            "template_dir",
            concat!(env!("CARGO_MANIFEST_DIR"), "/examples/team/templates"),
        ))
        .merge(("oidc.scopes", "openid email profile groups"))
        .join(("oidc.audience", "https://todos.example.com"))
        .join(("oidc.session.store", "memory"));
    rocket::custom(settings)
        .attach(Oidc::fairing().events(Browsers))
        .attach(Template::fairing())
        .attach(Cors("https://dashboard.example.com"))
        .manage(Todos::new())
        .mount(
            "/",
            routes![index, list, add, clear, live, sessions, end_session, end_other_sessions],
        )
        .mount("/api", routes![api_list, api_add])
        .register("/", catchers![failed])
}
