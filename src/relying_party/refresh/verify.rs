//! Verification of the response to a refresh: the ID token, and UserInfo.

use time::OffsetDateTime;

use super::failure::{ClaimsError, Failure};
use crate::{
    provider::{KeyPurpose, Metadata, RequestedBy, Tokens, UserInfoRequestError},
    relying_party::Client,
    session::{CurrentSession, Session, SessionTokens, UserKind},
    token::{Claims, OriginalSignIn, RefreshedIdToken},
};

impl Client<'_> {
    /// Verifies the ID token of a token response (OpenID Connect Core 1.0 §12.2). `None` when there is none.
    pub(super) async fn verify_id_token(
        &self,
        metadata: &Metadata,
        current: &CurrentSession,
        old: &SessionTokens,
        reply: &Tokens,
        now: OffsetDateTime,
    ) -> Result<Option<RefreshedIdToken>, Failure> {
        let Some(id_token) = &reply.id_token else {
            return Ok(None);
        };
        let algorithms = self.provider.id_token_algorithms(metadata);
        let expected = self.id_token_expectations(&algorithms, &reply.access_token);
        let original = OriginalSignIn {
            issuer: &current.issuer,
            claims: &current.claims,
            nonce: old.nonce.as_ref(),
        };
        let verdict = self
            .provider
            .with_keys(
                metadata,
                KeyPurpose::ProviderReply,
                now,
                |keys| RefreshedIdToken::accept(id_token.expose(), keys, &expected, &original, now),
                |error| error.wants_fresh_keys(),
            )
            .await
            // A failure to get the keys says nothing about this token.
            .map_err(|error| Failure::later(error.reason(), error.to_string()))?;
        let accepted = verdict?;
        self.provider.id_token_accepted(accepted.algorithm);
        Ok(Some(accepted))
    }

    /// Requests UserInfo again, if it is enabled and there is an access token; logs errors.
    pub(super) async fn request_user_info(
        &self,
        metadata: &Metadata,
        session: &Session,
        tokens: &SessionTokens,
        now: OffsetDateTime,
    ) -> Result<Option<Claims>, ClaimsError> {
        // "Every time you receive an access token, you should use the token to revalidate the user's identity" (GitHub).
        let is_plain = session.kind == UserKind::OAuth2;
        let is_enabled = is_plain || self.settings.user_info_enabled && self.settings.session.refresh_user_info;
        let Some(access_token) = tokens.access_token.as_ref().filter(|_| is_enabled) else {
            return Ok(None);
        };
        let asked = async {
            if is_plain {
                let subject = Some(session.subject());
                let user = self.provider.github_user(metadata, access_token, subject, now);
                return Ok(Some(user.await?.into_claims().1));
            }
            let user = (&*session.issuer, session.subject());
            let token = (access_token, tokens.proof_key.as_ref());
            let asked = self
                .provider
                .user_info_about(metadata, user, token, RequestedBy::Session, now);
            Ok(asked.await?)
        };
        let kept = if self.settings.user_info_optional {
            "only the claims of the ID token are kept (`user_info_optional`)"
        } else {
            "the previous claims are kept"
        };
        asked.await.inspect_err(|error| match error {
            error if error.is_outage() => tracing::warn!("{error}; {kept}"),
            error if error.ends_session() => {
                tracing::info!(reason = error.reason(), "a session ended at its refresh: {error}");
            }
            ClaimsError::UserInfo(UserInfoRequestError::UserInfo(error)) => {
                tracing::error!("{error}; the previous claims are kept");
                tracing::info!("{}", error.remedy());
            }
            error => tracing::warn!("{error}; the previous claims are kept"),
        })
    }
}
