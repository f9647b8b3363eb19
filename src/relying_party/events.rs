//! The app's event handlers for sign-in, sign-out and session changes (Flask-OIDC's signals).

use std::{fmt, ops::Deref, panic::AssertUnwindSafe, sync::Arc};

use rocket::{Request, futures::FutureExt};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    clock::Clock,
    code_flow::{MAX_PARAMETERS_LEN, ReturnTo, SignInParameters, UnverifiedUser},
    observing,
    printable::printable,
    relying_party::{DeveloperLog, SignInError, User},
    resource_server::ResourceServer,
    secret::Secret,
    session::{Session, SessionChange, SessionTokens, UserKey},
    settings::AppPaths,
    token::Claims,
};

/// The app's event handlers for sign-in and sign-out. Every method does nothing by default.
///
/// Each receives the request, which gives access to the app's database and other managed state;
/// [`session_changed`](Self::session_changed) receives it only where there is one. The manual's page
/// [`events`](crate::manual::events) says when each is called, and on which node.
///
/// With `enabled = false`, the user of `testing_profile` goes through `after_authorize` too, once for each browser at
/// `{mount}/login`.
///
/// ```
/// use rocket::Request;
/// use rocket_openidconnect::{Events, Oidc, Refused, NewSignIn};
///
/// struct OnlyStaff;
///
/// #[rocket::async_trait]
/// impl Events for OnlyStaff {
///     async fn after_authorize(
///         &self,
///         _request: &Request<'_>,
///         sign_in: &mut NewSignIn<'_>,
///     ) -> Result<(), Refused> {
///         let groups: Vec<String> = sign_in.claims().get("groups").unwrap_or_default();
///         if !groups.iter().any(|group| group == "staff") {
///             return Err(Refused::new("Only staff may use this app."));
///         }
///         sign_in.set("desk", 4);
///         Ok(())
///     }
/// }
///
/// let fairing = Oidc::fairing().events(OnlyStaff);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle the events of sign-in and sign-out",
    label = "expected a type that implements `Events`",
    note = "implement it, with `#[rocket::async_trait]` above the `impl`"
)]
#[rocket::async_trait]
#[allow(unused_variables)]
pub trait Events: Send + Sync + 'static {
    /// Called before a browser is redirected to the provider. The app may add parameters to the request. At a
    /// [silent](crate::manual::silent) sign-in `prompt` is `none`, and stays so.
    async fn before_login_redirect(&self, request: &Request<'_>, login: &mut LoginRedirect<'_>) {}

    /// Called when the browser comes back from the provider, before the response is validated.
    async fn before_authorize(&self, request: &Request<'_>) {}

    /// Called when a sign-in succeeded, before its session begins. The app may add data to it, choose the page that the
    /// browser goes to, or reject the sign-in.
    ///
    /// It may run twice for one sign-in, when the connection drops while it runs and the browser repeats the request:
    /// make what it stores idempotent. Put what is to happen once for a session into
    /// [`session_changed`](Self::session_changed).
    ///
    /// # Errors
    ///
    /// [`Refused`] ends the sign-in with 403 and a page that shows the message.
    async fn after_authorize(&self, request: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        Ok(())
    }

    /// Called when a user has signed in with another account, to link it to theirs, by
    /// [`RelyingParty::link`](crate::RelyingParty::link). Both are verified; `user` is still signed in, and no session
    /// begins. [`NewSignIn::key`] is what the app stores for `user`. Like [`after_authorize`](Self::after_authorize), it
    /// may run twice.
    ///
    /// # Errors
    ///
    /// [`Refused`] shows the message with 403, and revokes the tokens of the account, such as when it belongs to another
    /// user of the app.
    async fn account_linked(&self, request: &Request<'_>, user: &User, account: &NewSignIn<'_>) -> Result<(), Refused> {
        Ok(())
    }

    /// Called when a user signs out; `user` is `None` if no user was signed in. The session ends when this returns:
    /// keep it short.
    async fn before_logout(&self, request: &Request<'_>, user: Option<&User>) {}

    /// Called when a user signed out: the response to this request removes the session from the browser.
    /// [`LoggedOut::reason`] says whether a session ended on the server too.
    async fn after_logout(&self, request: &Request<'_>, logout: &LoggedOut<'_>) {}

    /// Called when a sign-in failed. The user sees a page with its status and an id that is also in the log; if the
    /// sign-in was [silent](crate::manual::silent), the page that they asked for. A silent sign-in for which the provider
    /// has no session of the user is not a failure.
    async fn sign_in_failed(&self, request: &Request<'_>, error: &SignInError) {}

    /// Called when a session began, was refreshed, was not refreshed, or ended: by sign-out, the provider's logout,
    /// the app's own call, a refresh that the provider rejects, a new sign-in, `session.max_per_user`, or expiry. It
    /// is called once for each change, after the change was logged; a handler that panics changes nothing.
    ///
    /// `request` is the request in which the change happened, if any; its response waits for this. At a back-channel
    /// logout it is the provider's. It is `None` at a refresh, which is a task of its own, and when the app itself
    /// ends a session: the value that implements this trait must then have all that the handler needs.
    ///
    /// ```
    /// use rocket::Request;
    /// use rocket_openidconnect::{Events, Oidc, SessionChange};
    ///
    /// struct Audit;
    ///
    /// #[rocket::async_trait]
    /// impl Events for Audit {
    ///     async fn session_changed(&self, _request: Option<&Request<'_>>, change: &SessionChange) {
    ///         if change.has_ended() {
    ///             let who = change.subject().unwrap_or("a user");
    ///             println!("the session of {who:?} ended: {}", change.reason());
    ///         }
    ///     }
    /// }
    ///
    /// let fairing = Oidc::fairing().events(Audit);
    /// ```
    async fn session_changed(&self, request: Option<&Request<'_>>, change: &SessionChange) {}
}

/// The default [`Events`]: no handlers.
pub(crate) struct NoEvents;

impl Events for NoEvents {}

/// The app's [`Events`], shared by everything that calls them.
#[derive(Clone)]
pub(crate) struct AppEvents {
    pub(crate) events: Arc<dyn Events>,
    /// Whether the app has set them.
    pub(crate) are_of_app: bool,
    /// Whether the app has several providers, which log lines name.
    pub(crate) has_several_providers: bool,
    pub(crate) clock: Clock,
    pub(crate) developer_log: Arc<DeveloperLog>,
}

impl AppEvents {
    /// Logs changes of sessions, then calls the app's handler.
    pub(crate) async fn sessions_changed(
        &self,
        request: Option<&Request<'_>>,
        changes: impl IntoIterator<Item = SessionChange>,
    ) {
        let changes: Vec<_> = changes.into_iter().collect();
        // Log all of them first: the app's handler may be slow.
        self.log(request, &changes);
        self.notify(request, &changes).await;
    }

    /// Logs changes of sessions.
    pub(crate) fn log(&self, request: Option<&Request<'_>>, changes: &[SessionChange]) {
        let server = request.and_then(|request| request.rocket().state::<ResourceServer>());
        let address = request
            .zip(server)
            .and_then(|(request, server)| server.address_of(request));
        for change in changes {
            let Some(sentence) = change.sentence() else { continue };
            if change.has_ended() {
                self.developer_log.ended(change, self.clock.now());
            }
            let provider = self.has_several_providers.then(|| change.provider());
            observing::session_changed(change.reason(), sentence, provider);
            if let Some(line) = change.audit_line(address, self.clock.now()) {
                line.log();
            }
        }
    }

    /// Calls the app's handler for changes of sessions that are already logged.
    pub(crate) async fn notify(&self, request: Option<&Request<'_>>, changes: &[SessionChange]) {
        for change in changes {
            let event = async { self.events.session_changed(request, change).await };
            catch_panic("session_changed", event).await;
        }
    }

    /// Calls [`Events::before_logout`] and survives a panic in it.
    pub(crate) async fn before_logout(&self, request: &Request<'_>, user: Option<&User>) {
        let event = async { self.events.before_logout(request, user).await };
        catch_panic("before_logout", event).await;
    }

    /// Calls [`Events::after_logout`] and survives a panic in it.
    pub(crate) async fn after_logout(&self, request: &Request<'_>, logout: &LoggedOut<'_>) {
        let event = async { self.events.after_logout(request, logout).await };
        catch_panic("after_logout", event).await;
    }
}

impl Deref for AppEvents {
    type Target = dyn Events;

    fn deref(&self) -> &Self::Target {
        &*self.events
    }
}

impl fmt::Debug for AppEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppEvents(…)")
    }
}

/// Runs a handler of the app; its panic must not prevent a session from ending.
async fn catch_panic(name: &'static str, event: impl Future<Output = ()>) {
    if AssertUnwindSafe(event).catch_unwind().await.is_err() {
        observing::event_panicked(name);
    }
}

/// A redirect of a browser to the provider, before it is sent.
///
/// ```
/// use rocket::Request;
/// use rocket_openidconnect::{Events, LoginRedirect};
///
/// struct InGerman;
///
/// #[rocket::async_trait]
/// impl Events for InGerman {
///     async fn before_login_redirect(&self, request: &Request<'_>, login: &mut LoginRedirect<'_>) {
///         if request.headers().get_one("Accept-Language").is_some_and(|it| it.starts_with("de")) {
///             login.set_parameter("ui_locales", "de");
///         }
///     }
/// }
/// ```
pub struct LoginRedirect<'a> {
    provider: &'a str,
    redirect_uri: &'a str,
    next: &'a str,
    parameters: SignInParameters,
}

impl<'a> LoginRedirect<'a> {
    /// `parameters` are those that the URL of the sign-in asks for.
    pub(crate) fn new(
        provider: &'a str,
        redirect_uri: &'a str,
        next: &'a str,
        parameters: SignInParameters,
    ) -> LoginRedirect<'a> {
        LoginRedirect {
            provider,
            redirect_uri,
            next,
            parameters,
        }
    }

    /// The name of the provider in the settings; `default` in an app with one.
    pub fn provider(&self) -> &str {
        self.provider
    }

    /// The redirect URI, to which the provider sends the browser back.
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri
    }

    /// The page of this app to which the browser goes after the sign-in.
    pub fn next(&self) -> &str {
        self.next
    }

    /// A parameter of this authorization request that [`SignInUrl`](crate::SignInUrl) or this handler set; `None` also
    /// for one that is only in the settings.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }

    /// Sets a parameter of this authorization request, such as `prompt`, `login_hint` or `ui_locales`. It replaces
    /// one of [`SignInUrl`](crate::SignInUrl) and of `extra_authorization_parameters`. A pushed authorization request
    /// contains it too.
    ///
    /// The ID token is checked against `max_age`, `acr_values` and `prompt=login`, as
    /// [`SignInUrl`](crate::SignInUrl) describes.
    ///
    /// The parameters of the sign-in (`client_id`, `redirect_uri`, `response_type`, `response_mode`, `scope`,
    /// `state`, `nonce`, `code_challenge`, `request`, `request_uri` and the like) cannot be set. Such a parameter, a
    /// name with characters other than letters, digits, `-`, `.` and `_`, and a `max_age` that is not a number of
    /// seconds fail the sign-in with status 500 and an error in the log. So do parameters that are too long: together
    /// they may have some 1,000 bytes.
    pub fn set_parameter(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.parameters.set(&name.into(), value);
    }

    /// Asks for scopes in addition to those of the settings, as [`SignInUrl::scope`](crate::SignInUrl::scope).
    pub fn add_scope(&mut self, scope: &str) {
        self.parameters.add_scopes(scope);
    }

    /// The parameters, or an error if the app set one that it may not set.
    pub(crate) fn into_parameters(self) -> Result<SignInParameters, SignInError> {
        if let Err(name) = self.parameters.check() {
            return Err(SignInError::AppParameter { name: printable(name) });
        }
        let length = self.parameters.to_text().len();
        if length > MAX_PARAMETERS_LEN {
            return Err(SignInError::ParametersTooLong { length });
        }
        Ok(self.parameters)
    }
}

/// Omits the values of parameters, which may be tokens.
impl fmt::Debug for LoginRedirect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRedirect")
            .field("redirect_uri", &self.redirect_uri)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// A successful sign-in, before its session begins.
pub struct NewSignIn<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) tokens: &'a SessionTokens,
    pub(crate) return_to: &'a ReturnTo,
    /// The page that the app chose instead.
    pub(crate) next: Option<ReturnTo>,
    pub(crate) paths: &'a AppPaths,
    pub(crate) unverified_user: Option<&'a UnverifiedUser>,
}

impl NewSignIn<'_> {
    /// The ID token's claims merged with UserInfo.
    pub fn claims(&self) -> &Claims {
        &self.session.claims
    }

    /// The claims of the ID token alone, as the provider sent them: also those that the session does not keep, such as
    /// `nonce`. A provider without ID tokens, such as GitHub, has none but `sub`.
    pub fn id_token_claims(&self) -> &Claims {
        &self.tokens.sources.id_token
    }

    /// The claims of UserInfo alone, or of the API of a provider without ID tokens, as the provider sent them; `None` if it
    /// was not requested. [`claims`](Self::claims) has neither its claims about the sign-in nor an `email_verified`
    /// without its `email`.
    pub fn user_info_claims(&self) -> Option<&Claims> {
        self.tokens.sources.user_info.as_ref()
    }

    /// The `sub` claim.
    pub fn subject(&self) -> &str {
        self.session.subject()
    }

    /// The issuer of the ID token.
    pub fn issuer(&self) -> &str {
        &self.session.issuer
    }

    /// The name of the provider in the settings; `default` in an app with one.
    pub fn provider(&self) -> &str {
        &self.session.provider
    }

    /// Who the user is: provider, issuer and `sub`.
    pub fn key(&self) -> UserKey {
        self.session.user_key()
    }

    /// The access token that the provider sent, even if `session.tokens` does not keep it.
    pub fn access_token(&self) -> Option<&Secret> {
        self.tokens.access_token.as_ref()
    }

    /// When the access token expires; `None` when the provider does not say.
    pub fn access_token_expires_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.tokens.access_token_expires_at?).ok()
    }

    /// The refresh token, if the provider sent one. The session uses it at its first refresh: providers that rotate
    /// refresh tokens treat a second use of it as theft.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.tokens.refresh_token.as_ref()
    }

    /// The ID token, which was verified.
    pub fn id_token(&self) -> Option<&Secret> {
        self.tokens.id_token.as_ref()
    }

    /// The `authorization_details` that the provider granted
    /// ([RFC 9396 §7](https://www.rfc-editor.org/rfc/rfc9396#section-7)).
    pub fn authorization_details(&self) -> &[serde_json::Value] {
        &self.tokens.authorization_details
    }

    /// The name and e-mail address in the form field `user` of Sign in with Apple, which the browser sends only when a
    /// user signs in for the first time. It is for this handler alone: neither a claim nor part of the session. A test adds
    /// it to the callback, as `&user={…}`.
    ///
    /// # Security
    ///
    /// It is not signed: whoever signs in can write any name and address into it. Never identify a user by it, never
    /// grant anything for it, and escape it like any input. [`claims`](Self::claims) has the `email` that Apple verified.
    ///
    /// ```
    /// # use rocket::Request;
    /// # use rocket_openidconnect::{Events, NewSignIn, Refused};
    /// # struct App;
    /// # #[rocket::async_trait]
    /// # impl Events for App {
    /// async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
    ///     // Later sign-ins do not have it: keep it in the app's database.
    ///     if let Some(name) = sign_in.unverified_user().and_then(|user| user.first_name()) {
    ///         sign_in.set("greeting", format!("Welcome, {name}!"));
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn unverified_user(&self) -> Option<&UnverifiedUser> {
        self.unverified_user
    }

    /// The page of this app to which the browser goes next.
    pub fn return_to(&self) -> &str {
        self.next.as_ref().unwrap_or(self.return_to).as_str()
    }

    /// Sends the browser to another page of this app, such as one that welcomes a new user: a path as Rocket has it, such
    /// as `uri!(…)`. One that is not a path of this app is replaced by the start page, as in
    /// [`RelyingParty::login_url`](crate::RelyingParty::login_url), and so is one that begins or ends a session.
    ///
    /// A browser that repeats the callback within a minute reaches this page too, on any node with the same store. Later
    /// it reaches the page that the sign-in began at.
    ///
    /// ```
    /// # use rocket::Request;
    /// # use rocket_openidconnect::{Events, NewSignIn, Refused};
    /// # struct App;
    /// # impl App { async fn is_known(&self, _: &str) -> bool { true } }
    /// # #[rocket::async_trait]
    /// # impl Events for App {
    /// async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
    ///     if !self.is_known(&sign_in.key().to_string()).await {
    ///         sign_in.set_next("/welcome");
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn set_next(&mut self, page: impl AsRef<str>) {
        self.next = Some(ReturnTo::page(page.as_ref(), self.paths));
    }

    /// Stores a value in the session, for [`User::data`] and [`SessionInfo::data`](crate::SessionInfo::data);
    /// [`User::set_data`] changes it later. `null` removes it. With `session.store = "cookie"` it is in the session's
    /// cookie: keep it small. A value that is not JSON (a map with keys that are not strings) is logged and not
    /// stored.
    pub fn set(&mut self, name: &str, value: impl Serialize) {
        match serde_json::to_value(value) {
            Ok(value) => {
                self.session.set_data(name, value);
            }
            Err(_) => tracing::error!("`{name}` does not serialize to JSON, and is not stored in the session"),
        }
    }
}

impl fmt::Debug for NewSignIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSignIn")
            .field("issuer", &self.issuer())
            .field("subject", &self.subject())
            .finish_non_exhaustive()
    }
}

/// A sign-out that is complete in this app.
#[derive(Debug)]
pub struct LoggedOut<'a> {
    pub(crate) reason: &'static str,
    pub(crate) return_to: &'a str,
}

impl LoggedOut<'_> {
    /// The reason code, as in the log: `signed_out` when this ended a session. Otherwise why there was none to end:
    /// `no_session`, `session_ended`, or `session_idle` and `session_expired` for a session that had expired
    /// (Flask-OIDC's `expired`); or `store_unavailable` when the store has not recorded the end yet: this node
    /// rejects the session, and records its end when the store is available again.
    pub fn reason(&self) -> &str {
        self.reason
    }

    /// Where the browser finally goes: a page of this app, or the other site in `post_logout_redirect_uri`. On the
    /// way it may sign out at the provider.
    pub fn return_to(&self) -> &str {
        self.return_to
    }
}

impl SessionChange {
    /// Whether this change is about the session of this user: for what outlives a request, such as a WebSocket, which
    /// should be closed when its session ends.
    pub fn is_about<C>(&self, user: &User<C>) -> bool {
        self.is_about_session(user.session())
    }
}

/// The app's rejection of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub(crate) String);

impl Refused {
    /// Rejects the user with a message that they see.
    pub fn new(message: impl Into<String>) -> Refused {
        Refused(message.into())
    }
}
