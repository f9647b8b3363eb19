//! The sign-out routes: the button page, the return from the provider, back-channel and front-channel logout.

use std::{io::Cursor, sync::Arc, time::Duration};

use rocket::{
    Data, Response,
    http::{ContentType, Status},
    request::FromRequest,
    route::Outcome,
};
use serde_json::json;
use tracing::Instrument;
use url::{Url, form_urlencoded};

use super::{RouteContext, button_page, clear_site_data, form, html, plain_page, redirect};
use crate::{
    audit::{AuditEvent, Who},
    code_flow::{Browser, PENDING_LOGOUT, PendingLogout, ReturnTo},
    guard::{OptionalUser, TESTING_SIGNED_OUT, current_session},
    keys::Purpose,
    observing,
    pages::{self, BuiltInPages, HiddenField, Pages, SignOutConfirmation, UnrecordedSignOut},
    provider::Provider,
    relying_party::{FrontChannelLogout, RelyingParty, audited, events},
    request::{self, CrossOrigin, RequestState, ReturnedQuery},
    session::{NoSession, SessionChange, store::RETRY_AFTER},
    settings::ProviderKind,
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

impl<'r> RouteContext<'r, '_> {
    /// `POST {mount}/logout?next=…`: ends the session in this app, then at the provider.
    pub(super) async fn logout(&self, data: Data<'_>) -> Outcome<'r> {
        let state = RequestState::of(self.request);
        let _ = state.is_ending.set(());
        let _ = state.has_own_sender_rule.set(());
        let rejected = match self.sender() {
            Sender::ThisApp => None,
            Sender::Hidden if self.has_button(data).await => None,
            Sender::Hidden => {
                Some("Your browser did not say which site asked to sign you out. To sign out, use this button.")
            }
            Sender::AnotherOrigin => Some("Another site asked to sign you out. To sign out, use this button."),
        };
        if let Some(explanation) = rejected {
            let reason = "sign_out_by_another_site";
            tracing::warn!(reason, "a sign-out request from another site was rejected");
            self.audit_rejected(self.rp, reason);
            return self.sign_out_page(Some(explanation));
        }
        let signed_out = self.sign_out_with_events().instrument(span()).await;
        let mut response = if signed_out.is_unrecorded {
            self.unrecorded(&signed_out)
        } else {
            redirect(signed_out.at_provider.as_deref().unwrap_or(&signed_out.return_to))
        };
        let types = &self.rp.settings.clear_site_data;
        let value = if signed_out.needs_cookies {
            clear_site_data::without_cookies(types)
        } else {
            clear_site_data::all(types)
        };
        clear_data(&mut response, value);
        Outcome::Success(response)
    }

    /// The page that says so while the sign-out is not recorded.
    fn unrecorded(&self, signed_out: &SignedOut) -> Response<'r> {
        let page = UnrecordedSignOut {
            is_refused_here: signed_out.is_refused_here,
            at_provider: signed_out.at_provider.clone(),
            next: signed_out.return_to.clone(),
        };
        let own = plain_page(
            Status::ServiceUnavailable,
            self.pages().sign_out_unrecorded(self.request, &page),
        );
        let mut response = match (own, BuiltInPages.sign_out_unrecorded(self.request, &page)) {
            (Outcome::Success(response), _) | (_, Ok(response)) => response,
            (_, Err(status)) => Response::build().status(status).finalize(),
        };
        response.set_raw_header("Retry-After", RETRY_AFTER.as_secs().to_string());
        response
    }

    /// Signs out, and calls the app's handlers.
    async fn sign_out_with_events(&self) -> SignedOut {
        let user = OptionalUser::from_request(self.request).await.succeeded();
        let user = user.and_then(OptionalUser::into_user);
        self.rp.events.before_logout(self.request, user.as_ref()).await;
        self.set(self.rp.sessions.removals(self.request.cookies()));
        self.set(self.rp.last_session_ended(self.now));
        // A new id invalidates attempts that were begun before.
        self.set_browser(&Browser::new());
        let signed_out = self.sign_out().await;
        let request = self.request;
        self.rp.events.notify(Some(request), signed_out.end.as_slice()).await;
        let event = events::LoggedOut {
            reason: signed_out.reason,
            return_to: &signed_out.return_to,
        };
        self.rp.events.after_logout(request, &event).await;
        signed_out
    }

    /// `GET {mount}/logged-out?state=…`: the browser returns from the provider, to any registered path; the fairing
    /// routes it here.
    pub(super) fn logged_out(&self) -> Response<'r> {
        // A request with another `state`, or without one, is redirected to the default page.
        let Some(pending) = self.returned_logout() else {
            return match &self.rp.post_logout.local_path {
                Some(path) => redirect(path),
                None => redirect(self.rp.home().as_str()),
            };
        };
        self.set([self.rp.cookies.named(PENDING_LOGOUT, "/").remove()]);
        let mut response = redirect(pending.return_to.as_str());
        // The response that redirected to the provider cleared the types that need no cookie. An unrecorded sign-out
        // needs its note cookie.
        let types = &self.rp.settings.clear_site_data;
        let has_note = || self.rp.sessions.has_ended_cookie(self.request.cookies(), self.now);
        if clear_site_data::has_cookies(types) && !has_note() {
            clear_data(&mut response, clear_site_data::all(types));
        }
        response
    }

    /// `POST {mount}/backchannel-logout`: the provider reports that a session has ended
    /// (OpenID Connect Back-Channel Logout 1.0 §2.5).
    ///
    /// Among several providers, `POST {mount}/backchannel-logout/{provider}` is for one; without the name, the token's
    /// `iss` and `aud` select it.
    pub(super) async fn backchannel_logout(&self, data: Data<'_>) -> Outcome<'r> {
        match self.named_provider().await {
            Ok(named) => Outcome::Success(self.accept_logout_token(named, data).await),
            Err(status) => Outcome::Error(status),
        }
    }

    async fn accept_logout_token(&self, named: Option<&'r Arc<RelyingParty>>, data: Data<'_>) -> Response<'r> {
        if !self.rp.is_enabled() {
            return refusal("sign-in is disabled");
        }
        let Some(pairs) = form(self.request, data, MAX_BODY_SIZE).await else {
            return refusal("the body is not a form, or is too long");
        };
        let mut tokens = pairs.into_iter().filter(|(name, _)| name == "logout_token");
        let (Some((_, logout_token)), None) = (tokens.next(), tokens.next()) else {
            return refusal("`logout_token` must be present exactly once");
        };
        let of_token = || self.rp.providers()?.of_logout_token(&logout_token);
        let of_provider = named.or_else(of_token);
        let Some(client) = of_provider.map_or(self.rp, |rp| &**rp).client() else {
            return refusal("the logout token is not from one of the providers");
        };
        if client.provider.registration.kind() == ProviderKind::GitHub {
            return refusal("the provider of this app sends no logout tokens");
        }
        let mut ended = vec![];
        let accepting = async {
            let accepted = client.accept_logout_token(&logout_token, self.client_address(), self.now, &mut ended);
            let accepted = accepted.await;
            if let Ok(token) = &accepted {
                let who = Who {
                    issuer: Some(&token.issuer),
                    subject: token.ended.subject(),
                    ..client.who()
                };
                self.audit_accepted(client.rp, "backchannel_logout", who, ended.len());
            }
            self.rp.events.sessions_changed(Some(self.request), ended).await;
            accepted
        };
        let accepted = accepting.instrument(span()).await;
        match accepted {
            Ok(_) => Response::build().raw_header("Cache-Control", "no-store").finalize(),
            Err(error) => {
                self.audit_rejected(client.rp, error.reason());
                tracing::warn!(reason = error.reason(), "a back-channel logout was rejected: {error}");
                tracing::info!("{}", error.remedy());
                refusal(&error.to_string())
            }
        }
    }

    /// `GET {mount}/frontchannel-logout?iss=…&sid=…`: the provider's page loads this in a frame (OpenID Connect
    /// Front-Channel Logout 1.0 §2). The browser sends no cookie: `sid` identifies the session.
    ///
    /// Among several providers, `GET {mount}/frontchannel-logout/{provider}` is for one; without the name, `iss` selects
    /// those in the settings.
    pub(super) async fn frontchannel_logout(&self) -> Outcome<'r> {
        let parameter = |name| self.returned_parameter(name).unwrap_or_default();
        let (issuer, sid) = (parameter("iss"), parameter("sid"));
        if !self.rp.is_enabled() {
            return Outcome::Error(Status::NotFound);
        }
        let named = match self.named_provider().await {
            Ok(named) => named,
            Err(status) => return Outcome::Error(status),
        };
        let clients: Vec<_> = match (named, self.rp.providers()) {
            (Some(rp), _) => Some(rp)
                .filter(|rp| rp.is_of_issuer(&issuer))
                .and_then(|rp| rp.client())
                .into_iter()
                .collect(),
            (None, Some(providers)) => providers.of_issuer(&issuer).filter_map(|rp| rp.client()).collect(),
            (None, None) => self.rp.client().into_iter().collect(),
        };
        let mut ended = vec![];
        let ending = async {
            let mut done = Ok(FrontChannelLogout::NotOurs);
            // Two clients of one issuer may have sessions of one `sid`.
            for client in &clients {
                let before = ended.len();
                done = client.front_channel_logout(&issuer, &sid, self.now, &mut ended).await;
                match done {
                    Ok(FrontChannelLogout::Done) => {
                        let count = ended.len() - before;
                        self.audit_accepted(client.rp, "frontchannel_logout", client.who(), count);
                    }
                    Ok(FrontChannelLogout::NotOurs) => {}
                    Err(_) => break,
                }
            }
            self.rp.events.sessions_changed(Some(self.request), ended).await;
            done
        };
        let done = ending.instrument(span()).await;
        let (status, text) = match done {
            Ok(FrontChannelLogout::Done) => (Status::Ok, "Signed out."),
            Ok(FrontChannelLogout::NotOurs) => {
                let reason = "logout_of_another_issuer";
                tracing::warn!(reason, "a front-channel logout named another issuer, or no session");
                self.audit_rejected(clients.first().map_or(self.rp, |client| client.rp), reason);
                (Status::BadRequest, "The request was rejected.")
            }
            Err(error) => {
                let reason = "store_unavailable";
                tracing::error!(reason, "a front-channel logout failed: {error}");
                self.audit_rejected(clients.first().map_or(self.rp, |client| client.rp), reason);
                tracing::info!("{}", error.remedy());
                (Status::ServiceUnavailable, "Not signed out.")
            }
        };
        let origins = match clients.first() {
            Some(client) => self.provider_origins(client.provider).await,
            None => "'none'".to_owned(),
        };
        let mut response = html(status, pages::refused("Sign-out", text, &self.rp.site.paths.home()));
        response.set_raw_header(
            "Content-Security-Policy",
            format!("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors {origins}"),
        );
        Outcome::Success(response)
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

impl RouteContext<'_, '_> {
    /// Ends this browser's session.
    async fn sign_out(&self) -> SignedOut {
        let return_to = self.next_after_logout();
        let Some(client) = self.rp.client() else {
            if self.rp.is_enabled() {
                // No session, and so none of several providers.
                return SignedOut {
                    reason: NoSession::Absent.reason(),
                    return_to: return_to.to_string(),
                    ..SignedOut::default()
                };
            }
            let current = current_session(self.request).await;
            let ttl = self.rp.settings.session.absolute_timeout;
            let marker = self.rp.cookies.named(TESTING_SIGNED_OUT, "/");
            self.set([marker.set("1", ttl, self.now)]);
            let mut signed_out = SignedOut {
                reason: current.as_ref().err().map_or("signed_out", |r| r.reason()),
                return_to: return_to.to_string(),
                needs_cookies: true,
                ..SignedOut::default()
            };
            if self.rp.signs_testing_profile_in() {
                let (jar, sessions) = (self.request.cookies(), &self.rp.sessions);
                let (name, session) = (sessions.name_in(jar), current.as_deref().ok());
                let ending = sessions.end_in_browser(name.as_deref(), session, jar, false, self.now);
                let ended = ending.await;
                self.set(ended.cookies);
                self.rp.events.log(Some(self.request), ended.end.as_slice());
                signed_out.end = ended.end;
                signed_out.is_unrecorded = !ended.is_recorded;
                signed_out.is_refused_here = ended.is_refused_here;
            }
            return signed_out;
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
            observing::signed_out(&sessions.observed);
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
        let has_long_expired = is_store_down && sessions.is_in_cookies() && session.is_none();
        if has_long_expired && name.take().is_some() {
            reason = Some(NoSession::LifetimeEnded.reason());
        }
        let ended = sessions
            .end_in_browser(name.as_deref(), session.as_deref(), jar, is_store_down, self.now)
            .await;
        self.set(ended.cookies);
        // Before the request to the provider, which may take long.
        self.rp.events.log(Some(self.request), ended.end.as_slice());
        if !ended.is_recorded {
            reason = Some(NoSession::StoreUnavailable.reason());
        } else if ended.end.is_some() {
            reason = Some("signed_out");
        }

        let mut signed_out = SignedOut {
            end: ended.end,
            // Without another reason, a different request ended the session meanwhile.
            reason: reason.unwrap_or(NoSession::Ended.reason()),
            return_to: if self.redirects_to_other_site() {
                self.rp.post_logout.redirect_uri.clone()
            } else {
                return_to.to_string()
            },
            is_unrecorded: !ended.is_recorded,
            is_refused_here: ended.is_refused_here,
            needs_cookies: !ended.is_recorded,
            ..SignedOut::default()
        };
        if name.is_none() {
            return signed_out;
        }
        let at_provider = client.sign_out_at_provider(session.as_deref(), return_to, self.now);
        let Some((url, pending)) = at_provider.await else {
            return signed_out;
        };
        match pending {
            Some(pending) => {
                self.set_pending_logout(&pending);
                signed_out.needs_cookies = true;
            }
            None => signed_out.return_to.clone_from(&self.rp.post_logout.redirect_uri),
        }
        signed_out.at_provider = Some(url.into());
        signed_out
    }

    fn set_pending_logout(&self, pending: &PendingLogout) {
        let text = serde_json::to_string(pending).expect("a pending logout is two strings, which always serialize");
        let cookie = self.rp.cookies.named(PENDING_LOGOUT, "/");
        let keys = &self.rp.cookies.keys;
        let value = keys.encrypt_text(Purpose::SignOut, cookie.name().as_bytes(), &text);
        self.set([cookie.set(&value, PENDING_LOGOUT_TTL, self.now)]);
    }

    /// Whether sign-out redirects to another site: only the setting may choose one.
    fn redirects_to_other_site(&self) -> bool {
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

    /// A parameter of the query, which Rocket does not log.
    fn returned_parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(ReturnedQuery::of(self.request).as_bytes());
        let (_, value) = pairs.find(|(parameter, _)| parameter == name)?;
        Some(value.into_owned())
    }

    /// The pending sign-out of a return from the provider, if this browser began it.
    fn returned_logout(&self) -> Option<PendingLogout> {
        let state = self.returned_parameter("state")?;
        let cookie = self.rp.cookies.named(PENDING_LOGOUT, "/");
        let value = cookie.read(self.request.cookies())?;
        let keys = &self.rp.cookies.keys;
        let text = keys.decrypt_text(Purpose::SignOut, cookie.name().as_bytes(), value);
        let text = text.ok()?;
        let pending: PendingLogout = serde_json::from_str(&text).ok()?;
        (pending.state == crate::secret::Secret::new(state)).then_some(pending)
    }

    /// `count` is known where sessions are in a store.
    fn audit_accepted(&self, rp: &RelyingParty, reason: &'static str, who: Who<'_>, count: usize) {
        let count = (!rp.sessions.is_in_cookies()).then_some(count);
        audited(self.request, AuditEvent::LogoutAccepted, reason, who)
            .with_number("sessions", count)
            .log();
    }

    fn audit_rejected(&self, rp: &RelyingParty, reason: &'static str) {
        audited(self.request, AuditEvent::LogoutRejected, reason, rp.who()).log();
    }

    /// The origins that may embed the page in a frame: those of the issuer and of the `end_session_endpoint`.
    async fn provider_origins(&self, provider: &Arc<Provider>) -> String {
        let mut urls = vec![Url::parse(&provider.registration.issuer).ok()];
        if let Ok(metadata) = provider.metadata(self.now).await {
            urls.push(metadata.end_session_endpoint.clone());
        }
        let origins = urls.iter().flatten().map(|url| url.origin().ascii_serialization());
        let mut origins: Vec<_> = origins.collect();
        origins.dedup();
        origins.join(" ")
    }

    /// The sender of this request according to the browser: `Sec-Fetch-Site` if present, else `Origin`.
    pub(super) fn sender(&self) -> Sender {
        let sender = request::Sender::of(self.request);
        if sender.is_unknown() {
            // Not a browser, or an old one, which sends a `Referer` at most.
            return match self.request.headers().get_one("Referer").map(Url::parse) {
                Some(Ok(url)) if !self.is_own_origin(&url.origin().ascii_serialization()) => Sender::AnotherOrigin,
                _ => Sender::ThisApp,
            };
        }
        match sender.check_page(|origin| self.is_own_origin(origin), |_| false) {
            Ok(()) => Sender::ThisApp,
            Err(CrossOrigin::Hidden) => Sender::Hidden,
            Err(_) => Sender::AnotherOrigin,
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
    pub(super) fn sign_out_page<'p>(&self, rejected: Option<&str>) -> Outcome<'p> {
        let _ = RequestState::of(self.request).is_ending.set(());
        // Only the setting names another site, so the form does not repeat it.
        let action = if self.redirects_to_other_site() {
            self.rp.route_path("logout")
        } else {
            self.rp.logout_url_to(&self.next_after_logout())
        };
        let context = self.button_context();
        let ends = self.now.unix_timestamp().saturating_add(BUTTON_TTL);
        let keys = &self.rp.cookies.keys;
        let value = keys.encrypt_text(Purpose::SignOutButton, &context, &ends.to_string());
        let status = rejected.map_or(Status::Ok, |_| Status::Forbidden);
        let page = SignOutConfirmation {
            action,
            fields: vec![HiddenField {
                name: BUTTON.to_owned(),
                value,
            }],
            cancel: self.rp.site.paths.home(),
            rejected: rejected.map(str::to_owned),
        };
        button_page(status, self.pages().confirm_sign_out(self.request, &page))
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
#[derive(Default)]
struct SignedOut {
    /// The end of the session, if this request ended it. It is already logged.
    end: Option<SessionChange>,
    /// The reason code.
    reason: &'static str,
    /// Where the browser finally goes.
    return_to: String,
    /// The URL at which the browser signs out at the provider first.
    at_provider: Option<String>,
    /// Whether the store has not recorded the sign-out yet.
    is_unrecorded: bool,
    /// Whether this node rejects the session until then.
    is_refused_here: bool,
    /// Whether a later request needs cookies that this response sets.
    needs_cookies: bool,
}

fn clear_data(response: &mut Response<'_>, value: Option<String>) {
    if let Some(value) = value {
        response.set_raw_header("Clear-Site-Data", value);
    }
}

/// The sender of a sign-out request.
pub(super) enum Sender {
    ThisApp,
    /// Another site, or a sibling sub-domain.
    AnotherOrigin,
    /// The browser hides the origin: the page with the form has the policy `no-referrer`.
    Hidden,
}

fn span() -> tracing::Span {
    tracing::debug_span!("logout")
}
