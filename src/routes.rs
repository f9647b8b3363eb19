//! The fairing's routes: parse, one call on the relying party, respond.

mod choose_provider;
mod clear_site_data;
mod client_keys;
mod debug;
mod kept_form;
mod logout;
mod me;
mod script;
mod sign_in;
mod silent;

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use rocket::{
    Data, Request, Response, Route,
    data::ToByteUnit,
    http::{ContentType, Method, Status},
    response,
    route::{Handler, Outcome},
};
use time::OffsetDateTime;
use tracing::Instrument;

pub(crate) use client_keys::PublishedKeys;

use crate::{
    audit::AuditEvent,
    code_flow::{ResponseError, ReturnTo},
    cookies::SetCookie,
    observing,
    pages::{AppPages, BuiltInPages, Pages, html, protect_buttons},
    relying_party::{LOGGED_OUT, NoProvider, RelyingParty, SignInError, audited},
    request::{RequestState, SignInFailure, relying_party, relying_party_of_session},
    settings::{Settings, is_loopback},
};

/// The handler of one of this crate's routes.
#[derive(Clone, Copy, Debug)]
enum OidcRoute {
    Login,
    /// Of one of several providers.
    LoginAt,
    /// The same, with the button of the page that asks.
    LoginConfirmed,
    Authorize,
    AuthorizeHead,
    AuthorizeForm,
    InitiateLogin,
    InitiateLoginForm,
    LogoutPage,
    Logout,
    LoggedOut,
    BackchannelLogout,
    FrontchannelLogout,
    Me,
    KeptForm,
    Debug,
}

impl OidcRoute {
    fn at(self, method: Method, path: &str, name: &'static str) -> Route {
        let mut route = Route::new(method, path, self);
        route.name = Some(name.into());
        route
    }

    fn span(self) -> tracing::Span {
        match self {
            OidcRoute::Login
            | OidcRoute::LoginAt
            | OidcRoute::Authorize
            | OidcRoute::AuthorizeForm
            | OidcRoute::InitiateLogin => {
                tracing::debug_span!("sign_in")
            }
            _ => tracing::Span::none(),
        }
    }
}

#[rocket::async_trait]
impl Handler for OidcRoute {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let context = match RouteContext::new(request).await {
            Ok(context) => context,
            Err(status) => return Outcome::Error(status),
        };
        let response = async {
            match self {
                OidcRoute::Login => context.login(None).await,
                OidcRoute::LoginAt => context.login(request.param(1).and_then(Result::ok)).await,
                OidcRoute::LoginConfirmed => context.login_confirmed().await,
                OidcRoute::Authorize => context.authorize().await,
                OidcRoute::AuthorizeHead => Outcome::Success(html(Status::Ok, String::new())),
                OidcRoute::AuthorizeForm => context.authorize_form(data).await,
                OidcRoute::InitiateLogin => context.initiate_login().await,
                OidcRoute::InitiateLoginForm => context.initiate_login_form(data).await,
                OidcRoute::LogoutPage => context.at_session().await.sign_out_page(None),
                OidcRoute::Logout => context.at_session().await.logout(data).await,
                OidcRoute::LoggedOut => Outcome::Success(context.logged_out()),
                OidcRoute::BackchannelLogout => context.backchannel_logout(data).await,
                OidcRoute::FrontchannelLogout => context.frontchannel_logout().await,
                OidcRoute::Me => Outcome::Success(context.me().await),
                OidcRoute::KeptForm => context.kept_form().await,
                OidcRoute::Debug => context.debug().await,
            }
        };
        response.instrument(self.span()).await
    }
}

/// `GET {mount}/debug`: the developer page, mounted beside the other routes in the debug profile.
pub(crate) fn debug_routes() -> Vec<Route> {
    vec![OidcRoute::Debug.at(Method::Get, "/debug", "oidc_debug")]
}

/// The routes, to be mounted at the setting `mount`.
pub(crate) fn routes(rp: &RelyingParty) -> Vec<Route> {
    let mut routes = vec![
        OidcRoute::Login.at(Method::Get, "/login", "oidc_login"),
        OidcRoute::Authorize.at(Method::Get, "/authorize", "oidc_authorize"),
        // A client checks the callback URL. Rocket would otherwise run the `GET` route.
        OidcRoute::AuthorizeHead.at(Method::Head, "/authorize", "oidc_authorize_head"),
        OidcRoute::AuthorizeForm.at(Method::Post, "/authorize", "oidc_authorize_form"),
        OidcRoute::InitiateLogin.at(Method::Get, "/initiate-login", "oidc_initiate_login"),
        OidcRoute::InitiateLoginForm.at(Method::Post, "/initiate-login", "oidc_initiate_login_form"),
        OidcRoute::LogoutPage.at(Method::Get, "/logout", "oidc_logout_page"),
        OidcRoute::Logout.at(Method::Post, "/logout", "oidc_logout"),
        OidcRoute::LoggedOut.at(Method::Get, LOGGED_OUT, "oidc_logged_out"),
        OidcRoute::BackchannelLogout.at(Method::Post, "/backchannel-logout", "oidc_backchannel_logout"),
        OidcRoute::KeptForm.at(Method::Get, "/kept-form", "oidc_kept_form"),
    ];
    let are_several = rp.providers().is_some() || !rp.settings.providers.is_empty();
    if are_several {
        routes.extend([
            OidcRoute::LoginAt.at(Method::Get, "/login/<provider>", "oidc_login_at"),
            OidcRoute::LoginConfirmed.at(Method::Post, "/login/<provider>", "oidc_login_confirmed"),
            OidcRoute::Authorize.at(Method::Get, "/authorize/<provider>", "oidc_authorize_at"),
            OidcRoute::AuthorizeHead.at(Method::Head, "/authorize/<provider>", "oidc_authorize_head_at"),
            OidcRoute::AuthorizeForm.at(Method::Post, "/authorize/<provider>", "oidc_authorize_form_at"),
            OidcRoute::InitiateLogin.at(Method::Get, "/initiate-login/<provider>", "oidc_initiate_login_at"),
            OidcRoute::InitiateLoginForm.at(
                Method::Post,
                "/initiate-login/<provider>",
                "oidc_initiate_login_form_at",
            ),
            OidcRoute::BackchannelLogout.at(
                Method::Post,
                "/backchannel-logout/<provider>",
                "oidc_backchannel_logout_at",
            ),
        ]);
    }
    let of_providers = rp.settings.providers.values();
    if rp.settings.confirms_sign_ins() || of_providers.into_iter().any(Settings::confirms_sign_ins) {
        routes.push(OidcRoute::LoginConfirmed.at(Method::Post, "/login", "oidc_login_confirmed_here"));
    }
    if rp.settings.me_claims.is_some() {
        routes.push(OidcRoute::Me.at(Method::Get, "/me", "oidc_me"));
        routes.extend(script::routes());
    }
    if rp.settings.frontchannel_logout {
        let route = OidcRoute::FrontchannelLogout;
        routes.push(route.at(Method::Get, "/frontchannel-logout", "oidc_frontchannel_logout"));
        if are_several {
            let path = "/frontchannel-logout/<provider>";
            routes.push(route.at(Method::Get, path, "oidc_frontchannel_logout_at"));
        }
    }
    routes
}

/// A request to one of this crate's routes, with the state that each route needs.
struct RouteContext<'r, 'q> {
    request: &'r Request<'q>,
    rp: &'r RelyingParty,
    /// The relying party of one of several providers, if it is that.
    of_provider: Option<&'r Arc<RelyingParty>>,
    now: OffsetDateTime,
    /// The short name of the sign-in attempt of this request, once it is known.
    attempt: OnceLock<String>,
    /// Set if the sign-in is silent: it ends at the page of its visitor, never at an error page.
    is_silent: OnceLock<()>,
}

impl<'r, 'q> RouteContext<'r, 'q> {
    /// Fails with 404 or 503 if the app's `provider_for` chooses no provider.
    async fn new(request: &'r Request<'q>) -> Result<RouteContext<'r, 'q>, Status> {
        // The fairing mounts the routes together with its state.
        let app = request.rocket().state::<RelyingParty>();
        let app = app.ok_or(Status::InternalServerError)?;
        let rp = relying_party(request, app).await.map_err(status_of)?;
        Ok(RouteContext {
            request,
            rp,
            of_provider: None,
            now: rp.clock.now(),
            attempt: OnceLock::new(),
            is_silent: OnceLock::new(),
        })
    }

    /// The same request, at one of several providers.
    fn at(&self, rp: &'r Arc<RelyingParty>) -> RouteContext<'r, 'q> {
        RouteContext {
            request: self.request,
            rp,
            of_provider: Some(rp),
            is_silent: self.is_silent.clone(),
            now: self.now,
            attempt: self.attempt.clone(),
        }
    }

    /// The same request, at the provider of the session in its cookies.
    async fn at_session(self) -> RouteContext<'r, 'q> {
        if self.rp.providers().is_none() || relying_party_of_session(self.request, self.rp).await.is_err() {
            return self;
        }
        match RequestState::of(self.request).provider.get() {
            Some(Ok(rp)) => self.at(rp),
            _ => self,
        }
    }

    /// The provider that the path of this request names. Fails if there is none of that name here.
    async fn named_provider(&self) -> Result<Option<&'r Arc<RelyingParty>>, Status> {
        match self.request.param::<&str>(1) {
            Some(Ok(name)) => self.provider(name).await,
            _ => Ok(None),
        }
    }

    /// The provider with this name; `None` where the request is at that provider already. Fails if there is none of
    /// that name here.
    async fn provider(&self, name: &str) -> Result<Option<&'r Arc<RelyingParty>>, Status> {
        let Some(providers) = self.rp.providers() else {
            let is_here = name == self.rp.provider_name();
            return if is_here { Ok(None) } else { Err(Status::NotFound) };
        };
        if let Some(rp) = providers.in_settings(name) {
            return Ok(Some(rp));
        }
        let found = providers.named(name, self.client_address()).await.map_err(status_of)?;
        let named = RequestState::of(self.request).named.get_or_init(|| found);
        if named.provider_name() == name {
            Ok(Some(named))
        } else {
            Err(Status::NotFound)
        }
    }

    /// The client address for rate limits.
    fn client_address(&self) -> Option<IpAddr> {
        self.rp.client_address(self.request)
    }

    /// The path of this crate's routes in the browser.
    fn mount(&self) -> &str {
        self.rp.site.paths.mount()
    }

    /// The path of this request in the browser.
    fn path(&self) -> Cow<'_, str> {
        self.rp.site.paths.in_browser(self.request.uri().path().as_str())
    }

    /// The parameter `next`, if it is a page of this app.
    fn next(&self) -> ReturnTo {
        match self.request.query_value::<String>("next") {
            Some(Ok(next)) => self.rp.local_address(&next),
            _ => self.rp.home(),
        }
    }

    fn set(&self, cookies: impl IntoIterator<Item = SetCookie>) {
        RequestState::of(self.request).cookies.add(cookies);
    }

    /// In development the app may be opened under any loopback name, and cookies of one name are not sent to another.
    /// Returns the URL of the same request under the name that the provider redirects to.
    fn address_at_base_url(&self) -> Option<String> {
        let (base_url, config) = (&self.rp.site.base_url, self.request.rocket().config());
        // A proxy may pass on a host of its own: redirects would never end.
        let is_here = base_url.scheme() == "http" && base_url.port_or_known_default() == Some(config.port);
        if config.profile != rocket::Config::DEBUG_PROFILE || !is_loopback(base_url) || !is_here {
            return None;
        }
        let host = self.request.host()?;
        let asked = url::Url::parse(&format!("http://{host}/")).ok()?;
        if !is_loopback(&asked) || asked.host_str() == base_url.host_str() {
            return None;
        }
        let here = self.request.uri().to_string();
        Some(format!(
            "{}{}",
            base_url.origin().ascii_serialization(),
            self.rp.site.paths.in_browser(&here)
        ))
    }

    /// Logs the failure, calls the app's handler, and renders the error page.
    async fn failed(&self, error: SignInError, return_to: &ReturnTo) -> Outcome<'r> {
        if let Some(response) = self.not_signed_in_silently(&error, return_to) {
            return response;
        }
        let id = incident_id();
        let (reason, observed) = (error.reason(), &self.rp.sessions.observed);
        let provider = observed.name();
        match error.status() {
            400..500 => tracing::warn!(reason, provider, "sign-in failed [{id}]: {error}"),
            _ => tracing::error!(reason, provider, "sign-in failed [{id}]: {error}"),
        }
        tracing::info!("{}", error.remedy());
        observing::sign_in_failed(reason, observed);
        let (attempts, attempt) = (&self.rp.attempts, self.attempt.get().map(String::as_str));
        attempts.failed(attempt, return_to.as_str(), (&id, &error), self.rp.clock.now());
        // One that the app refused is an event of its own, with the user.
        if !matches!(error, SignInError::RefusedByApp { .. }) {
            audited(self.request, AuditEvent::SignInFailed, reason, self.rp.who())
                .with("error_id", Some(&id))
                .log();
        }
        self.rp.events.sign_in_failed(self.request, &error).await;
        if self.is_silent() {
            return Outcome::Success(redirect(return_to.as_str()));
        }

        let failure = Box::new(SignInFailure {
            explanation: explanation(&error).to_owned(),
            try_again: self.rp.login_url_to(return_to),
            start_page: self.rp.site.paths.home(),
            error,
            id,
        });
        let state = RequestState::of(self.request);
        let failure = state.sign_in.get_or_init(|| failure);
        outcome(failure.status(), self.pages().sign_in_failed(self.request, failure))
    }

    /// The pages of the app, or the built-in ones.
    fn pages(&self) -> &'r dyn Pages {
        let pages = self.request.rocket().state::<AppPages>();
        pages.map_or(&BuiltInPages, |pages| &**pages)
    }
}

fn status_of(none: NoProvider) -> Status {
    match none {
        NoProvider::Unknown => Status::NotFound,
        NoProvider::Undecided => Status::ServiceUnavailable,
    }
}

/// Whether the client has the representation with this entity tag, by the weak comparison of
/// [RFC 9110 §13.1.2](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2): proxies that compress make a tag weak.
fn not_modified(request: &Request<'_>, tag: &str) -> bool {
    let values = request.headers().get("If-None-Match");
    let mut listed = values.flat_map(|value| value.split(',').map(str::trim));
    listed.any(|listed| listed == "*" || listed.strip_prefix("W/").unwrap_or(listed) == tag)
}

/// Parses a posted form; `None` when the body is not a form, or is longer than `longest` bytes.
async fn form(request: &Request<'_>, data: Data<'_>, longest: u64) -> Option<Vec<(String, String)>> {
    if request.content_type() != Some(&ContentType::Form) {
        return None;
    }
    let body = data.open(longest.bytes()).into_string().await.ok()?;
    let body = body.is_complete().then(|| body.into_inner())?;
    Some(url::form_urlencoded::parse(body.as_bytes()).into_owned().collect())
}

/// Eight letters and digits that are both in the log and on the page.
fn incident_id() -> String {
    crate::secret::Secret::random()
        .expose()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect()
}

const NOT_SET_UP: &str =
    "This site is not set up correctly for its sign-in service. Please contact the operators of this site.";

/// The explanation that the user sees. The details are in the log.
fn explanation(error: &SignInError) -> &str {
    match error {
        SignInError::Response(error) if error.is_denial() => "The sign-in was cancelled.",
        SignInError::Response(error) if error.is_client_rejected() => NOT_SET_UP,
        SignInError::Provider(error) if error.is_client_rejected() => NOT_SET_UP,
        SignInError::PostedResponse => NOT_SET_UP,
        SignInError::NotPending
        | SignInError::Expired { .. }
        | SignInError::PostedTooLate
        | SignInError::UrlExpired
        | SignInError::ParametersMissing
        | SignInError::Response(ResponseError::StateMismatch) => {
            "This sign-in has expired or was started in another browser, or your browser blocks cookies. Please try \
             again."
        }
        SignInError::AlreadyUsed => "This sign-in has already been completed. Please sign in again.",
        SignInError::SessionsEnded => "You were signed out during this sign-in. Please sign in again.",
        SignInError::TooManySignIns { .. } => {
            "Too many people are signing in right now. Please try again in a few minutes."
        }
        SignInError::RefusedByApp { message } => message,
        SignInError::IdToken(error) if error.is_about_tenant() => {
            "Your organisation does not have access to this site."
        }
        SignInError::Loop { .. } => {
            "You signed in, but your browser did not stay signed in. Please allow cookies for this site."
        }
        SignInError::SessionTooLarge(_) => {
            "The sign-in service sent more data about you than this site can store. \
                                            Please contact the operators of this site."
        }
        SignInError::Store(_) => "This site cannot save your sign-in right now. Please try again in a few minutes.",
        SignInError::ScopesNotGranted { .. } => {
            "The sign-in service did not grant this site the permissions that it asked for."
        }
        SignInError::LinkSessionEnded => "You were signed out meanwhile. Please sign in and link your account again.",
        SignInError::AcrNotTrusted { .. } => {
            "This page needs a sign-in that the service you signed in with does not offer."
        }
        SignInError::AppParameter { .. } | SignInError::ParametersTooLong { .. } => {
            "Something went wrong on this site. Please contact its operators."
        }
        SignInError::Provider(error) if error.status() >= 503 => {
            "The sign-in service is not responding. Please try again in a few minutes."
        }
        error if error.status() == 400 => {
            "The response of the sign-in service did not match this sign-in. Please try \
                                           again."
        }
        _ => "The response of the sign-in service could not be verified. Please contact the operators of this site.",
    }
}

/// The outcome of a page with buttons that the app, or the built-in page, has rendered.
fn button_page<'r>(status: Status, rendered: response::Result<'static>) -> Outcome<'r> {
    let rendered = rendered.map(|mut response| {
        protect_buttons(&mut response);
        response
    });
    outcome(status, rendered)
}

/// The outcome of a page without buttons that the app, or the built-in page, has rendered.
fn plain_page<'r>(status: Status, rendered: response::Result<'static>) -> Outcome<'r> {
    let rendered = rendered.map(|mut response| {
        response.set_raw_header("Cache-Control", "no-store");
        response.set_raw_header("Referrer-Policy", "no-referrer");
        response
    });
    outcome(status, rendered)
}

/// The outcome of a rendered page; `status` is that of a response without one of its own.
fn outcome<'r>(status: Status, rendered: response::Result<'static>) -> Outcome<'r> {
    match rendered {
        Ok(mut response) => {
            if response.status() == Status::Ok {
                response.set_status(status);
            }
            Outcome::Success(response)
        }
        Err(status) => Outcome::Error(status),
    }
}

fn redirect<'r>(location: &str) -> Response<'r> {
    Response::build()
        .status(Status::SeeOther)
        .raw_header("Location", location.to_owned())
        .raw_header("Cache-Control", "no-store")
        .raw_header("Referrer-Policy", "no-referrer")
        .finalize()
}

#[cfg(test)]
mod tests {
    use super::explanation;
    use crate::{
        code_flow::ResponseError,
        provider::{Endpoint, ProviderError},
        relying_party::SignInError,
    };

    #[test]
    fn the_explanation_of_a_rejected_client() {
        const NOT_SET_UP: &str =
            "This site is not set up correctly for its sign-in service. Please contact the operators of this site.";
        const DID_NOT_FIT: &str = "The response of the sign-in service did not match this sign-in. Please try again.";
        const NOT_TRUSTED: &str =
            "The response of the sign-in service could not be verified. Please contact the operators of this site.";

        let response = |error: &str| {
            SignInError::from(ResponseError::Provider {
                error: error.to_owned(),
                description: "because".to_owned(),
            })
        };
        let refused = |status: u16, error: &str| {
            SignInError::Provider(ProviderError::Refused {
                endpoint: Endpoint::Token,
                status,
                error: error.to_owned(),
                description: "because".to_owned(),
                retry_after: None,
            })
        };
        for (error, expected) in [
            (response("invalid_request"), NOT_SET_UP),
            (response("invalid_scope"), NOT_SET_UP),
            (response("unauthorized_client"), NOT_SET_UP),
            (response("access_denied"), "The sign-in was cancelled."),
            (response("login_required"), DID_NOT_FIT),
            (refused(401, "unauthorized_client"), NOT_SET_UP),
            (refused(400, "invalid_client"), NOT_SET_UP),
            (refused(400, "invalid_grant"), DID_NOT_FIT),
            (refused(400, "something_else"), NOT_TRUSTED),
        ] {
            assert_eq!(explanation(&error), expected, "{error}");
        }
    }
    /// The page, a template and a catcher get the explanation: nothing that the provider wrote is in it.
    #[test]
    fn an_explanation_has_no_text_of_the_provider() {
        const EVIL: &str = "<b>call 555</b>";

        let evil = || EVIL.to_owned();
        let endpoint = Endpoint::Token;
        let refused = |status, error: &str| ProviderError::Refused {
            endpoint,
            status,
            error: error.to_owned(),
            description: evil(),
            retry_after: None,
        };
        let of_provider = [
            refused(400, EVIL),
            refused(503, EVIL),
            refused(400, "invalid_grant"),
            refused(401, "invalid_client"),
            ProviderError::Malformed {
                endpoint,
                cause: evil(),
            },
            ProviderError::NotMetadata { cause: evil() },
            ProviderError::Unreachable {
                endpoint,
                cause: evil(),
            },
            ProviderError::IssuerMismatch {
                expected: evil(),
                actual: evil(),
            },
            ProviderError::NotHttps { endpoint, url: evil() },
            ProviderError::PlainHttp { endpoint, url: evil() },
            ProviderError::PrivateAddress { endpoint, url: evil() },
            ProviderError::NotPublic { endpoint, url: evil() },
        ];
        let unavailable = of_provider.iter().map(|last| ProviderError::Unavailable {
            retry_after: std::time::Duration::from_secs(1),
            last: Some(Box::new(last.clone())),
        });
        let unavailable: Vec<_> = unavailable.collect();
        let of_response = ["access_denied", "invalid_scope", "login_required", EVIL].map(|error| {
            SignInError::from(ResponseError::Provider {
                error: error.to_owned(),
                description: evil(),
            })
        });
        let all = of_provider.into_iter().chain(unavailable).map(SignInError::Provider);
        for error in all.chain(of_response) {
            assert!(error.to_string().contains(EVIL), "{error}");
            assert!(!explanation(&error).contains(EVIL), "{error}");
        }
    }
}
