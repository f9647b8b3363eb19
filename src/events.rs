//! What an app may hear of, and say no to (Flask-OIDC's signals).

use std::fmt;

use rocket::Request;
use serde::Serialize;
use serde_json::Value;

use crate::{
    SignInError, User,
    session::Session,
    settings::is_reserved,
    token::{Claims, printable},
};

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
    /// A browser is about to be sent to the provider. The app may add parameters to the authorization request.
    async fn before_login_redirect(&self, request: &Request<'_>, login: &mut LoginRedirect<'_>) {}

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
