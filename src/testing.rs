//! Tests of an app that signs people in: with Rocket's local clients, without a network, in milliseconds.
//!
//! ```toml
//! [dev-dependencies]
//! rocket_openidconnect = { version = "0.1", features = ["testing"] }
//! ```
//!
//! # The app, as it is
//!
//! A test takes the `rocket()` of the app, as `#[launch]` has it, and registers it at a [`TestProvider`]: an
//! OpenID provider in the test's own process. The fairing that the app attaches, by `Oidc::fairing()` or another
//! way, finds it there at the launch, and takes it in the place of the provider in its settings. Nothing of the
//! app changes, and no setting, file or variable is needed.
//!
//! ```
//! use rocket::{Build, Rocket, get, routes};
//! use rocket_openidconnect::{LoggedIn, Oidc};
//!
//! #[get("/me")]
//! fn me(user: LoggedIn) -> String {
//!     format!("Hello {}", user.name().unwrap_or(user.subject()))
//! }
//!
//! // In the app, with `#[launch]`:
//! fn rocket() -> Rocket<Build> {
//!     rocket::build().attach(Oidc::fairing()).mount("/", routes![me])
//! }
//!
//! // In a test:
//! use rocket::{http::Status, local::blocking::Client};
//! use rocket_openidconnect::testing::{TestProvider, TestRequest};
//! use serde_json::json;
//!
//! let provider = TestProvider::new();
//! let client = Client::tracked(provider.register(rocket())).unwrap();
//!
//! let me = client.get("/me").signed_in_as(json!({ "sub": "alice", "name": "Alice" }));
//! assert_eq!(me.dispatch().into_string().unwrap(), "Hello Alice");
//! assert_eq!(client.get("/me").dispatch().status(), Status::Unauthorized);
//! ```
//!
//! Both of Rocket's local clients will do. An asynchronous test is a `#[rocket::async_test]`: the kit waits in
//! threads of its own, which a runtime of one thread, such as that of `#[tokio::test]`, might stand in the way of.
//!
//! # One request by somebody
//!
//! [`TestRequest`] adds to a local request
//!
//! - [`signed_in_as(claims)`](TestRequest::signed_in_as): a person who has just signed in. The session's cookie is
//!   encrypted under the app's key, and the real guards decrypt it.
//! - [`bearer_for(api, claims)`](TestRequest::bearer_for): the same, for one of several APIs.
//! - [`bearer(claims)`](TestRequest::bearer): an API client. The access token is signed by the provider, and the
//!   app fetches the key and verifies it.
//!
//! # A browser
//!
//! [`TestClient`] adds to a tracked client
//!
//! - [`sign_in(path, claims)`](TestClient::sign_in): loads a page, signs in on the way, and comes back to it;
//! - [`sign_out(next)`](TestClient::sign_out): by the provider, and back to a page;
//! - [`send_backchannel_logout(sub)`](TestClient::send_backchannel_logout): the provider says that a person is gone.
//!
//! ```
//! # use rocket::{Build, Rocket, get, routes};
//! # use rocket_openidconnect::{LoggedIn, Oidc};
//! # #[get("/me")]
//! # fn me(user: LoggedIn) -> String { user.subject().to_owned() }
//! # fn rocket() -> Rocket<Build> {
//! #     rocket::build().attach(Oidc::fairing()).mount("/", routes![me])
//! # }
//! # use rocket_openidconnect::testing::*;
//! # use serde_json::json;
//! # rocket::async_test(async {
//! use rocket::{http::Status, local::asynchronous::Client};
//!
//! let client = Client::tracked(TestProvider::new().register(rocket())).await.unwrap();
//! let page = client.sign_in("/me", json!({ "sub": "alice" })).await;
//! assert_eq!(page.into_string().await.unwrap(), "alice");
//!
//! client.send_backchannel_logout("alice").await;
//! assert_eq!(client.get("/me").dispatch().await.status(), Status::Unauthorized);
//! # });
//! ```
//!
//! # Time
//!
//! The app and the provider share a [`Clock`](crate::Clock), which stands still until a test moves it: idle
//! timeout, lifetime, refresh, the end of a token and another look at the keys are a line away.
//!
//! ```
//! # use rocket::{Build, Rocket, get, routes};
//! # use rocket_openidconnect::{LoggedIn, Oidc};
//! # #[get("/me")]
//! # fn me(user: LoggedIn) -> String { user.subject().to_owned() }
//! # fn rocket() -> Rocket<Build> {
//! #     rocket::build().attach(Oidc::fairing()).mount("/", routes![me])
//! # }
//! # use rocket::{http::Status, local::blocking::Client};
//! # use rocket_openidconnect::testing::*;
//! # use serde_json::json;
//! use std::time::Duration;
//!
//! let provider = TestProvider::new();
//! let client = Client::tracked(provider.register(rocket())).unwrap();
//! client.sign_in("/me", json!({ "sub": "alice" }));
//! provider.advance_clock(Duration::from_secs(60 * 60));
//! assert_eq!(client.get("/me").dispatch().status(), Status::Unauthorized);
//! ```
//!
//! # A bad day at the provider
//!
//! | at the provider | the app |
//! |---|---|
//! | [`go_down`](TestProvider::go_down), [`respond_with`](TestProvider::respond_with), [`delay`](TestProvider::delay) | keeps people signed in, and answers a sign-in with 502, 503 or 504 |
//! | [`rotate_keys`](TestProvider::rotate_keys) | fetches them again, once in 30 s at most |
//! | [`revoke`](TestProvider::revoke), [`revoke_all_of`](TestProvider::revoke_all_of) | ends the session at its next refresh |
//! | [`swap_sub`](TestProvider::swap_sub), [`on_id_token`](TestProvider::on_id_token) | refuses the sign-in |
//! | [`send_backchannel_logout`](TestClient::send_backchannel_logout) | ends all sessions of the person |
//! | [`recover`](TestProvider::recover) | all is well again |
//!
//! What the app asked is in [`requests`](TestProvider::requests), and in Rocket's log beside the app's own requests.
//!
//! # No route forgotten
//!
//! [`assert_guarded`] visits all `GET` routes as nobody. It knows what it does not see; for the rest there is
//! [`protect`](crate::protect()).
//!
//! # What is not tested by this
//!
//! - The app's real provider: what it is called in the settings, and what it makes of the app.
//! - What only a browser does: it drops cookies that are too large, or not for this host or path.
//! - TLS, DNS and time limits of real connections: the provider is called in the process.
//! - Redis: sessions that belong there are in memory.
//! - Further issuers of the setting `issuers`: they are not to be reached in a test.

mod assert_guarded;
mod client;
mod guarded;
mod provider;
mod recorded_request;
mod request;
mod runtime;

pub use assert_guarded::assert_guarded;
pub use client::TestClient;
pub(crate) use provider::TakeOverError;
pub use provider::TestProvider;
pub use recorded_request::RecordedRequest;
pub use request::TestRequest;
