//! `TestClient`: a local client that acts as the browser, and as the provider where that calls the app.

use rocket::{
    Orbit, Request, Rocket,
    futures::future::BoxFuture,
    http::{Accept, ContentType, Header, HeaderMap, Status},
    local::{asynchronous, blocking},
};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{
    TestProvider,
    app::{first_relying_party, relying_party, relying_party_at, test_provider},
    guarded,
    provider::path_and_query,
};
use crate::settings::Site;

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

    /// As [`sign_in`](Self::sign_in), at the provider with this name. Where a user chooses the provider, `sign_in` chooses
    /// the first.
    ///
    /// In an app with [`provider_for`](crate::Oidc::provider_for), each request has the host of the provider's `base_url`.
    ///
    /// # Panics
    ///
    /// As `sign_in`, if the app has no provider of this name, and if the page has users sign in at another one.
    #[track_caller]
    fn sign_in_at<'c>(&'c self, provider: &str, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>>;

    /// Signs out as a browser does: at the app, at the provider, and back to the page `next`. Returns the last
    /// response, as [`sign_in`](Self::sign_in) does.
    #[track_caller]
    fn sign_out<'c>(&'c self, next: &str) -> Self::Answer<'c, Self::Response<'c>>;

    /// Has the provider notify the app that all sessions of a user have ended (OpenID Connect Back-Channel Logout 1.0
    /// §2.5). Returns the status: 200 if the app accepted the logout token. Of several providers, it is the first that a
    /// user can choose.
    #[track_caller]
    fn send_backchannel_logout(&self, subject: &str) -> Self::Answer<'_, Status>;

    /// As [`send_backchannel_logout`](Self::send_backchannel_logout), by the provider with this name.
    ///
    /// # Panics
    ///
    /// If the app has no provider of this name.
    #[track_caller]
    fn send_backchannel_logout_at(&self, provider: &str, subject: &str) -> Self::Answer<'_, Status>;

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

/// Dispatches a request, and follows each redirect.
macro_rules! follow {
    ($client:ident, $first:expr, $browser:ident, $run:path, [$($kind:tt)*], [$($wait:tt)*]) => {{
        let mut request = $first;
        $browser.write(request.inner_mut());
        $run($($kind)* {
            let mut response = request.dispatch()$($wait)*;
            while let Some(next) = $browser.next_page(response.status(), response.headers()) {
                let mut request = $client.get(next);
                $browser.write(request.inner_mut());
                response = request.dispatch()$($wait)*;
            }
            response
        })
    }};
}

/// Implements [`TestClient`] for one kind of client: `$run` runs a block of the kind `$kind`, in which `$wait` waits for a
/// response.
macro_rules! test_client {
    ($client:ident, $answer:item, $run:path, [$($kind:tt)*], [$($wait:tt)*]) => {
        impl TestClient for $client::Client {
            $answer
            type Response<'c> = $client::LocalResponse<'c>;

            fn sign_in<'c>(&'c self, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, path) = Browser::signing_in(self.rocket(), path, None, claims);
                follow!(self, self.get(path), browser, $run, [$($kind)*], [$($wait)*])
            }

            fn sign_in_at<'c>(
                &'c self,
                provider: &str,
                path: &str,
                claims: Value,
            ) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, path) = Browser::signing_in(self.rocket(), path, Some(provider), claims);
                follow!(self, self.get(path), browser, $run, [$($kind)*], [$($wait)*])
            }

            fn sign_out<'c>(&'c self, next: &str) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, path) = Browser::signing_out(self.rocket(), next);
                follow!(self, self.post(path), browser, $run, [$($kind)*], [$($wait)*])
            }

            fn send_backchannel_logout(&self, subject: &str) -> Self::Answer<'_, Status> {
                let logout = BackchannelLogout::new(self.rocket(), None, subject);
                let mut request = self.post(logout.path.clone());
                logout.write(request.inner_mut());
                let request = request.body(logout.form);
                $run($($kind)* { request.dispatch()$($wait)*.status() })
            }

            fn send_backchannel_logout_at(&self, provider: &str, subject: &str) -> Self::Answer<'_, Status> {
                let logout = BackchannelLogout::new(self.rocket(), Some(provider), subject);
                let mut request = self.post(logout.path.clone());
                logout.write(request.inner_mut());
                let request = request.body(logout.form);
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
    site: Site,
    /// Whether requests need the host of `base_url`, by which the app chooses the provider.
    has_host: bool,
    /// The page where a user chooses a provider, and the address of the choice.
    choice: Option<(String, String)>,
    /// The provider at which the test signs in.
    wanted: Option<String>,
    claims: Value,
    redirects: usize,
}

impl<'c> Browser<'c> {
    #[track_caller]
    fn new(rocket: &'c Rocket<Orbit>, claims: Value) -> Browser<'c> {
        let (provider, app) = (test_provider(rocket), relying_party(rocket));
        Browser {
            provider,
            site: app.site.clone(),
            has_host: false,
            choice: None,
            wanted: None,
            claims,
            redirects: 0,
        }
    }

    /// The browser, and the path that it loads first.
    #[track_caller]
    fn signing_in(
        rocket: &'c Rocket<Orbit>,
        path: &str,
        provider: Option<&str>,
        claims: Value,
    ) -> (Browser<'c>, String) {
        let (app, mut browser) = (relying_party(rocket), Browser::new(rocket, claims));
        let at = match (provider, app.providers()) {
            (Some(name), _) => Some(relying_party_at(rocket, name)),
            (None, Some(providers)) => providers.of_settings.first().cloned(),
            (None, None) => None,
        };
        browser.wanted = provider.map(str::to_owned);
        if let Some(at) = at {
            if !app.has_tenants() {
                browser.choice = Some((app.own_login_path(), at.own_login_path()));
            } else if provider.is_some() {
                browser.site = at.site.clone();
                browser.has_host = true;
            }
        }
        let path = browser.chosen(&browser.site.paths.in_browser(path));
        (browser, path)
    }

    /// The browser, and the URL of sign-out.
    #[track_caller]
    fn signing_out(rocket: &'c Rocket<Orbit>, next: &str) -> (Browser<'c>, String) {
        let app = relying_party(rocket);
        let url = app.logout_url(next);
        (
            Browser::new(rocket, Value::Null),
            app.site.paths.in_rocket(&url).to_owned(),
        )
    }

    /// Adds the headers of a page load.
    fn write(&self, request: &mut Request<'_>) {
        request.add_header(Accept::HTML);
        if self.has_host {
            request.add_header(host_of(&self.site.base_url));
        }
    }

    /// The path in the app that a response redirects to, followed through the provider if need be.
    fn next_page(&mut self, status: Status, headers: &HeaderMap<'_>) -> Option<String> {
        let location = headers.get_one("Location");
        let location = location.filter(|_| (300..400).contains(&status.code))?;
        let mut url = self.site.base_url.join(location).ok()?;
        self.redirects += 1;
        assert!(
            self.redirects < MAX_REDIRECTS,
            "too many redirects, the last to {}; is the client tracked?",
            url.path()
        );
        if let Some(at) = self.provider.provider_at(&url) {
            if url.path().ends_with("/authorize") {
                let wanted = self.wanted.as_deref().unwrap_or(&at.name);
                assert!(
                    *wanted == *at.name,
                    "the page has users sign in at the provider `{}`, not at `{wanted}`",
                    at.name
                );
                return Some(self.provider.authorize(url.as_str(), self.claims.clone()));
            }
            url = self.provider.end_session(&url)?;
        }
        let is_own = url.origin() == self.site.base_url.origin();
        is_own.then(|| self.chosen(&path_and_query(&url)))
    }

    /// The address in Rocket; of the chosen provider, if this is the page where a user chooses one.
    fn chosen(&self, path: &str) -> String {
        let in_rocket = |path: &str| self.site.paths.in_rocket(path).to_owned();
        let Some((page, chosen)) = &self.choice else {
            return in_rocket(path);
        };
        let (asked, query) = path.split_once('?').unwrap_or((path, ""));
        let names_one = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "provider");
        if asked != page || names_one {
            return in_rocket(path);
        }
        in_rocket(&format!("{chosen}?{query}"))
    }
}

/// A logout token on its way to the app.
struct BackchannelLogout {
    path: String,
    form: String,
    host: Option<Header<'static>>,
}

impl BackchannelLogout {
    #[track_caller]
    fn new(rocket: &Rocket<Orbit>, provider: Option<&str>, subject: &str) -> BackchannelLogout {
        let (all, app) = (test_provider(rocket), relying_party(rocket));
        let at = match provider {
            Some(name) => relying_party_at(rocket, name),
            None => first_relying_party(rocket),
        };
        let token = all.at(at.provider_name()).logout_token(subject);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("logout_token", &token)
            .finish();
        let path = app.routed_path("backchannel-logout");
        let path = match app.providers() {
            Some(_) => format!("{path}/{}", at.provider_name()),
            None => path,
        };
        let host = app.has_tenants().then(|| host_of(&at.site.base_url));
        BackchannelLogout { path, form, host }
    }

    fn write(&self, request: &mut Request<'_>) {
        request.add_header(ContentType::Form);
        if let Some(host) = &self.host {
            request.add_header(host.clone());
        }
    }
}

/// The `Host` header of requests to this site.
fn host_of(base_url: &Url) -> Header<'static> {
    let host = base_url.host_str().unwrap_or_default();
    let port = base_url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Header::new("Host", format!("{host}{port}"))
}
