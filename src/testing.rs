//! A test kit for apps with sign-in: for Rocket's local clients, without a network, in milliseconds.
//!
//! ```toml
//! [dev-dependencies]
//! rocket_openidconnect = { version = "0.1", features = ["testing"] }
//! ```
//!
//! # The app under test
//!
//! A test takes the `rocket()` of the app, as `#[launch]` has it, and registers it at a [`TestProvider`]: an OpenID
//! provider in the test's own process. At launch, the app's fairing, attached by `Oidc::fairing()` or another way,
//! uses it instead of the provider in its settings. The app does not change, and needs no setting, file or variable.
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
//! Both of Rocket's local clients work. An asynchronous test is a `#[rocket::async_test]`: the kit waits in threads
//! of its own, which can deadlock a single-threaded runtime such as that of `#[tokio::test]`.
//!
//! # One request by a user or a client
//!
//! [`TestRequest`] adds to a local request
//!
//! - [`signed_in_as(claims)`](TestRequest::signed_in_as): a user who has just signed in. The session cookie is
//!   encrypted under the app's key, and the real guards decrypt it.
//! - [`bearer(claims)`](TestRequest::bearer): an API client. The access token is signed by the provider, and the app
//!   fetches the key and verifies it.
//! - [`bearer_for(api, claims)`](TestRequest::bearer_for): an API client, for one of several APIs.
//! - [`dpop(claims)`](TestRequest::dpop): an API client whose token is bound to its key, with a proof for the request.
//!
//! # A browser
//!
//! [`TestClient`] adds to a tracked client
//!
//! - [`sign_in(path, claims)`](TestClient::sign_in): signs in, at the provider and back, and loads a page;
//! - [`attempt_sign_in(path, claims)`](TestClient::attempt_sign_in): the same, where the sign-in may fail;
//! - [`sign_out(next)`](TestClient::sign_out): signs out at the app and the provider, and returns to a page;
//! - [`send_backchannel_logout(sub)`](TestClient::send_backchannel_logout): the provider ends the sessions of a user.
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
//! # Several providers
//!
//! In an app with the table `providers`, the [`TestProvider`] takes the place of each of them, with an issuer and keys for
//! each. What names none is about the first one that a user can choose; in an app with
//! [`provider_for`](crate::Oidc::provider_for), a request by [`TestRequest`] is at the provider of its tenant. Others have
//! a name:
//!
//! - [`TestRequest::signed_in_at`], [`TestRequest::bearer_at`];
//! - [`TestClient::sign_in_at`], [`TestClient::send_backchannel_logout_at`];
//! - [`TestProvider::at`]: tokens, failures, revocations and recorded requests of one provider.
//!
//! Providers that a [`ProviderSource`](crate::ProviderSource) finds are replaced in the same way, under the names that
//! the app's source finds. A `provider_for` that decides by the host needs a `Host` header at each request, before
//! `signed_in_as`; [`TestClient::sign_in_at`] sends that of the provider's `base_url`.
//!
//! # Time
//!
//! The app and the provider share a [`Clock`](crate::Clock), which stands still until a test advances it: idle
//! timeout, session lifetime, refresh, token expiry and key refresh are one line away.
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
//! # Failures of the provider
//!
//! | at the provider | the app |
//! |---|---|
//! | [`take_down`](TestProvider::take_down), [`respond_with`](TestProvider::respond_with), [`delay`](TestProvider::delay) | keeps users signed in, and responds to a sign-in with 502, 503 or 504 |
//! | [`rotate_keys`](TestProvider::rotate_keys) | fetches the keys again, at most once in 30 s |
//! | [`revoke`](TestProvider::revoke), [`revoke_all_of`](TestProvider::revoke_all_of) | ends the session at its next refresh |
//! | [`swap_sub`](TestProvider::swap_sub), [`on_id_token`](TestProvider::on_id_token) | rejects the sign-in |
//! | [`send_backchannel_logout`](TestClient::send_backchannel_logout) | ends all sessions of the user |
//! | [`recover`](TestProvider::recover) | works normally again |
//!
//! The app's requests to the provider are in [`requests`](TestProvider::requests), and in Rocket's log beside the
//! requests to the app.
//!
//! # Unguarded routes
//!
//! [`assert_guarded`] requests every `GET` and `HEAD` route without a session; [`assert_all_guarded`] requests the routes of
//! all methods, in an app that the test builds for it, because the handlers of unguarded ones run. Its documentation
//! lists what it cannot detect; for the rest there is [`protect`](crate::protect()).
//!
//! # What these tests do not cover
//!
//! - The app's real provider: its settings, and how it treats the app.
//! - Browser behaviour: a browser drops cookies that are too large, or not for this host or path.
//! - TLS, DNS and timeouts of real connections: the provider is called in process.
//! - Redis and SQL: sessions stored there are kept in memory instead.
//! - Further issuers of the setting `issuers`: they cannot be reached in a test.

mod app;
mod assert_guarded;
mod client;
mod client_certificate;
mod dpop_key;
mod guarded;
mod named_provider;
mod provider;
mod recorded_request;
mod replacement;
mod request;
mod runtime;
mod script;

pub use assert_guarded::{assert_all_guarded, assert_guarded};
pub use client::TestClient;
pub use provider::TestProvider;
pub use recorded_request::RecordedRequest;
pub use request::TestRequest;
