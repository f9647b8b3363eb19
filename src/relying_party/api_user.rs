//! A user of a plain OAuth 2.0 provider, whose claims come from its API instead of an ID token.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{Client, NotBegun, SignInError, sign_in::asked_of};
use crate::{
    code_flow::{SignInAttempt, SignInParameters},
    provider::{Metadata, Tokens},
    requirement::Authentication,
    session::{CurrentSession, EarlierEnds, Session, SessionTokens, UserKind},
    settings::ProviderKind,
    token::ClaimSources,
};

/// What a sign-in learns about a user: the issuer, the claims, when the session ends, the authentication, and the
/// recorded ends of the user's sessions.
pub(super) type SignedIn = (Arc<str>, ClaimSources, Option<f64>, Authentication, EarlierEnds);

impl Client<'_> {
    /// The kind of this provider's users.
    pub(super) fn user_kind(&self) -> UserKind {
        match self.provider.registration.kind() {
            ProviderKind::OpenIdConnect => UserKind::OpenIdConnect,
            ProviderKind::GitHub => UserKind::OAuth2,
        }
    }

    /// Fails if a sign-in demands an authentication of which the provider states nothing. Otherwise the guard that
    /// demands it would send the user there again and again.
    pub(super) fn check_demands(&self, asked: &SignInParameters) -> Result<(), SignInError> {
        let demands = asked.max_age().is_some() || asked.acr_values().is_some() || asked.demands_authentication();
        if demands && self.user_kind() == UserKind::OAuth2 {
            return Err(SignInError::AuthenticationNotStated);
        }
        Ok(())
    }

    /// Reads the user from the provider's API.
    pub(super) async fn accept_api_user(
        &self,
        metadata: &Metadata,
        attempt: &SignInAttempt,
        tokens: &Tokens,
        since_code: impl FnOnce() -> Duration,
        now: OffsetDateTime,
    ) -> Result<SignedIn, NotBegun> {
        let granted = tokens.scope.as_deref().unwrap_or_default();
        let mut missing = asked_of(attempt)?.missing_scopes(Some(granted));
        missing.retain(|asked| !granted.iter().any(|scope| implies(scope, asked)));
        if !missing.is_empty() {
            return Err(SignInError::ScopesNotGranted { missing }.into());
        }
        let user = self.provider.github_user(metadata, &tokens.access_token, None, now);
        let (subject, claims) = user.await.map_err(SignInError::from)?.into_claims();
        let issuer: Arc<str> = self.provider.registration.issuer.as_str().into();
        let ends = self.earlier_ends(&issuer, &subject, attempt, since_code).await?;
        let sources = ClaimSources::new(subject, Some(claims));
        Ok((issuer, sources, None, Authentication::default(), ends))
    }

    /// Whether a session without a refresh token is kept up to date by reading its user from the provider's API again:
    /// the access tokens of OAuth Apps at GitHub do not expire, and there are no refresh tokens.
    pub(super) fn is_read_again(&self, session: &CurrentSession) -> bool {
        let tokens = session.tokens();
        session.kind == UserKind::OAuth2
            && tokens.is_some_and(|tokens| tokens.refresh_token.is_none() && tokens.access_token.is_some())
    }

    /// When such a session is read again, in seconds since 1970; `None` if its access token has expired by then.
    pub(super) fn next_reading(&self, tokens: &SessionTokens, now: OffsetDateTime) -> Option<i64> {
        let interval = self.settings.session.refresh_interval.as_secs();
        let next = now.unix_timestamp().saturating_add_unsigned(interval);
        let expiry = tokens.access_token_expires_at;
        expiry.is_none_or(|expiry| next < expiry).then_some(next)
    }

    /// Sets when a session is due again after its user was read, unless a refresh token decides.
    pub(super) fn user_was_read(&self, session: &mut Session, tokens: &SessionTokens, now: OffsetDateTime) {
        if session.kind == UserKind::OAuth2 && tokens.refresh_token.is_none() {
            session.refresh_due = self.next_reading(tokens, now);
        }
    }
}

/// Whether a granted scope includes another one. GitHub then
/// [lists the larger one alone](https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps#normalized-scopes):
/// `user` includes `user:email` and `read:user`, and `admin:org` includes `write:org` and `read:org`.
fn implies(granted: &str, asked: &str) -> bool {
    let level = |scope| match str::split_once(scope, ':') {
        Some(("read", of)) => (1, of),
        Some(("write", of)) => (2, of),
        Some(("admin", of)) => (3, of),
        Some((of, _)) => (0, of),
        None => (4, scope),
    };
    let ((granted_level, granted_of), (asked_level, asked_of)) = (level(granted), level(asked));
    granted_of == asked_of
        && granted_level > asked_level
        && granted_level != 0
        && (asked_level != 0 || granted_level == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_scope_includes_smaller_ones() {
        for (granted, asked, expected) in [
            ("user", "user:email", true),
            ("user", "read:user", true),
            ("repo", "repo:status", true),
            ("admin:org", "write:org", true),
            ("admin:org", "read:org", true),
            ("write:org", "read:org", true),
            ("read:org", "write:org", false),
            ("user:email", "user", false),
            ("user:email", "read:user", false),
            ("user:email", "user:follow", false),
            ("read:user", "user:email", false),
            ("user", "admin:org", false),
            ("user", "users:email", false),
            ("", "user", false),
        ] {
            assert_eq!(implies(granted, asked), expected, "{granted} {asked}");
        }
    }
}
