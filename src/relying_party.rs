//! The relying party: sign-in and sign-out. Each step is a submodule.

mod api_user;
mod attempts;
mod claimed_attempts;
pub(crate) mod events;
mod exchange;
mod logout;
mod refresh;
mod refresh_error;
mod revocations;
mod revoke_later;
mod sign_in;
mod sign_in_error;
mod sign_in_url;
mod user;

use std::{ops::Deref, sync::Arc};

pub(crate) use self::{
    attempts::{Attempt, Attempts, Failure},
    events::{AppEvents, NoEvents},
    exchange::Exchanges,
    logout::{FrontChannelLogout, PostLogout},
    refresh::{Freshness, Refreshes},
    revocations::Revocations,
    sign_in::Completed,
    sign_in_error::NotBegun,
    sign_in_url::{PARAMETERS, decrypt_parameters},
    user::SessionHandle,
};
pub use self::{
    events::{Events, LoggedOut, LoginRedirect, NewSignIn, Refused},
    refresh_error::RefreshError,
    sign_in_error::SignInError,
    sign_in_url::SignInUrl,
    user::{NoAccessToken, User},
};
use crate::{
    clock::Clock,
    code_flow::ReturnTo,
    cookies::Cookies,
    provider::Provider,
    requirement::RequiredAuthentication,
    session::Sessions,
    settings::{Settings, Site, TrustedProxies},
    token::{Claims, TESTING_ISSUER},
};

/// The OpenID Connect relying party: redirects users to the provider and keeps their sessions.
///
/// It is managed state and a request guard, `&RelyingParty`, from which an app gets the URLs of sign-in and sign-out:
///
/// ```
/// use rocket::{get, response::Redirect};
/// use rocket_openidconnect::RelyingParty;
///
/// #[get("/buy")]
/// fn buy(rp: &RelyingParty) -> Redirect {
///     Redirect::to(rp.login_url("/checkout?item=7"))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RelyingParty {
    pub(crate) site: Site,
    pub(crate) post_logout: PostLogout,
    pub(crate) clock: Clock,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) refreshes: Arc<Refreshes>,
    pub(crate) exchanges: Arc<Exchanges>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) trusted_proxies: Arc<TrustedProxies>,
    pub(crate) cookies: Cookies,
    pub(crate) events: AppEvents,
    pub(crate) source: Source,
    pub(crate) settings: Arc<Settings>,
}

/// The app as an OAuth client of its provider: signs users in, refreshes their sessions and signs them out there.
///
/// It does not exist while `enabled = false`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) rp: &'a RelyingParty,
    pub(crate) provider: &'a Arc<Provider>,
}

impl Deref for Client<'_> {
    type Target = RelyingParty;

    fn deref(&self) -> &RelyingParty {
        self.rp
    }
}

/// The source of the app's users.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Provider(Arc<Provider>),
    /// `enabled = false`: one fixed user, or no signed-in user.
    TestingProfile(Option<Claims>),
}

/// The path below `mount` to which the provider redirects after a sign-out.
pub(crate) const LOGGED_OUT: &str = "/logged-out";

impl Source {
    /// Issuer and client id.
    pub(crate) fn client(&self) -> (&str, &str) {
        match self {
            Source::Provider(provider) => {
                let registration = &provider.registration;
                (&registration.issuer, &registration.client_id)
            }
            Source::TestingProfile(_) => (TESTING_ISSUER, ""),
        }
    }
}

impl RelyingParty {
    /// The URL that begins a sign-in and redirects to `next` afterwards (Flask-OIDC's `redirect_to_auth_server`). A
    /// `next` that is not a path of this app is replaced by `/`.
    pub fn login_url(&self, next: &str) -> String {
        self.route_url("login", next)
    }

    /// The URL of a sign-in with parameters of its own, such as `acr_values` or a scope, which are checked afterwards.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rocket::{get, response::Redirect};
    /// use rocket_openidconnect::RelyingParty;
    ///
    /// #[get("/transfer/confirm")]
    /// fn confirm(rp: &RelyingParty) -> Redirect {
    ///     let url = rp.sign_in_url().next("/transfer").max_age(Duration::from_secs(60));
    ///     Redirect::to(url.to_string())
    /// }
    /// ```
    pub fn sign_in_url(&self) -> SignInUrl<'_> {
        SignInUrl::new(self)
    }

    /// The URL of a sign-in of this user with a new authentication.
    pub(crate) fn step_up_url(&self, required: &RequiredAuthentication, user: String, next: &str) -> String {
        self.sign_in_url().next(next).require(required, user).to_string()
    }

    /// The URL of sign-out. A `GET` shows a page with a button; a `POST` signs out and redirects to `next`.
    pub fn logout_url(&self, next: &str) -> String {
        self.route_url("logout", next)
    }

    /// The app as a client of its provider; `None` while `enabled = false`.
    pub(crate) fn client(&self) -> Option<Client<'_>> {
        match &self.source {
            Source::Provider(provider) => Some(Client { rp: self, provider }),
            Source::TestingProfile(_) => None,
        }
    }

    /// The claims of every visitor while `enabled = false`; `None` if visitors are signed out.
    pub(crate) fn testing_profile(&self) -> Option<&Claims> {
        match &self.source {
            Source::TestingProfile(profile) => profile.as_ref(),
            Source::Provider(_) => None,
        }
    }

    /// The issuer of this app's users.
    pub(crate) fn issuer(&self) -> &str {
        self.source.client().0
    }

    /// Parses a local address as the user reads it, for this site.
    pub(crate) fn local_address(&self, address: &str) -> ReturnTo {
        ReturnTo::parse(address, &self.site.mount)
    }

    fn route_url(&self, route: &str, next: &str) -> String {
        let next = self.local_address(next);
        let query: String = url::form_urlencoded::byte_serialize(next.as_str().as_bytes()).collect();
        format!("{}?next={query}", self.route_path(route))
    }

    /// The path of one of this crate's routes.
    pub(crate) fn route_path(&self, route: &str) -> String {
        format!("{}/{route}", self.site.mount.trim_end_matches('/'))
    }
}
