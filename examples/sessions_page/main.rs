//! Adds to `sign_in`: a page on which people see where they are signed in, name a session, end one, and end all others.
//!
//! Sessions are kept in memory, because the app cannot list sessions that are kept in cookies.

mod pages;
#[cfg(test)]
mod tests;

use rocket::{
    Build, Config, FromForm, Request, Rocket,
    form::Form,
    get,
    http::Status,
    launch, post,
    response::{Redirect, content::RawHtml},
    routes,
};
use rocket_openidconnect::{Events, LoggedIn, NewSignIn, Oidc, OptionalUser, Refused, RelyingParty};

/// The most that is kept of a `User-Agent`: browsers choose this text, and a session has little room.
const MAX_USER_AGENT: usize = 150;

/// Keeps where a session began.
struct Notes;

#[rocket::async_trait]
impl Events for Notes {
    async fn after_authorize(&self, request: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let user_agent = request.headers().get_one("User-Agent").unwrap_or("an unknown browser");
        let user_agent: String = user_agent.chars().take(MAX_USER_AGENT).collect();
        sign_in.set("user_agent", user_agent);
        // The peer of the connection. Behind a proxy that is the proxy: use `request.client_ip()` there, with Rocket's
        // `ip_header` set to the header that the proxy writes.
        sign_in.set("address", request.remote().map(|peer| peer.ip()));
        Ok(())
    }
}

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    match visitor.user() {
        Some(user) => pages::welcome_back(user, &rp.logout_url("/")),
        None => pages::welcome(&rp.login_url("/sessions")),
    }
}

/// The sessions of this person alone.
#[get("/sessions")]
async fn sessions(user: LoggedIn, rp: &RelyingParty) -> Result<RawHtml<String>, Status> {
    let sessions = rp.sessions_of_user(&user.key()).await;
    let sessions = sessions.map_err(|_| Status::ServiceUnavailable)?;
    // `None` only where sessions are kept in cookies.
    let sessions = sessions.ok_or(Status::NotImplemented)?;
    Ok(pages::sessions(&user, &sessions, &rp.logout_url("/")))
}

#[derive(FromForm)]
struct Name<'r> {
    #[field(validate = len(..=40))]
    name: &'r str,
}

/// Names the session of this browser, in data that changes after the sign-in. An empty name removes it.
#[post("/sessions/name", data = "<form>")]
async fn name(user: LoggedIn, form: Form<Name<'_>>) -> Result<Redirect, Status> {
    let name = Some(form.name.trim()).filter(|name| !name.is_empty());
    user.set_data("name", name)
        .await
        .map_err(|_| Status::ServiceUnavailable)?;
    Ok(Redirect::to("/sessions"))
}

/// Ends one session. An id of another person's session ends nothing.
#[post("/sessions/<id>/end")]
async fn end(id: &str, user: LoggedIn, rp: &RelyingParty) -> Result<Redirect, Status> {
    match rp.end_session_of(&user, id).await {
        Ok(true) => Ok(Redirect::to("/sessions")),
        Ok(false) => Err(Status::NotFound),
        Err(_) => Err(Status::ServiceUnavailable),
    }
}

/// Ends all sessions of this person but that of this browser.
#[post("/sessions/end-others")]
async fn end_others(user: LoggedIn, rp: &RelyingParty) -> Result<Redirect, Status> {
    let ended = rp.end_other_sessions(&user).await;
    ended.map_err(|_| Status::ServiceUnavailable)?;
    Ok(Redirect::to("/sessions"))
}

#[launch]
fn rocket() -> Rocket<Build> {
    rocket::custom(Config::figment().merge(("oidc.session.store", "memory")))
        .attach(Oidc::fairing().events(Notes))
        .mount("/", routes![index, sessions, name, end, end_others])
}
