//! The introspection endpoint (RFC 7662): what the provider says about a token that only it can read.

use time::OffsetDateTime;
use url::Url;

use super::{
    Endpoint, Metadata, Provider, ProviderError, client_authentication::ClientAuthentication,
};
use crate::settings::{IntrospectionAuthMethod, TokenEndpointAuthMethod};

impl Provider {
    /// Where tokens can be asked about, if anywhere: what client secrets say, else the metadata.
    pub(crate) fn introspection_endpoint<'a>(
        &'a self,
        metadata: Option<&'a Metadata>,
    ) -> Option<&'a Url> {
        match &self.registration.introspection_endpoint {
            Some(url) => Some(url),
            None => metadata?.introspection_endpoint(),
        }
    }

    /// Asks about a token. The reply is a body of status 200, not judged yet.
    pub(crate) async fn introspect(
        &self,
        url: &Url,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<u8>, ProviderError> {
        let endpoint = Endpoint::Introspection;
        // §2.1. One method a request: nothing of the client stands in two places.
        let method = match self.settings.introspection_auth_method {
            IntrospectionAuthMethod::Bearer => None,
            // A client that has a key and no secret has one way only.
            _ if self.registration.client_secret.is_none() => {
                Some(TokenEndpointAuthMethod::PrivateKeyJwt)
            }
            IntrospectionAuthMethod::ClientSecretBasic => {
                Some(TokenEndpointAuthMethod::ClientSecretBasic)
            }
            IntrospectionAuthMethod::ClientSecretPost => {
                Some(TokenEndpointAuthMethod::ClientSecretPost)
            }
        };
        let authentication = match method {
            Some(method) => self.authentication(method, url, now),
            None => ClientAuthentication::Authorization(format!("Bearer {token}")),
        };
        let form = vec![("token", token), ("token_type_hint", "access_token")];
        let reply = self.post_form(endpoint, url, form, &authentication).await?;
        match reply.status().as_u16() {
            200 => Ok(reply.into_body()),
            // §2.3: here the token authorizes the question about itself, and it does not.
            401 if self.settings.introspection_auth_method == IntrospectionAuthMethod::Bearer => {
                Ok(br#"{"active":false}"#.to_vec())
            }
            // RFC 6749 §5.2, whatever the body says: it is we who were refused, not the token.
            status @ (400 | 401 | 403) => Err(ProviderError::Refused {
                endpoint,
                status,
                error: "invalid_client".to_owned(),
                description: format!("status {status}"),
                retry_after: None,
            }),
            _ => Err(ProviderError::of_status(endpoint, &reply)),
        }
    }
}
