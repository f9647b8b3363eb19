//! The fairing's routes: parse, one call on the relying party, respond.

mod logout;

use std::{io::Cursor, time::Duration};

use rocket::{
    Data, Request, Response, Route,
    http::{ContentType, Header, Method, Status},
    route::{Handler, Outcome},
};
use time::OffsetDateTime;

use self::logout::{BackchannelLogout, FrontchannelLogout, LoggedOut, Logout, LogoutPage};
pub(crate) use self::logout::{LOGGED_OUT, PENDING_LOGOUT};
use crate::{
    RelyingParty, SignInError,
    code_flow::{
        AuthorizationResponse, PendingSignIn, ReturnTo,
        pending_sign_in::{self, attempt_of},
    },
    events::SignedIn,
    fairing::{AppEvents, CallbackQuery},
    guard::{RequestState, TESTING_SIGNED_OUT, current_session},
    pages,
    provider::{ProviderError, http_client::is_loopback},
    relying_party::Source,
    session::{BeginError, Session, SessionTokens, cookie::SetCookie},
};

/// The cookie of one attempt to sign in; the attempt's name follows.
const PENDING: &str = "oidc_pending_";
/// How many attempts one browser may have under way. A further one drops the oldest.
const MOST_PENDING: usize = 5;
/// Counts sign-ins that succeeded a moment ago, so that a session that is lost at once is noticed.
const ARRIVALS: &str = "oidc_arrivals";
/// So many sign-ins …
const MOST_ARRIVALS: u8 = 3;
/// … each within this time of the one before, and each ending signed out, are a loop.
const ARRIVALS_LIFE: Duration = Duration::from_secs(60);

/// The routes, to be mounted where the setting `mount` says.
pub(crate) fn routes() -> Vec<Route> {
    let named = |name: &'static str, mut route: Route| {
        route.name = Some(name.into());
        route
    };
    vec![
        named("oidc_login", Route::new(Method::Get, "/login", Login)),
        named(
            "oidc_authorize",
            Route::new(Method::Get, "/authorize", Authorize),
        ),
        named(
            "oidc_logout_page",
            Route::new(Method::Get, "/logout", LogoutPage),
        ),
        named("oidc_logout", Route::new(Method::Post, "/logout", Logout)),
        named(
            "oidc_logged_out",
            Route::new(Method::Get, logout::LOGGED_OUT, LoggedOut),
        ),
        named(
            "oidc_backchannel_logout",
            Route::new(Method::Post, "/backchannel-logout", BackchannelLogout),
        ),
        named(
            "oidc_frontchannel_logout",
            Route::new(Method::Get, "/frontchannel-logout", FrontchannelLogout),
        ),
    ]
}

/// `GET {mount}/login?next=…`: sends the browser to the provider.
#[derive(Clone)]
struct Login;

#[rocket::async_trait]
impl Handler for Login {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        if let Some(address) = visit.address_at_base_url() {
            return Outcome::Success(redirect(&address));
        }
        if is_fetched(request) {
            let page = pages::refused(
                "Not a page load",
                "Sign-in begins with a page load, not with a fetch, a frame or a prefetch.",
            );
            return Outcome::Success(html(Status::Forbidden, page));
        }

        let return_to = visit.next();
        let provider = match &visit.rp.source {
            Source::Provider(provider) => provider,
            Source::TestingProfile(_) => {
                visit.set([visit.rp.seal.remove(TESTING_SIGNED_OUT, "/")]);
                return Outcome::Success(redirect(return_to.as_str()));
            }
        };
        if let Err(error) = visit.check_loop().await {
            visit.set([visit.rp.seal.remove(ARRIVALS, visit.mount())]);
            return Outcome::Success(visit.failed(error, &return_to).await);
        }

        visit
            .events
            .before_login_redirect(request, return_to.as_str())
            .await;
        match visit
            .rp
            .begin_sign_in(provider, return_to.clone(), visit.now)
            .await
        {
            Ok((url, pending)) => {
                visit.keep_pending(&pending);
                Outcome::Success(redirect(url.as_str()))
            }
            Err(error) => Outcome::Success(visit.failed(error, &return_to).await),
        }
    }
}

/// `GET {mount}/authorize`: the browser comes back from the provider.
#[derive(Clone)]
struct Authorize;

#[rocket::async_trait]
impl Handler for Authorize {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let Source::Provider(provider) = &visit.rp.source else {
            return Outcome::Success(redirect("/"));
        };

        visit.events.before_authorize(request).await;
        let response = match AuthorizationResponse::parse(CallbackQuery::of(request)) {
            Ok(response) => response,
            Err(error) => return Outcome::Success(visit.failed(error, &ReturnTo::home()).await),
        };
        let Some(pending) = visit.pending(&response) else {
            // A response that is replayed, by the back button say, is no error for who is signed in.
            return Outcome::Success(match current_session(request).await {
                Ok(_) => redirect("/"),
                Err(_) => {
                    visit
                        .failed(SignInError::NotPending, &ReturnTo::home())
                        .await
                }
            });
        };

        let finished = visit
            .rp
            .finish_sign_in(provider, &pending, response, visit.now)
            .await;
        // A forged response must not use up the attempt; any other one does, whatever it holds.
        if !matches!(finished, Err(SignInError::State)) {
            visit.set([visit
                .rp
                .seal
                .remove(&pending_name(pending.attempt()), visit.mount())]);
        }
        let begun = match finished {
            Ok((session, tokens)) => visit.begin_session(session, tokens).await,
            Err(error) => Err(error),
        };
        Outcome::Success(match begun {
            Ok(()) => redirect(pending.return_to.as_str()),
            Err(error) => visit.failed(error, &pending.return_to).await,
        })
    }
}

/// One request to a route of ours, with what each of them needs.
struct Visit<'r, 'q> {
    request: &'r Request<'q>,
    rp: &'r RelyingParty,
    events: &'r AppEvents,
    now: OffsetDateTime,
}

impl<'r, 'q> Visit<'r, 'q> {
    /// `None` only without the fairing's state; the fairing mounts the routes together with it.
    fn new(request: &'r Request<'q>) -> Option<Visit<'r, 'q>> {
        let rp = request.rocket().state::<RelyingParty>()?;
        Some(Visit {
            request,
            rp,
            events: request.rocket().state()?,
            now: rp.clock.now(),
        })
    }

    fn mount(&self) -> &str {
        &self.rp.site.mount
    }

    /// The parameter `next`, if it is a page of this app.
    fn next(&self) -> ReturnTo {
        match self.request.query_value::<String>("next") {
            Some(Ok(next)) => self.rp.local_address(&next),
            _ => ReturnTo::home(),
        }
    }

    fn set(&self, cookies: impl IntoIterator<Item = SetCookie>) {
        RequestState::of(self.request).cookies.add(cookies);
    }

    /// In development people open the app under any loopback name, and cookies set under one are not
    /// sent to another: the same request, under the name that the provider sends people back to.
    fn address_at_base_url(&self) -> Option<String> {
        let base_url = &self.rp.site.base_url;
        if self.request.rocket().config().profile != rocket::Config::DEBUG_PROFILE
            || !is_loopback(base_url)
        {
            return None;
        }
        let host = self.request.host()?;
        let asked = url::Url::parse(&format!("http://{host}/")).ok()?;
        if !is_loopback(&asked) || asked.host_str() == base_url.host_str() {
            return None;
        }
        let here = self.request.uri();
        let query = here
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        Some(format!(
            "{}{}{query}",
            base_url.as_str().trim_end_matches('/'),
            here.path()
        ))
    }

    /// Sets the attempt's cookie, and drops the oldest ones beyond the limit.
    fn keep_pending(&self, pending: &PendingSignIn) {
        let text = serde_json::to_string(pending)
            .expect("an attempt is strings and a number, which always serialize");
        self.set(self.oldest_pending(MOST_PENDING - 1));
        self.set([self.rp.seal.set(
            &pending_name(pending.attempt()),
            &text,
            self.mount(),
            pending_sign_in::LIFE,
            self.now,
        )]);
    }

    /// Removals for all attempts of this browser but the newest `keep`.
    fn oldest_pending(&self, keep: usize) -> Vec<SetCookie> {
        let prefix = self.rp.seal.full_name(PENDING, self.mount());
        let jar = self.request.cookies();
        let mut attempts: Vec<(i64, String)> = jar
            .iter()
            .filter_map(|cookie| cookie.name().strip_prefix(&prefix).map(pending_name))
            .map(|name| {
                let opened = self.rp.seal.open_at(jar, &name, self.mount()).flatten();
                let pending =
                    opened.and_then(|text| serde_json::from_str::<PendingSignIn>(&text).ok());
                (pending.map_or(i64::MIN, |pending| pending.expires), name)
            })
            .collect();
        attempts.sort_by_key(|(expires, _)| std::cmp::Reverse(*expires));
        attempts
            .into_iter()
            .skip(keep)
            .map(|(_, name)| self.rp.seal.remove(&name, self.mount()))
            .collect()
    }

    /// The attempt that a response belongs to, by the part of its `state` that names the cookie.
    fn pending(&self, response: &AuthorizationResponse) -> Option<PendingSignIn> {
        let attempt = attempt_of(response.state.as_ref()?.expose())?;
        let text = self.rp.seal.open_at(
            self.request.cookies(),
            &pending_name(attempt),
            self.mount(),
        )??;
        serde_json::from_str(&text).ok()
    }

    /// Begins the session, unless the app refuses the person.
    async fn begin_session(
        &self,
        mut session: Session,
        tokens: SessionTokens,
    ) -> Result<(), SignInError> {
        let mut signed_in = SignedIn {
            session: &mut session,
        };
        if let Err(refused) = self
            .events
            .after_authorize(self.request, &mut signed_in)
            .await
        {
            return Err(SignInError::RefusedByApp { message: refused.0 });
        }

        let jar = self.request.cookies();
        let begun = self.rp.sessions.begin(session, tokens, jar, self.now).await;
        self.set(begun.map_err(|error| match error {
            BeginError::TooLarge(error) => SignInError::SessionTooLarge(error),
            BeginError::Store(error) => SignInError::Store(error),
        })?);
        let times = self.arrivals().saturating_add(1);
        let arrivals = format!("{times}:{}", self.now.unix_timestamp());
        self.set([self
            .rp
            .seal
            .set(ARRIVALS, &arrivals, self.mount(), ARRIVALS_LIFE, self.now)]);
        Ok(())
    }

    /// Fails when this browser signed in again and again, and is signed out once more.
    async fn check_loop(&self) -> Result<(), SignInError> {
        let times = self.arrivals();
        match times >= MOST_ARRIVALS && current_session(self.request).await.is_err() {
            true => Err(SignInError::Loop { times }),
            false => Ok(()),
        }
    }

    /// How many sign-ins succeeded in a row, the last within a minute.
    fn arrivals(&self) -> u8 {
        let read = || -> Option<u8> {
            let jar = self.request.cookies();
            let text = self.rp.seal.open_at(jar, ARRIVALS, self.mount())??;
            let (times, last) = text.split_once(':')?;
            let passed = self.now.unix_timestamp() - last.parse::<i64>().ok()?;
            let is_recent = passed < ARRIVALS_LIFE.as_secs().cast_signed();
            times.parse().ok().filter(|_| is_recent)
        };
        read().unwrap_or(0)
    }

    /// Tells the log, the app and the person.
    async fn failed(&self, error: SignInError, return_to: &ReturnTo) -> Response<'r> {
        let id = incident_id();
        match error.status() {
            400..500 => tracing::warn!("sign-in failed [{id}]: {error}"),
            _ => tracing::error!("sign-in failed [{id}]: {error}"),
        }
        tracing::info!("{}", error.remedy());
        self.events.sign_in_failed(self.request, &error).await;

        let try_again = self.rp.login_url(return_to.as_str());
        let page = pages::sign_in_failed(explanation(&error), &id, &try_again);
        let status = Status::from_code(error.status()).unwrap_or(Status::BadGateway);
        let mut response = html(status, page);
        let retry_after = match &error {
            SignInError::Provider(ProviderError::Unavailable { retry_after }) => Some(*retry_after),
            SignInError::Store(_) => Some(crate::store::RETRY_AFTER),
            _ => None,
        };
        if let Some(wait) = retry_after {
            response.set_header(Header::new("Retry-After", wait.as_secs().to_string()));
        }
        response
    }
}

fn pending_name(attempt: &str) -> String {
    format!("{PENDING}{attempt}")
}

/// Eight letters and digits that the log and the page share.
fn incident_id() -> String {
    crate::Secret::random()
        .expose()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect()
}

/// What the person is told. The details are in the log.
fn explanation(error: &SignInError) -> &str {
    match error {
        SignInError::Response { error, .. } if error == "access_denied" => {
            "The sign-in was cancelled."
        }
        SignInError::NotPending | SignInError::Expired => {
            "This sign-in was begun too long ago, in another browser, or cookies are switched off."
        }
        SignInError::RefusedByApp { message } => message,
        SignInError::Loop { .. } => {
            "The sign-in succeeds, but the browser does not keep it. Please check that it accepts cookies for this site."
        }
        SignInError::SessionTooLarge(_) => {
            "The sign-in service sent more about you than this site can keep."
        }
        SignInError::Store(_) => {
            "This site cannot keep your sign-in at the moment. Please try again in a little while."
        }
        SignInError::Provider(error) if error.status() >= 503 => {
            "The sign-in service does not answer at the moment. Please try again in a little while."
        }
        error if error.status() == 400 => {
            "The answer of the sign-in service did not fit. Please try again."
        }
        _ => {
            "The sign-in service gave an answer that cannot be trusted. Please tell the operators of this site."
        }
    }
}

/// Whether a browser says that this is no page load: a fetch, a frame, an image, a prefetch.
fn is_fetched(request: &Request<'_>) -> bool {
    request.headers().contains("Sec-Fetch-Mode") && !crate::fairing::is_page_load(request)
}

fn redirect<'r>(location: &str) -> Response<'r> {
    Response::build()
        .status(Status::SeeOther)
        .raw_header("Location", location.to_owned())
        .raw_header("Cache-Control", "no-store")
        .raw_header("Referrer-Policy", "no-referrer")
        .finalize()
}

fn html<'r>(status: Status, page: String) -> Response<'r> {
    Response::build()
        .status(status)
        .header(ContentType::HTML)
        .raw_header("Cache-Control", "no-store")
        .raw_header("Referrer-Policy", "no-referrer")
        .raw_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        )
        .sized_body(page.len(), Cursor::new(page))
        .finalize()
}
