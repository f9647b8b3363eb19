//! Sign-in as the browser goes through it: to the provider, and back.

use std::{borrow::Cow, sync::Arc, time::Duration};

use rocket::{
    Data, Request,
    http::Status,
    route::{Handler, Outcome},
};
use tracing::Instrument;
use url::form_urlencoded;

use super::{Visit, form, html, redirect};
use crate::{
    SignInError,
    code_flow::{
        AuthorizationResponse, PendingSignIn, ReturnTo,
        pending_sign_in::{self, attempt_of},
    },
    cookies::SetCookie,
    events::SignedIn,
    fairing::ReturnedQuery,
    guard::{TESTING_SIGNED_OUT, current_session},
    observing, pages,
    provider::Provider,
    relying_party::Source,
    session::{BeginError, Session, SessionTokens},
    settings::ResponseMode,
    token::printable,
};

/// The cookie of one attempt to sign in; the attempt's name follows.
const PENDING: &str = "oidc_pending_";
/// How many attempts one browser may have under way. A further one drops the oldest.
const MOST_PENDING: usize = 5;
/// Counts sign-ins that succeeded a moment ago, so that a session that is lost at once is noticed.
pub(super) const ARRIVALS: &str = "oidc_arrivals";
/// So many sign-ins …
const MOST_ARRIVALS: u8 = 3;
/// … each within this time of the one before, and each ending signed out, are a loop.
const ARRIVALS_LIFE: Duration = Duration::from_secs(60);
/// What of a response is read.
const PARAMETERS: [&str; 5] = ["state", "code", "iss", "error", "error_description"];
/// The parameter of a response that came in a form.
const SEALED: &str = "sealed";
/// The largest form, in bytes: what comes of it must fit into an address.
const LARGEST_FORM: u64 = 8 * 1024;
/// The longest `login_hint` that is passed on, in bytes.
const LONGEST_HINT: usize = 256;

/// `GET {mount}/login?next=…`: sends the browser to the provider.
#[derive(Clone)]
pub(super) struct Login;

#[rocket::async_trait]
impl Handler for Login {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let next = visit.next();
        visit.begin(next, None).instrument(span()).await
    }
}

/// `GET {mount}/initiate-login?iss=…`: the provider, or a page of others, wants a person to sign in here
/// ([Core §4](https://openid.net/specs/openid-connect-core-1_0.html#ThirdPartyInitiatedLogin)).
#[derive(Clone)]
pub(super) struct InitiateLogin;

#[rocket::async_trait]
impl Handler for InitiateLogin {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let parameter = |name| request.query_value::<String>(name).and_then(Result::ok);
        if let Source::Provider(provider) = &visit.rp.source {
            let expected = &provider.registration.issuer;
            let actual = parameter("iss");
            if actual.as_ref() != Some(expected) {
                let error = SignInError::InitiatedBy {
                    expected: expected.clone(),
                    actual: actual.as_deref().map(printable),
                };
                let home = ReturnTo::home();
                let failed = visit.failed(error, &home).instrument(span());
                return failed.await;
            }
        }
        let target = parameter("target_link_uri");
        let target = target.map_or_else(ReturnTo::home, |target| visit.target(&target));
        let login_hint = parameter("login_hint").filter(|hint| hint.len() <= LONGEST_HINT);
        let beginning = visit.begin(target, login_hint.as_deref());
        beginning.instrument(span()).await
    }
}

/// `POST {mount}/initiate-login`: the same by a form. The browser does not send our cookies along with what
/// another site posts, so it is led to the page load that is the same.
#[derive(Clone)]
pub(super) struct InitiateLoginForm;

#[rocket::async_trait]
impl Handler for InitiateLoginForm {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let Some(pairs) = form(request, data, LARGEST_FORM).await else {
            return Outcome::Error(Status::BadRequest);
        };
        let known = ["iss", "login_hint", "target_link_uri"];
        let query = query(pairs.iter().filter(|(name, _)| known.contains(&&**name)));
        Outcome::Success(redirect(&format!("?{query}")))
    }
}

impl<'r> Visit<'r, '_> {
    /// Sends the browser to the provider, and to this page when it is back.
    async fn begin(&self, return_to: ReturnTo, login_hint: Option<&str>) -> Outcome<'r> {
        let request = self.request;
        if let Some(address) = self.address_at_base_url() {
            return Outcome::Success(redirect(&address));
        }
        if is_fetched(request) {
            let page = pages::refused(
                "Not a page load",
                "Sign-in begins with a page load, not with a fetch, a frame or a prefetch.",
            );
            return Outcome::Success(html(Status::Forbidden, page));
        }

        let provider = match &self.rp.source {
            Source::Provider(provider) => provider,
            Source::TestingProfile(_) => {
                self.set([self.rp.seal.remove(TESTING_SIGNED_OUT, "/")]);
                return Outcome::Success(redirect(return_to.as_str()));
            }
        };
        if let Err(error) = self.check_loop().await {
            self.set([self.rp.seal.remove(ARRIVALS, self.mount())]);
            return self.failed(error, &return_to).await;
        }

        self.events
            .before_login_redirect(request, return_to.as_str())
            .await;
        match self
            .rp
            .begin_sign_in(provider, return_to.clone(), login_hint, self.now)
            .await
        {
            Ok((url, pending)) => {
                self.keep_pending(&pending);
                self.rp
                    .attempts
                    .begin(pending.attempt(), return_to.as_str(), self.now);
                observing::sign_in_begun();
                Outcome::Success(redirect(url.as_str()))
            }
            Err(error) => self.failed(error, &return_to).await,
        }
    }

    /// The page that a `target_link_uri` names, if it is one of this app.
    fn target(&self, address: &str) -> ReturnTo {
        let base_url = self.rp.site.base_url.origin().ascii_serialization();
        match address.strip_prefix(&base_url) {
            Some("") => ReturnTo::home(),
            Some(local) => self.rp.local_address(local),
            None => self.rp.local_address(address),
        }
    }
}

/// `POST {mount}/authorize`: the browser brings the response in a form
/// ([Form Post Response Mode](https://openid.net/specs/oauth-v2-form-post-response-mode-1_0.html)).
///
/// It does so on behalf of another site, and leaves our cookies behind. So it is led to a page load that
/// has them, with the response sealed: the code is in no address.
#[derive(Clone)]
pub(super) struct AuthorizeForm;

#[rocket::async_trait]
impl Handler for AuthorizeForm {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        if visit.rp.settings.response_mode != ResponseMode::FormPost {
            return Outcome::Error(Status::NotFound);
        }
        let Some(pairs) = form(request, data, LARGEST_FORM).await else {
            let (error, home) = (SignInError::UnreadableForm, ReturnTo::home());
            let failed = visit.failed(error, &home).instrument(span());
            return failed.await;
        };
        let response = query(
            pairs
                .iter()
                .filter(|(name, _)| PARAMETERS.contains(&&**name)),
        );
        let sealed = visit.rp.seal.seal_text(SEALED, &response);
        let query = query([&(SEALED.to_owned(), sealed)]);
        Outcome::Success(redirect(&format!("?{query}")))
    }
}

/// `GET {mount}/authorize`: the browser comes back from the provider.
#[derive(Clone)]
pub(super) struct Authorize;

#[rocket::async_trait]
impl Handler for Authorize {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let Source::Provider(provider) = &visit.rp.source else {
            return Outcome::Success(redirect("/"));
        };
        visit.finish(provider).instrument(span()).await
    }
}

impl<'r> Visit<'r, '_> {
    /// Takes the response that the browser brings back from the provider.
    async fn finish(&self, provider: &Arc<Provider>) -> Outcome<'r> {
        let visit = self;
        let request = self.request;
        visit.events.before_authorize(request).await;
        let query = visit.response(ReturnedQuery::of(request));
        let response = match AuthorizationResponse::parse(&query) {
            Ok(response) => response,
            Err(error) => return visit.failed(error, &ReturnTo::home()).await,
        };
        let Some(pending) = visit.pending(&response) else {
            // A response that is replayed, by the back button say, is no error for who is signed in.
            return match current_session(request).await {
                Ok(_) => Outcome::Success(redirect("/")),
                Err(_) => {
                    visit
                        .failed(SignInError::NotPending, &ReturnTo::home())
                        .await
                }
            };
        };

        let _ = visit.attempt.set(pending.attempt().to_owned());
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
        match begun {
            Ok(()) => {
                observing::signed_in();
                visit.rp.attempts.signed_in(pending.attempt(), visit.now);
                Outcome::Success(redirect(pending.return_to.as_str()))
            }
            Err(error) => visit.failed(error, &pending.return_to).await,
        }
    }
}

/// Begins a session for a request that is no callback. Answers what the answer would set.
#[cfg(feature = "testing")]
pub(crate) async fn begin_session(
    request: &Request<'_>,
    session: Session,
    tokens: SessionTokens,
) -> Result<Vec<String>, SignInError> {
    let visit = Visit::new(request).ok_or(SignInError::NotPending)?;
    visit.begin_session(session, tokens).await?;
    Ok(crate::guard::RequestState::of(request).cookies.take())
}

impl Visit<'_, '_> {
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
            .filter_map(|cookie| cookie.name().strip_prefix(&*prefix).map(pending_name))
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

    /// The response in the query of the callback, which may be sealed.
    fn response<'a>(&self, query: &'a str) -> Cow<'a, str> {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        match pairs.find(|(name, _)| name == SEALED) {
            Some((_, sealed)) => self
                .rp
                .seal
                .open_text(SEALED, &sealed)
                .unwrap_or_default()
                .into(),
            None => query.into(),
        }
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
        let begun = begun.map_err(|error| match error {
            BeginError::TooLarge(error) => SignInError::SessionTooLarge(error),
            BeginError::Store(error) => SignInError::Store(error),
        })?;
        self.set(self.rp.sessions.set_cookies(&begun, jar, self.now));
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
}

fn span() -> tracing::Span {
    tracing::debug_span!("sign_in")
}

fn pending_name(attempt: &str) -> String {
    format!("{PENDING}{attempt}")
}

fn query<'a>(pairs: impl IntoIterator<Item = &'a (String, String)>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// Whether a browser says that this is no page load: a fetch, a frame, an image, a prefetch.
fn is_fetched(request: &Request<'_>) -> bool {
    request.headers().contains("Sec-Fetch-Mode") && !crate::fairing::is_page_load(request)
}
