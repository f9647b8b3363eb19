//! Token revocation (RFC 7009) in the background.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    provider::{Provider, TokenTypeHint},
    secret::Secret,
    session::SessionTokens,
    tasks::Tasks,
};

/// Revokes unused tokens in a background task: the refresh token first, as most providers then revoke every token
/// issued from it.
pub(crate) fn revoke_later(tasks: &Tasks, provider: &Arc<Provider>, tokens: &SessionTokens, now: OffsetDateTime) {
    // Copy only the tokens, without the claims: many tasks may wait.
    let tokens = [
        (tokens.refresh_token.clone(), TokenTypeHint::RefreshToken),
        (tokens.access_token.clone(), TokenTypeHint::AccessToken),
    ];
    let tokens = tokens.into_iter().filter_map(|(token, hint)| Some((token?, hint)));
    revoke_in_order(tasks, provider, tokens.collect(), now);
}

/// Revokes unused access tokens in a background task.
pub(crate) fn revoke_access_tokens_later(
    tasks: &Tasks,
    provider: &Arc<Provider>,
    tokens: Vec<Secret>,
    now: OffsetDateTime,
) {
    let tokens = tokens.into_iter().map(|token| (token, TokenTypeHint::AccessToken));
    revoke_in_order(tasks, provider, tokens.collect(), now);
}

fn revoke_in_order(tasks: &Tasks, provider: &Arc<Provider>, tokens: Vec<(Secret, TokenTypeHint)>, now: OffsetDateTime) {
    if tokens.is_empty() {
        return;
    }
    let provider = provider.clone();
    let revoking = async move {
        let Ok(metadata) = provider.metadata(now).await else {
            return;
        };
        for (token, hint) in tokens {
            if let Err(error) = provider.revoke(&metadata, &token, hint, now).await {
                let reason = error.reason();
                tracing::warn!(
                    reason,
                    "{error}; a token of an ended session was not revoked, and remains valid until it expires"
                );
            }
        }
    };
    tasks.spawn(revoking);
}
