//! An accepted access token, with derived values that all requests with this token share.

use std::{
    any::Any,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rocket::serde::DeserializeOwned;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use super::Issuer;
use crate::{
    provider::{ProviderError, RequestedBy, UserInfoRequestError},
    requirement::{Authentication, RequiredAuthentication},
    token::{AccessToken, Claims, TokenError},
};

/// An accepted access token and its issuer.
pub(crate) struct Accepted {
    pub(crate) token: AccessToken,
    /// `None` for a testing profile.
    pub(super) issuer: Option<Arc<Issuer>>,
    /// The claims, deserialized into the first type that a guard asked for.
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
    user_info: OnceCell<Arc<Claims>>,
}

/// Why UserInfo gives no claims about the user of an access token.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BearerUserInfoError {
    /// The provider has no UserInfo endpoint, or `enabled = false`.
    #[error("there is no UserInfo endpoint to ask")]
    NoEndpoint,
    /// The token has no user: its `sub` is absent.
    #[error("the access token has no \"sub\" to compare UserInfo with")]
    NoSubject,
    /// The response is invalid, or is about another user.
    #[error(transparent)]
    UserInfo(TokenError),
    /// The request to the provider failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl Accepted {
    pub(super) fn new(token: AccessToken, issuer: Option<Arc<Issuer>>) -> Accepted {
        Accepted {
            token,
            issuer,
            typed: OnceLock::new(),
            user_info: OnceCell::new(),
        }
    }

    /// The claims, deserialized into the app's type. The error names the invalid claim, never its value.
    pub(crate) fn claims<C: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<C>, String> {
        let claims: Arc<dyn Any + Send + Sync> = self.token.claims.clone();
        if let Ok(claims) = claims.downcast::<C>() {
            return Ok(claims);
        }
        if let Some(Ok(typed)) = self.typed.get().map(|typed| typed.clone().downcast::<C>()) {
            return Ok(typed);
        }
        let typed: Arc<C> = Arc::new(self.token.claims.fit()?);
        let _ = self.typed.set(typed.clone());
        Ok(typed)
    }

    /// Whether the token's user authenticated as a guard demands, by its `auth_time` and `acr`. A time later than now,
    /// beyond the clock skew, is none; a testing profile authenticated just now, unless it says otherwise.
    pub(crate) fn satisfies(&self, required: &RequiredAuthentication, now: OffsetDateTime) -> bool {
        if *required == RequiredAuthentication::any() {
            return true;
        }
        let provider = self
            .issuer
            .as_ref()
            .map(|issuer| issuer.provider.settings.provider_name());
        if !provider.is_none_or(|name| required.allows_provider(name)) {
            return false;
        }
        let claims = &self.token.claims;
        let skew = self
            .issuer
            .as_ref()
            .map_or(Duration::ZERO, |issuer| issuer.expected.clock_skew);
        let latest = now.unix_timestamp() as f64 + skew.as_secs_f64();
        let time = match (claims.get::<f64>("auth_time"), &self.issuer) {
            (Some(time), _) => Some(time).filter(|time| *time <= latest),
            (None, Some(_)) => None,
            (None, None) => Some(now.unix_timestamp() as f64),
        };
        let authentication = Authentication {
            time: time.map(|time| time as i64),
            acr: claims.get("acr").filter(|acr: &String| {
                let issuer = self.issuer.as_ref();
                issuer.is_none_or(|issuer| issuer.provider.settings.counts_acr(acr))
            }),
        };
        required.is_met_by(&authentication, now, skew)
    }

    /// The UserInfo claims about the token's user, requested for a client with this address, once for each token.
    pub(crate) async fn user_info(
        &self,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Arc<Claims>, BearerUserInfoError> {
        let ask = async || {
            let issuer = self.issuer.as_ref().ok_or(BearerUserInfoError::NoEndpoint)?;
            let subject = self.token.subject().ok_or(BearerUserInfoError::NoSubject)?;
            let metadata = issuer.provider.metadata(now).await?;
            let claims = issuer
                .provider
                .user_info_about(
                    &metadata,
                    (self.token.issuer(), subject),
                    (&self.token.token, None),
                    RequestedBy::ApiClient(client),
                    now,
                )
                .await
                .map_err(|error| match error {
                    UserInfoRequestError::Provider(error) => BearerUserInfoError::Provider(error),
                    UserInfoRequestError::UserInfo(error) => BearerUserInfoError::UserInfo(error.into()),
                })?;
            claims.map(Arc::new).ok_or(BearerUserInfoError::NoEndpoint)
        };
        self.user_info.get_or_try_init(ask).await.cloned()
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
