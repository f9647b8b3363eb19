//! Refusals by a policy of the app, with the claims that it looked for in vain.

use rocket::Request;
use time::OffsetDateTime;

use super::{RelyingParty, User, missed_claims::MissedClaim};

/// A request that a policy refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) at: OffsetDateTime,
    pub(crate) path: String,
    pub(crate) policy: &'static str,
    /// What the policy looked for in vain, each with its remedy.
    pub(crate) missed: Vec<(String, String)>,
}

/// Logs which claims a policy looked for in vain before it refused this user, and keeps them for the debug page. Names
/// alone: neither a value nor who the user is.
pub(crate) fn refused_by_policy<C>(request: &Request<'_>, user: &User<C>, policy: &'static str) {
    let Some(app) = request.rocket().state::<RelyingParty>() else {
        return;
    };
    let settings = user.settings().unwrap_or(&app.settings);
    let missed = user.missed_claims().into_iter();
    let missed: Vec<_> = missed.map(|missed| (missed.cause(), missed.remedy(settings))).collect();
    for (cause, remedy) in &missed {
        tracing::warn!(policy, "the policy `{policy}` refused a user: {cause}");
        tracing::info!("{remedy}");
    }
    app.events.developer_log.refused(Refusal {
        at: app.clock.now(),
        path: request.uri().path().to_string(),
        policy,
        missed,
    });
}

impl<C> User<C> {
    /// What was looked for in vain while a policy decided.
    fn missed_claims(&self) -> Vec<MissedClaim> {
        self.missed().map(|missed| missed.list()).unwrap_or_default()
    }
}
