//! `TestClient`: a local client that acts as the browser, and as the provider where that calls the app.

use rocket::{
    Orbit, Rocket,
    futures::future::BoxFuture,
    http::{Accept, ContentType, HeaderMap, Status},
    local::{asynchronous, blocking},
};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{TestProvider, guarded, provider::path_and_query};
use crate::relying_party::RelyingParty;

/// The maximum number of consecutive redirects.
const MAX_REDIRECTS: usize = 20;

const HAS_COOKIES: &str = "the client has cookies, which might hold a session: use a new client";

/// A local client of either kind, for an app that is registered at a [`TestProvider`]. With an asynchronous client,
/// `.await` the results of these methods.
pub trait TestClient: sealed::Sealed {
    /// `T`, or a future of it.
    type Answer<'c, T: 'c>
    where
        Self: 'c;
    /// The response type of this kind of client.
    type Response<'c>
    where
        Self: 'c;

    /// Loads a page as a browser does, and follows each redirect: to sign-in, to the provider, where a user with
    /// these claims signs in, back, and on to the page. Returns the first response that does not redirect further.
    /// The client must be tracked, so that it keeps cookies; it is signed in afterwards.
    ///
    /// # Panics
    ///
    /// If the provider shows an error, or the redirects do not end, as they do with an untracked client.
    #[track_caller]
    fn sign_in<'c>(&'c self, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>>;

    /// Signs out as a browser does: at the app, at the provider, and back to the page `next`. Returns the last
    /// response, as [`sign_in`](Self::sign_in) does.
    #[track_caller]
    fn sign_out<'c>(&'c self, next: &str) -> Self::Answer<'c, Self::Response<'c>>;

    /// Has the provider notify the app that all sessions of a user have ended (OpenID Connect Back-Channel Logout 1.0
    /// §2.5). Returns the status: 200 if the app accepted the logout token.
    #[track_caller]
    fn send_backchannel_logout(&self, subject: &str) -> Self::Answer<'_, Status>;

    /// [`assert_guarded`](super::assert_guarded).
    #[doc(hidden)]
    #[track_caller]
    fn assert_guarded(&self, public: &[&str]) -> Self::Answer<'_, ()>;
}

pub(super) mod sealed {
    use rocket::local::{asynchronous, blocking};

    pub trait Sealed {}
    impl Sealed for asynchronous::Client {}
    impl Sealed for asynchronous::LocalRequest<'_> {}
    impl Sealed for blocking::Client {}
    impl Sealed for blocking::LocalRequest<'_> {}
}

/// Implements [`TestClient`] for one kind of client: `$run` runs a block of the kind `$kind`, in which `$wait` waits for a
/// response.
macro_rules! test_client {
    ($client:ident, $answer:item, $run:path, [$($kind:tt)*], [$($wait:tt)*]) => {
        impl TestClient for $client::Client {
            $answer
            type Response<'c> = $client::LocalResponse<'c>;

            fn sign_in<'c>(&'c self, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, path) = (Browser::new(self.rocket(), claims), path.to_owned());
                $run($($kind)* {
                    let mut response = self.get(path).header(Accept::HTML).dispatch()$($wait)*;
                    while let Some(next) = browser.next_page(response.status(), response.headers()) {
                        response = self.get(next).header(Accept::HTML).dispatch()$($wait)*;
                    }
                    response
                })
            }

            fn sign_out<'c>(&'c self, next: &str) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, path) = Browser::signing_out(self.rocket(), next);
                $run($($kind)* {
                    let mut response = self.post(path).header(Accept::HTML).dispatch()$($wait)*;
                    while let Some(next) = browser.next_page(response.status(), response.headers()) {
                        response = self.get(next).header(Accept::HTML).dispatch()$($wait)*;
                    }
                    response
                })
            }

            fn send_backchannel_logout(&self, subject: &str) -> Self::Answer<'_, Status> {
                let (path, form) = backchannel_logout(self.rocket(), subject);
                let request = self.post(path).header(ContentType::Form).body(form);
                $run($($kind)* { request.dispatch()$($wait)*.status() })
            }

            fn assert_guarded(&self, public: &[&str]) -> Self::Answer<'_, ()> {
                assert!(self.cookies().iter().next().is_none(), "{HAS_COOKIES}");
                let visits = guarded::visits(self.rocket(), public);
                $run($($kind)* {
                    let mut unguarded = vec![];
                    for visit in visits {
                        let request = self.get(visit.path.clone()).header(visit.accept.clone());
                        let response = request.dispatch()$($wait)*;
                        let (status, headers) = (response.status(), response.headers());
                        unguarded.extend(visit.finding(self.rocket(), status, headers));
                    }
                    guarded::assert_none(&unguarded);
                })
            }
        }
    };
}

test_client!(asynchronous, type Answer<'c, T: 'c> = BoxFuture<'c, T>;, Box::pin, [async move], [.await]);
test_client!(blocking, type Answer<'c, T: 'c> = T;, std::convert::identity, [], []);

/// A browser that follows redirects, and signs in on the way.
struct Browser<'c> {
    provider: &'c TestProvider,
    base_url: Url,
    claims: Value,
    redirects: usize,
}

impl<'c> Browser<'c> {
    #[track_caller]
    fn new(rocket: &'c Rocket<Orbit>, claims: Value) -> Browser<'c> {
        let (provider, rp) = roles(rocket);
        Browser {
            provider,
            base_url: rp.site.base_url.clone(),
            claims,
            redirects: 0,
        }
    }

    /// The browser, and the URL of sign-out.
    #[track_caller]
    fn signing_out(rocket: &'c Rocket<Orbit>, next: &str) -> (Browser<'c>, String) {
        let (_, rp) = roles(rocket);
        (Browser::new(rocket, Value::Null), rp.logout_url(next))
    }

    /// The path in the app that a response redirects to, followed through the provider if need be.
    fn next_page(&mut self, status: Status, headers: &HeaderMap<'_>) -> Option<String> {
        let location = headers.get_one("Location");
        let location = location.filter(|_| (300..400).contains(&status.code))?;
        let mut url = self.base_url.join(location).ok()?;
        self.redirects += 1;
        assert!(
            self.redirects < MAX_REDIRECTS,
            "too many redirects, the last to {}; is the client tracked?",
            url.path()
        );
        if url.as_str().starts_with(TestProvider::ISSUER) {
            if url.path() == "/authorize" {
                return Some(self.provider.authorize(url.as_str(), self.claims.clone()));
            }
            url = self.provider.end_session(&url)?;
        }
        (url.origin() == self.base_url.origin()).then(|| path_and_query(&url))
    }
}

/// The path that receives logout tokens, and the form.
#[track_caller]
fn backchannel_logout(rocket: &Rocket<Orbit>, subject: &str) -> (String, String) {
    let (provider, rp) = roles(rocket);
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", &provider.logout_token(subject))
        .finish();
    (rp.route_path("backchannel-logout"), form)
}

#[track_caller]
fn roles(rocket: &Rocket<Orbit>) -> (&TestProvider, &RelyingParty) {
    let provider = rocket.state();
    let provider = provider.expect(
        "the app is not registered: launch the `Rocket` that `TestProvider::register` \
                                    returns",
    );
    let rp = rocket.state();
    let rp = rp.expect("the app has no sign-in: `resource_server_only` is set");
    (provider, rp)
}
