//! `assert_guarded`: the test that catches the route that somebody forgot to guard.

use rocket::{
    Orbit, Rocket, Route,
    http::{Accept, HeaderMap, Method, Status},
};

use super::TestClient;
use crate::relying_party::RelyingParty;

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

/// One visit to a route.
pub(super) struct Visit {
    route: String,
    pub(super) path: String,
    pub(super) accept: Accept,
}

/// The visits to make.
#[track_caller]
pub(super) fn visits(rocket: &Rocket<Orbit>, public: &[&str]) -> Vec<Visit> {
    let is_own = |route: &&Route| {
        let rp = rocket.state::<RelyingParty>();
        let below = rp.map_or("/".to_owned(), |rp| rp.route_path(""));
        match route.name.as_deref() {
            Some("oidc_protected_resource") => true,
            Some(name) => name.starts_with("oidc_") && route.uri.path().starts_with(&below),
            None => false,
        }
    };
    let routes = rocket.routes().filter(|route| route.method == Method::Get);
    let routes: Vec<_> = routes.filter(|route| !is_own(route)).collect();
    for entry in public {
        assert!(
            routes.iter().any(|route| route.uri.as_str() == *entry),
            "there is no public route `{entry}`; the routes are {:?}",
            routes
                .iter()
                .map(|route| route.uri.as_str())
                .collect::<Vec<_>>()
        );
    }
    let routes = routes.into_iter();
    routes
        .filter(|route| !public.contains(&route.uri.as_str()))
        .map(Visit::to)
        .collect()
}

/// Panics unless all of them ended as they should.
#[track_caller]
pub(super) fn judge(unguarded: &[String]) {
    assert!(
        unguarded.is_empty(),
        "these routes answer to nobody in particular; guard them, or list them as public:\n  {}",
        unguarded.join("\n  ")
    );
}

impl Visit {
    fn to(route: &Route) -> Visit {
        let made_up = |segment: &str| match segment.strip_prefix('<') {
            Some(dynamic) if dynamic.ends_with("..>") => "x".to_owned(),
            Some(_) => "1".to_owned(),
            None => segment.to_owned(),
        };
        let path: Vec<_> = route.uri.path().split('/').map(made_up).collect();
        let query = route.uri.query().unwrap_or_default().split('&');
        let query: Vec<_> = query
            .filter(|pair| !pair.is_empty() && !pair.contains('<'))
            .collect();
        let mut path = path.join("/");
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        Visit {
            route: match &route.name {
                Some(name) => format!("{} ({name})", route.uri),
                None => route.uri.to_string(),
            },
            path,
            accept: route.format.clone().map_or(Accept::HTML, Accept::from),
        }
    }

    /// What there is to say of an answer, if it is none to nobody.
    pub(super) fn finding(
        &self,
        rocket: &Rocket<Orbit>,
        status: Status,
        headers: &HeaderMap<'_>,
    ) -> Option<String> {
        let login = rocket
            .state::<RelyingParty>()
            .map(|rp| rp.route_path("login"));
        let location = headers.get_one("Location").unwrap_or_default();
        let is_refusal = match status {
            Status::Unauthorized | Status::Forbidden => true,
            Status::SeeOther => login.is_some_and(|login| location.starts_with(&login)),
            _ => false,
        };
        (!is_refusal).then(|| format!("GET {}: {status} at {}", self.route, self.path))
    }
}
