//! It adds to `sign_in`: a table of the people who signed in, filled by the event `after_authorize`, and what
//! an app does with one: data of its own about a person, and people who may not come in any more. A second
//! table has when their sessions began and ended, and why, by the event `session_changed`.
//!
//! ```sh
//! cargo run --example events_with_database     # sign in as bob, then as alice, who is in the group `admin`
//! ```
//!
//! With `OIDC_ENABLED=false` nobody signs in, so no event is called, and the testing profile is on no list.

mod pages;
mod people;
#[cfg(test)]
mod tests;

use rocket::{
    Build, FromForm, Request, Rocket, State,
    form::Form,
    get,
    http::Status,
    launch,
    outcome::try_outcome,
    post,
    request::{FromRequest, Outcome},
    response::{Redirect, content::RawHtml},
    routes,
};
use rocket_openidconnect::{
    Authorized, Events, LoggedIn, NewSignIn, Oidc, OptionalUser, Policy, Refused, RelyingParty, SessionChange,
    SessionChangeKind, User,
};

use self::people::{People, Person};

/// What the app does when somebody signs in. It has the tables itself: a session also ends where there is no
/// request to ask for them.
struct Reception(People);

#[rocket::async_trait]
impl Events for Reception {
    /// Notes the person, and keeps the number of their row in the session.
    async fn after_authorize(&self, _request: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let people = &self.0;
        let unavailable = || Refused::new("The list of people cannot be read. Try again later.");
        // A person is issuer and subject together. Name and address may change, and somebody else may have
        // them next year.
        let person = people.greet(sign_in.issuer(), sign_in.subject(), sign_in.claims());
        let person = person.await.map_err(|error| {
            rocket::error!("the list of people: {error}");
            unavailable()
        })?;
        if person.is_blocked {
            return Err(Refused::new("Your access has been revoked."));
        }
        sign_in.set("person", person.id);
        Ok(())
    }

    /// Notes that a session began or ended, for whatever reason.
    async fn session_changed(&self, _request: Option<&Request<'_>>, change: &SessionChange) {
        let what = match change.kind() {
            SessionChangeKind::Began => "began",
            SessionChangeKind::Ended => "ended",
            _ => return,
        };
        let noted = self.0.note(what, change);
        if let Err(error) = noted.await {
            rocket::error!("the table of sessions: {error}");
        }
    }
}

/// A guard of the app: the row of the person who is signed in.
#[rocket::async_trait]
impl<'r> FromRequest<'r> for Person {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Person, ()> {
        let user = LoggedIn::<rocket_openidconnect::Claims>::from_request(request).await;
        let user = try_outcome!(user.map_error(|(status, _)| (status, ())));
        let people = try_outcome!(request.guard::<&State<People>>().await);
        let id = user.data("person");
        match people.find(id.unwrap_or_default()).await {
            Ok(Some(person)) => Outcome::Success(person),
            Ok(None) => Outcome::Error((Status::NotFound, ())),
            Err(_) => Outcome::Error((Status::ServiceUnavailable, ())),
        }
    }
}

/// People in the group `admin`.
struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _request: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

#[derive(FromForm)]
struct Nickname {
    #[field(validate = len(1..=40))]
    nickname: String,
}

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> Result<Redirect, RawHtml<String>> {
    if visitor.logged_in() {
        Ok(Redirect::to("/me"))
    } else {
        Err(pages::welcome(&rp.login_url("/me")))
    }
}

#[get("/me")]
fn me(person: Person, user: LoggedIn, rp: &RelyingParty) -> RawHtml<String> {
    let is_admin = user.groups().contains(&"admin");
    pages::me(&person, is_admin, &rp.logout_url("/"))
}

#[post("/me", data = "<form>")]
async fn rename(person: Person, form: Form<Nickname>, people: &State<People>) -> Result<Redirect, Status> {
    let renamed = people.rename(person.id, &form.nickname).await;
    renamed.map_err(|_| Status::ServiceUnavailable)?;
    Ok(Redirect::to("/me"))
}

#[get("/people")]
async fn list(_admin: Authorized<Admin>, person: Person, people: &State<People>) -> Result<RawHtml<String>, Status> {
    let all = people.all().await;
    let all = all.map_err(|_| Status::ServiceUnavailable)?;
    Ok(pages::people(&all, person.id))
}

/// The latest that became of sessions.
#[get("/sessions")]
async fn sessions(_admin: Authorized<Admin>, people: &State<People>) -> Result<RawHtml<String>, Status> {
    let latest = people.latest_changes().await;
    let latest = latest.map_err(|_| Status::ServiceUnavailable)?;
    Ok(pages::sessions(&latest))
}

/// Whoever is blocked is signed out everywhere, and refused from then on.
#[post("/people/<id>/block")]
async fn block(
    id: i64,
    _admin: Authorized<Admin>,
    people: &State<People>,
    rp: &RelyingParty,
) -> Result<Redirect, Status> {
    let blocked = people.block(id).await;
    let blocked = blocked.map_err(|_| Status::ServiceUnavailable)?;
    let person = blocked.ok_or(Status::NotFound)?;
    let ended = rp.end_sessions(&person.subject).await;
    ended.map_err(|_| Status::ServiceUnavailable)?;
    Ok(Redirect::to("/people"))
}

fn app(people: People) -> Rocket<Build> {
    rocket::build()
        .attach(Oidc::fairing().events(Reception(people.clone())))
        .manage(people)
        .mount("/", routes![index, me, rename, list, sessions, block])
}

#[launch]
async fn rocket() -> _ {
    let database = std::env::var("DATABASE_URL");
    let database = database.unwrap_or_else(|_| "sqlite:target/people.db".to_owned());
    let people = People::open(&database).await;
    app(people.expect("the database opens"))
}
