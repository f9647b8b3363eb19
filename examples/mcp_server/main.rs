//! A server of the Model Context Protocol, whose clients find out by themselves where to sign in. It adds to
//! `bearer_api`: a `resource` with a path, which is the audience of its tokens, and a handler that finds out
//! late that more is needed. `README.md` beside this shows how a client finds its way.

mod message;
mod notes;
mod revision;
#[cfg(test)]
mod tests;
mod tools;
mod transport;

use rocket::{
    Build, Rocket, State, delete, get,
    http::Status,
    launch, post, routes,
    serde::json::{self, Json, Value},
};
use rocket_openidconnect::{Bearer, Oidc, scopes};

use self::{
    message::{Message, RpcError},
    notes::Notes,
    revision::Era,
    tools::Caller,
    transport::{Answer, KnownOrigin, MethodNotAllowed, Mirrored},
};

/// The path of the MCP endpoint, and of the resource.
const MCP: &str = "/mcp";

scopes! {
    /// Uses the server, and reads notes.
    NotesRead = "notes:read";
    /// Writes them too. A challenge names both scopes: earlier clients ask for no others, and would lose the first.
    NotesWrite = "notes:read" & "notes:write";
}

/// Every message of a client is a `POST` with a token of its own. `writes` is no condition: a tool that needs
/// it is refused with 403, and the answer then has the challenge of that guard.
#[post("/mcp", data = "<body>")]
fn receive(
    _origin: KnownOrigin,
    reads: Bearer<NotesRead>,
    writes: Option<Bearer<NotesWrite>>,
    headers: Mirrored,
    body: Result<Json<Value>, json::Error<'_>>,
    notes: &State<Notes>,
) -> Answer {
    let body = body.map_err(|_| RpcError::not_json());
    let message = match body.and_then(|body| Message::parse(&body)) {
        Ok(message) => message,
        Err(error) => return Answer::error(Status::BadRequest, None, error),
    };
    let era = match Era::of(&message, &headers) {
        Ok(era) => era,
        Err(error) => return Answer::error(Status::BadRequest, message.id, error),
    };
    let caller = Caller {
        owner: owner(&reads),
        may_write: writes.is_some(),
    };
    tools::answer(message, era, &caller, notes)
}

/// No messages but answers come from this server, so there is nothing to listen to.
#[get("/mcp")]
fn listen(_origin: KnownOrigin, _token: Bearer<NotesRead>) -> MethodNotAllowed {
    MethodNotAllowed::default()
}

/// It keeps no sessions that could be ended.
#[delete("/mcp")]
fn end(_origin: KnownOrigin, _token: Bearer<NotesRead>) -> MethodNotAllowed {
    MethodNotAllowed::default()
}

/// Whose notes these are: the person who allowed the client this, or the client itself.
fn owner(token: &Bearer<NotesRead>) -> String {
    let who = token.subject().or(token.client_id()).unwrap_or_default();
    format!("{} {who}", token.issuer())
}

#[launch]
fn rocket() -> Rocket<Build> {
    let rocket = rocket::build();
    let port = rocket.figment().extract_inner::<u16>("port").unwrap_or(8000);
    // In production `OIDC_RESOURCE` is set, such as to https://notes.example.com/mcp.
    let oidc = Oidc::try_custom(move |mut settings| {
        let here = format!("http://localhost:{port}{MCP}").parse()?;
        settings.resource.get_or_insert(here);
        settings.resource_server_only = true;
        Ok(settings)
    });
    rocket
        .attach(oidc)
        .manage(Notes::default())
        .mount("/", routes![receive, listen, end])
}
