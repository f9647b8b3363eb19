//! `assert_guarded`: the test that finds the route that somebody forgot to guard.

use super::TestClient;

/// Visits every `GET` route of the app as nobody, and panics with a list of those that answer anything
/// but 401, 403 or the redirect to sign-in, except for the `public` ones: routes as they are mounted, such as
/// `/`, `/help/<topic>` or, for a `FileServer` at the root, `/<path..>`. The fairing's own routes are left out.
///
/// A route is visited once, as a page load, with `1` for each dynamic segment and `x` for trailing ones, and
/// with the media type that its `format` wants. Guards come before the segments are read, so a guarded route
/// answers as such whatever stands there.
///
/// With an asynchronous client, what this answers is to be awaited. The app need not be registered at a
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
/// # What it does not see
///
/// - Routes of other methods. A `POST` might change something, so none is sent.
/// - Whether the right people are let in: a route that everybody who is signed in may see passes, and so does
///   one that answers 401 for any other reason.
/// - What a public page shows by [`OptionalUser`](crate::OptionalUser), and what a route gives away in its
///   refusal.
/// - A route behind another one: where two match the address that is made up for it, Rocket asks the one with
///   the lower rank, and its answer is taken for that of both.
/// - A route that is open for some addresses only, such as those that its code looks at. Dynamic parts of
///   queries are left out.
/// - What the app serves beside Rocket's routes: answers of fairings, of catchers for other statuses, and of a
///   proxy in front of it.
///
/// # Panics
///
/// When it finds a route; when an entry of `public` is no `GET` route of the app; and when the client has
/// cookies, with which it might be somebody.
#[track_caller]
pub fn assert_guarded<'c, C: TestClient>(client: &'c C, public: &[&str]) -> C::Answer<'c, ()> {
    client.assert_guarded(public)
}
