//! `TestClient`: a local client that acts as the browser, and as the provider where that calls the app.

use std::sync::Arc;

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
    app::{first_relying_party, relying_party, relying_party_at, relying_party_of, test_provider},
    guarded,
    provider::path_and_query,
    runtime::block_on,
};
use crate::{relying_party::RelyingParty, settings::Site};

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

    /// Signs a user with these claims in as a browser does, and loads a page: requests `{mount}/login?next={path}`,
    /// whether the page needs a user or not, and follows each redirect to the provider, back, and on to the page.
    /// Returns the first response that does not redirect further. The client must be tracked, so that it keeps cookies.
    /// A user who is signed in already is replaced.
    ///
    /// A `path` that begins a sign-in itself, as [`SignInUrl`](crate::SignInUrl) makes it, is requested as it is.
    ///
    /// # Panics
    ///
    /// If no user is signed in afterwards: the app or the provider refused, or the client is untracked. For a sign-in
    /// that is to fail, there is [`attempt_sign_in`](Self::attempt_sign_in).
    #[track_caller]
    fn sign_in<'c>(&'c self, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>>;

    /// As [`sign_in`](Self::sign_in), at the provider with this name. Where a user chooses the provider, `sign_in` chooses
    /// the first.
    ///
    /// In an app with [`provider_for`](crate::Oidc::provider_for), each request has the host of the provider's `base_url`.
    ///
    /// # Panics
    ///
    /// As `sign_in`, if the app has no provider of this name, and if the page redirects to a sign-in at another one.
    #[track_caller]
    fn sign_in_at<'c>(&'c self, provider: &str, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>>;

    /// As [`sign_in`](Self::sign_in), for a sign-in that may fail: a user whom the app refuses, a provider that is down.
    /// Returns the response, such as the error page, whether a user is signed in or not.
    ///
    /// # Panics
    ///
    /// If the redirects do not end.
    #[track_caller]
    fn attempt_sign_in<'c>(&'c self, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>>;

    /// As [`attempt_sign_in`](Self::attempt_sign_in), at the provider with this name.
    ///
    /// # Panics
    ///
    /// As `attempt_sign_in`, and if the app has no provider of this name.
    #[track_caller]
    fn attempt_sign_in_at<'c>(
        &'c self,
        provider: &str,
        path: &str,
        claims: Value,
    ) -> Self::Answer<'c, Self::Response<'c>>;

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
            if let Some(expected) = &$browser.expected {
                let mut request = $client.get("/");
                $browser.write(request.inner_mut());
                expected.check(request.inner(), response.status());
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
                let (mut browser, first) = Browser::signing_in(self.get(path.to_owned()).inner(), path, None, claims);
                browser.expected = Some(ExpectedSession::of(self.get("/").inner(), &browser, path));
                follow!(self, self.get(first), browser, $run, [$($kind)*], [$($wait)*])
            }

            fn sign_in_at<'c>(
                &'c self,
                provider: &str,
                path: &str,
                claims: Value,
            ) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, first) = Browser::signing_in(self.get(path.to_owned()).inner(), path, Some(provider), claims);
                browser.expected = Some(ExpectedSession::of(self.get("/").inner(), &browser, path));
                follow!(self, self.get(first), browser, $run, [$($kind)*], [$($wait)*])
            }

            fn attempt_sign_in<'c>(&'c self, path: &str, claims: Value) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, first) = Browser::signing_in(self.get(path.to_owned()).inner(), path, None, claims);
                follow!(self, self.get(first), browser, $run, [$($kind)*], [$($wait)*])
            }

            fn attempt_sign_in_at<'c>(
                &'c self,
                provider: &str,
                path: &str,
                claims: Value,
            ) -> Self::Answer<'c, Self::Response<'c>> {
                let (mut browser, first) = Browser::signing_in(self.get(path.to_owned()).inner(), path, Some(provider), claims);
                follow!(self, self.get(first), browser, $run, [$($kind)*], [$($wait)*])
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
                let visits = guarded::visits(self.rocket(), guarded::SAFE, public);
                $run($($kind)* {
                    let mut unguarded = vec![];
                    for visit in visits {
                        let mut request = self.req(visit.method, visit.path.clone());
                        visit.write(request.inner_mut());
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
    /// Its relying party, if it is known beforehand.
    at: Option<Arc<RelyingParty>>,
    /// What the client is to have after the last response.
    expected: Option<ExpectedSession>,
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
            at: None,
            expected: None,
            claims,
            redirects: 0,
        }
    }

    /// The browser, and the path that it loads first: the sign-in, before this page.
    #[track_caller]
    fn signing_in(request: &Request<'c>, path: &str, provider: Option<&str>, claims: Value) -> (Browser<'c>, String) {
        let rocket = request.rocket();
        let (app, mut browser) = (relying_party(rocket), Browser::new(rocket, claims));
        let at = match (provider, app.providers()) {
            (Some(name), _) => Some(relying_party_at(rocket, name)),
            (None, Some(_)) if app.has_tenants() => Some(relying_party_of(request)),
            (None, Some(providers)) => providers.of_settings.first().cloned(),
            (None, None) => Some(app.clone()),
        };
        browser.wanted = provider.map(str::to_owned);
        let address = browser.site.paths.in_browser(path).into_owned();
        let login = app.route_path("login");
        let begins_sign_in = match address.strip_prefix(&login) {
            Some(rest) => rest.is_empty() || rest.starts_with(['?', '/']),
            None => false,
        };
        let mut first = address;
        if let Some(at) = at {
            if !begins_sign_in {
                first = at.login_url_to(&at.page(path));
            }
            if app.providers().is_some() && !app.has_tenants() {
                browser.choice = Some((app.own_login_path(), at.own_login_path()));
            } else if app.has_tenants() && provider.is_some() {
                browser.site = at.site.clone();
                browser.has_host = true;
            }
            browser.at = Some(at);
        }
        let first = browser.chosen(&first);
        (browser, first)
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

/// A session that a client has after a sign-in, and did not have before.
struct ExpectedSession {
    /// The page of the sign-in.
    path: String,
    at: Option<Arc<RelyingParty>>,
    before: Option<String>,
}

impl ExpectedSession {
    /// `request` has the cookies of the client before the sign-in.
    fn of(request: &Request<'_>, browser: &Browser<'_>, path: &str) -> ExpectedSession {
        let at = browser.at.clone();
        ExpectedSession {
            path: path.to_owned(),
            before: session_of(request, at.as_ref()),
            at,
        }
    }

    /// `request` has the cookies of the client after the sign-in, whose last response has this status.
    fn check(&self, request: &Request<'_>, status: Status) {
        let session = session_of(request, self.at.as_ref());
        assert!(
            session.is_some() && session != self.before,
            "no user is signed in after `sign_in({:?}, …)`, whose last response is {status}: see the log; the client \
             must be tracked. For a sign-in that is to fail, use `attempt_sign_in`",
            self.path
        );
    }
}

/// The id of the session in the cookies of a request, at this relying party where tenants have one each.
fn session_of(request: &Request<'_>, at: Option<&Arc<RelyingParty>>) -> Option<String> {
    let (app, jar) = (relying_party(request.rocket()), request.cookies());
    let rp = match (app.providers(), at) {
        (None, _) => app.clone(),
        (Some(_), Some(at)) if app.has_tenants() => at.clone(),
        (Some(providers), _) => {
            let name = app.sessions.provider_in(jar)?;
            block_on(providers.named(name, None)).ok()?
        }
    };
    let session = block_on(rp.sessions.find_kept(jar, rp.clock.now()))?;
    Some(session.name().to_owned())
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
