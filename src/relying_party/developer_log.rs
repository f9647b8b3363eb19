//! What the page for developers shows beside sign-ins: the last ends of sessions, access tokens, refusals by policies and
//! requests of other origins, and the guards that ran. Kept in memory, in the debug profile only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
};

use rocket::Request;
use time::OffsetDateTime;

use super::{Refusal, RejectedRequest};
use crate::session::SessionChange;

/// The maximum number of entries of each kind.
const MAX_ENTRIES: usize = 20;

#[derive(Default)]
pub(crate) struct DeveloperLog(Option<Mutex<Entries>>);

#[derive(Clone, Default)]
pub(crate) struct Entries {
    /// Newest first.
    pub(crate) ends: VecDeque<(OffsetDateTime, SessionChange)>,
    /// Newest first.
    pub(crate) tokens: VecDeque<RecentToken>,
    /// Newest first.
    pub(crate) refusals: VecDeque<Refusal>,
    /// Newest first.
    pub(crate) rejected: VecDeque<RejectedRequest>,
    /// The guards that ran at each route, with their scopes.
    pub(crate) guards: BTreeMap<String, BTreeMap<&'static str, Option<String>>>,
    /// The guards in the signatures of routes.
    pub(crate) declared: BTreeSet<&'static str>,
}

/// A decision about an access token.
#[derive(Clone)]
pub(crate) struct RecentToken {
    pub(crate) at: OffsetDateTime,
    pub(crate) route: String,
    /// The reason code.
    pub(crate) outcome: &'static str,
    /// `sub` or the client of an accepted token, or why it is rejected.
    pub(crate) text: String,
}

impl DeveloperLog {
    pub(crate) fn new(is_debug: bool) -> DeveloperLog {
        DeveloperLog(is_debug.then(Mutex::default))
    }

    /// Records that a session ended.
    pub(crate) fn ended(&self, change: &SessionChange, now: OffsetDateTime) {
        self.with(|entries| push(&mut entries.ends, (now, change.clone())));
    }

    /// Records a decision about an access token.
    pub(crate) fn token(
        &self,
        request: &Request<'_>,
        outcome: &'static str,
        text: impl FnOnce() -> String,
        now: OffsetDateTime,
    ) {
        self.with(|entries| {
            let (route, text) = (route_of(request), text());
            push(
                &mut entries.tokens,
                RecentToken {
                    at: now,
                    route,
                    outcome,
                    text,
                },
            );
        });
    }

    /// Records that a policy refused a user.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.with(|entries| push(&mut entries.refusals, refusal));
    }

    /// Records that guards rejected a request of another origin.
    pub(crate) fn rejected(&self, request: impl FnOnce() -> RejectedRequest) {
        self.with(|entries| push(&mut entries.rejected, request()));
    }

    /// Records that a guard runs at the request's route; of an access token, with its scopes.
    pub(crate) fn guard<G>(&self, request: &Request<'_>, any_of: Option<&[&[&str]]>) {
        self.with(|entries| {
            let guards = entries.guards.entry(route_of(request)).or_default();
            guards.entry(std::any::type_name::<G>()).or_insert_with(|| {
                let all = any_of?.iter().map(|all_of| all_of.join(" ")).collect::<Vec<_>>();
                Some(all.join(" or ")).filter(|scopes| !scopes.is_empty())
            });
        });
    }

    /// Records that a guard is in the signature of a route.
    pub(crate) fn declare<G>(&self) {
        self.with(|entries| entries.declared.insert(std::any::type_name::<G>()));
    }

    pub(crate) fn entries(&self) -> Entries {
        self.with(|entries| entries.clone()).unwrap_or_default()
    }

    fn with<R>(&self, step: impl FnOnce(&mut Entries) -> R) -> Option<R> {
        let entries = self.0.as_ref()?;
        Some(step(&mut entries.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn push<T>(entries: &mut VecDeque<T>, entry: T) {
    entries.truncate(MAX_ENTRIES - 1);
    entries.push_front(entry);
}

/// The route of a request, as Rocket's launch lists it. Without a route, no guard runs but in a catcher.
fn route_of(request: &Request<'_>) -> String {
    match request.route() {
        Some(route) => format!("{} {}", route.method, route.uri),
        None => "in a catcher".to_owned(),
    }
}

impl fmt::Debug for DeveloperLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeveloperLog(…)")
    }
}
