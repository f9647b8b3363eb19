//! The UserInfo endpoint (OpenID Connect Core 1.0 §5.3), with claims about the user.

use std::{net::IpAddr, sync::Arc};

use openidconnect::{
    HttpResponse,
    http::{Request, header},
};
use thiserror::Error;
use time::OffsetDateTime;

use super::{Endpoint, KeyPurpose, Metadata, Provider, ProviderError, breaker::CountedOutages};
use crate::{
    secret::Secret,
    token::{Claims, KeySet, ProofKey, UserInfoError, UserInfoExpectations, accept_signed_user_info, accept_user_info},
};

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
    /// the provider has no such endpoint. With the key that the access token is bound to, if it is.
    pub(crate) async fn user_info_about(
        self: &Arc<Self>,
        metadata: &Metadata,
        (issuer, subject): (&str, &str),
        (access_token, key): (&Secret, Option<&ProofKey>),
        requested_by: RequestedBy,
        now: OffsetDateTime,
    ) -> Result<Option<Claims>, UserInfoRequestError> {
        let request = self.user_info_reply(metadata, (access_token, key), now);
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
        // §5.3.2: `application/jwt` if the provider signs it, else `application/json`.
        if !is_jwt(&reply) {
            return Ok(Some(accept_user_info(reply.body(), subject)?));
        }
        let jwt = std::str::from_utf8(reply.body()).map_err(|_| ProviderError::Malformed {
            endpoint: Endpoint::UserInfo,
            cause: "it is not a JWT".to_owned(),
        })?;
        let expected = UserInfoExpectations {
            issuer,
            template: self.registration.expected_issuer(),
            client_id: &self.registration.client_id,
            subject,
            algorithms: &self.user_info_algorithms(metadata),
            client_secret: self.registration.client_secret.as_ref(),
            trusted_audiences: &self.settings.trusted_audiences,
            clock_skew: self.settings.clock_skew,
        };
        let accept = |keys: &Arc<KeySet>| accept_signed_user_info(jwt, keys, &expected, now);
        let claims = self.with_keys(
            metadata,
            KeyPurpose::ProviderReply,
            now,
            accept,
            UserInfoError::wants_fresh_keys,
        );
        Ok(Some(claims.await??))
    }

    /// As [`user_info`](Self::user_info), with a retry at the endpoint of newer metadata if the known one was
    /// unreachable or not found.
    async fn user_info_reply(
        self: &Arc<Self>,
        metadata: &Metadata,
        token: (&Secret, Option<&ProofKey>),
        now: OffsetDateTime,
    ) -> Result<Option<HttpResponse>, ProviderError> {
        match self.user_info(metadata, token, now).await {
            Err(error) if error.may_have_moved() => {
                match self.moved(metadata, |it| it.userinfo_endpoint.as_ref(), now).await {
                    Some(newer) => self.user_info(&newer, token, now).await,
                    None => Err(error),
                }
            }
            reply => reply,
        }
    }

    /// Requests UserInfo with an access token, and a proof of the key that it is bound to
    /// ([RFC 9449 §7.1](https://www.rfc-editor.org/rfc/rfc9449#section-7.1)). `None` if the provider has no such endpoint.
    async fn user_info(
        &self,
        metadata: &Metadata,
        (access_token, key): (&Secret, Option<&ProofKey>),
        now: OffsetDateTime,
    ) -> Result<Option<HttpResponse>, ProviderError> {
        let endpoint = Endpoint::UserInfo;
        let Some(url) = metadata.userinfo_endpoint.as_ref() else {
            return Ok(None);
        };

        let scheme = if key.is_some() { "DPoP" } else { "Bearer" };
        let mut is_repeated = false;
        let reply = loop {
            let mut request = Request::get(url.as_str())
                .header(header::ACCEPT, "application/json, application/jwt")
                .header(header::AUTHORIZATION, format!("{scheme} {}", access_token.expose()));
            if let Some(proof) = self.proof(key, "GET", url, Some(access_token), now) {
                request = request.header("DPoP", proof);
            }
            let request = request
                .body(Vec::new())
                .map_err(|_| ProviderError::Address { endpoint })?;
            let reply = self.http.call(endpoint, request).await?;
            if !self.demands_nonce_at_resource(key, url, &reply) || is_repeated {
                break reply;
            }
            is_repeated = true;
        };
        if reply.status() == 200 {
            Ok(Some(reply))
        } else {
            Err(ProviderError::of_status(endpoint, &reply))
        }
    }
}

fn is_jwt(reply: &HttpResponse) -> bool {
    let content_type = reply
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let media_type = content_type.and_then(|it| it.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/jwt")
}
