//! `assert_guarded` and `assert_all_guarded`: the assertions that every route has a guard.

use rocket::{Build, Rocket, local::asynchronous::Client};

use super::{TestClient, guarded, runtime::block_on};

/// Requests every `GET` and `HEAD` route of the app without a session, and panics with a list of those that respond with
/// anything but 401, 403 or the redirect to sign-in. Exempt are the `public` ones: routes as they are mounted, such
/// as `/`, `/help/<topic>` or, for a `FileServer` at the root, `/<path..>`; and the fairing's own routes.
///
/// [`assert_all_guarded`] does the same for routes of all methods, in an app of its own.
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
/// - Routes of other methods. A `POST` might change something in the app under test, so none is sent:
///   [`assert_all_guarded`] does it.
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
/// If it finds an unguarded route; if an entry of `public` is not a route of the app; and if the client has cookies, which
/// might hold a session. An entry may be of another method, as in `POST /hooks`, so that both assertions can share a list.
#[track_caller]
pub fn assert_guarded<'c, C: TestClient>(client: &'c C, public: &[&str]) -> C::Answer<'c, ()> {
    client.assert_guarded(public)
}

/// Requests every route of an app, of whatever method, without a session, and panics with a list of those that respond with
/// anything but 401, 403 or the redirect to sign-in. Exempt are the fairing's own routes and the `public` ones: of `GET` as
/// they are mounted, of other methods with the method in front, as in `POST /hooks/<id>`.
///
/// It launches the app, which the test builds for this: the requests are to nothing else. It waits for all of them, in
/// either kind of test.
///
/// ```no_run
/// # use rocket::{Build, Rocket, get, post, delete, routes};
/// # use rocket_openidconnect::{LoggedIn, Oidc};
/// # #[get("/")]
/// # fn index() -> &'static str { "welcome" }
/// # #[post("/notes")]
/// # fn add(user: LoggedIn) -> String { user.subject().to_owned() }
/// # #[post("/hooks/<id>")]
/// # fn hook(id: u32) { let _ = id; }
/// # fn rocket() -> Rocket<Build> {
/// #     rocket::build().attach(Oidc::fairing()).mount("/", routes![index, add, hook])
/// # }
/// use rocket_openidconnect::testing::{TestProvider, assert_all_guarded};
///
/// let app = TestProvider::new().register(rocket());
/// assert_all_guarded(app, &["/", "POST /hooks/<id>"]);
/// ```
///
/// # The handlers of unguarded routes run
///
/// That is how they are found: a `DELETE` without a guard deletes `1`, or `x`. Build the app over a database, and whatever
/// else it changes, that exist for this test alone. Bodies are empty, and have the content type of the route's `format`; a
/// route that rejects the body before its handler runs is listed as unguarded too.
///
/// # What it cannot detect
///
/// As [`assert_guarded`].
///
/// # Panics
///
/// If it finds an unguarded route, if an entry of `public` is not a route of the app, and if the app does not launch.
#[track_caller]
pub fn assert_all_guarded(app: Rocket<Build>, public: &[&str]) {
    let requesting = async {
        let client = match Client::untracked(app).await {
            Ok(client) => client,
            Err(error) => panic!("the app does not launch: {error}"),
        };
        let mut unguarded = vec![];
        for visit in guarded::visits(client.rocket(), guarded::ALL, public) {
            let mut request = client.req(visit.method, visit.path.clone());
            visit.write(request.inner_mut());
            let response = request.dispatch().await;
            unguarded.extend(visit.finding(client.rocket(), response.status(), response.headers()));
        }
        unguarded
    };
    guarded::assert_none(&block_on(requesting));
}
