//! What an app may hear of, and say no to (Flask-OIDC's signals, and what becomes of sessions).

use std::{fmt, ops::Deref, panic::AssertUnwindSafe, sync::Arc};

use rocket::{Request, futures::FutureExt};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    observing,
    printable::printable,
    relying_party::{SignInError, User},
    secret::Secret,
    session::{Session, SessionChange, SessionTokens},
    settings::is_reserved,
    token::Claims,
};

/// The app's part in sign-in and sign-out. Every method does nothing unless the app writes it.
///
/// Each is given the request, so that the app's database and other managed state are at hand;
/// [`session_changed`](Self::session_changed) only where there is one. The manual's page
/// [`events`](crate::manual::events) says when each is called, and at which node.
///
/// ```
/// use rocket::Request;
/// use rocket_openidconnect::{Events, Oidc, Refused, SignedIn};
///
/// struct OnlyStaff;
///
/// #[rocket::async_trait]
/// impl Events for OnlyStaff {
///     async fn after_authorize(
///         &self,
///         _request: &Request<'_>,
///         sign_in: &mut SignedIn<'_>,
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
#[rocket::async_trait]
#[allow(unused_variables)]
pub trait Events: Send + Sync + 'static {
    /// A browser is about to be sent to the provider. The app may add parameters to the authorization request.
    async fn before_login_redirect(&self, request: &Request<'_>, login: &mut LoginRedirect<'_>) {}

    /// The browser came back from the provider; nothing was judged yet.
    async fn before_authorize(&self, request: &Request<'_>) {}

    /// A sign-in succeeded and its session is about to begin. The app may add data to it, or refuse.
    ///
    /// It may run twice for one sign-in, when the connection drops while it runs and the browser asks again: write
    /// what it stores so that the second time changes nothing. What is to happen once for a session belongs into
    /// [`session_changed`](Self::session_changed).
    ///
    /// # Errors
    ///
    /// [`Refused`] ends the sign-in with 403 and a page that shows the message.
    async fn after_authorize(
        &self,
        request: &Request<'_>,
        sign_in: &mut SignedIn<'_>,
    ) -> Result<(), Refused> {
        Ok(())
    }

    /// Somebody signs out; `user` is who, if anybody was signed in. The session ends when this returns: keep it
    /// short.
    async fn before_logout(&self, request: &Request<'_>, user: Option<&User>) {}

    /// Somebody signed out: the answer to this request ends the session in the browser. Whether a session ended
    /// here too says [`LoggedOut::reason`].
    async fn after_logout(&self, request: &Request<'_>, logout: &LoggedOut<'_>) {}

    /// A sign-in failed. The person sees a page with its status and an id that the log has too.
    async fn sign_in_failed(&self, request: &Request<'_>, error: &SignInError) {}

    /// A session began, was refreshed, was not refreshed, or ended, for whatever reason: sign-out, the provider's
    /// logout, the app's own call, a refresh that the provider refuses, a new sign-in, `session.max_per_user`, or its
    /// times. It is called once each time, after it happened and was logged; a handler that panics changes nothing.
    ///
    /// `request` is the one in which it happened, if there is one, and its answer waits for this. It is the
    /// provider's at a back-channel logout. There is none at a refresh, which is a task of its own, nor when the
    /// app itself ends a session: what is needed then must be in the value that implements this trait.
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
    ///             let who = change.subject().unwrap_or("somebody");
    ///             println!("the session of {who:?} ended: {}", change.reason());
    ///         }
    ///     }
    /// }
    ///
    /// let fairing = Oidc::fairing().events(Audit);
    /// ```
    async fn session_changed(&self, request: Option<&Request<'_>>, change: &SessionChange) {}
}

/// No events: what an app has that sets none.
pub(crate) struct NoEvents;

impl Events for NoEvents {}

/// The app's [`Events`], shared by all that tell of something.
#[derive(Clone)]
pub(crate) struct AppEvents(pub(crate) Arc<dyn Events>);

impl AppEvents {
    /// Logs what became of sessions, then tells the app.
    pub(crate) async fn sessions_changed(
        &self,
        request: Option<&Request<'_>>,
        changes: impl IntoIterator<Item = SessionChange>,
    ) {
        let changes: Vec<_> = changes.into_iter().collect();
        // All of it, also when the app takes its time.
        changes.iter().for_each(SessionChange::log);
        self.notify(request, &changes).await;
    }

    /// Tells the app what became of sessions, which is in the log.
    pub(crate) async fn notify(&self, request: Option<&Request<'_>>, changes: &[SessionChange]) {
        for change in changes {
            let event = async { self.0.session_changed(request, change).await };
            survive("session_changed", event).await;
        }
    }

    /// As [`Events::before_logout`], whatever the app does in it.
    pub(crate) async fn before_logout(&self, request: &Request<'_>, user: Option<&User>) {
        let event = async { self.0.before_logout(request, user).await };
        survive("before_logout", event).await;
    }

    /// As [`Events::after_logout`], whatever the app does in it.
    pub(crate) async fn after_logout(&self, request: &Request<'_>, logout: &LoggedOut<'_>) {
        let event = async { self.0.after_logout(request, logout).await };
        survive("after_logout", event).await;
    }
}

impl Deref for AppEvents {
    type Target = dyn Events;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for AppEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppEvents(…)")
    }
}

/// Runs a handler of the app, whose panic must not stop a session from ending.
async fn survive(name: &'static str, event: impl Future<Output = ()>) {
    if AssertUnwindSafe(event).catch_unwind().await.is_err() {
        observing::event_panicked(name);
    }
}

/// A browser on its way to the provider.
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
    redirect_uri: &'a str,
    next: &'a str,
    parameters: Vec<(String, String)>,
    /// The first parameter that the app may not set.
    refused: Option<String>,
}

/// What the app may not ask for in a single request: the ID token is checked by the settings.
const CHECKED_BY_SETTINGS: [&str; 2] = ["max_age", "acr_values"];

impl<'a> LoginRedirect<'a> {
    /// With the parameters that the authorization request has by itself, beside those of the settings.
    pub(crate) fn new(
        redirect_uri: &'a str,
        next: &'a str,
        parameters: Vec<(String, String)>,
    ) -> LoginRedirect<'a> {
        LoginRedirect {
            redirect_uri,
            next,
            parameters,
            refused: None,
        }
    }

    /// The address that the provider sends the browser back to.
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri
    }

    /// The page of this app where the browser goes after the sign-in.
    pub fn next(&self) -> &str {
        self.next
    }

    /// Sets a parameter of this authorization request, such as `prompt`, `login_hint` or `ui_locales`, in place of
    /// one of `extra_authorization_parameters`. Where requests are pushed, it is pushed.
    ///
    /// What the sign-in itself sets (`client_id`, `redirect_uri`, `response_type`, `response_mode`, `scope`, `state`,
    /// `nonce`, `code_challenge`, `request`, `request_uri` and the like) cannot be set, nor can `max_age` and
    /// `acr_values`: in the settings they are checked in the ID token too. Such a parameter, and one whose name has
    /// other characters than letters, digits, `-`, `.` and `_`, ends the sign-in with status 500 and an error in the log.
    pub fn set_parameter(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        let is_checked = || {
            let mut checked = CHECKED_BY_SETTINGS.iter();
            checked.any(|checked| name.eq_ignore_ascii_case(checked))
        };
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_name = !name.is_empty() && name.chars().all(is_name_char);
        if !is_name || is_reserved(&name) || is_checked() {
            self.refused.get_or_insert(name);
            return;
        }
        self.parameters.retain(|(other, _)| *other != name);
        self.parameters.push((name, value.into()));
    }

    /// The parameters, unless the app may not set one of them.
    pub(crate) fn into_parameters(self) -> Result<Vec<(String, String)>, SignInError> {
        match self.refused {
            Some(name) => Err(SignInError::ParameterOfApp {
                name: printable(&name),
            }),
            None => Ok(self.parameters),
        }
    }
}

/// Without the values of parameters, which may be tokens.
impl fmt::Debug for LoginRedirect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        f.debug_struct("LoginRedirect")
            .field("redirect_uri", &self.redirect_uri)
            .field("parameters", &names)
            .finish_non_exhaustive()
    }
}

/// A sign-in that succeeded, before its session begins.
pub struct SignedIn<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) tokens: &'a SessionTokens,
    pub(crate) return_to: &'a str,
}

impl SignedIn<'_> {
    /// The ID token's claims merged with UserInfo.
    pub fn claims(&self) -> &Claims {
        &self.session.claims
    }

    /// `sub`.
    pub fn subject(&self) -> &str {
        self.session
            .claims
            .value("sub")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The provider that says so.
    pub fn issuer(&self) -> &str {
        &self.session.issuer
    }

    /// The access token that the provider sent, whatever `session.tokens` keeps.
    pub fn access_token(&self) -> Option<&Secret> {
        self.tokens.access_token.as_ref()
    }

    /// When the access token ends; `None` when the provider does not say.
    pub fn access_token_ends(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.tokens.access_token_ends?).ok()
    }

    /// The refresh token, if the provider sent one. The session uses it up at its first refresh: providers that
    /// rotate refresh tokens take a second use of it for theft.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.tokens.refresh_token.as_ref()
    }

    /// The ID token, which was accepted.
    pub fn id_token(&self) -> Option<&Secret> {
        self.tokens.id_token.as_ref()
    }

    /// The page of this app where the browser goes next. It cannot be changed here: a browser that loads its way
    /// back twice must come to one page, at whichever node. Let that page lead on.
    pub fn return_to(&self) -> &str {
        self.return_to
    }

    /// Keeps a value in the session, for [`User::data`]. With `session.store = "cookie"` it travels in the
    /// session's cookie: keep it small. A value that is not JSON (a map with keys that are not strings) is not kept.
    pub fn set(&mut self, name: &str, value: impl Serialize) {
        match serde_json::to_value(value) {
            Ok(value) => {
                self.session.data.insert(name.to_owned(), value);
            }
            Err(_) => tracing::error!("`{name}` is not JSON and is not kept in the session"),
        }
    }
}

impl fmt::Debug for SignedIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn")
            .field("issuer", &self.issuer())
            .field("subject", &self.subject())
            .finish_non_exhaustive()
    }
}

/// A sign-out that is complete, here.
#[derive(Debug)]
pub struct LoggedOut<'a> {
    pub(crate) reason: &'static str,
    pub(crate) return_to: &'a str,
}

impl LoggedOut<'_> {
    /// The reason code, as the log has them: `signed_out` when a session ended by this. Otherwise why there was none
    /// to end: `no_session`, `session_ended`, or `session_idle` and `session_lifetime` for one that was over by its
    /// times (Flask-OIDC's `expired`); or `store_unavailable` when the store does not have the end yet: this node
    /// refuses the session, and records its end when the store is back.
    pub fn reason(&self) -> &str {
        self.reason
    }

    /// Where the browser goes in the end: a page of this app, or the other site that `post_logout_redirect_uri`
    /// names. On the way there it may sign out at the provider.
    pub fn return_to(&self) -> &str {
        self.return_to
    }
}

impl SessionChange {
    /// Whether it is about the session of this user: for what outlasts a request, such as a WebSocket, which is to
    /// be closed when its session ends.
    pub fn is_about<C>(&self, user: &User<C>) -> bool {
        self.is_about_session(user.session())
    }
}

/// The app's word that somebody may not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub(crate) String);

impl Refused {
    /// Refuses with a message that the person sees.
    pub fn new(message: impl Into<String>) -> Refused {
        Refused(message.into())
    }
}
