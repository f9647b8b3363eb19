//! Whether `OptionalUser` tries a silent sign-in before its page is shown.

use rocket::Request;

use crate::{
    relying_party::{RelyingParty, SilentSignIn},
    request::{RequestState, is_top_level_page_load},
    session::NoSession,
};

/// Whether this request is redirected to a silent sign-in. Decided once for each request.
pub(super) fn is_silent_sign_in_due(request: &Request<'_>, reason: NoSession) -> bool {
    let app = request.rocket().state::<RelyingParty>();
    if !app.is_some_and(|app| app.settings.silent && (app.providers().is_none() || app.has_tenants())) {
        // Among several providers, the user chooses.
        return false;
    }
    let state = RequestState::of(request);
    let Some(rp) = state.relying_party(request) else {
        return false;
    };
    let is_due = &state.is_silent_sign_in_due;
    // Neither the redirect nor a cookie would reach the browser.
    if is_due.get().is_none() && RequestState::is_answered(request) {
        return false;
    }
    *is_due.get_or_init(|| decide(request, rp, reason))
}

fn decide(request: &Request<'_>, rp: &RelyingParty, reason: NoSession) -> bool {
    if rp.silent_client().is_none() {
        return false;
    }
    let state = RequestState::of(request);
    let (jar, now) = (request.cookies(), rp.clock.now());
    let has_ended = rp.has_last_session_ended(jar, now);
    match reason {
        NoSession::Idle | NoSession::LifetimeEnded | NoSession::Ended => {
            // The browser removes the session's own cookie some time later.
            if !has_ended {
                state.cookies.add(rp.last_session_ended(now));
            }
            return false;
        }
        NoSession::Absent | NoSession::Unreadable | NoSession::Superseded => {}
        // The response records the end by a refresh, whatever guard found it.
        NoSession::RefreshRefused
        | NoSession::SignInRequired
        | NoSession::RefreshUnavailable
        | NoSession::UnknownKey
        | NoSession::StoreUnavailable
        | NoSession::NoProvider
        | NoSession::ProviderUndecided
        | NoSession::CrossOrigin
        | NoSession::Disabled => return false,
    }
    if has_ended || !is_top_level_page_load(request) || !is_return_address(request, rp) {
        return false;
    }
    match rp.silent_sign_in(jar) {
        None => {
            state.cookies.add([rp.set_silent_sign_in(SilentSignIn::Probed)]);
            false
        }
        Some(SilentSignIn::Probed) => {
            state.cookies.add([rp.set_silent_sign_in(SilentSignIn::Requested)]);
            true
        }
        Some(SilentSignIn::Requested | SilentSignIn::Tried) => false,
    }
}

/// Whether a sign-in can redirect back to this page: not to one of this crate's routes, and not to an address that is
/// too long.
fn is_return_address(request: &Request<'_>, rp: &RelyingParty) -> bool {
    let address = request.uri().to_string();
    rp.page(&address).as_str() == rp.site.paths.in_browser(&address)
}
