//! Request guards: the types that an app uses in its route signatures.

mod authorized;
mod bearer;
mod bound_bearer;
mod caller;
mod draft;
mod is_guard;
mod keep_form;
mod kept;
mod logged_in;
#[cfg(feature = "okapi")]
mod openapi;
mod optional_user;
mod readiness;
mod relying_party;
mod security_schemes;
mod silent;
mod visitor;

use std::{sync::Arc, time::Duration};

use rocket::{Phase, Request, Rocket, serde::DeserializeOwned};

pub use authorized::{Authorized, AuthorizedError, Policy};
pub use bearer::Bearer;
pub use bound_bearer::BoundBearer;
pub use caller::{Caller, CallerError};
pub use draft::Draft;
pub(crate) use keep_form::{KeptRequest, drop_sent_form, form_of_user};
pub use kept::{Kept, KeptError};
pub use logged_in::{LoggedIn, LoggedInError};
pub use optional_user::OptionalUser;
pub use security_schemes::SecuritySchemes;
pub use visitor::Visitor;

use crate::{
    clock::Clock,
    observing,
    relying_party::{Freshness, Providers, RelyingParty, SessionHandle, User},
    request::{RequestState, Sender, StepUp, check_sender, relying_party, relying_party_of_session},
    requirement::Requirement,
    resource_server::ResourceServer,
    session::{CurrentSession, NoSession},
};

/// The base name of the cookie that marks the testing profile as signed out.
pub(crate) const TESTING_SIGNED_OUT: &str = "oidc_testing_signed_out";

/// Records for the page for developers that a guard runs at the request's route.
fn note_guard<G>(request: &Request<'_>, any_of: Option<&[&[&str]]>) {
    if let Some(rp) = request.rocket().state::<RelyingParty>() {
        rp.events.developer_log.guard::<G>(request, any_of);
    }
}

/// The session of a request, read once and cached for all guards of the request: `NoSession::CrossOrigin` if a page of
/// another origin sent it.
pub(crate) async fn current_session<'r>(request: &'r Request<'_>) -> &'r Result<Arc<CurrentSession>, NoSession> {
    let session = &RequestState::of(request).session;
    if let Some(session) = session.get() {
        return session;
    }
    let found = match request.rocket().state::<RelyingParty>() {
        Some(app) => match relying_party_of_own_page(request, app).await {
            Ok(rp) => read_session(request, rp).await.map(Arc::new),
            Err(reason) => Err(reason),
        },
        // Only the app's own guard code reaches this: a guard in a route signature aborts the launch.
        None => {
            tracing::error!(
                "a guard needs a session, but the fairing `Oidc` is not attached or `oidc.resource_server_only` is set"
            );
            tracing::info!("add `.attach(rocket_openidconnect::Oidc::fairing())`, or remove the setting");
            Err(NoSession::Absent)
        }
    };
    session.get_or_init(|| found)
}

/// The relying party whose session a request carries, unless a page of another origin sent it.
async fn relying_party_of_own_page<'r>(
    request: &'r Request<'_>,
    app: &'r RelyingParty,
) -> Result<&'r RelyingParty, NoSession> {
    if !Sender::is_irrelevant(request) {
        let here = relying_party(request, app).await.map_err(NoSession::from)?;
        check_sender(request, here).map_err(|_| NoSession::CrossOrigin)?;
    }
    relying_party_of_session(request, app).await
}

async fn read_session(request: &Request<'_>, rp: &RelyingParty) -> Result<CurrentSession, NoSession> {
    let (jar, now) = (request.cookies(), rp.clock.now());
    if !rp.is_enabled() {
        let marker = rp.cookies.named(TESTING_SIGNED_OUT, "/");
        if marker.read(jar).is_some() {
            return Err(NoSession::Disabled);
        }
        if !rp.signs_testing_profile_in() {
            return rp.session_of_every_visitor(now);
        }
    }

    let mut ended = vec![];
    let found = rp.sessions.find(jar, now, &mut ended).await;
    if !ended.is_empty() {
        rp.events.sessions_changed(Some(request), ended).await;
    }
    let found = found.inspect_err(|reason| {
        if *reason != NoSession::Absent {
            observing::session_rejected(reason.reason(), reason);
        }
    })?;
    let Some(client) = rp.client() else {
        return testing_session(request, rp, found.session, now).await;
    };
    client.learn_algorithm(&found.session);
    let state = RequestState::of(request);
    if state.is_inquiry.get().is_some() {
        if client.is_sign_in_required(&found.session, now) {
            return Err(NoSession::SignInRequired);
        }
        return Ok(found.session);
    }
    // The session is ending: skip the refresh.
    if state.is_ending.get().is_some() {
        return Ok(found.session);
    }
    if RequestState::is_answered(request) || state.outgoing().is_sent() {
        warn_of_late_guard(request);
        let session = client.without_refresh(found.session, now);
        return session.inspect_err(|reason| observing::session_rejected(reason.reason(), reason));
    }
    if found.is_newer {
        state.outgoing().set(&found.session);
    }
    match client.keep_fresh(found.session, now).await {
        Freshness::Fresh(mut session) => {
            // A touch during a forced refresh would race with the response that sets the newer cookie.
            if rp.sessions.is_touch_due(&session, now)
                && !rp.refreshes.is_refresh_in_flight(session.name())
                && rp.sessions.touch(&mut session, now).await
            {
                state.outgoing().set(&session);
            }
            Ok(session)
        }
        Freshness::Renewed(session) => {
            state.outgoing().set(&session);
            Ok(session)
        }
        Freshness::Stale {
            mut session,
            is_renewed,
            overdue,
        } => {
            // The request still counts as activity, so that a provider outage does not expire the session.
            if rp.sessions.touch(&mut session, now).await || is_renewed {
                state.outgoing().set(&session);
            }
            let Some(retry_after) = overdue else {
                return Ok(session);
            };
            let _ = state.retry_after.set(Duration::from_secs(retry_after.unsigned_abs()));
            let reason = NoSession::RefreshUnavailable;
            observing::session_rejected(reason.reason(), &reason);
            Err(reason)
        }
        Freshness::NoSession { session, reason } => {
            let _ = state.ended_user.set(session.user_key());
            state.outgoing().not_refreshed(&session, reason);
            Err(reason)
        }
    }
}

/// Logs, at most once a minute, that a guard reads a session after the response is written.
pub(crate) fn warn_of_late_guard(request: &Request<'_>) {
    if let Some(server) = request.rocket().state::<ResourceServer>() {
        observing::guard_after_response(&server.throttle, server.clock.now());
    }
}

/// The session of a browser that signed in as the testing profile.
async fn testing_session(
    request: &Request<'_>,
    rp: &RelyingParty,
    mut session: CurrentSession,
    now: time::OffsetDateTime,
) -> Result<CurrentSession, NoSession> {
    let state = RequestState::of(request);
    let is_used =
        state.is_ending.get().is_none() && state.is_inquiry.get().is_none() && !RequestState::is_answered(request);
    if is_used && rp.sessions.touch(&mut session, now).await {
        state.outgoing().set(&session);
    }
    rp.with_testing_profile(session, now)
}

/// The signed-in user, with claims deserialized into the app's type.
pub(crate) async fn current_user<C: DeserializeOwned + 'static>(
    request: &Request<'_>,
) -> Result<User<C>, LoggedInError> {
    let session = match current_session(request).await {
        Ok(session) => session.clone(),
        Err(reason) => return Err(LoggedInError::NoSession(*reason)),
    };
    let rp = request.rocket().state::<RelyingParty>();
    let now = rp.map_or_else(|| Clock::default().now(), |rp| rp.clock.now());

    let state = RequestState::of(request);
    let of_provider = state.provider.get().and_then(|rp| rp.as_ref().ok());
    let rp = of_provider.or_else(|| request.rocket().state::<Arc<RelyingParty>>());
    let handle = rp.map(|rp| SessionHandle {
        rp: rp.clone(),
        answer: state.outgoing().clone(),
    });
    User::new(session, handle, now).map_err(|error| {
        let expected = std::any::type_name::<C>();
        tracing::error!("the claims of a signed-in user do not deserialize into `{expected}`: {error}");
        tracing::info!("make the claim optional in that type, or have the provider send it");
        LoggedInError::Claims { expected }
    })
}

/// Fails if the user's authentication does not satisfy what `R` demands.
pub(crate) fn check_authentication<R: Requirement, C>(
    request: &Request<'_>,
    user: &User<C>,
) -> Result<(), LoggedInError> {
    let required = R::required();
    let Some(rp) = request.rocket().state::<RelyingParty>() else {
        return Err(LoggedInError::NoSession(NoSession::Absent));
    };
    let session = user.session();
    // The testing profile is a user of any provider.
    if (required.allows_provider(&session.provider) || !rp.is_enabled())
        && required.is_met_by(&session.authentication, rp.clock.now(), rp.settings.clock_skew)
    {
        return Ok(());
    }
    RequestState::of(request).insufficient(session);
    let step_up = StepUp::new(required, session);
    let _ = RequestState::of(request).step_up.set(Box::new(step_up));
    Err(LoggedInError::Authentication)
}

/// Whether the guard `G` demands what no authentication can satisfy, which aborts the launch.
pub(crate) fn is_contradictory<G, R: Requirement>(rocket: &Rocket<impl Phase>) -> bool {
    let required = R::required();
    let providers = rocket.state::<RelyingParty>().and_then(RelyingParty::providers);
    let unknown = required.provider().filter(|name| {
        let is_known = |providers: &Providers| providers.of_source.is_some() || providers.in_settings(name).is_some();
        rocket.state::<RelyingParty>().is_some_and(RelyingParty::is_enabled)
            && !providers.is_some_and(|providers| is_known(providers))
    });
    if let Some(name) = unknown {
        let guard = std::any::type_name::<G>();
        tracing::error!("`{guard}` is used in a route, and there is no provider `{name}` in `oidc.providers`");
        tracing::info!("add a table `oidc.providers.{name}`, or name one that is there");
        return true;
    }
    let is_contradictory = required.is_contradictory();
    if is_contradictory {
        let guard = std::any::type_name::<G>();
        tracing::error!("`{guard}` is used in a route, and no user can satisfy all of its requirements");
        tracing::info!("demand authentication contexts that have a value in common, and one provider");
    }
    is_contradictory
}

/// Whether a guard in a route lacks the fairing, which aborts the launch. Logs the error and its remedy.
pub(crate) fn is_fairing_missing<G>(rocket: &rocket::Rocket<rocket::Ignite>) -> bool {
    if let Some(rp) = rocket.state::<RelyingParty>() {
        rp.events.developer_log.declare::<G>();
        return false;
    }
    if rocket.state::<ResourceServer>().is_none() {
        return log_missing_fairing::<G>();
    }
    let guard = std::any::type_name::<G>();
    tracing::error!("`{guard}` is used in a route, but `oidc.resource_server_only` is set");
    tracing::info!("remove the setting, or use `Bearer` in that route");
    true
}

/// Logs that a guard is used without the fairing, and returns `true`.
pub(crate) fn log_missing_fairing<G>() -> bool {
    let guard = std::any::type_name::<G>();
    tracing::error!("`{guard}` is used in a route, but the fairing `Oidc` is not attached");
    tracing::info!("add `.attach(rocket_openidconnect::Oidc::fairing())`");
    true
}
