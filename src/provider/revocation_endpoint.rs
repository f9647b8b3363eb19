//! The revocation endpoint (RFC 7009): tokens that nobody needs any more end there.

use openidconnect::http::{Request, header};
use url::form_urlencoded;

use super::{Endpoint, Metadata, Provider, ProviderError, introspection_endpoint::basic};
use crate::{Secret, settings::TokenEndpointAuthMethod};

/// What kind of token it is (RFC 7009 §2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenTypeHint {
    AccessToken,
    RefreshToken,
}

impl Provider {
    /// Revokes a token. Nothing happens when the provider has no such endpoint.
    pub(crate) async fn revoke(
        &self,
        metadata: &Metadata,
        token: &Secret,
        hint: TokenTypeHint,
    ) -> Result<(), ProviderError> {
        let endpoint = Endpoint::Revocation;
        let Some(url) = &metadata.additional_metadata().revocation_endpoint else {
            return Ok(());
        };

        let hint = match hint {
            TokenTypeHint::AccessToken => "access_token",
            TokenTypeHint::RefreshToken => "refresh_token",
        };
        let mut form = vec![("token", token.expose()), ("token_type_hint", hint)];
        let mut request = Request::post(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        // §2.1: the client authenticates as it does at the token endpoint.
        let client_id = self.registration.client_id.as_str();
        let secret = self.registration.client_secret.as_ref();
        match (self.authentication_method(metadata), secret) {
            (TokenEndpointAuthMethod::ClientSecretBasic, Some(secret)) => {
                let authorization = basic(client_id, secret.expose());
                request = request.header(header::AUTHORIZATION, authorization);
            }
            (TokenEndpointAuthMethod::ClientSecretPost, Some(secret)) => {
                form.push(("client_id", client_id));
                form.push(("client_secret", secret.expose()));
            }
            _ => form.push(("client_id", client_id)),
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = request
            .body(form.into_bytes())
            .map_err(|_| ProviderError::Address { endpoint })?;

        let reply = self.http.call(endpoint, request).await?;
        match reply.status().as_u16() {
            // §2.2: also for a token that is not known.
            200 | 204 => Ok(()),
            status => Err(ProviderError::Status { endpoint, status }),
        }
    }
}
