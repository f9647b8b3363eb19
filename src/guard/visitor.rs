//! `Visitor`: what every page shows of its visitor, signed in or not.

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Method,
    request::{FromRequest, Outcome},
    serde::DeserializeOwned,
};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;

use super::{LoggedInError, current_session, current_user, is_fairing_missing};
use crate::{
    relying_party::{RelyingParty, User},
    request::{RequestState, relying_party},
    session::NoSession,
    token::Claims,
};

/// A guard for everyone, as a template shows its visitor: the user, if one is signed in, and the addresses of sign-in and
/// sign-out.
///
/// | outcome | when |
/// |---|---|
/// | success with a user | signed in |
/// | success without | signed out; or the claims do not deserialize into `C`, or the session store is not reachable (both are logged) |
/// | `Error(403)` | a page of another origin sent a form, a script's request or a WebSocket handshake ([forms](crate::manual::forms)) |
///
/// It never fails for a signed-out visitor, and never begins a [silent sign-in](crate::manual::silent), which
/// [`OptionalUser`](crate::OptionalUser) does.
///
/// It serializes as the context of a template:
///
/// | name | value |
/// |---|---|
/// | `logged_in` | whether a user is signed in |
/// | `user` | `null`, or an object: all claims, and in place of claims of these names `name`, `email`, `subject`, `issuer`, `provider`, which may be `null`, `email_verified`, and `groups`, a list, as the methods of [`User`]; never a token |
/// | `login_url` | the address of a sign-in that comes back to this page |
/// | `logout_url` | the address of sign-out: the `action` of a form with `method="post"`, or a link to a page with a button |
///
/// ```
/// use rocket::{get, serde::json::{Value, json}};
/// use rocket_openidconnect::Visitor;
///
/// #[get("/")]
/// fn index(visitor: Visitor) -> Value {
///     // With rocket_dyn_templates: `Template::render("index", context! { visitor })`.
///     json!({ "visitor": visitor })
/// }
/// ```
///
/// In a catcher, which has no guards, it comes from [`of`](Self::of). The function `render` of the cargo feature
/// `templates` adds it to every page.
#[derive(Clone, Debug)]
pub struct Visitor<C = Claims> {
    user: Option<User<C>>,
    login_url: Option<String>,
    logout_url: Option<String>,
}

impl Visitor {
    /// The visitor of this request, for asynchronous catchers and the app's own guards. Without the fairing, or with
    /// `resource_server_only`, it is signed out and has no addresses; the log says so.
    ///
    /// ```
    /// use rocket::{Request, catch, catchers, http::Status, serde::json::{Value, json}};
    /// use rocket_openidconnect::Visitor;
    ///
    /// #[catch(default)]
    /// async fn failed(status: Status, request: &Request<'_>) -> Value {
    ///     json!({ "status": status.code, "visitor": Visitor::of(request).await })
    /// }
    ///
    /// let rocket = rocket::build().register("/", catchers![failed]);
    /// ```
    pub async fn of(request: &Request<'_>) -> Visitor {
        Visitor::found(request).await
    }
}

impl<C> Visitor<C> {
    /// The user, if signed in.
    pub fn user(&self) -> Option<&User<C>> {
        self.user.as_ref()
    }

    /// The user, if signed in.
    pub fn into_user(self) -> Option<User<C>> {
        self.user
    }

    /// Whether a user is signed in.
    pub fn logged_in(&self) -> bool {
        self.user.is_some()
    }

    /// The address of a sign-in that comes back to this page, or to the start page if the request was not a `GET`; after
    /// a failed sign-in, to the page that it was for. With tenants, it is the sign-in of the request's tenant; among several
    /// providers, the user chooses.
    ///
    /// `None` without sign-in, and for a request that belongs to no tenant.
    pub fn login_url(&self) -> Option<&str> {
        self.login_url.as_deref()
    }

    /// The address of sign-out: a `POST` signs out, a `GET` shows a page with a button. The browser goes to
    /// [`post_logout_redirect_uri`](crate::settings::Settings::post_logout_redirect_uri) afterwards, or to the start page:
    /// not back to this page, which might sign the user in again.
    ///
    /// `None` without sign-in.
    pub fn logout_url(&self) -> Option<&str> {
        self.logout_url.as_deref()
    }
}

impl<C: DeserializeOwned + 'static> Visitor<C> {
    async fn found(request: &Request<'_>) -> Visitor<C> {
        let user = current_user(request).await.ok();
        let Some(app) = request.rocket().state::<RelyingParty>() else {
            return Visitor {
                user,
                login_url: None,
                logout_url: None,
            };
        };
        let rp = relying_party(request, app).await.ok();
        Visitor {
            user,
            login_url: rp.map(|rp| login_url(request, rp)),
            logout_url: Some(app.route_path("logout")),
        }
    }
}

/// The address of a sign-in that comes back to the page of this request.
fn login_url(request: &Request<'_>, rp: &RelyingParty) -> String {
    if let Some(failure) = RequestState::of(request).sign_in.get() {
        return failure.try_again.clone();
    }
    rp.login_url_to(&match request.method() {
        Method::Get | Method::Head => rp.page_of(request),
        _ => rp.home(),
    })
}

impl<C> Serialize for Visitor<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut visitor = serializer.serialize_struct("Visitor", 4)?;
        visitor.serialize_field("logged_in", &self.logged_in())?;
        visitor.serialize_field("user", &self.user.as_ref().map(shown))?;
        visitor.serialize_field("login_url", &self.login_url)?;
        visitor.serialize_field("logout_url", &self.logout_url)?;
        visitor.end()
    }
}

/// The user as a template shows them.
fn shown<C>(user: &User<C>) -> Value {
    let mut shown = user.session().claims.as_map().clone();
    let fields: [(&str, Value); 7] = [
        ("name", user.name().into()),
        ("email", user.email().into()),
        ("email_verified", user.email_verified().into()),
        ("subject", user.subject().into()),
        ("issuer", user.issuer().into()),
        ("provider", user.provider().into()),
        // Those that count: a claim of a provider that the settings do not trust with groups does not.
        ("groups", user.groups().into()),
    ];
    for (name, value) in fields {
        shown.insert(name.to_owned(), value);
    }
    Value::Object(shown)
}

#[rocket::async_trait]
impl<'r, C: DeserializeOwned + Send + Sync + 'static> FromRequest<'r> for Visitor<C> {
    type Error = LoggedInError;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, LoggedInError> {
        if let Err(reason @ NoSession::CrossOrigin) = current_session(request).await {
            let _ = RequestState::of(request).signed_out.set(*reason);
            let error = LoggedInError::NoSession(*reason);
            return Outcome::Error((error.status(), error));
        }
        Outcome::Success(Visitor::found(request).await)
    }
}

impl<C> Sentinel for Visitor<C> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket)
    }
}
