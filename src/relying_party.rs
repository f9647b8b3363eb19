//! The relying party: sign-in and sign-out. Each step is a submodule.

mod api_user;
mod attempts;
mod audited;
mod claimed_attempts;
mod client_token;
mod developer_log;
pub(crate) mod events;
mod exchange;
mod kept_forms;
mod local_page;
mod logout;
mod missed_claims;
mod own_sessions;
mod provider_source;
mod providers;
mod readiness;
mod refresh;
mod refresh_error;
mod refusal;
mod rejected_request;
mod revocations;
mod revoke_later;
mod script;
mod session_data_error;
mod sign_in;
mod sign_in_error;
mod sign_in_url;
mod silent;
mod testing_profile;
mod user;

use std::{net::IpAddr, ops::Deref, sync::Arc};

use rocket::Request;
use url::form_urlencoded::byte_serialize;

pub(crate) use self::{
    attempts::{Attempt, Attempts, Failure, Step},
    audited::{audited, who_of},
    client_token::{ClientTokens, client_tokens},
    developer_log::{DeveloperLog, Entries},
    events::{AppEvents, NoEvents},
    exchange::{BegunSession, Exchanges},
    kept_forms::{FoundForm, KeptForm, KeptForms, MAX_FORM_SIZE},
    logout::{FrontChannelLogout, PostLogout},
    provider_source::{MakeRelyingParty, NoProvider, SourcedProviders},
    providers::Providers,
    readiness::StoreProbe,
    refresh::{Freshness, Refreshes, TokensOfSessions, tokens_of_sessions},
    refusal::{Refusal, refused_by_policy},
    rejected_request::RejectedRequest,
    revocations::Revocations,
    script::{SCRIPT, SCRIPT_NAME, script_file, script_integrity},
    sign_in::{Callback, Completed},
    sign_in_error::NotBegun,
    sign_in_url::{PARAMETERS, decrypt_parameters},
    silent::{SILENT_PARAMETER, SilentSignIn},
    user::SessionHandle,
};
pub use self::{
    events::{Events, LoggedOut, LoginRedirect, NewSignIn, Refused},
    local_page::LocalPage,
    provider_source::{ProviderRegistration, ProviderSource},
    providers::ProviderFor,
    readiness::Readiness,
    refresh_error::RefreshError,
    session_data_error::SessionDataError,
    sign_in_error::SignInError,
    sign_in_url::SignInUrl,
    user::{NoAccessToken, User},
};
#[cfg(feature = "api-client")]
use crate::settings::ClientIdentity;
use crate::{
    clock::Clock,
    code_flow::ReturnTo,
    cookies::Cookies,
    provider::Provider,
    requirement::RequiredAuthentication,
    resource_server::ResourceServer,
    session::Sessions,
    settings::{Settings, Site, TrustedProxies},
    tasks::Tasks,
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
    pub(crate) readiness: Arc<StoreProbe>,
    /// The forms of users whose sessions had ended.
    pub(crate) kept_forms: Arc<KeptForms>,
    pub(crate) tasks: Tasks,
    /// The access tokens of this client.
    pub(crate) client_tokens: ClientTokens,
    /// The access tokens for other APIs of its sessions.
    pub(crate) session_tokens: TokensOfSessions,
    pub(crate) trusted_proxies: Arc<TrustedProxies>,
    pub(crate) cookies: Cookies,
    pub(crate) events: AppEvents,
    pub(crate) source: Source,
    pub(crate) settings: Arc<Settings>,
    /// Accepts the access tokens of this provider, in an app whose tenants have a provider each.
    pub(crate) resource_server: Option<Arc<ResourceServer>>,
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
    /// Each provider has a relying party of its own.
    Several(Arc<Providers>),
    /// `enabled = false`: one fixed user, or no signed-in user.
    TestingProfile(Option<Claims>),
}

/// The path below `mount` to which the provider redirects after a sign-out.
pub(crate) const LOGGED_OUT: &str = "/logged-out";

/// The path below `mount` of the page that sends a kept form.
pub(crate) const KEPT_FORM: &str = "kept-form";

impl Source {
    /// Issuer and client id.
    pub(crate) fn client(&self) -> (&str, &str) {
        match self {
            Source::Provider(provider) => {
                let registration = &provider.registration;
                (&registration.issuer, &registration.client_id)
            }
            Source::TestingProfile(_) => (TESTING_ISSUER, ""),
            Source::Several(_) => ("", ""),
        }
    }
}

impl RelyingParty {
    /// The URL that begins a sign-in and redirects to `next` afterwards (Flask-OIDC's `redirect_to_auth_server`): `uri!(…)`
    /// of a route, or a path as Rocket has it. A `next` that is not a path of this app is replaced by the start page.
    pub fn login_url(&self, next: impl LocalPage) -> String {
        self.login_url_to(&self.page(&next.address()))
    }

    /// The URL that begins a sign-in and redirects to this page afterwards.
    pub(crate) fn login_url_to(&self, next: &ReturnTo) -> String {
        with_next(&self.own_login_path(), next)
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

    /// The URL at which this user signs in at a provider, named as in the settings, to link the account there to the
    /// account that they have in the app. [`Events::account_linked`] gets both; no session begins, and the user's own
    /// goes on. The app decides what the link means, such as a row in its database, and asks it in `after_authorize`
    /// when the other account signs in.
    ///
    /// The URL works in the browser that has this session, while it lasts. Link from a page of the app, by a `POST`
    /// or a link on it: a user whom another site sends there is asked first.
    ///
    /// ```
    /// use rocket::{post, response::Redirect};
    /// use rocket_openidconnect::{LoggedIn, RelyingParty};
    ///
    /// #[post("/accounts/github")]
    /// fn link(user: LoggedIn, rp: &RelyingParty) -> Redirect {
    ///     Redirect::to(rp.link(&user, "github").next("/accounts").to_string())
    /// }
    /// ```
    pub fn link<C>(&self, user: &User<C>, provider: &str) -> SignInUrl<'_> {
        self.sign_in_url().provider(provider).link(user)
    }

    /// The URL of a sign-in with a new authentication; of this user, if one is given.
    pub(crate) fn step_up_url(
        &self,
        required: &RequiredAuthentication,
        user: Option<String>,
        next: impl LocalPage,
    ) -> SignInUrl<'_> {
        self.sign_in_url().next(next).require(required, user)
    }

    /// The URL of sign-out. A `GET` shows a page with a button; a `POST` signs out and redirects to `next`.
    pub fn logout_url(&self, next: impl LocalPage) -> String {
        self.logout_url_to(&self.page(&next.address()))
    }

    /// The URL of sign-out, which redirects to this page.
    pub(crate) fn logout_url_to(&self, next: &ReturnTo) -> String {
        with_next(&self.route_path("logout"), next)
    }

    /// The certificate of the client at its provider, or at the first of several that has one.
    #[cfg(feature = "api-client")]
    pub(crate) fn client_identity(&self) -> Option<&ClientIdentity> {
        match &self.source {
            Source::Provider(provider) => provider.registration.client_identity.as_ref(),
            Source::Several(providers) => providers.of_settings.iter().find_map(|rp| rp.client_identity()),
            Source::TestingProfile(_) => None,
        }
    }

    /// The app as a client of its provider; `None` while `enabled = false`, and in an app with several providers,
    /// where each has a relying party of its own.
    pub(crate) fn client(&self) -> Option<Client<'_>> {
        match &self.source {
            Source::Provider(provider) => Some(Client { rp: self, provider }),
            Source::TestingProfile(_) | Source::Several(_) => None,
        }
    }

    /// The providers, if there are several.
    pub(crate) fn providers(&self) -> Option<&Arc<Providers>> {
        match &self.source {
            Source::Several(providers) => Some(providers),
            Source::Provider(_) | Source::TestingProfile(_) => None,
        }
    }

    /// Whether the app finds its tenants, which have a provider each, at run time.
    pub(crate) fn finds_tenants(&self) -> bool {
        self.has_tenants() && self.providers().is_some_and(|providers| providers.of_source.is_some())
    }

    /// Whether the app's tenants have a provider each.
    pub(crate) fn has_tenants(&self) -> bool {
        self.providers().is_some_and(|providers| providers.chosen_by.is_some())
    }

    /// Whether responses of several providers arrive at its redirect URI.
    pub(crate) fn shares_redirect_uri(&self) -> bool {
        let own = self.settings.provider_name.as_ref();
        own.is_some_and(|name| !self.site.callback_path.ends_with(&format!("/{name}")))
    }

    /// Whether users sign in at a provider.
    pub(crate) fn is_enabled(&self) -> bool {
        !matches!(self.source, Source::TestingProfile(_))
    }

    /// Whether its provider issues tokens in the name of this issuer.
    pub(crate) fn is_of_issuer(&self, issuer: &str) -> bool {
        let client = self.client();
        client.is_some_and(|client| client.provider.registration.expected_issuer().accepts(issuer))
    }

    /// The address of the client of a request, for rate limits.
    pub(crate) fn client_address(&self, request: &Request<'_>) -> Option<IpAddr> {
        let peer = request.remote().map(|peer| peer.ip());
        self.trusted_proxies.client(peer, request.real_ip())
    }

    /// The name of the provider for people.
    pub(crate) fn label(&self) -> &str {
        self.settings.label.as_deref().unwrap_or_else(|| self.provider_name())
    }

    /// The name of the provider in the settings.
    pub(crate) fn provider_name(&self) -> &str {
        &self.sessions.provider
    }

    /// The claims of every visitor while `enabled = false`; `None` if visitors are signed out.
    pub(crate) fn testing_profile(&self) -> Option<&Claims> {
        match &self.source {
            Source::TestingProfile(profile) => profile.as_ref(),
            Source::Provider(_) | Source::Several(_) => None,
        }
    }

    /// The issuer of this app's users.
    pub(crate) fn issuer(&self) -> &str {
        self.source.client().0
    }

    /// Parses an address of the browser, for this site.
    pub(crate) fn local_address(&self, address: &str) -> ReturnTo {
        ReturnTo::parse(address, &self.site.paths)
    }

    /// Parses an address as Rocket and the app's code have it.
    pub(crate) fn page(&self, address: &str) -> ReturnTo {
        ReturnTo::page(address, &self.site.paths)
    }

    /// The page of this request.
    pub(crate) fn page_of(&self, request: &Request<'_>) -> ReturnTo {
        self.page(&request.uri().to_string())
    }

    /// The start page.
    pub(crate) fn home(&self) -> ReturnTo {
        ReturnTo::home(&self.site.paths)
    }

    /// The provider of a sign-in that begins here: the one that is asked for, or this one; `None` if the user chooses,
    /// and in an app with one provider.
    pub(crate) fn sign_in_provider<'a>(&'a self, asked: Option<&'a str>) -> Option<&'a str> {
        let own = self.settings.provider_name.as_deref();
        let are_several = own.is_some() || self.providers().is_some() || !self.settings.providers.is_empty();
        asked.or(own).filter(|_| are_several)
    }

    /// The path that begins a sign-in here.
    pub(crate) fn own_login_path(&self) -> String {
        self.login_path_at(self.sign_in_provider(None))
    }

    /// The path that begins a sign-in at this provider.
    pub(crate) fn login_path_at(&self, provider: Option<&str>) -> String {
        let path = self.route_path("login");
        match provider {
            Some(name) => format!("{path}/{}", byte_serialize(name.as_bytes()).collect::<String>()),
            None => path,
        }
    }

    /// The path of one of this crate's routes in the browser.
    pub(crate) fn route_path(&self, route: &str) -> String {
        self.site.paths.route(route)
    }

    /// The same in Rocket.
    pub(crate) fn routed_path(&self, route: &str) -> String {
        self.site.paths.in_rocket(&self.route_path(route)).to_owned()
    }
}

/// The URL of a route, with the page to which the browser goes afterwards.
fn with_next(path: &str, next: &ReturnTo) -> String {
    let next: String = byte_serialize(next.as_str().as_bytes()).collect();
    format!("{path}?next={next}")
}
