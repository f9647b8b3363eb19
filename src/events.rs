//! What an app may hear of, and say no to (Flask-OIDC's signals).

use rocket::Request;
use serde::Serialize;
use serde_json::Value;

use crate::{SignInError, User, session::Session, token::Claims};

/// The app's part in sign-in and sign-out. Every method does nothing unless the app writes it.
///
/// Each is given the request, so that the app's database and other managed state are at hand.
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
    /// A browser is about to be sent to the provider; `next` is where it goes afterwards.
    async fn before_login_redirect(&self, request: &Request<'_>, next: &str) {}

    /// The browser came back from the provider; nothing was judged yet.
    async fn before_authorize(&self, request: &Request<'_>) {}

    /// A sign-in succeeded and its session is about to begin. The app may add data to it, or refuse.
    ///
    /// It may run twice for one sign-in, when the connection drops while it runs and the browser asks again: write
    /// what it stores so that the second time changes nothing.
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

    /// Somebody signs out; `user` is who, if anybody was signed in.
    async fn before_logout(&self, request: &Request<'_>, user: Option<&User>) {}

    /// The session has ended.
    async fn after_logout(&self, request: &Request<'_>) {}

    /// A sign-in failed. The person sees a page with its status and an id that the log has too.
    async fn sign_in_failed(&self, request: &Request<'_>, error: &SignInError) {}
}

/// No events: what an app has that sets none.
pub(crate) struct NoEvents;

impl Events for NoEvents {}

/// A sign-in that succeeded, before its session begins.
#[derive(Debug)]
pub struct SignedIn<'a> {
    pub(crate) session: &'a mut Session,
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

/// The app's word that somebody may not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub(crate) String);

impl Refused {
    /// Refuses with a message that the person sees.
    pub fn new(message: impl Into<String>) -> Refused {
        Refused(message.into())
    }
}
