//! What guards and routes left beside a request, written into its answer.

use rocket::{
    Request, Response,
    http::{Header, Status},
};

use crate::{
    relying_party::{RelyingParty, Source},
    request::{Refusal, RequestState, SignInFailure, is_page_load},
    resource_server::ResourceServer,
    session::SignedOut,
};

/// Finishes an answer, whoever made it: a route, a catcher or another fairing.
pub(super) async fn finish<'r>(request: &'r Request<'_>, response: &mut Response<'r>) {
    let state = RequestState::of(request);
    let mut cookies = state.cookies.take();
    // A sign-out has renewed it.
    if state.is_ending.get().is_none() {
        cookies.extend(take_over_note(request));
    }
    // The session's last: it may have taken the place of one that was removed, and have left a note.
    cookies.extend(session_cookies(request, state).await);
    let sets_cookies = !cookies.is_empty();
    for cookie in cookies {
        response.adjoin_header(Header::new("Set-Cookie", cookie));
    }
    let status = response.status().code;
    let refusals = state.refusals();
    if let Some(refusal) = refusals.filter(|it| it.error.status() == status).last() {
        challenge(request, response, refusal);
    }
    if let Some(failure) = state.sign_in.get() {
        tell_of_failure(response, failure);
    }
    match state.signed_out.get() {
        Some(reason) if reason.is_outage() => tell_to_retry(response, state),
        Some(reason) => send_to_sign_in(request, response, *reason),
        None => {}
    }
    if sets_cookies {
        // The app may let an answer be stored, but not the session that goes with it.
        response.set_header(Header::new("Cache-Control", "no-store"));
    } else if let Some(Ok(_)) = state.session.get() {
        keep_out_of_caches(response);
    }
}

/// Takes over the ends of sessions that a browser's note names. Answers what removes the note, once this node
/// has recorded them.
fn take_over_note(request: &Request<'_>) -> Option<String> {
    let jar = request.cookies();
    jar.iter().next()?;
    let rp = request.rocket().state::<RelyingParty>()?;
    rp.sessions.take_over_note(jar).map(|cookie| cookie.0)
}

/// The cookies of the session that the answer carries, unless it ended meanwhile or another request has
/// made it a newer generation. Those of one that ended at its refresh are removed, with a note if the store does not
/// have its end.
async fn session_cookies(request: &Request<'_>, state: &RequestState) -> Vec<String> {
    let Some(rp) = request.rocket().state::<RelyingParty>() else {
        return vec![];
    };
    let session = state.answer.send();
    if state.is_ending.get().is_some() {
        return vec![];
    }
    let (jar, now) = (request.cookies(), rp.clock.now());
    let mut cookies = vec![];
    if state.answer.has_ended() {
        cookies.extend(rp.sessions.removals(jar));
        cookies.extend(rp.sessions.note_if_unrecorded(jar, now));
    }
    if let Some(session) = session
        && rp.sessions.may_be_written(&session, now).await
    {
        cookies.extend(rp.sessions.set_cookies(&session, jar, now));
    }
    cookies.into_iter().map(|cookie| cookie.0).collect()
}

/// What every answer made for a signed-in user has, unless the app says otherwise.
fn keep_out_of_caches(response: &mut Response<'_>) {
    // There are few headers, and to look one up by name costs more than to see them all.
    let is_said = |header: Header<'_>| header.name() == "Cache-Control";
    let says_otherwise = response.headers().iter().any(is_said);
    if !says_otherwise {
        response.adjoin_header(Header::new("Cache-Control", "no-store"));
    }
}

/// Says what is wrong with the token of a request that `Bearer` refused, if the answer is its refusal.
fn challenge<'r>(
    request: &'r Request<'_>,
    response: &mut Response<'r>,
    Refusal { error, demand, .. }: &Refusal,
) {
    let resource_server = request.rocket().state::<ResourceServer>();
    if let Some(challenge) = resource_server.and_then(|server| server.challenge(error, *demand)) {
        response.adjoin_header(Header::new("WWW-Authenticate", challenge));
        expose(response, "WWW-Authenticate");
    }
    if let Some(wait) = error.retry_after() {
        response.set_header(Header::new("Retry-After", wait.as_secs().to_string()));
        expose(response, "Retry-After");
    }
}

/// Lets scripts of other origins read a header, if the app lets them read the answer at all
/// ([Fetch §3.3.3](https://fetch.spec.whatwg.org/#http-access-control-expose-headers)). What the app exposes stays.
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

/// What every answer to a failed sign-in has, whoever made it.
fn tell_of_failure(response: &mut Response<'_>, failure: &SignInFailure) {
    response.set_header(Header::new("Cache-Control", "no-store"));
    response.set_header(Header::new("Referrer-Policy", "no-referrer"));
    if let Some(wait) = failure.retry_after() {
        response.set_header(Header::new("Retry-After", wait.to_string()));
    }
}

/// What a guard answers that does not know whether somebody is signed in.
fn tell_to_retry(response: &mut Response<'_>, state: &RequestState) {
    if response.status() == Status::ServiceUnavailable {
        let wait = state.retry_after.get().copied();
        let wait = wait.unwrap_or(crate::session::store::RETRY_AFTER);
        let wait = wait.as_secs().to_string();
        response.set_header(Header::new("Retry-After", wait));
        response.set_header(Header::new("Cache-Control", "no-store"));
    }
}

/// Turns the 401 of a page load that needs a session into the way to sign-in.
fn send_to_sign_in(request: &Request<'_>, response: &mut Response<'_>, reason: SignedOut) {
    let Some(rp) = request.rocket().state::<RelyingParty>() else {
        return;
    };
    let sign_in_helps = matches!(rp.source, Source::Provider(_));
    if sign_in_helps && response.status() == Status::Unauthorized && is_page_load(request) {
        response.set_status(Status::SeeOther);
        let comes_back = reason != SignedOut::RefreshRefused || rp.settings.preserve_next_on_error;
        let login = match comes_back {
            true => rp.login_url(&request.uri().to_string()),
            false => rp.login_url("/"),
        };
        response.set_header(Header::new("Location", login));
        response.set_header(Header::new("Cache-Control", "no-store"));
        response.remove_header("Content-Type");
        response.remove_header("WWW-Authenticate");
        response.remove_header("Access-Control-Expose-Headers");
        response.set_sized_body(0, std::io::Cursor::new(""));
    }
}
