//! The UserInfo endpoint (OpenID Connect Core 1.0 §5.3): claims about the person who signed in.

use openidconnect::http::{Request, header};

use super::{Endpoint, Metadata, Provider, ProviderError};
use crate::Secret;

/// An answer of the UserInfo endpoint, not judged yet.
pub(crate) enum UserInfoReply {
    /// `application/json` (§5.3.2).
    Json(Vec<u8>),
    /// `application/jwt`: signed by the provider (§5.3.2).
    Jwt(String),
}

impl Provider {
    /// Asks for UserInfo with an access token. `None` when the provider has no such endpoint.
    pub(crate) async fn user_info(
        &self,
        metadata: &Metadata,
        access_token: &Secret,
    ) -> Result<Option<UserInfoReply>, ProviderError> {
        let endpoint = Endpoint::UserInfo;
        let Some(url) = metadata.userinfo_endpoint() else {
            return Ok(None);
        };

        let request = Request::get(url.url().as_str())
            .header(header::ACCEPT, "application/json, application/jwt")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", access_token.expose()),
            )
            .body(Vec::new())
            .map_err(|_| ProviderError::Address { endpoint })?;
        let reply = self.http.call(endpoint, request).await?;
        if reply.status() != 200 {
            return Err(ProviderError::Status {
                endpoint,
                status: reply.status().as_u16(),
            });
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
