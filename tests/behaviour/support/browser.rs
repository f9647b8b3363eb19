//! A browser before our app: cookies by a browser's rules, and the headers of a page load.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rocket::http::{Cookie, Header, Method, SameSite, Status};
use rocket::local::asynchronous::Client;
use rocket::{Build, Rocket};
use serde::de::DeserializeOwned;
use url::Url;

use super::lock;
use super::provider::TestProvider;

/// One person's browser. The app behind it may have others, by [`another`](Self::another).
///
/// It keeps its own cookies, because the local client's jar knows neither paths nor `Max-Age`.
pub struct Browser {
    client: Arc<Client>,
    jar: Mutex<Vec<Cookie<'static>>>,
    /// Where the app is for the browser, once a redirect URI has told.
    origin: Mutex<Option<String>>,
    /// What a proxy before the app removes from each path.
    stripped: &'static str,
}

/// What the app answered.
#[derive(Clone, Debug)]
pub struct Page {
    /// What was requested.
    pub url: String,
    /// The status code.
    pub status: u16,
    /// The `Location` header.
    pub location: Option<String>,
    /// All headers, in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

/// Who made the browser send a request, for `Sec-Fetch-Site` and `SameSite=Strict`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SentBy {
    AddressBar,
    App,
    Provider,
}

impl Browser {
    /// Launches the app and opens a browser before it. Panics if the launch fails.
    pub async fn open(rocket: Rocket<Build>) -> Self {
        Self::before(Arc::new(Client::untracked(rocket).await.expect("the app launches")))
    }

    /// Launches the app and signs a browser in.
    pub async fn signed_in(rocket: Rocket<Build>, provider: &TestProvider) -> Self {
        let browser = Self::open(rocket).await;
        browser.sign_in(provider, "/me").await.is(Status::Ok);
        browser
    }

    /// Opens a browser before a launched app; the client must be untracked.
    pub fn before(client: Arc<Client>) -> Self {
        Self {
            client,
            jar: Mutex::default(),
            origin: Mutex::default(),
            stripped: "",
        }
    }

    /// The same, before a proxy that forwards what is below this path, without the path.
    pub fn behind_proxy_that_strips(mut self, path: &'static str) -> Self {
        self.stripped = path;
        self
    }

    /// Another person's browser before the same app.
    pub fn another(&self) -> Self {
        Self::before(self.client.clone()).behind_proxy_that_strips(self.stripped)
    }

    /// The client below, for what a browser cannot do.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Loads a page, as if its address was typed. Follows nothing.
    pub async fn visit(&self, path: &str) -> Page {
        self.navigate(path, SentBy::AddressBar).await
    }

    /// Loads a page the provider sent the browser to: `SameSite=Strict` cookies stay here.
    pub async fn arrive_from_provider(&self, path: &str) -> Page {
        self.navigate(path, SentBy::Provider).await
    }

    /// Requests as a script in the page does.
    pub async fn fetch(&self, path: &str) -> Page {
        self.fetch_with(path, &[]).await
    }

    /// Requests as a script in the page does, with these headers besides.
    pub async fn fetch_with(&self, path: &str, headers: &[(&str, &str)]) -> Page {
        let own = [
            ("Sec-Fetch-Mode", "cors"),
            ("Sec-Fetch-Dest", "empty"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Accept", "*/*"),
        ];
        let all = [&own[..], headers].concat();
        self.request(Method::Get, path, &all, "").await
    }

    /// Submits a form of our own app.
    pub async fn submit(&self, path: &str, form: &str) -> Page {
        let mut headers = navigation(SentBy::App);
        headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        self.request(Method::Post, path, &headers, form).await
    }

    /// Submits a form of the provider's page: only `SameSite=None` cookies go along.
    pub async fn submit_from_provider(&self, path: &str, form: &str) -> Page {
        let mut headers = navigation(SentBy::Provider);
        headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        self.request(Method::Post, path, &headers, form).await
    }

    /// What the provider's own HTTP client sends to the app: a logout token, no cookie, no header of a browser.
    pub async fn post_logout_token(&self, logout_token: &str) -> Page {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let body = format!("logout_token={logout_token}");
        let path = "/oidc/backchannel-logout";
        self.another().request(Method::Post, path, &headers, &body).await
    }

    /// Loads a page with these headers besides those of a page load.
    pub async fn visit_with(&self, path: &str, headers: &[(&str, &str)]) -> Page {
        let all = [&navigation(SentBy::AddressBar)[..], headers].concat();
        self.request(Method::Get, path, &all, "").await
    }

    /// Loads a page and follows every redirect, at the app and the provider, to its end.
    pub async fn sign_in(&self, provider: &TestProvider, path: &str) -> Page {
        let page = self.visit(path).await;
        self.follow(provider, page).await
    }

    /// Goes on from a redirect until a page is none. Panics after twenty.
    pub async fn follow(&self, provider: &TestProvider, mut page: Page) -> Page {
        let mut trail = vec![page.url.clone()];
        let mut sent_by = SentBy::App;
        while let (300..400, Some(location)) = (page.status, page.location.clone()) {
            trail.push(location.clone());
            assert!(trail.len() <= 20, "redirects without end:\n{}", trail.join("\n"));
            let next = if provider.is_authorization(&location) {
                sent_by = SentBy::Provider;
                let callback = provider.authorize(&location);
                *lock(&self.origin) = origin(callback.redirect_uri());
                if location.contains("response_mode=form_post") {
                    let path = callback.path();
                    page = self.submit_from_provider(&path, &callback.form()).await;
                    continue;
                }
                Some(callback.path_and_query())
            } else if location.starts_with('?') {
                let path = page.url.split('?').next().unwrap_or_default();
                Some(format!("{path}{location}"))
            } else if provider.is_end_session(&location) {
                sent_by = SentBy::Provider;
                provider.end_session(&location).and_then(|url| self.local_path(&url))
            } else {
                self.local_path(&location)
            };
            let Some(next) = next else { return page };
            page = self.navigate(&next, sent_by).await;
        }
        page
    }

    /// The callback URL of the sign-in that this page load starts, unvisited: to tamper with.
    pub async fn begin_sign_in(&self, provider: &TestProvider, path: &str) -> super::Callback {
        let mut page = self.visit(path).await;
        for _ in 0..5 {
            let location = page.location.clone();
            let location = location.unwrap_or_else(|| panic!("no redirect: {page:#?}"));
            if provider.is_authorization(&location) {
                let callback = provider.authorize(&location);
                *lock(&self.origin) = origin(callback.redirect_uri());
                return callback;
            }
            let next = self.local_path(&location);
            let next = next.unwrap_or_else(|| panic!("a redirect away from the app: {location}"));
            page = self.navigate(&next, SentBy::App).await;
        }
        panic!("redirects without end: {page:#?}");
    }

    /// Sends any request, with the cookies that belong to it.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Page {
        let bare_path = path.split(['?', '#']).next().unwrap_or("/");
        let cross_site = headers.contains(&("Sec-Fetch-Site", "cross-site"));
        let routed = path.strip_prefix(self.stripped);
        let routed = routed.unwrap_or_else(|| panic!("the proxy forwards what is below {}, not {path}", self.stripped));
        let mut request = self.client.req(method, routed.to_owned()).body(body);
        for (name, value) in headers {
            request.add_header(Header::new(name.to_string(), value.to_string()));
        }
        for cookie in lock(&self.jar).iter() {
            let stays = match cookie.same_site() {
                Some(SameSite::Strict) => cross_site,
                Some(SameSite::None) => false,
                Some(SameSite::Lax) | None => cross_site && method != Method::Get,
            };
            if path_matches(cookie, bare_path) && !stays {
                let pair = (cookie.name().to_owned(), cookie.value().to_owned());
                request = request.cookie(Cookie::from(pair));
            }
        }
        let response = request.dispatch().await;
        let headers: Vec<_> = response
            .headers()
            .iter()
            .map(|header| (header.name().to_string(), header.value().to_owned()))
            .collect();
        let status = response.status();
        let body = response.into_bytes().await.unwrap_or_default();
        let location = values(&headers, "location").next().map(str::to_owned);
        let page = Page {
            url: path.to_owned(),
            status: status.code,
            location,
            body: String::from_utf8_lossy(&body).into_owned(),
            headers,
        };
        for set_cookie in values(&page.headers, "set-cookie") {
            self.keep(set_cookie, bare_path);
        }
        page
    }

    async fn navigate(&self, path: &str, sent_by: SentBy) -> Page {
        self.request(Method::Get, path, &navigation(sent_by), "").await
    }

    /// Path and query of a redirect that stays at the app.
    fn local_path(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(location.to_owned());
        }
        let url = Url::parse(location).ok()?;
        if *lock(&self.origin) != origin(location) {
            return None;
        }
        Some(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
    }

    // ---- Cookies.

    /// Names and values of all cookies it has.
    pub fn cookies(&self) -> Vec<(String, String)> {
        let jar = lock(&self.jar);
        jar.iter()
            .map(|c| (c.name().to_owned(), c.value().to_owned()))
            .collect()
    }

    /// The cookie of this name, with its attributes.
    pub fn cookie(&self, name: &str) -> Option<Cookie<'static>> {
        lock(&self.jar).iter().find(|cookie| cookie.name() == name).cloned()
    }

    /// Puts a cookie in place of any of its name and path.
    pub fn set_cookie(&self, cookie: Cookie<'static>) {
        let mut jar = lock(&self.jar);
        jar.retain(|c| !same_cookie(c, &cookie));
        jar.push(cookie);
    }

    /// Forgets all cookies.
    pub fn forget_cookies(&self) {
        lock(&self.jar).clear();
    }

    /// Drops the cookies whose name contains this.
    pub fn forget(&self, kind: &str) {
        lock(&self.jar).retain(|cookie| !cookie.name().contains(kind));
    }

    /// Is closed and opened again: the cookies of the browser session are gone.
    pub fn restart(&self) {
        lock(&self.jar).retain(|cookie| cookie.max_age().is_some() || cookie.expires_datetime().is_some());
    }

    /// Stores a `Set-Cookie`, or drops it, as a browser would (RFC 6265bis §5.7).
    fn keep(&self, set_cookie: &str, request_path: &str) {
        let raw = Cookie::parse(set_cookie.to_owned()).expect("a Set-Cookie that parses");
        // Chromium's and Firefox's limit, on the wire.
        if raw.name().len() + raw.value().len() > 4096 {
            return;
        }
        let mut cookie = Cookie::parse_encoded(set_cookie.to_owned()).expect("parsed above");
        let secure = cookie.secure() == Some(true);
        let is_host = cookie.name().starts_with("__Host-");
        if (cookie.name().starts_with("__Secure-") && !secure)
            || (is_host && (!secure || cookie.path() != Some("/") || cookie.domain().is_some()))
        {
            return;
        }
        if cookie.path().is_none_or(|path| !path.starts_with('/')) {
            let end = request_path.rfind('/').unwrap_or(0).max(1);
            cookie.set_path(request_path[..end].to_owned());
        }
        if is_expired(&cookie) {
            lock(&self.jar).retain(|c| !same_cookie(c, &cookie));
        } else {
            self.set_cookie(cookie);
        }
    }
}

fn navigation(sent_by: SentBy) -> Vec<(&'static str, &'static str)> {
    let site = match sent_by {
        SentBy::AddressBar => "none",
        SentBy::App => "same-origin",
        SentBy::Provider => "cross-site",
    };
    vec![
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Site", site),
        ("Accept", "text/html"),
    ]
}

fn origin(url: &str) -> Option<String> {
    Some(Url::parse(url).ok()?.origin().ascii_serialization())
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
}

fn same_cookie(a: &Cookie<'_>, b: &Cookie<'_>) -> bool {
    a.name() == b.name() && a.path().unwrap_or("/") == b.path().unwrap_or("/")
}

fn path_matches(cookie: &Cookie<'_>, path: &str) -> bool {
    let of_cookie = cookie.path().unwrap_or("/");
    path.strip_prefix(of_cookie)
        .is_some_and(|rest| rest.is_empty() || of_cookie.ends_with('/') || rest.starts_with('/'))
}

/// `Max-Age` beats `Expires` (RFC 6265 §5.3).
fn is_expired(cookie: &Cookie<'_>) -> bool {
    if let Some(age) = cookie.max_age() {
        return !age.is_positive();
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .cast_signed();
    cookie.expires_datetime().is_some_and(|at| at.unix_timestamp() <= now)
}

impl Page {
    /// The header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        values(&self.headers, name).next()
    }

    /// Every header of this name.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name).collect()
    }

    /// The `Set-Cookie` headers.
    pub fn set_cookies(&self) -> Vec<&str> {
        self.header_values("set-cookie")
    }

    /// The body as JSON. Panics if it is none.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// Asserts that the body has this text.
    #[track_caller]
    pub fn sees(&self, text: &str) -> &Self {
        assert!(self.body.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// Asserts that the body does not have this text.
    #[track_caller]
    pub fn sees_no(&self, text: &str) -> &Self {
        assert!(!self.body.contains(text), "{text:?} is in {self:#?}");
        self
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(&self, status: Status) -> &Self {
        assert_eq!(self.status, status.code, "{self:#?}");
        self
    }

    /// Asserts a `303` to an address that begins so.
    #[track_caller]
    pub fn redirects_to(&self, start: &str) -> &Self {
        let location = self.location.as_deref().unwrap_or("");
        assert!(
            self.status == 303 && location.starts_with(start),
            "not to {start}: {self:#?}"
        );
        self
    }
}
