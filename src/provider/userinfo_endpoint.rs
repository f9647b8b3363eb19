//! The UserInfo endpoint (OpenID Connect Core 1.0 §5.3), with claims about the user.

use std::{net::IpAddr, sync::Arc};

use openidconnect::http::{Request, header};
use thiserror::Error;
use time::OffsetDateTime;

use super::{Endpoint, KeyPurpose, Metadata, Provider, ProviderError, breaker::CountedOutages};
use crate::{
    secret::Secret,
    token::{Claims, UserInfoError, UserInfoExpectations, accept_signed_user_info, accept_user_info},
};

/// An unvalidated response of the UserInfo endpoint.
enum UserInfoReply {
    /// `application/json` (§5.3.2).
    Json(Vec<u8>),
    /// `application/jwt`: signed by the provider (§5.3.2).
    Jwt(String),
}

/// What causes a UserInfo request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestedBy {
    /// A sign-in or a refresh.
    Session,
    /// An API client with this address, whose access token was accepted.
    ApiClient(Option<IpAddr>),
}

/// Why a UserInfo request failed.
#[derive(Debug, Error)]
pub(crate) enum UserInfoRequestError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    UserInfo(#[from] UserInfoError),
}

impl UserInfoRequestError {
    /// Whether the failure is an outage, after which a retry may succeed.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, UserInfoRequestError::Provider(error) if error.is_outage())
    }

    /// The reason code.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            UserInfoRequestError::Provider(error) => error.reason(),
            UserInfoRequestError::UserInfo(error) => error.reason(),
        }
    }
}

impl Provider {
    /// The UserInfo claims about the user with this issuer and `sub`; an error if they are about another. `None` if
    /// the provider has no such endpoint.
    pub(crate) async fn user_info_about(
        self: &Arc<Self>,
        metadata: &Metadata,
        (issuer, subject): (&str, &str),
        access_token: &Secret,
        requested_by: RequestedBy,
        now: OffsetDateTime,
    ) -> Result<Option<Claims>, UserInfoRequestError> {
        let request = self.user_info_reply(metadata, access_token, now);
        let reply = match requested_by {
            RequestedBy::Session => request.await?,
            RequestedBy::ApiClient(client) => {
                let queue = &self.limits.bearer_user_info;
                // The user's data may cause status 500.
                let counted = CountedOutages::AllButStatus500;
                queue.run(client, counted, now, request).await?
            }
        };
        let Some(reply) = reply else {
            return Ok(None);
        };
        let claims = match reply {
            UserInfoReply::Json(body) => accept_user_info(&body, subject)?,
            UserInfoReply::Jwt(jwt) => {
                let algorithms = self.user_info_algorithms(metadata);
                let expected = UserInfoExpectations {
                    issuer,
                    client_id: &self.registration.client_id,
                    subject,
                    algorithms: &algorithms,
                    client_secret: self.registration.client_secret.as_ref(),
                    trusted_audiences: &self.settings.trusted_audiences,
                    clock_skew: self.settings.clock_skew,
                };
                self.with_keys(
                    metadata,
                    KeyPurpose::ProviderReply,
                    now,
                    |keys| accept_signed_user_info(&jwt, keys, &expected, now),
                    |error| error.wants_fresh_keys(),
                )
                .await??
            }
        };
        Ok(Some(claims))
    }

    /// As [`user_info`](Self::user_info), with a retry at the endpoint of newer metadata if the known one was
    /// unreachable or not found.
    async fn user_info_reply(
        self: &Arc<Self>,
        metadata: &Metadata,
        access_token: &Secret,
        now: OffsetDateTime,
    ) -> Result<Option<UserInfoReply>, ProviderError> {
        match self.user_info(metadata, access_token).await {
            Err(error) if error.may_have_moved() => {
                match self.moved(metadata, |it| it.userinfo_endpoint.as_ref(), now).await {
                    Some(newer) => self.user_info(&newer, access_token).await,
                    None => Err(error),
                }
            }
            reply => reply,
        }
    }

    /// Requests UserInfo with an access token. `None` if the provider has no such endpoint.
    async fn user_info(
        &self,
        metadata: &Metadata,
        access_token: &Secret,
    ) -> Result<Option<UserInfoReply>, ProviderError> {
        let endpoint = Endpoint::UserInfo;
        let Some(url) = metadata.userinfo_endpoint.as_ref() else {
            return Ok(None);
        };

        let request = Request::get(url.as_str())
            .header(header::ACCEPT, "application/json, application/jwt")
            .header(header::AUTHORIZATION, format!("Bearer {}", access_token.expose()))
            .body(Vec::new())
            .map_err(|_| ProviderError::Address { endpoint })?;
        let reply = self.http.call(endpoint, request).await?;
        if reply.status() != 200 {
            return Err(ProviderError::of_status(endpoint, &reply));
        }

        let is_jwt = reply
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| kind.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/jwt"));
        if !is_jwt {
            return Ok(Some(UserInfoReply::Json(reply.into_body())));
        }
        match String::from_utf8(reply.into_body()) {
            Ok(jwt) => Ok(Some(UserInfoReply::Jwt(jwt))),
            Err(_) => Err(ProviderError::Malformed {
                endpoint,
                cause: "it is not a JWT".into(),
            }),
        }
    }
}
