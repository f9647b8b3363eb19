//! An access token that the provider issued to this app.

use std::{fmt, sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::{
    provider::{Endpoint, ProviderError, Tokens},
    secret::Secret,
    token::{MAX_ACCESS_TOKEN, ProofKey},
};

/// How long a token is cached whose lifetime the provider does not state.
const UNSTATED_TTL: Duration = Duration::from_secs(60);
/// The maximum time that a token is cached, whatever lifetime the provider states.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The maximum time before its expiry at which a token is not used any more.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// By how much the clock may be set back while tokens are cached.
const MAX_CLOCK_STEP: Duration = Duration::from_secs(60);

/// An access token that the provider issued to this app, for another API. Clones share it.
///
/// It has no `Display` and no `Serialize`, and its `Debug` output hides it. Send it to the API that it is for, and to
/// no other.
#[derive(Clone)]
pub struct IssuedToken(Arc<Issued>);

struct Issued {
    token: Secret,
    scopes: Option<Vec<String>>,
    /// The key that it is bound to.
    key: Option<ProofKey>,
    issued_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    /// Until when it is cached.
    usable_until: OffsetDateTime,
}

impl IssuedToken {
    /// The token of a response to a request that was sent at this time. `latest` is when it is not used any more in
    /// any case, and `key` what it is bound to.
    ///
    /// Its lifetime counts from the request: the provider's, from some time between it and the response.
    pub(crate) fn accept(
        reply: Tokens,
        requested_at: OffsetDateTime,
        latest: Option<OffsetDateTime>,
        key: Option<ProofKey>,
    ) -> Result<IssuedToken, ProviderError> {
        let malformed = |cause: &str| {
            Err(ProviderError::Malformed {
                endpoint: Endpoint::Token,
                cause: cause.to_owned(),
            })
        };
        let text = reply.access_token.expose();
        if text.len() > MAX_ACCESS_TOKEN {
            return malformed("`access_token` is longer than any header may be");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return malformed("`access_token` has characters that no header may have");
        }
        let after = |ttl: Duration| requested_at.saturating_add(ttl.try_into().unwrap_or(time::Duration::MAX));
        let (expires_at, ttl) = match reply.expires_in {
            Some(ttl) => (Some(after(ttl)), ttl.saturating_sub((ttl / 10).min(EXPIRY_MARGIN))),
            None => (None, UNSTATED_TTL),
        };
        let usable_until = after(ttl.min(MAX_TTL));
        Ok(IssuedToken(Arc::new(Issued {
            token: reply.access_token,
            scopes: reply.scope,
            key,
            issued_at: requested_at,
            expires_at,
            usable_until: latest.map_or(usable_until, |latest| latest.min(usable_until)),
        })))
    }

    /// The access token of a session, which is not cached beside it.
    #[cfg(feature = "api-client")]
    pub(crate) fn of_session(token: &Secret, key: Option<&ProofKey>, now: OffsetDateTime) -> IssuedToken {
        IssuedToken(Arc::new(Issued {
            token: token.clone(),
            scopes: None,
            key: key.cloned(),
            issued_at: now,
            expires_at: None,
            usable_until: now,
        }))
    }

    /// The token itself, for the header `Authorization: Bearer …` (RFC 6750 §2.1). If it [is bound](Self::is_bound), it is
    /// of no use there: `ApiClient`, with the cargo feature `api-client`, sends it with a proof.
    pub fn expose(&self) -> &str {
        self.0.token.expose()
    }

    /// Whether the token is bound to a key of this app (DPoP, [RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)): each
    /// request with it needs a proof.
    pub fn is_bound(&self) -> bool {
        self.0.key.is_some()
    }

    /// When the provider says that it expires; `None` if it does not say.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.0.expires_at
    }

    /// The scopes that the provider granted, if it states them; otherwise those that were requested (RFC 6749 §5.1).
    /// They may be fewer than requested.
    pub fn scopes(&self) -> Option<&[String]> {
        self.0.scopes.as_deref()
    }

    pub(super) fn issued_at(&self) -> OffsetDateTime {
        self.0.issued_at
    }

    /// The key that it is bound to.
    #[cfg(feature = "api-client")]
    pub(crate) fn key(&self) -> Option<&ProofKey> {
        self.0.key.as_ref()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0.token
    }

    /// Whether it may be used for a request that begins now.
    pub(super) fn is_usable(&self, now: OffsetDateTime) -> bool {
        // Later than now: the clock was set back, and the expiry with it.
        now < self.0.usable_until
            && self.0.issued_at <= now.saturating_add(MAX_CLOCK_STEP.try_into().unwrap_or_default())
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("expires_at", &self.0.expires_at)
            .field("scopes", &self.0.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn tokens(access_token: &str, expires_in: Option<Duration>) -> Tokens {
        Tokens {
            access_token: Secret::new(access_token),
            expires_in,
            refresh_token: None,
            id_token: None,
            scope: None,
            token_type: None,
            issued_token_type: None,
            authorization_details: vec![],
        }
    }

    fn lasting(expires_in: Option<u64>, latest: Option<i64>) -> IssuedToken {
        let reply = tokens("at", expires_in.map(Duration::from_secs));
        IssuedToken::accept(reply, at(1_000), latest.map(at), None).unwrap()
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_expiry() {
        for (expires_in, latest, last) in [
            (Some(3_600), None, Some(4_539)),
            (Some(300), None, Some(1_269)),
            (Some(10), None, Some(1_008)),
            (Some(1), None, Some(1_000)),
            (Some(0), None, None),
            (None, None, Some(1_059)),
            // A day at most.
            (Some(u64::MAX), None, Some(1_000 + 86_399)),
            (Some(3_600), Some(1_500), Some(1_499)),
            (None, Some(1_020), Some(1_019)),
            (Some(300), Some(1_000), None),
        ] {
            let token = lasting(expires_in, latest);
            let usable: Vec<_> = (1_000..=1_000 + 86_500)
                .filter(|now| token.is_usable(at(*now)))
                .collect();
            assert_eq!(usable.last().copied(), last, "{expires_in:?} {latest:?}");
            assert_eq!(usable.len() as i64, last.map_or(0, |last| last - 999));
        }
        let never = lasting(Some(u64::MAX), None);
        assert!(never.expires_at() > Some(at(1_000_000_000)));
        assert_eq!(lasting(None, None).expires_at(), None);
        assert_eq!(lasting(Some(300), None).expires_at(), Some(at(1_300)));
    }

    #[test]
    fn a_token_of_the_future_is_not_used() {
        let token = lasting(Some(3_600), None);
        for (now, is_usable) in [(1_000, true), (999, true), (940, true), (939, false), (0, false)] {
            assert_eq!(token.is_usable(at(now)), is_usable, "{now}");
        }
    }

    #[test]
    fn only_what_a_header_may_carry_is_a_token() {
        let cause = |text: &str| match IssuedToken::accept(tokens(text, None), at(0), None, None) {
            Ok(token) => token.expose().to_owned(),
            Err(error) => error.to_string(),
        };
        let invalid = |cause: &str| format!("the provider's token endpoint sent an invalid response: {cause}");
        let characters = invalid("`access_token` has characters that no header may have");
        assert_eq!(cause("a.b-c_~+/="), "a.b-c_~+/=");
        for text in ["a b", "a\r\nHost: evil", "a\tb", "é", "a\0"] {
            assert_eq!(cause(text), characters, "{text:?}");
        }
        assert_eq!(cause(&"a".repeat(MAX_ACCESS_TOKEN)).len(), MAX_ACCESS_TOKEN);
        let long = invalid("`access_token` is longer than any header may be");
        assert_eq!(cause(&"a".repeat(MAX_ACCESS_TOKEN + 1)), long);
    }

    #[test]
    fn a_token_is_not_printed() {
        let printed = format!("{:?}", lasting(Some(300), None));
        assert!(!printed.contains("at\""), "{printed}");
        assert!(printed.starts_with("IssuedToken { expires_at: "), "{printed}");
    }
}
