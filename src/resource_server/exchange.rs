//! Token exchange ([RFC 8693]): a token for another API in place of the one that the app's API accepted.
//!
//! [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693

use std::{net::IpAddr, sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{Accepted, Issuer, TokenHash};
use crate::{
    api_tokens::{ApiTokenError, IssuedToken, IssuedTokens, Limits, Target},
    clock::Clock,
    settings::TokenExchange,
};

/// The tokens of all subject tokens of one issuer.
const LIMITS: Limits = Limits {
    bytes: 32 * 1024 * 1024,
    targets: 32,
};
/// How long a token is cached whose subject token does not state its end.
const UNSTATED_END: Duration = Duration::from_secs(60);

/// Exchanged tokens, by the digest of their subject token.
pub(super) type ExchangedTokens = Arc<IssuedTokens<TokenHash>>;

impl Accepted {
    /// The token in exchange for this one, at its own issuer, for a client with this address.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        target: Target,
        client: Option<IpAddr>,
        clock: &Clock,
    ) -> Result<IssuedToken, ApiTokenError> {
        let issuer = self.issuer.as_ref().ok_or(ApiTokenError::Disabled)?;
        if !issuer.provider.is_confidential_client() {
            return Err(ApiTokenError::NoCredentials);
        }
        let subject = TokenHash::of(self.token.token.expose());
        let begin = || {
            let (subject, target, clock) = (self.clone(), target.clone(), clock.clone());
            let issuer = issuer.clone();
            async move { request(&issuer, &subject, &target, client, &clock).await }
        };
        let provider = issuer.provider.settings.observed();
        let tokens = issuer.exchanged(clock);
        tokens.get(subject, target.clone(), provider.name(), begin, drop).await
    }

    /// When the subject token ends: its exchanged tokens are not used for longer.
    fn latest(&self, now: OffsetDateTime) -> OffsetDateTime {
        let end = self.token.exp().map(OffsetDateTime::from_unix_timestamp);
        match end {
            Some(end) => end.unwrap_or(now),
            None => now.saturating_add(UNSTATED_END.try_into().unwrap_or_default()),
        }
    }

    /// Drops an exchanged token that the other API rejects.
    #[cfg(feature = "api-client")]
    pub(crate) fn reject_exchanged(&self, target: &Target, rejected: &IssuedToken, clock: &Clock) -> bool {
        let subject = TokenHash::of(self.token.token.expose());
        let issuer = self.issuer.as_ref();
        issuer.is_some_and(|issuer| issuer.exchanged(clock).reject(&subject, target, rejected, None))
    }
}

impl Issuer {
    fn exchanged(&self, clock: &Clock) -> &ExchangedTokens {
        let tokens = || {
            Arc::new(IssuedTokens::new(
                "token in exchange for that of a client",
                LIMITS,
                clock,
            ))
        };
        self.exchanged.get_or_init(tokens)
    }
}

async fn request(
    issuer: &Issuer,
    subject: &Accepted,
    target: &Target,
    client: Option<IpAddr>,
    clock: &Clock,
) -> Result<IssuedToken, ApiTokenError> {
    let provider = &issuer.provider;
    let metadata = provider.metadata(clock.now()).await?;
    let requested_at = clock.now();
    let token = &subject.token.token;
    let reply = match provider.settings.token_exchange {
        TokenExchange::Standard => {
            let parameters = target.with_audience();
            provider
                .exchange_token(&metadata, token, &parameters, client, requested_at)
                .await?
        }
        TokenExchange::OnBehalfOf => {
            let parameters = target.in_scope();
            provider
                .act_on_behalf_of(&metadata, token, &parameters, client, requested_at)
                .await?
        }
    };
    Ok(IssuedToken::accept(
        reply,
        requested_at,
        Some(subject.latest(requested_at)),
        None,
    )?)
}
