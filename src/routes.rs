//! The fairing's routes: parse, one call on the relying party, respond.

mod clear_site_data;
mod debug;
mod logout;
mod sign_in;

use std::{io::Cursor, net::IpAddr, sync::OnceLock};

use rocket::{
    Data, Request, Response, Route,
    data::ToByteUnit,
    http::{ContentType, Method, Status},
    route::Outcome,
};
use time::OffsetDateTime;

use self::{
    debug::Debug,
    logout::{BackchannelLogout, FrontchannelLogout, LoggedOut, Logout, LogoutPage},
    sign_in::{Authorize, AuthorizeForm, AuthorizeHead, InitiateLogin, InitiateLoginForm, Login},
};
use crate::{
    code_flow::{ResponseError, ReturnTo},
    cookies::SetCookie,
    observing,
    pages::{self, ErrorPage},
    relying_party::{AppEvents, LOGGED_OUT, RelyingParty, SignInError},
    request::{RequestState, SignInFailure},
    settings::is_loopback,
};

/// The developer page, mounted beside the other routes in the debug profile.
pub(crate) fn debug_routes() -> Vec<Route> {
    let mut route = Route::new(Method::Get, "/debug", Debug);
    route.name = Some("oidc_debug".into());
    vec![route]
}

/// The routes, to be mounted at the setting `mount`.
pub(crate) fn routes(rp: &RelyingParty) -> Vec<Route> {
    let named = |name: &'static str, mut route: Route| {
        route.name = Some(name.into());
        route
    };
    let mut routes = vec![
        named("oidc_login", Route::new(Method::Get, "/login", Login)),
        named("oidc_authorize", Route::new(Method::Get, "/authorize", Authorize)),
        named(
            "oidc_authorize_head",
            Route::new(Method::Head, "/authorize", AuthorizeHead),
        ),
        named(
            "oidc_authorize_form",
            Route::new(Method::Post, "/authorize", AuthorizeForm),
        ),
        named(
            "oidc_initiate_login",
            Route::new(Method::Get, "/initiate-login", InitiateLogin),
        ),
        named(
            "oidc_initiate_login_form",
            Route::new(Method::Post, "/initiate-login", InitiateLoginForm),
        ),
        named("oidc_logout_page", Route::new(Method::Get, "/logout", LogoutPage)),
        named("oidc_logout", Route::new(Method::Post, "/logout", Logout)),
        named("oidc_logged_out", Route::new(Method::Get, LOGGED_OUT, LoggedOut)),
        named(
            "oidc_backchannel_logout",
            Route::new(Method::Post, "/backchannel-logout", BackchannelLogout),
        ),
    ];
    if rp.settings.frontchannel_logout {
        routes.push(named(
            "oidc_frontchannel_logout",
            Route::new(Method::Get, "/frontchannel-logout", FrontchannelLogout),
        ));
    }
    routes
}

/// A request to one of this crate's routes, with the state that each route needs.
struct Visit<'r, 'q> {
    request: &'r Request<'q>,
    rp: &'r RelyingParty,
    events: &'r AppEvents,
    error_page: &'r ErrorPage,
    now: OffsetDateTime,
    /// The short name of the sign-in attempt of this request, once it is known.
    attempt: OnceLock<String>,
}

impl<'r, 'q> Visit<'r, 'q> {
    /// `None` only without the fairing's state; the fairing mounts the routes together with it.
    fn new(request: &'r Request<'q>) -> Option<Visit<'r, 'q>> {
        let rp = request.rocket().state::<RelyingParty>()?;
        Some(Visit {
            request,
            rp,
            events: &rp.events,
            error_page: request.rocket().state()?,
            now: rp.clock.now(),
            attempt: OnceLock::new(),
        })
    }

    /// The client address for rate limits.
    fn client_address(&self) -> Option<IpAddr> {
        let peer = self.request.remote().map(|peer| peer.ip());
        self.rp.trusted_proxies.client(peer, self.request.real_ip())
    }

    fn mount(&self) -> &str {
        &self.rp.site.mount
    }

    /// The parameter `next`, if it is a page of this app.
    fn next(&self) -> ReturnTo {
        match self.request.query_value::<String>("next") {
            Some(Ok(next)) => self.rp.local_address(&next),
            _ => ReturnTo::home(),
        }
    }

    fn set(&self, cookies: impl IntoIterator<Item = SetCookie>) {
        RequestState::of(self.request).cookies.add(cookies);
    }

    /// In development the app may be opened under any loopback name, and cookies of one name are not sent to another.
    /// Returns the URL of the same request under the name that the provider redirects to.
    fn address_at_base_url(&self) -> Option<String> {
        let base_url = &self.rp.site.base_url;
        if self.request.rocket().config().profile != rocket::Config::DEBUG_PROFILE || !is_loopback(base_url) {
            return None;
        }
        let host = self.request.host()?;
        let asked = url::Url::parse(&format!("http://{host}/")).ok()?;
        if !is_loopback(&asked) || asked.host_str() == base_url.host_str() {
            return None;
        }
        let here = self.request.uri();
        let query = here.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!(
            "{}{}{query}",
            base_url.as_str().trim_end_matches('/'),
            here.path()
        ))
    }

    /// Logs the failure, calls the app's handler, and renders the error page.
    async fn failed(&self, error: SignInError, return_to: &ReturnTo) -> Outcome<'r> {
        let id = incident_id();
        let reason = error.reason();
        match error.status() {
            400..500 => tracing::warn!(reason, "sign-in failed [{id}]: {error}"),
            _ => tracing::error!(reason, "sign-in failed [{id}]: {error}"),
        }
        tracing::info!("{}", error.remedy());
        observing::sign_in_failed(reason);
        let attempt = self.attempt.get().map(String::as_str);
        self.rp
            .attempts
            .failed(attempt, return_to.as_str(), (&id, &error), self.now);
        self.events.sign_in_failed(self.request, &error).await;

        let failure = Box::new(SignInFailure {
            explanation: explanation(&error).to_owned(),
            try_again: self.rp.login_url(return_to.as_str()),
            error,
            id,
        });
        let state = RequestState::of(self.request);
        let failure = state.sign_in.get_or_init(|| failure);
        match self.error_page.render(self.request, failure) {
            None => Outcome::Success(html(failure.status(), pages::sign_in_failed(failure))),
            Some(Ok(mut response)) => {
                if response.status() == Status::Ok {
                    response.set_status(failure.status());
                }
                Outcome::Success(response)
            }
            Some(Err(status)) => Outcome::Error(status),
        }
    }
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
    "This site is not set up right for its sign-in service. Please tell the operators of this site.";

/// The explanation that the user sees. The details are in the log.
fn explanation(error: &SignInError) -> &str {
    match error {
        SignInError::Response(error) if error.is_denial() => "The sign-in was cancelled.",
        SignInError::Response(error) if error.is_client_rejected() => NOT_SET_UP,
        SignInError::Provider(error) if error.is_client_rejected() => NOT_SET_UP,
        SignInError::PostedResponse => NOT_SET_UP,
        SignInError::NotPending
        | SignInError::Expired { .. }
        | SignInError::PostedTooLongAgo
        | SignInError::UrlExpired
        | SignInError::ParametersMissing
        | SignInError::Response(ResponseError::StateMismatch) => {
            "This sign-in was begun too long ago, in another browser, or cookies are switched off."
        }
        SignInError::Used => "This sign-in is over. Please sign in again.",
        SignInError::Ended => "You were signed out while you signed in. Please sign in again.",
        SignInError::TooManySignIns { .. } => {
            "Too many people are signing in at the moment. Please try again in a little while."
        }
        SignInError::RefusedByApp { message } => message,
        SignInError::IdToken(error) if error.is_about_tenant() => {
            "The organisation of your account has no access to this site."
        }
        SignInError::Loop { .. } => {
            "The sign-in succeeds, but the browser does not keep it. Please check that it accepts cookies for this site."
        }
        SignInError::SessionTooLarge(_) => "The sign-in service sent more about you than this site can keep.",
        SignInError::Store(_) => {
            "This site cannot keep your sign-in at the moment. Please try again in a little while."
        }
        SignInError::ScopesNotGranted { .. } => {
            "The sign-in service did not give this site the permissions that it asked for."
        }
        SignInError::ParameterOfApp { .. } | SignInError::ParametersTooLong { .. } => {
            "This site made a mistake. Please tell its operators."
        }
        SignInError::Provider(error) if error.status() >= 503 => {
            "The sign-in service does not answer at the moment. Please try again in a little while."
        }
        error if error.status() == 400 => "The answer of the sign-in service did not fit. Please try again.",
        _ => "The sign-in service gave an answer that cannot be trusted. Please tell the operators of this site.",
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

fn html<'r>(status: Status, page: String) -> Response<'r> {
    Response::build()
        .status(status)
        .header(ContentType::HTML)
        .raw_header("Cache-Control", "no-store")
        .raw_header("Referrer-Policy", "no-referrer")
        .raw_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        )
        .sized_body(page.len(), Cursor::new(page))
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
    fn what_the_person_is_told_of_a_refused_client() {
        const NOT_SET_UP: &str =
            "This site is not set up right for its sign-in service. Please tell the operators of this site.";
        const DID_NOT_FIT: &str = "The answer of the sign-in service did not fit. Please try again.";
        const NOT_TRUSTED: &str =
            "The sign-in service gave an answer that cannot be trusted. Please tell the operators of this site.";

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
}
