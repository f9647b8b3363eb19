//! Token revocation (RFC 7009) for sessions that ended in this app.

use std::sync::Arc;

use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use time::OffsetDateTime;

use super::{
    Client, Refreshes, TokensOfSessions,
    revoke_later::{revoke_access_tokens_later, revoke_later},
};
use crate::{
    clock::Clock,
    provider::Provider,
    secret::Secret,
    session::{CurrentSession, DropCached, Revoke, Session, SessionTokens},
    tasks::Tasks,
};

/// The maximum number of sessions whose revoked generation is cached.
const MAX_REVOKED: u64 = 10_000;

/// Revokes the tokens of sessions that have ended.
pub(crate) struct Revocations {
    provider: Arc<Provider>,
    refreshes: Arc<Refreshes>,
    /// The access tokens of sessions for other APIs.
    session_tokens: TokensOfSessions,
    /// The newest generation whose tokens were revoked, by session name: two requests may end one session, and a
    /// store that was down may return the session again.
    revoked: Cache<String, u64>,
    clock: Clock,
    tasks: Tasks,
}

impl Revocations {
    pub(crate) fn new(
        provider: &Arc<Provider>,
        refreshes: &Arc<Refreshes>,
        session_tokens: &TokensOfSessions,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Revocations {
        Revocations {
            provider: provider.clone(),
            refreshes: refreshes.clone(),
            session_tokens: session_tokens.clone(),
            revoked: Cache::builder()
                .max_capacity(MAX_REVOKED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        }
    }

    /// The callbacks with which session storage revokes the tokens of an ended session, and drops those that are cached.
    pub(crate) fn into_callbacks(self) -> (Revoke, DropCached) {
        let session_tokens = self.session_tokens.clone();
        let revoke = Arc::new(
            move |name: &str, session: Option<&CurrentSession>, successor: Option<&CurrentSession>| {
                let now = self.clock.now();
                let tokens = self.tokens_of(name, session, successor);
                let of_apis = self.session_tokens.drop_all_of(&name.into());
                revoke_later(&self.tasks, &self.provider, &tokens, now);
                if !may_share_grant(session.map(|session| &**session), successor) {
                    revoke_access_tokens_later(&self.tasks, &self.provider, of_apis, now);
                }
            },
        );
        let drop_cached = Arc::new(move |name: &str| drop(session_tokens.drop_all_of(&name.into())));
        (revoke, drop_cached)
    }

    /// The tokens to revoke of a session that ended: those of its record, with the refresh token that could not be
    /// stored in place of the recorded one. If a session replaces it, no token that may share a grant with the tokens
    /// of the new session: many providers revoke a grant as a whole.
    fn tokens_of(
        &self,
        name: &str,
        session: Option<&CurrentSession>,
        successor: Option<&CurrentSession>,
    ) -> SessionTokens {
        let newer = self.refreshes.take_unstored(name);
        let kept = successor.and_then(CurrentSession::tokens);
        if may_share_grant(session.map(|session| &**session), successor) {
            return SessionTokens::default();
        }
        let session = session.filter(|session| self.is_first(name, session.generation));
        let tokens = session.and_then(CurrentSession::tokens);
        let tokens = tokens.map(|tokens| SessionTokens::clone(tokens));
        let mut tokens = tokens.unwrap_or_default();
        tokens.refresh_token = newer.or(tokens.refresh_token);
        if let Some(kept) = kept {
            let kept = [&kept.access_token, &kept.refresh_token];
            let is_kept = |token: &Secret| kept.contains(&&Some(token.clone()));
            tokens.access_token = tokens.access_token.filter(|token| !is_kept(token));
            tokens.refresh_token = tokens.refresh_token.filter(|token| !is_kept(token));
        }
        tokens
    }

    /// Whether the tokens of this generation were not revoked before. Marks them as revoked.
    fn is_first(&self, name: &str, generation: u64) -> bool {
        let mut is_first = false;
        self.revoked.entry_by_ref(name).and_compute_with(|last| {
            is_first = last.is_none_or(|last| last.into_value() < generation);
            if is_first { Op::Put(generation) } else { Op::Nop }
        });
        is_first
    }
}

/// Revokes the tokens of a sign-in that failed, unless they may come from the grant of a session that the browser keeps:
/// many providers revoke a grant as a whole, and end their own session with it. Without `session` its user is unknown.
pub(crate) fn revoke_failed(
    client: &Client<'_>,
    tokens: &SessionTokens,
    session: Option<&Session>,
    kept: Option<&CurrentSession>,
    now: OffsetDateTime,
) {
    if !may_share_grant(session, kept) {
        revoke_later(&client.tasks, client.provider, tokens, now);
    }
}

/// Whether the session that the browser keeps, or the one that replaces it, may have tokens of the same grant.
fn may_share_grant(session: Option<&Session>, kept: Option<&CurrentSession>) -> bool {
    kept.is_some_and(|kept| session.is_none_or(|session| is_one_grant(session, kept)))
}

/// Whether the tokens of both may come from one grant: without `sid` this is unknown.
fn is_one_grant(session: &Session, successor: &Session) -> bool {
    let sids = session.sid().zip(successor.sid());
    let is_other_sid = sids.is_some_and(|(sid, other)| sid != other);
    let is_same_user = session.issuer == successor.issuer && session.subject() == successor.subject();
    is_same_user && !is_other_sid
}
