//! `assert_guarded`: the assertion that every route has a guard.

use super::TestClient;

/// Requests every `GET` route of the app without a session, and panics with a list of those that respond with
/// anything but 401, 403 or the redirect to sign-in. Exempt are the `public` ones: routes as they are mounted, such
/// as `/`, `/help/<topic>` or, for a `FileServer` at the root, `/<path..>`; and the fairing's own routes.
///
/// Each route is requested once, as a page load, with `1` for each dynamic segment and `x` for trailing ones, and
/// with the media type of its `format`. Guards run before the segments are parsed, so that a guarded route rejects
/// the request whatever the segments are.
///
/// With an asynchronous client, `.await` the result. The app need not be registered at a
/// [`TestProvider`](super::TestProvider).
///
/// ```
/// # use rocket::{Build, Rocket, get, routes};
/// # use rocket_openidconnect::{LoggedIn, Oidc};
/// # #[get("/")]
/// # fn index() -> &'static str { "welcome" }
/// # #[get("/notes/<id>")]
/// # fn note(id: u32, user: LoggedIn) -> String { format!("{id} of {}", user.subject()) }
/// # fn rocket() -> Rocket<Build> {
/// #     rocket::build().attach(Oidc::fairing()).mount("/", routes![index, note])
/// # }
/// use rocket::local::blocking::Client;
/// use rocket_openidconnect::testing::{TestProvider, assert_guarded};
///
/// let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
/// assert_guarded(&client, &["/"]);
/// ```
///
/// # What it cannot detect
///
/// - Routes of other methods. A `POST` might change something, so none is sent.
/// - Whether the right users are accepted: a route that every signed-in user may see passes, and so does one that
///   responds with 401 for any other reason.
/// - What a public page shows by [`OptionalUser`](crate::OptionalUser), and what a route discloses in its rejection.
/// - A route shadowed by another: where two match the path that is made up for it, Rocket calls the one with the
///   lower rank, and its response counts for both.
/// - A route that is open for some URLs only, such as those that its code checks. Dynamic parts of queries are left
///   out.
/// - What the app serves without Rocket's routes: responses of fairings, of catchers for other statuses, and of a
///   proxy in front of it.
///
/// # Panics
///
/// If it finds an unguarded route; if an entry of `public` is not a `GET` route of the app; and if the client has
/// cookies, which might hold a session.
#[track_caller]
pub fn assert_guarded<'c, C: TestClient>(client: &'c C, public: &[&str]) -> C::Answer<'c, ()> {
    client.assert_guarded(public)
}
