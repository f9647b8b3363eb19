//! The response hook: writes the results of guards and routes into the response.

use rocket::{
    Request, Response,
    http::{Header, Status},
};

#[cfg(feature = "templates")]
use crate::templates::VisitorPage;
use crate::{
    relying_party::RelyingParty,
    request::{Refusal, RequestState, SignInFailure, StepUp, is_page_load},
    resource_server::ResourceServer,
    session::{NoSession, store::RETRY_AFTER},
};

/// Completes a response, whether it is from a route, a catcher or another fairing.
pub(super) async fn finish<'r>(request: &'r Request<'_>, response: &mut Response<'r>) {
    // Before the cookies: the page's session may be refreshed.
    #[cfg(feature = "templates")]
    let page = VisitorPage::take(request, response).await;
    let state = RequestState::of(request);
    let mut cookies = state.cookies.take();
    if let Some(rp) = state.relying_party(request) {
        // Removes the note of ended sessions, once this node has recorded them. A sign-out has renewed it already.
        if state.is_ending.get().is_none() {
            let removal = rp.sessions.queue_ends_of_cookie(request.cookies());
            cookies.extend(removal.map(|cookie| cookie.0));
        }
        // Session cookies come last: the session may replace a removed one, and may have set a note.
        cookies.extend(session_cookies(request, state, rp).await);
    }
    let sets_cookies = !cookies.is_empty();
    for cookie in cookies {
        response.adjoin_header(Header::new("Set-Cookie", cookie));
    }
    let status = response.status().code;
    state.audit_denial(request, response.status());
    let refusals = state.refusals();
    if let Some(refusal) = refusals.filter(|it| it.error.status() == status).last() {
        challenge(request, response, refusal);
    }
    if let Some(nonce) = state.dpop_nonce.get() {
        response.set_header(Header::new("DPoP-Nonce", nonce.clone()));
        expose(response, "DPoP-Nonce");
        // RFC 9449 §8.2.
        disable_caching(response);
    }
    if let Some(failure) = state.sign_in.get() {
        set_failure_headers(response, failure);
    }
    if let Some(step_up) = state.step_up.get() {
        redirect_to_step_up(request, response, step_up);
    }
    if state.is_silent_sign_in_due.get() == Some(&true) {
        redirect_to_silent_sign_in(request, response, state);
    }
    match state.signed_out.get() {
        Some(reason) if reason.is_outage() => set_retry_after(response, state),
        Some(reason) => redirect_to_sign_in(request, response, *reason),
        None => {}
    }
    if state.is_out_of_tokens.get().is_some() {
        set_retry_after(response, state);
    }
    if state.is_inquiry.get().is_some() {
        remove_cors(response);
    }
    if sets_cookies {
        // The app may allow caches to store a response, but the session cookies must not be stored.
        response.set_header(Header::new("Cache-Control", "no-store"));
    } else if let Some(Ok(_)) = state.session.get() {
        disable_caching(response);
    }
    #[cfg(feature = "templates")]
    if let Some(page) = page {
        page.show(request, response).await;
    }
}

/// The session cookies of the response, unless the session ended meanwhile or another request advanced its
/// generation. The cookies of a session that ended at its refresh are removed, with a note cookie if the store has
/// not recorded the end.
async fn session_cookies(request: &Request<'_>, state: &RequestState, rp: &RelyingParty) -> Vec<String> {
    let session = state.outgoing().send();
    let has_ended = state.outgoing().has_ended();
    if state.is_ending.get().is_some() {
        return vec![];
    }
    let (jar, now) = (request.cookies(), rp.clock.now());
    let mut cookies = vec![];
    if has_ended {
        cookies.extend(rp.sessions.removals(jar));
        cookies.extend(rp.sessions.ended_cookie_if_unrecorded(jar, now));
        cookies.extend(rp.last_session_ended(now));
    }
    if let Some(session) = session
        && let Some(rp) = state.relying_party_of(&session, request)
        && rp.sessions.may_be_written(&session, now).await
    {
        cookies.extend(rp.sessions.set_cookies(&session, jar, now));
    }
    cookies.into_iter().map(|cookie| cookie.0).collect()
}

/// Sets `Cache-Control: no-store` on responses to a signed-in user, or with a nonce, unless the app sets its own.
fn disable_caching(response: &mut Response<'_>) {
    // There are few headers: a lookup by name costs more than an iteration.
    if !response.headers().iter().any(|header| header.name() == "Cache-Control") {
        response.adjoin_header(Header::new("Cache-Control", "no-store"));
    }
}

/// Removes what lets scripts of other origins read a response, whatever the app's fairings have added.
fn remove_cors(response: &mut Response<'_>) {
    let headers = response.headers().iter().map(|header| header.name().to_string());
    let of_cors = headers.filter(|name| name.to_ascii_lowercase().starts_with("access-control-"));
    for name in of_cors.collect::<Vec<_>>() {
        response.remove_header(&name);
    }
}

/// Adds the `WWW-Authenticate` challenge if the response is a rejection by `Bearer`.
fn challenge<'r>(request: &'r Request<'_>, response: &mut Response<'r>, Refusal { error, demand, .. }: &Refusal) {
    let resource_server = request.rocket().state::<ResourceServer>();
    let challenges = resource_server.map(|server| server.challenges(error, *demand, request));
    for challenge in challenges.into_iter().flatten() {
        response.adjoin_header(Header::new("WWW-Authenticate", challenge));
        expose(response, "WWW-Authenticate");
    }
    if let Some(wait) = error.retry_after() {
        response.set_header(Header::new("Retry-After", wait.as_secs().to_string()));
        expose(response, "Retry-After");
    }
}

/// Exposes a header to scripts of other origins, if the app lets them read the response, and keeps the app's list
/// ([Fetch §3.3.3](https://fetch.spec.whatwg.org/#http-access-control-expose-headers)).
fn expose(response: &mut Response<'_>, name: &'static str) {
    const EXPOSE: &str = "Access-Control-Expose-Headers";
    let is_listed = response.headers().get(EXPOSE).any(|list| {
        let mut names = list.split(',').map(str::trim);
        names.any(|listed| listed.eq_ignore_ascii_case(name))
    });
    if !is_listed {
        response.adjoin_header(Header::new(EXPOSE, name));
    }
}

/// Sets the headers of every response to a failed sign-in, whatever created it.
fn set_failure_headers(response: &mut Response<'_>, failure: &SignInFailure) {
    response.set_header(Header::new("Cache-Control", "no-store"));
    response.set_header(Header::new("Referrer-Policy", "no-referrer"));
    if let Some(wait) = failure.retry_after() {
        response.set_header(Header::new("Retry-After", wait.to_string()));
    }
}

/// Sets the headers of a 503 from a guard that cannot tell whether a user is signed in.
fn set_retry_after(response: &mut Response<'_>, state: &RequestState) {
    if response.status() == Status::ServiceUnavailable {
        let wait = state.retry_after.get().copied().unwrap_or(RETRY_AFTER);
        response.set_header(Header::new("Retry-After", wait.as_secs().to_string()));
        response.set_header(Header::new("Cache-Control", "no-store"));
    }
}

/// Replaces the 401 of a page load whose user must authenticate again by a redirect to that sign-in; any other 401 has
/// the challenge of RFC 9470.
fn redirect_to_step_up(request: &Request<'_>, response: &mut Response<'_>, step_up: &StepUp) {
    if response.status() != Status::Unauthorized {
        return;
    }
    let rp = RequestState::of(request).relying_party(request);
    let kept_form = RequestState::of(request).kept_form.get();
    match rp.filter(|rp| rp.is_enabled() && (is_page_load(request) || kept_form.is_some())) {
        Some(rp) => {
            let next = kept_form.cloned().unwrap_or_else(|| request.uri().to_string());
            redirect(response, step_up.sign_in_url(rp, &next));
        }
        None => {
            response.adjoin_header(Header::new("WWW-Authenticate", step_up.challenge()));
            expose(response, "WWW-Authenticate");
        }
    }
}

fn redirect(response: &mut Response<'_>, location: String) {
    response.set_status(Status::SeeOther);
    response.set_header(Header::new("Location", location));
    response.set_header(Header::new("Cache-Control", "no-store"));
    response.remove_header("Content-Type");
    response.remove_header("WWW-Authenticate");
    response.remove_header("Access-Control-Expose-Headers");
    response.set_sized_body(0, std::io::Cursor::new(""));
}

/// Replaces the response to a page load by a redirect to a silent sign-in, whatever a catcher made of the guard's 401;
/// but not if another guard decided about the request.
fn redirect_to_silent_sign_in(request: &Request<'_>, response: &mut Response<'_>, state: &RequestState) {
    let is_decided = state.signed_out.get().is_some()
        || state.step_up.get().is_some()
        || state.sign_in.get().is_some()
        || state.refusals().next().is_some();
    if let Some(rp) = state.relying_party(request).filter(|_| !is_decided) {
        redirect(response, rp.silent_login_url(&rp.page_of(request)));
    }
}

/// Replaces the 401 of a page load that needs a session, or of a form that is kept, by a redirect to sign-in.
fn redirect_to_sign_in(request: &Request<'_>, response: &mut Response<'_>, reason: NoSession) {
    let app = request.rocket().state::<RelyingParty>();
    // Among several providers, the user chooses again; a tenant has one.
    let of_tenant = || RequestState::of(request).relying_party(request);
    let Some(rp) = app.filter(|app| !app.has_tenants()).or_else(of_tenant) else {
        return;
    };
    if reason == NoSession::NoProvider {
        return;
    }
    let kept_form = RequestState::of(request).kept_form.get();
    let is_shown = is_page_load(request) || kept_form.is_some();
    // A testing profile that has signed out stays so until it signs in.
    let signs_in = rp.is_enabled() || (rp.signs_testing_profile_in() && reason != NoSession::Disabled);
    if signs_in && response.status() == Status::Unauthorized && is_shown {
        let returns = reason != NoSession::RefreshRefused || rp.settings.preserve_next_on_error;
        let next = match kept_form {
            Some(page) => rp.page(page),
            None if returns => rp.page_of(request),
            None => rp.home(),
        };
        redirect(response, rp.login_url_to(&next));
    }
}
