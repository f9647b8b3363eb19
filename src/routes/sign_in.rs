//! The sign-in routes: the redirect to the provider, and the callback.

use std::{borrow::Cow, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::{
    Data,
    http::{Cookie, Status},
    request::FromRequest,
    route::Outcome,
};
use url::form_urlencoded;

use super::{RouteContext, form, plain_page, redirect, silent::back_to};
use crate::{
    audit::AuditEvent,
    code_flow::{
        AuthorizationResponse, Browser, Details, MAX_USER_LEN, ResponseError, ReturnTo, SignInAttempt, SignInParameters,
    },
    cookies::{NamedCookie, SetCookie},
    guard::{OptionalUser, TESTING_SIGNED_OUT, current_session},
    keys::{KeyNumber, Purpose},
    observing,
    pages::RefusedRequest,
    printable::printable,
    provider::{Endpoint, ProviderError},
    relying_party::{
        BegunSession, Callback, Completed, LoginRedirect, NotBegun, PARAMETERS, RelyingParty, SignInError, User,
        audited, decrypt_parameters,
    },
    request::{RequestState, ReturnedQuery, is_fetched},
    secret::Secret,
    session::{CurrentSession, EarlierEnds, NoSession},
    settings::ResponseMode,
};

/// The cookie that binds attempts to the browser that began them.
const BROWSER: &str = "oidc_browser";
/// The TTL of that cookie, from the last attempt.
const BROWSER_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The cookie of an attempt whose return address does not fit into `state`; the attempt's name follows the prefix.
const DETAILS: &str = "oidc_attempt_";
/// The maximum number of those cookies per browser …
const MAX_DETAILS: usize = 2;
/// … and their maximum total size in bytes. The oldest are removed.
const MAX_DETAILS_SIZE: usize = 2 * 1024;
/// This many sign-ins …
const MAX_SIGN_INS: u8 = 3;
/// … each within this number of seconds of the one before, and each without a session afterwards, are a loop.
const LOOP_TIME: i64 = 60;
/// The parameters of a response that are read.
const RESPONSE: [&str; 6] = ["state", "code", "iss", "error", "error_description", USER];
/// The one of Sign in with Apple, which a sign-in can do without.
const USER: &str = "user";
/// The query parameter with the encrypted response of a form.
const SEALED: &str = "sealed";
/// The maximum size of a form, in bytes.
const MAX_FORM_SIZE: u64 = 8 * 1024;
/// The maximum length of an encrypted form response: it must fit into a URL.
const MAX_POSTED: usize = 5_632;
/// How long it is valid, in seconds.
const POSTED_TTL: i64 = 60;
/// The maximum length of a forwarded `login_hint`, in bytes.
const MAX_HINT_LEN: usize = 256;

impl<'r> RouteContext<'r, '_> {
    /// `GET {mount}/login`: begins the sign-in that the query asks for, by `next`, `login_hint`, and the encrypted
    /// parameters of a [`SignInUrl`](crate::SignInUrl). Other parameters of the query are ignored.
    ///
    /// Among several providers, `GET {mount}/login/{provider}` or the parameter `provider` says at which; without it,
    /// the user chooses.
    pub(super) async fn login(&self, provider: Option<&str>) -> Outcome<'r> {
        let next = self.next();
        if self.asks_for_silent_sign_in() {
            return self.login_silently(next).await;
        }
        let of_query = self.request.query_value::<String>("provider").and_then(Result::ok);
        let provider = provider.or(of_query.as_deref());
        // Without several providers, nothing names one.
        let provider = provider.filter(|_| self.rp.providers().is_some() || self.rp.settings.provider_name.is_some());
        let named = match provider {
            Some(name) => match self.provider(name).await {
                Ok(named) => named,
                Err(status) => return Outcome::Error(status),
            },
            None => None,
        };
        let at = named.map_or(self.rp, |rp| &**rp);
        let parameters = match self.parameters(at) {
            Ok(parameters) => parameters,
            Err(error) => return self.failed(error, &next).await,
        };
        match (named, self.rp.providers().map(|providers| &*providers.of_settings)) {
            (Some(rp), _) | (None, Some([rp])) => self.at(rp).begin_here(next, parameters).await,
            (None, Some(several)) => self.choose(several, &next),
            (None, None) => self.begin_here(next, parameters).await,
        }
    }

    /// What the query asks for, of a sign-in at the provider of `rp`.
    pub(super) fn parameters(&self, rp: &RelyingParty) -> Result<SignInParameters, SignInError> {
        let encrypted = self.request.query_value::<String>(PARAMETERS).and_then(Result::ok);
        match encrypted {
            None => Ok(self.login_hint()),
            Some(value) => {
                let (keys, provider) = (&self.rp.cookies.keys, rp.sign_in_provider(None));
                decrypt_parameters(keys, provider, &value, self.now)
            }
        }
    }

    /// The `login_hint` of the query.
    fn login_hint(&self) -> SignInParameters {
        let mut parameters = SignInParameters::default();
        let hint = self.request.query_value::<String>("login_hint").and_then(Result::ok);
        if let Some(hint) = hint.filter(|hint| hint.len() <= MAX_HINT_LEN) {
            parameters.set("login_hint", hint);
        }
        parameters
    }

    /// `GET {mount}/initiate-login?iss=…`: the provider, or a third-party page, asks the user to sign in here
    /// ([Core §4](https://openid.net/specs/openid-connect-core-1_0.html#ThirdPartyInitiatedLogin)).
    ///
    /// Among several providers, `{mount}/initiate-login/{provider}` is for one; without the name, `iss` selects one of
    /// those in the settings.
    pub(super) async fn initiate_login(&self) -> Outcome<'r> {
        let parameter = |name| self.request.query_value::<String>(name).and_then(Result::ok);
        let named = match self.named_provider().await {
            Ok(named) => named,
            Err(status) => return Outcome::Error(status),
        };
        if let Some(providers) = self.rp.providers() {
            let actual = parameter("iss").unwrap_or_default();
            let of_issuer: Vec<_> = match named {
                Some(rp) => Some(rp).filter(|rp| rp.is_of_issuer(&actual)).into_iter().collect(),
                None => providers.of_issuer(&actual).collect(),
            };
            let [rp] = of_issuer[..] else {
                let error = SignInError::InitiatedByAnotherIssuer {
                    expected: match named {
                        Some(rp) => rp.issuer().to_owned(),
                        None => "an issuer of one of `oidc.providers`".to_owned(),
                    },
                    actual: Some(printable(&actual)),
                };
                return self.failed(error, &self.rp.home()).await;
            };
            let target = parameter("target_link_uri");
            let target = target.map_or_else(|| self.rp.home(), |target| self.target(&target));
            // Whoever sent the browser here, its user decides.
            if providers.are_several() || rp.settings.confirms_sign_ins() {
                return self.confirm(rp, &target).await;
            }
            let here = self.at(rp);
            return here
                .begin(EarlierEnds::default(), target, self.login_hint(), false)
                .await;
        }
        if let Some(client) = self.rp.client() {
            let expected = client.provider.registration.expected_issuer();
            let actual = parameter("iss");
            if !actual.as_deref().is_some_and(|actual| expected.accepts(actual)) {
                let error = SignInError::InitiatedByAnotherIssuer {
                    expected: expected.as_str().to_owned(),
                    actual: actual.as_deref().map(printable),
                };
                return self.failed(error, &self.rp.home()).await;
            }
        }
        let target = parameter("target_link_uri");
        let target = target.map_or_else(|| self.rp.home(), |target| self.target(&target));
        if self.confirms_sign_ins() {
            return self.confirm(self.rp, &target).await;
        }
        self.begin(EarlierEnds::default(), target, self.login_hint(), false)
            .await
    }

    /// `POST {mount}/initiate-login`: the same as a form. The browser omits this app's cookies from what another site
    /// posts, so it is redirected to the equivalent `GET`.
    pub(super) async fn initiate_login_form(&self, data: Data<'_>) -> Outcome<'r> {
        let Some(pairs) = form(self.request, data, MAX_FORM_SIZE).await else {
            return Outcome::Error(Status::BadRequest);
        };
        let known = ["iss", "login_hint", "target_link_uri"];
        let query = query(pairs.iter().filter(|(name, _)| known.contains(&&**name)));
        Outcome::Success(redirect(&format!("?{query}")))
    }

    /// Redirects the browser to the provider, and to `return_to` after the sign-in, which is known to be later than
    /// these ends. `is_restarted` means that it was at the provider before, for an attempt that could not be completed.
    pub(super) async fn begin(
        &self,
        ends: EarlierEnds,
        return_to: ReturnTo,
        parameters: SignInParameters,
        is_restarted: bool,
    ) -> Outcome<'r> {
        let request = self.request;
        if let Some(address) = self.address_at_base_url() {
            return Outcome::Success(redirect(&address));
        }
        if is_fetched(request) {
            return self.not_a_page_load();
        }

        let Some(client) = self.rp.client() else {
            return self.begin_as_testing_profile(&return_to, &parameters).await;
        };
        if parameters.links_to.is_some() && self.linking_user(Some(&parameters)).await.is_none() {
            return self.failed(SignInError::LinkSessionEnded, &return_to).await;
        }
        // Keep an existing id, so that the attempts of other tabs stay valid.
        let browser = self.browser().unwrap_or_else(Browser::new);
        if let Err(error) = self.check_loop(&browser).await {
            self.set_browser(&Browser { sign_ins: 0, ..browser });
            return self.failed(error, &return_to).await;
        }

        let redirect_uri = self.rp.site.redirect_uri.as_str();
        let provider = self.rp.provider_name();
        let mut login = LoginRedirect::new(provider, redirect_uri, return_to.as_str(), parameters);
        self.rp.events.before_login_redirect(request, &mut login).await;
        let parameters = match login.into_parameters() {
            Ok(parameters) => parameters,
            Err(error) => return self.failed(error, &return_to).await,
        };
        let Some(parameters) = self.silent_parameters(parameters) else {
            return back_to(&return_to);
        };
        let attempt = SignInAttempt::new(&browser.id, return_to.clone(), is_restarted, self.now);
        let attempt = attempt
            .after_ends(ends)
            .with_parameters(parameters)
            .at_provider(self.rp.settings.provider_name.as_deref())
            .silently(self.is_silent());
        let beginning = client.begin_sign_in(&browser.id, attempt, self.client_address(), self.now);
        match beginning.await {
            Ok(begun) => {
                let name = begun.attempt.id.short_name();
                self.set_browser(&browser);
                if let Some(details) = &begun.details {
                    self.set_details(&name, details);
                }
                self.rp.attempts.begin(&name, return_to.as_str(), self.now);
                observing::sign_in_begun(&self.rp.sessions.observed);
                let event = AuditEvent::SignInBegun;
                audited(request, event, "sign_in_begun", self.rp.who())
                    .with("purpose", Some(Self::purpose(&begun.attempt)))
                    .log();
                Outcome::Success(redirect(begun.url.as_str()))
            }
            Err(error) => self.failed(error, &return_to).await,
        }
    }

    /// Signs the browser in as the user of `testing_profile`, unless it is.
    async fn begin_as_testing_profile(&self, return_to: &ReturnTo, parameters: &SignInParameters) -> Outcome<'r> {
        self.set([self.rp.cookies.named(TESTING_SIGNED_OUT, "/").remove()]);
        let begins = self.rp.signs_testing_profile_in()
            && parameters.links_to.is_none()
            && current_session(self.request).await.is_err();
        if begins {
            let beginning = self.rp.begin_testing_session(self.request, return_to, self.now);
            match beginning.await {
                Ok((current, next)) => {
                    RequestState::of(self.request).outgoing().set(&current);
                    return Outcome::Success(redirect(next.as_ref().unwrap_or(return_to).as_str()));
                }
                Err(error) => return self.failed(error, return_to).await,
            }
        }
        Outcome::Success(redirect(return_to.as_str()))
    }

    /// What a sign-in is for, in the audit log.
    fn purpose(attempt: &SignInAttempt) -> &'static str {
        match &attempt.parameters {
            Some(asked) if asked.links_to.is_some() => "link",
            Some(asked) if asked.user.is_some() => "step_up",
            _ if attempt.is_silent => "silent",
            _ => "sign_in",
        }
    }

    /// The page of a `target_link_uri`, if it is one of this app; otherwise the start page.
    fn target(&self, address: &str) -> ReturnTo {
        let base_url = self.rp.site.base_url.origin().ascii_serialization();
        match address.strip_prefix(&base_url) {
            Some("") => self.rp.home(),
            Some(local) => self.rp.local_address(local),
            None => self.rp.local_address(address),
        }
    }

    /// `POST {mount}/authorize`: the browser posts the response as a form
    /// ([Form Post Response Mode](https://openid.net/specs/oauth-v2-form-post-response-mode-1_0.html)).
    ///
    /// It does so on behalf of another site, and omits this app's cookies. So it is redirected to a `GET` that has
    /// them, with the response encrypted in the query: no URL contains the code.
    pub(super) async fn authorize_form(&self, data: Data<'_>) -> Outcome<'r> {
        let home = self.rp.home();
        let pairs = form(self.request, data, MAX_FORM_SIZE).await;
        if !self.expects_form() {
            let is_response = |(name, _): &(String, String)| matches!(&**name, "state" | "code" | "error");
            if !pairs.unwrap_or_default().iter().any(is_response) {
                return Outcome::Error(Status::NotFound);
            }
            return self.failed(SignInError::PostedResponse, &home).await;
        }
        let Some(pairs) = pairs else {
            return self.failed(ResponseError::UnreadableForm.into(), &home).await;
        };
        let seal = |with_user: bool| {
            let is_read = |(name, value): &&(String, String)| match &**name {
                USER => with_user && value.len() <= MAX_USER_LEN,
                name => RESPONSE.contains(&name),
            };
            let response = query(pairs.iter().filter(is_read));
            let at = self.now.unix_timestamp().to_be_bytes();
            let posted = [&at, response.as_bytes()].concat();
            let sealed = self.rp.cookies.keys.encrypt(Purpose::PostedResponse, b"", &posted);
            let sealed = URL_SAFE_NO_PAD.encode(sealed);
            (sealed.len() <= MAX_POSTED).then_some(sealed)
        };
        let Some(sealed) = seal(true).or_else(|| seal(false)) else {
            return self.failed(ResponseError::UnreadableForm.into(), &home).await;
        };
        let query = query([&(SEALED.to_owned(), sealed)]);
        Outcome::Success(redirect(&format!("?{query}")))
    }

    /// `GET {mount}/authorize`: handles the response with which the browser comes back from the provider.
    pub(super) async fn authorize(&self) -> Outcome<'r> {
        let request = self.request;
        if !self.rp.is_enabled() {
            return Outcome::Success(redirect(self.rp.home().as_str()));
        }
        if is_fetched(request) {
            // A prefetch or a subresource request must not use up the code.
            return self.not_a_page_load();
        }
        self.rp.events.before_authorize(request).await;
        let (query, is_stale) = self.response(ReturnedQuery::of(request));
        let response = match AuthorizationResponse::parse(&query) {
            Ok(response) => response,
            Err(error) => return self.failed(error.into(), &self.rp.home()).await,
        };
        let keys = &self.rp.cookies.keys;
        let state = response.state.clone();
        let decrypted = state.as_ref().map(|state| {
            let (mut attempt, key) = SignInAttempt::decrypt(keys, state.expose(), &self.rp.site.paths)?;
            let details = self.details_cookie(&attempt.id.short_name());
            let details = details.read(request.cookies());
            attempt.add_details(keys, details, &self.rp.site.paths);
            Ok::<_, crate::keys::DecryptError>((attempt, key))
        });
        let (Some(state), Some(Ok((attempt, key)))) = (state, decrypted) else {
            if self.is_probably_silent(&response) {
                return back_to(&self.rp.home());
            }
            let error = response.reject_without_attempt();
            return self.failed(error.into(), &self.rp.home()).await;
        };

        match self.provider_of(&attempt).await {
            Ok(None) => self.complete(response, state, attempt, key, is_stale).await,
            Ok(Some(rp)) => self.at(rp).complete(response, state, attempt, key, is_stale).await,
            Err(Some(error)) => self.failed(error.into(), &self.rp.home()).await,
            Err(None) => Outcome::Error(Status::ServiceUnavailable),
        }
    }

    /// The attempt's provider, among several. The response must have arrived at its redirect URI: otherwise one provider
    /// could pass on the code of another (mix-up, RFC 9700 §4.4). `Err(None)` if it cannot be looked up now.
    async fn provider_of(
        &self,
        attempt: &SignInAttempt,
    ) -> Result<Option<&'r Arc<RelyingParty>>, Option<ResponseError>> {
        let Some(name) = &attempt.provider else {
            let is_here = self.rp.settings.provider_name.is_none() && self.rp.providers().is_none();
            return if is_here {
                Ok(None)
            } else {
                Err(Some(ResponseError::StateMismatch))
            };
        };
        let of_several = self.provider(name).await.map_err(|status| match status.code {
            503 => None,
            _ => Some(ResponseError::StateMismatch),
        })?;
        let expected = &of_several.map_or(self.rp, |rp| &**rp).site.callback_path;
        let actual = self.path();
        if actual != **expected {
            return Err(Some(ResponseError::RedirectUriMismatch {
                expected: expected.clone(),
                actual: printable(&actual),
            }));
        }
        Ok(of_several)
    }

    /// Whether the provider posts its response to this path.
    fn expects_form(&self) -> bool {
        let posts = |rp: &RelyingParty| rp.settings.response_mode == ResponseMode::FormPost;
        match self.rp.providers() {
            Some(providers) => {
                let is_here = |rp: &&Arc<RelyingParty>| self.path() == *rp.site.callback_path;
                match providers.of_settings.iter().find(is_here) {
                    Some(rp) => posts(rp),
                    None => providers.of_source.is_some() && posts(self.rp),
                }
            }
            None => posts(self.rp),
        }
    }

    /// Handles the response to this attempt.
    async fn complete(
        &self,
        response: AuthorizationResponse,
        state: Secret,
        attempt: SignInAttempt,
        key: KeyNumber,
        is_stale: bool,
    ) -> Outcome<'r> {
        let (request, keys) = (self.request, &self.rp.cookies.keys);
        let Some(client) = self.rp.client() else {
            return self.failed(ResponseError::StateMismatch.into(), &self.rp.home()).await;
        };
        let _ = self.attempt.set(attempt.id.short_name());
        if self.has_user_meanwhile(&attempt).await {
            return back_to(&attempt.return_to);
        }
        let Some(browser) = self.browser() else {
            return self.failed(SignInError::NotPending, &attempt.return_to).await;
        };
        // Before anything that restarts the sign-in, which would ask for less.
        if attempt.parameters.is_none() {
            return self.failed(SignInError::ParametersMissing, &attempt.return_to).await;
        }
        // A denial by the user is final, in whichever tab.
        let may_restart = !response.is_denial();
        if !attempt.is_of(&browser.id) {
            return self.recover(&attempt, may_restart, SignInError::NotPending).await;
        }
        if self.now.unix_timestamp() >= attempt.ends(self.rp.settings.sign_in_timeout) {
            return self.recover(&attempt, may_restart, client.expired()).await;
        }
        if is_stale {
            return self.recover(&attempt, may_restart, SignInError::PostedTooLate).await;
        }
        let accepted = match client.accept_response(response, self.now).await {
            Ok(accepted) => accepted,
            Err(error) => return self.failed(error, &attempt.return_to).await,
        };
        self.rp
            .attempts
            .step(&attempt.id.short_name(), "the response matches the request", self.now);

        let secrets = attempt.secrets(keys, key, &browser.id, state);
        let callback = Callback {
            attempt: &attempt,
            secrets,
            response: accepted,
            client_address: self.client_address(),
        };
        let links = attempt
            .parameters
            .as_ref()
            .is_some_and(|parameters| parameters.links_to.is_some());
        let completed = if links {
            let Some(user) = self.linking_user(attempt.parameters.as_ref()).await else {
                return self.failed(SignInError::LinkSessionEnded, &attempt.return_to).await;
            };
            let linking = client.link(request, &user, callback, self.now);
            linking.await.map(|()| Completed::Late)
        } else {
            client.complete(request, callback, self.now).await
        };
        match completed {
            // There is nothing to set, and the session of a later sign-in must not be replaced.
            Ok(Completed::Before(begun)) if self.has_same_or_newer(&begun.current).await => {
                Outcome::Success(redirect(page_for(&attempt, &begun, &self.rp.home())))
            }
            Ok(Completed::Now(begun) | Completed::Before(begun)) => {
                self.set_session(&begun.current, browser);
                Outcome::Success(redirect(page_for(&attempt, &begun, &self.rp.home())))
            }
            // Its session was given out before: the page decides what its visitor may see now.
            Ok(Completed::Late) => Outcome::Success(redirect(attempt.return_to.as_str())),
            Err(NotBegun::Ended(ends)) => self.restart_after_end(&attempt, ends).await,
            Err(NotBegun::Failed(error @ SignInError::AlreadyUsed)) => self.recover(&attempt, false, error).await,
            Err(NotBegun::Failed(error)) if is_code_rejected(&error) => self.recover(&attempt, true, error).await,
            Err(NotBegun::Failed(error)) => self.failed(error, &attempt.return_to).await,
        }
    }

    /// The user of this browser's session, if an attempt links an account to them.
    async fn linking_user(&self, parameters: Option<&SignInParameters>) -> Option<User> {
        let user = OptionalUser::from_request(self.request)
            .await
            .succeeded()?
            .into_user()?;
        let parameters = parameters?;
        let is_meant = parameters.links_to.as_deref() == Some(user.session_id())
            && parameters.user.as_ref() == Some(&user.session().user_name());
        is_meant.then_some(user)
    }

    /// Restarts a sign-in whose user's sessions were ended, where it is unknown whether the provider issued the code
    /// before or after that. The code of a new attempt is issued after it: the provider asks the user, if it has
    /// ended their session there too, and redirects back at once if they have signed in since.
    ///
    /// Once for each sign-in: an end that is recorded during the repeated one results in an error page, or provider
    /// and app could redirect a browser forever.
    async fn restart_after_end(&self, attempt: &SignInAttempt, ends: EarlierEnds) -> Outcome<'r> {
        if !attempt.earlier_ends.is_empty() || attempt.is_silent {
            return self.failed(SignInError::SessionsEnded, &attempt.return_to).await;
        }
        observing::sign_in_restarted(&SignInError::SessionsEnded, &self.rp.sessions.observed);
        self.restart(attempt, ends).await
    }

    /// Begins the sign-in of an attempt once more, for the same page and with the same parameters.
    async fn restart(&self, attempt: &SignInAttempt, ends: EarlierEnds) -> Outcome<'r> {
        let return_to = attempt.return_to.clone();
        match attempt.parameters.clone() {
            Some(parameters) => self.begin(ends, return_to, parameters, true).await,
            None => self.failed(SignInError::ParametersMissing, &return_to).await,
        }
    }

    /// Whether the browser has this session, or one that began later.
    async fn has_same_or_newer(&self, session: &CurrentSession) -> bool {
        let current = current_session(self.request).await.as_ref();
        current.is_ok_and(|current| current.started() >= session.started())
    }

    /// Handles a callback that cannot be completed. A signed-in user is redirected to the requested page; any other
    /// visitor signs in again, automatically if that is allowed and was not tried before.
    async fn recover(&self, attempt: &SignInAttempt, may_restart: bool, error: SignInError) -> Outcome<'r> {
        let return_to = &attempt.return_to;
        match current_session(self.request).await {
            Ok(_) => Outcome::Success(redirect(return_to.as_str())),
            Err(NoSession::StoreUnavailable) => {
                let error = crate::session::store::StoreError::new("the session could not be read");
                self.failed(SignInError::Store(error), return_to).await
            }
            Err(_) if may_restart && !attempt.is_restarted && !attempt.is_silent => {
                observing::sign_in_restarted(&error, &self.rp.sessions.observed);
                self.restart(attempt, EarlierEnds::default()).await
            }
            Err(_) => self.failed(error, return_to).await,
        }
    }
}

impl RouteContext<'_, '_> {
    /// The browser's id and sign-in count, from its cookie.
    fn browser(&self) -> Option<Browser> {
        let cookie = self.rp.cookies.named(BROWSER, "/");
        Browser::parse(cookie.read(self.request.cookies())?)
    }

    pub(super) fn set_browser(&self, browser: &Browser) {
        let cookie = self.rp.cookies.named(BROWSER, "/");
        self.set([cookie.set(&browser.text(), BROWSER_TTL, self.now)]);
    }

    fn details_cookie(&self, attempt: &str) -> NamedCookie {
        let kind = format!("{DETAILS}{attempt}");
        self.rp.cookies.named(&kind, self.mount())
    }

    /// Sets the cookie of an attempt that needs one, and removes the oldest ones beyond the limits.
    fn set_details(&self, attempt: &str, value: &str) {
        let cookie = self.details_cookie(attempt);
        let own = cookie.name().len() + 1 + value.len();
        if own > MAX_DETAILS_SIZE {
            // The attempt redirects to the start page.
            return;
        }
        let (mut count, mut size) = (1, own);
        for (_, other, removal) in self.other_details() {
            if count < MAX_DETAILS && size + other <= MAX_DETAILS_SIZE {
                (count, size) = (count + 1, size + other);
            } else {
                self.set([removal]);
            }
        }
        let ttl = self.rp.settings.sign_in_timeout;
        self.set([cookie.set(value, ttl, self.now)]);
    }

    /// The page for a frame, a `fetch` or a prefetch.
    fn not_a_page_load<'r>(&self) -> Outcome<'r> {
        let page = RefusedRequest {
            start_page: self.rp.home().to_string(),
        };
        plain_page(Status::Forbidden, self.pages().request_refused(self.request, &page))
    }

    /// The cookies of other attempts, newest first: when each began, its size, and its removal. An unreadable one counts
    /// as the oldest.
    fn other_details(&self) -> Vec<(i64, usize, SetCookie)> {
        let keys = &self.rp.cookies.keys;
        let template = self.details_cookie("");
        let (prefix, suffix) = template.name().split_once(DETAILS).unwrap_or_default();
        let find = |cookie: &Cookie<'_>| {
            let name = cookie.name().strip_prefix(prefix)?.strip_prefix(DETAILS)?;
            let name = name.strip_suffix(suffix)?;
            let details = Details::decrypt(keys, name, cookie.value());
            let begun = details.map_or(i64::MIN, |details| details.begun);
            let size = cookie.name().len() + 1 + cookie.value().len();
            Some((begun, size, self.details_cookie(name).remove()))
        };
        let jar = self.request.cookies();
        let mut cookies: Vec<_> = jar.iter().filter_map(find).collect();
        cookies.sort_by_key(|(begun, ..)| std::cmp::Reverse(*begun));
        cookies
    }

    /// The response in the query of the callback, and whether it was posted too long ago.
    fn response<'a>(&self, query: &'a str) -> (Cow<'a, str>, bool) {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let Some((_, sealed)) = pairs.find(|(name, _)| name == SEALED) else {
            return (query.into(), false);
        };
        let open = || {
            let sealed = URL_SAFE_NO_PAD.decode(&*sealed).ok()?;
            let keys = &self.rp.cookies.keys;
            let posted = keys.decrypt(Purpose::PostedResponse, b"", sealed).ok()?;
            let (at, response) = posted.plaintext.split_first_chunk()?;
            let elapsed = self.now.unix_timestamp() - i64::from_be_bytes(*at);
            let response = String::from_utf8(response.to_vec()).ok()?;
            Some((response.into(), elapsed >= POSTED_TTL))
        };
        open().unwrap_or_default()
    }

    /// Sets the session for this browser, and counts the sign-in.
    fn set_session(&self, current: &CurrentSession, browser: Browser) {
        let state = RequestState::of(self.request);
        if let Some(rp) = self.of_provider {
            let _ = state.signed_in_at.set(rp.clone());
        }
        state.outgoing().set(current);
        self.set(self.rp.last_session_begun(current, self.now));
        self.set_browser(&Browser {
            sign_ins: self.sign_ins(&browser).saturating_add(1),
            last_sign_in: self.now.unix_timestamp(),
            ..browser
        });
    }

    /// Fails when this browser has signed in again and again, and has no session once more.
    async fn check_loop(&self, browser: &Browser) -> Result<(), SignInError> {
        let times = self.sign_ins(browser);
        if times >= MAX_SIGN_INS && current_session(self.request).await.is_err() {
            Err(SignInError::Loop { times })
        } else {
            Ok(())
        }
    }

    /// The number of consecutive successful sign-ins, the last within a minute.
    fn sign_ins(&self, browser: &Browser) -> u8 {
        let elapsed = self.now.unix_timestamp().saturating_sub(browser.last_sign_in);
        if elapsed < LOOP_TIME { browser.sign_ins } else { 0 }
    }
}

/// The page for the user who signed in: that of the app's event handler, if it chose one; the start page, if the page of
/// the attempt is for another user, whose session this sign-in was to step up.
fn page_for<'a>(attempt: &'a SignInAttempt, begun: &'a BegunSession, start_page: &'a ReturnTo) -> &'a str {
    let BegunSession { current: session, next } = begun;
    if let Some(next) = next {
        return next.as_str();
    }
    let parameters = attempt.parameters.as_ref();
    let user = parameters.and_then(|parameters| parameters.user.as_ref());
    if user.is_none_or(|user| *user == session.user_name()) {
        attempt.return_to.as_str()
    } else {
        start_page.as_str()
    }
}

/// Whether the provider reports that the code has expired, or was used.
fn is_code_rejected(error: &SignInError) -> bool {
    matches!(
        error,
        SignInError::Provider(error @ ProviderError::Refused { endpoint: Endpoint::Token, .. })
            if error.reason() == "invalid_grant"
    )
}

pub(super) fn query<'a>(pairs: impl IntoIterator<Item = &'a (String, String)>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}
