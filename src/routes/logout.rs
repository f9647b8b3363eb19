//! The sign-out routes: the button page, the return from the provider, back-channel and front-channel logout.

use std::{io::Cursor, sync::Arc, time::Duration};

use rocket::{
    Data, Request, Response,
    http::{ContentType, Status},
    request::FromRequest,
    route::{Handler, Outcome},
};
use serde_json::json;
use tracing::Instrument;
use url::{Url, form_urlencoded};

use super::{Visit, clear_site_data, form, html, redirect};
use crate::{
    code_flow::{PENDING_LOGOUT, PendingLogout, ReturnTo},
    guard::{OptionalUser, TESTING_SIGNED_OUT, current_session},
    keys::Purpose,
    observing, pages,
    relying_party::{FrontChannelLogout, events},
    request::{RequestState, ReturnedQuery},
    session::{NoSession, SessionChange},
    settings::ClearSiteData,
};

/// How long a user may take at the provider to sign out.
const PENDING_LOGOUT_TTL: Duration = Duration::from_secs(10 * 60);
/// The form field of the button, which proves that the form is from a page of this app.
const BUTTON: &str = "button";
/// How long a page with the button is valid, in seconds.
const BUTTON_TTL: i64 = 60 * 60;
/// The maximum size of a sign-out form, in bytes.
const MAX_FORM_SIZE: u64 = 4 * 1024;
/// The maximum size of a back-channel logout body, in bytes: larger than any valid logout token.
const MAX_BODY_SIZE: u64 = 64 * 1024;

/// `GET {mount}/logout?next=…`: a page with a button.
#[derive(Clone)]
pub(super) struct LogoutPage;

#[rocket::async_trait]
impl Handler for LogoutPage {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        Outcome::Success(visit.button_page(None))
    }
}

/// `POST {mount}/logout?next=…`: ends the session in this app, then at the provider.
#[derive(Clone)]
pub(super) struct Logout;

#[rocket::async_trait]
impl Handler for Logout {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let _ = RequestState::of(request).is_ending.set(());
        let refused = match visit.sender() {
            Sender::ThisApp => None,
            Sender::Hidden if visit.has_button(data).await => None,
            Sender::Hidden => Some("The browser does not say which site asked to sign you out. Use this button."),
            Sender::AnotherOrigin => Some("Another site asked to sign you out. Use the button of this site."),
        };
        if let Some(explanation) = refused {
            let reason = "sign_out_by_another_site";
            tracing::warn!(reason, "another site asked to sign somebody out; nothing was done");
            return Outcome::Success(visit.button_page(Some(explanation)));
        }
        let left = visit.leave().instrument(span()).await;
        Outcome::Success(left.into_response(&visit.rp.settings.clear_site_data))
    }
}

/// `GET {mount}/logged-out?state=…`: the browser returns from the provider, to any registered path; the fairing
/// routes it here.
#[derive(Clone)]
pub(super) struct LoggedOut;

#[rocket::async_trait]
impl Handler for LoggedOut {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        // A request with another `state`, or without one, is redirected to the default page.
        Outcome::Success(match visit.returned_logout() {
            Some(pending) => {
                visit.set([visit.rp.cookies.named(PENDING_LOGOUT, "/").remove()]);
                let mut response = redirect(pending.return_to.as_str());
                // The response that redirected to the provider cleared the types that need no cookie. An unrecorded
                // sign-out needs its note cookie.
                let types = &visit.rp.settings.clear_site_data;
                if clear_site_data::has_cookies(types)
                    && !visit.rp.sessions.has_ended_cookie(request.cookies(), visit.now)
                {
                    clear_data(&mut response, clear_site_data::all(types));
                }
                response
            }
            None => {
                let path = visit.rp.post_logout.local_path.as_deref();
                redirect(path.unwrap_or("/"))
            }
        })
    }
}

/// `POST {mount}/backchannel-logout`: the provider reports that a session has ended
/// (OpenID Connect Back-Channel Logout 1.0 §2.5).
#[derive(Clone)]
pub(super) struct BackchannelLogout;

#[rocket::async_trait]
impl Handler for BackchannelLogout {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let Some(client) = visit.rp.client() else {
            return Outcome::Success(refusal("sign-in is disabled here"));
        };
        let Some(pairs) = form(request, data, MAX_BODY_SIZE).await else {
            return Outcome::Success(refusal("the body is no form, or is too long"));
        };
        let mut tokens = pairs
            .into_iter()
            .filter(|(name, _)| name == "logout_token")
            .map(|(_, value)| value);
        let (Some(logout_token), None) = (tokens.next(), tokens.next()) else {
            return Outcome::Success(refusal("`logout_token` must be there once"));
        };

        let accepting = async {
            let mut ended = vec![];
            let (address, now) = (visit.client_address(), visit.now);
            let accepted = client
                .accept_logout_token(&logout_token, address, now, &mut ended)
                .await;
            let request = Some(request);
            visit.events.sessions_changed(request, ended).await;
            accepted
        };
        Outcome::Success(match accepting.instrument(span()).await {
            Ok(()) => Response::build()
                .status(Status::Ok)
                .raw_header("Cache-Control", "no-store")
                .finalize(),
            Err(error) => {
                let reason = error.reason();
                tracing::warn!(reason, "a back-channel logout did nothing: {error}");
                tracing::info!("{}", error.remedy());
                refusal(&error.to_string())
            }
        })
    }
}

/// §2.8: "the RP MUST respond with HTTP 400 Bad Request", whatever went wrong.
fn refusal<'r>(description: &str) -> Response<'r> {
    let body = json!({ "error": "invalid_request", "error_description": description }).to_string();
    Response::build()
        .status(Status::BadRequest)
        .header(ContentType::JSON)
        .raw_header("Cache-Control", "no-store")
        .sized_body(body.len(), Cursor::new(body))
        .finalize()
}

/// `GET {mount}/frontchannel-logout?iss=…&sid=…`: the provider's page loads this in a frame (OpenID Connect
/// Front-Channel Logout 1.0 §2). The browser sends no cookie: `sid` identifies the session.
#[derive(Clone)]
pub(super) struct FrontchannelLogout;

#[rocket::async_trait]
impl Handler for FrontchannelLogout {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let Some(visit) = Visit::new(request) else {
            return Outcome::Error(Status::InternalServerError);
        };
        let Some(client) = visit.rp.client() else {
            return Outcome::Error(Status::NotFound);
        };
        let query = ReturnedQuery::of(request);
        let parameter = |name| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let found = pairs.find(|(parameter, _)| parameter == name);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        let (issuer, sid) = (parameter("iss"), parameter("sid"));
        let ending = async {
            let mut ended = vec![];
            let done = client.front_channel_logout(&issuer, &sid, visit.now, &mut ended).await;
            let request = Some(request);
            visit.events.sessions_changed(request, ended).await;
            done
        };
        let (status, text) = match ending.instrument(span()).await {
            Ok(FrontChannelLogout::Done) => (Status::Ok, "Signed out."),
            Ok(FrontChannelLogout::NotOurs) => {
                let reason = "logout_of_another_issuer";
                tracing::warn!(reason, "a front-channel logout named another provider, or no session");
                (Status::BadRequest, "Nothing was done.")
            }
            Err(error) => {
                let reason = "store_unavailable";
                tracing::error!(reason, "a front-channel logout failed: {error}");
                tracing::info!("{}", error.remedy());
                (Status::ServiceUnavailable, "Not signed out.")
            }
        };
        let origins = visit.provider_origins().await;
        let page = pages::refused("Sign-out", text);
        let mut response = html(status, page);
        response.set_raw_header(
            "Content-Security-Policy",
            format!("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors {origins}"),
        );
        Outcome::Success(response)
    }
}

impl Visit<'_, '_> {
    /// Signs out, calls the app's handlers, and returns where the browser goes next.
    async fn leave(&self) -> Left {
        let user = OptionalUser::from_request(self.request).await.succeeded();
        let user = user.and_then(OptionalUser::into_user);
        self.events.before_logout(self.request, user.as_ref()).await;
        self.set(self.rp.sessions.removals(self.request.cookies()));
        self.renew_browser();
        let left = self.sign_out().await;
        let request = self.request;
        self.events.notify(Some(request), left.end.as_slice()).await;
        let logout = events::LoggedOut {
            reason: left.reason,
            return_to: &left.return_to,
        };
        self.events.after_logout(request, &logout).await;
        left
    }

    /// Ends this browser's session.
    async fn sign_out(&self) -> Left {
        let return_to = self.next_after_logout();
        let Some(client) = self.rp.client() else {
            let current = current_session(self.request).await;
            let life = self.rp.settings.session.absolute_timeout;
            let marker = self.rp.cookies.named(TESTING_SIGNED_OUT, "/");
            self.set([marker.set("1", life, self.now)]);
            return Left {
                end: None,
                reason: current.as_ref().err().map_or("signed_out", |r| r.reason()),
                return_to: return_to.to_string(),
                at_provider: None,
                unrecorded: None,
                needs_cookies: true,
            };
        };
        let jar = self.request.cookies();
        let sessions = &self.rp.sessions;
        let mut found = current_session(self.request).await.clone();
        let mut reason = found.as_ref().err().map(|reason| reason.reason());
        // The session at the provider may live longer.
        if let Err(NoSession::Idle | NoSession::LifetimeEnded) = found {
            found = sessions.find_ending(jar, self.now).await.map(Arc::new);
        }
        // Whatever the state of the session: an older copy of it ends it too.
        let mut name = sessions.name_in(jar).filter(|name| match found {
            Err(NoSession::LifetimeEnded) => false,
            Err(NoSession::Ended) => sessions.is_end_unrecorded(name),
            _ => true,
        });
        if name.is_some() && !matches!(found, Err(NoSession::Ended)) {
            observing::signed_out();
        }
        let is_store_down = matches!(found, Err(NoSession::StoreUnavailable));
        let session = match found {
            Ok(session) => Some(session),
            // There may be a newer generation, which cannot be read, or which another browser has: use this one to
            // sign out at the provider.
            Err(NoSession::StoreUnavailable | NoSession::Superseded | NoSession::UnknownKey) => {
                sessions.ending_in_cookies(jar, self.now).map(Arc::new)
            }
            Err(_) => None,
        };
        // Cookies of a long-expired session may have been kept.
        let is_long_over = is_store_down && sessions.is_in_cookies() && session.is_none();
        if is_long_over && name.take().is_some() {
            reason = Some(NoSession::LifetimeEnded.reason());
        }
        let ended = sessions
            .end_in_browser(name.as_deref(), session.as_deref(), jar, is_store_down, self.now)
            .await;
        self.set(ended.cookies);
        // Before the request to the provider, which may take long.
        ended.end.iter().for_each(SessionChange::log);
        if !ended.is_recorded {
            reason = Some(NoSession::StoreUnavailable.reason());
        } else if ended.end.is_some() {
            reason = Some("signed_out");
        }

        let mut left = Left {
            end: ended.end,
            // Without another reason, a different request ended the session meanwhile.
            reason: reason.unwrap_or(NoSession::Ended.reason()),
            return_to: self.without_provider(return_to.clone()),
            at_provider: None,
            unrecorded: (!ended.is_recorded).then_some(Unrecorded {
                is_refused_here: ended.is_refused_here,
            }),
            needs_cookies: !ended.is_recorded,
        };
        if name.is_none() {
            return left;
        }
        let session = session.as_deref();
        let there = client.sign_out_at_provider(session, return_to, self.now);
        let Some((url, pending)) = there.await else {
            return left;
        };
        match pending {
            Some(pending) => {
                self.set_pending_logout(&pending);
                left.needs_cookies = true;
            }
            None => left.return_to.clone_from(&self.rp.post_logout.redirect_uri),
        }
        left.at_provider = Some(url.into());
        left
    }

    fn set_pending_logout(&self, pending: &PendingLogout) {
        let text = serde_json::to_string(pending).expect("a pending logout is two strings, which always serialize");
        let cookie = self.rp.cookies.named(PENDING_LOGOUT, "/");
        let keys = &self.rp.cookies.keys;
        let value = keys.encrypt_text(Purpose::SignOut, cookie.name().as_bytes(), &text);
        self.set([cookie.set(&value, PENDING_LOGOUT_TTL, self.now)]);
    }

    /// The sign-out target when the provider is not involved; it may be another site.
    fn without_provider(&self, return_to: ReturnTo) -> String {
        if self.leads_elsewhere() {
            self.rp.post_logout.redirect_uri.clone()
        } else {
            return_to.to_string()
        }
    }

    /// Whether sign-out redirects to another site: only the setting may choose one.
    fn leads_elsewhere(&self) -> bool {
        let next = self.request.query_value::<String>("next");
        next.is_none() && self.rp.post_logout.local_path.is_none()
    }

    /// The sign-out target in this app: `next`, else the setting `post_logout_redirect_uri`.
    fn next_after_logout(&self) -> ReturnTo {
        match (
            self.request.query_value::<String>("next"),
            &self.rp.post_logout.local_address,
        ) {
            (None, Some(address)) => self.rp.local_address(address),
            _ => self.next(),
        }
    }

    /// The pending sign-out of a return from the provider, if this browser began it.
    fn returned_logout(&self) -> Option<PendingLogout> {
        let query = ReturnedQuery::of(self.request);
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let (_, state) = pairs.find(|(name, _)| name == "state")?;
        let cookie = self.rp.cookies.named(PENDING_LOGOUT, "/");
        let value = cookie.read(self.request.cookies())?;
        let keys = &self.rp.cookies.keys;
        let text = keys.decrypt_text(Purpose::SignOut, cookie.name().as_bytes(), value);
        let text = text.ok()?;
        let pending: PendingLogout = serde_json::from_str(&text).ok()?;
        (pending.state == crate::secret::Secret::new(state)).then_some(pending)
    }

    /// The origins that may embed the page in a frame: those of the issuer and of the `end_session_endpoint`.
    async fn provider_origins(&self) -> String {
        let Some(client) = self.rp.client() else {
            return "'none'".to_owned();
        };
        let provider = client.provider;
        let mut origins = vec![];
        if let Ok(issuer) = Url::parse(&provider.registration.issuer) {
            origins.push(issuer.origin().ascii_serialization());
        }
        if let Ok(metadata) = provider.metadata(self.now).await
            && let Some(url) = metadata.end_session_endpoint()
        {
            origins.push(url.origin().ascii_serialization());
        }
        origins.dedup();
        origins.join(" ")
    }

    /// The sender of this request according to the browser: `Sec-Fetch-Site` if present, else `Origin`.
    fn sender(&self) -> Sender {
        let headers = self.request.headers();
        if let Some(site) = headers.get_one("Sec-Fetch-Site") {
            // `none`: the user, for example by a reload. `same-site` is a sibling sub-domain.
            let is_own = ["same-origin", "none"].iter().any(|own| site.eq_ignore_ascii_case(own));
            return if is_own { Sender::ThisApp } else { Sender::AnotherOrigin };
        }
        match headers.get_one("Origin") {
            // Not a browser, or an old one, which sends a `Referer` at most.
            None => match headers.get_one("Referer").map(Url::parse) {
                Some(Ok(url)) if !self.is_own_origin(&url.origin().ascii_serialization()) => Sender::AnotherOrigin,
                _ => Sender::ThisApp,
            },
            Some("null") => Sender::Hidden,
            Some(origin) if self.is_own_origin(origin) => Sender::ThisApp,
            Some(_) => Sender::AnotherOrigin,
        }
    }

    /// Whether it is the origin of `base_url`, or of the requested host. Plain http is not the same origin.
    fn is_own_origin(&self, origin: &str) -> bool {
        let base_url = self.rp.site.base_url.origin().ascii_serialization();
        if origin == base_url {
            return true;
        }
        let authority = |origin: &str| {
            let (_, authority) = origin.split_once("://")?;
            Some(authority.to_ascii_lowercase())
        };
        let of_request = self.request.host().map(|host| host.to_string());
        let of_request = of_request.map(|host| host.to_ascii_lowercase());
        let of_origin = authority(origin);
        of_origin.is_some() && of_origin == of_request && of_origin != authority(&base_url)
    }

    /// A page with the sign-out button, for a `GET` and for a request that did not come from a page of this app.
    fn button_page<'p>(&self, refused: Option<&str>) -> Response<'p> {
        let _ = RequestState::of(self.request).is_ending.set(());
        // Only the setting names another site, so the form does not repeat it.
        let action = if self.leads_elsewhere() {
            self.rp.route_path("logout")
        } else {
            self.rp.logout_url(self.next_after_logout().as_str())
        };
        let context = self.button_context();
        let ends = self.now.unix_timestamp().saturating_add(BUTTON_TTL);
        let keys = &self.rp.cookies.keys;
        let value = keys.encrypt_text(Purpose::SignOutButton, &context, &ends.to_string());
        let mut response = match refused {
            Some(explanation) => {
                let page = pages::sign_out_refused(explanation, &action, &value);
                html(Status::Forbidden, page)
            }
            None => html(Status::Ok, pages::sign_out(&action, &value)),
        };
        // With `no-referrer` the form would be posted with `Origin: null`.
        response.set_raw_header("Referrer-Policy", "same-origin");
        // Without `form-action`: browsers apply it to every subsequent redirect, including the provider's.
        response.set_raw_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        );
        response
    }

    /// Whether the posted form has the button of a page for this session. No other site can read that page; and a
    /// site that has its own session, or can plant cookies, has another button.
    async fn has_button(&self, data: Data<'_>) -> bool {
        let pairs = form(self.request, data, MAX_FORM_SIZE).await;
        let pairs = pairs.unwrap_or_default();
        let Some((_, value)) = pairs.iter().find(|(name, _)| name == BUTTON) else {
            return false;
        };
        let context = self.button_context();
        let keys = &self.rp.cookies.keys;
        let ends = keys.decrypt_text(Purpose::SignOutButton, &context, value);
        let ends = ends.ok().and_then(|ends| ends.parse::<i64>().ok());
        ends.is_some_and(|ends| self.now.unix_timestamp() < ends)
    }

    /// The context to which a button is bound: the session of this browser, or that it has none. This does not use
    /// the store, so the button works while the store is down, and afterwards.
    fn button_context(&self) -> Vec<u8> {
        let name = self.rp.sessions.name_in(self.request.cookies());
        name.map_or_else(Vec::new, |name| name.as_bytes().to_vec())
    }
}

/// The result of a sign-out.
struct Left {
    /// The end of the session, if this request ended it. It is already logged.
    end: Option<SessionChange>,
    /// The reason code.
    reason: &'static str,
    /// Where the browser finally goes.
    return_to: String,
    /// The URL at which the browser signs out at the provider first.
    at_provider: Option<String>,
    /// Set while the store has not recorded the sign-out.
    unrecorded: Option<Unrecorded>,
    /// Whether a later request needs cookies that this response sets.
    needs_cookies: bool,
}

/// A sign-out that the store has not recorded yet.
struct Unrecorded {
    /// Whether this node rejects the session meanwhile.
    is_refused_here: bool,
}

impl Left {
    /// Redirects to the next page; while the sign-out is not recorded, shows a page that says so.
    fn into_response<'r>(self, types: &[ClearSiteData]) -> Response<'r> {
        let provider = self.at_provider.as_deref();
        let mut response = match self.unrecorded {
            None => redirect(provider.unwrap_or(&self.return_to)),
            Some(Unrecorded { is_refused_here }) => {
                let page = pages::sign_out_unrecorded(is_refused_here, provider, &self.return_to);
                let mut response = html(Status::ServiceUnavailable, page);
                let wait = crate::session::store::RETRY_AFTER.as_secs().to_string();
                response.set_raw_header("Retry-After", wait);
                response
            }
        };
        let value = if self.needs_cookies {
            clear_site_data::without_cookies(types)
        } else {
            clear_site_data::all(types)
        };
        clear_data(&mut response, value);
        response
    }
}

fn clear_data(response: &mut Response<'_>, value: Option<String>) {
    if let Some(value) = value {
        response.set_raw_header("Clear-Site-Data", value);
    }
}

/// The sender of a sign-out request.
enum Sender {
    ThisApp,
    /// Another site, or a sibling sub-domain.
    AnotherOrigin,
    /// The browser hides the origin: the page with the form has the policy `no-referrer`.
    Hidden,
}

fn span() -> tracing::Span {
    tracing::debug_span!("logout")
}
