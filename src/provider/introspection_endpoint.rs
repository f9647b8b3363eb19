//! The introspection endpoint (RFC 7662): what the provider says about a token that only it can read.

use base64::{Engine, engine::general_purpose::STANDARD};
use openidconnect::http::{Request, header};
use url::{Url, form_urlencoded};

use super::{Endpoint, Metadata, Provider, ProviderError};
use crate::settings::IntrospectionAuthMethod;

impl Provider {
    /// Where tokens can be asked about, if anywhere: what client secrets say, else the metadata.
    pub(crate) fn introspection_endpoint<'a>(
        &'a self,
        metadata: Option<&'a Metadata>,
    ) -> Option<&'a Url> {
        match &self.registration.introspection_endpoint {
            Some(url) => Some(url),
            None => metadata?
                .additional_metadata()
                .introspection_endpoint
                .as_ref(),
        }
    }

    /// Asks about a token. The reply is a body of status 200, not judged yet.
    pub(crate) async fn introspect(
        &self,
        url: &Url,
        token: &str,
    ) -> Result<Vec<u8>, ProviderError> {
        let endpoint = Endpoint::Introspection;
        let (client_id, secret) = (
            &self.registration.client_id,
            self.registration.client_secret.as_ref(),
        );

        // §2.1. One method a request: nothing of the client stands in two places.
        let mut form = vec![("token", token), ("token_type_hint", "access_token")];
        let authorization = match (self.settings.introspection_auth_method, secret) {
            (IntrospectionAuthMethod::Bearer, _) => Some(format!("Bearer {token}")),
            (IntrospectionAuthMethod::ClientSecretBasic, Some(secret)) => {
                Some(basic(client_id, secret.expose()))
            }
            (IntrospectionAuthMethod::ClientSecretPost, Some(secret)) => {
                form.push(("client_id", client_id));
                form.push(("client_secret", secret.expose()));
                None
            }
            // A public client only says who it is.
            (_, None) => {
                form.push(("client_id", client_id));
                None
            }
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();

        let mut request = Request::post(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request
            .body(form.into_bytes())
            .map_err(|_| ProviderError::Address { endpoint })?;
        let reply = self.http.call(endpoint, request).await?;
        match reply.status().as_u16() {
            200 => Ok(reply.into_body()),
            // §2.3: here the token authorizes the question about itself, and it does not.
            401 if self.settings.introspection_auth_method == IntrospectionAuthMethod::Bearer => {
                Ok(br#"{"active":false}"#.to_vec())
            }
            // RFC 6749 §5.2, whatever the body says: it is we who were refused, not the token.
            400 | 401 | 403 => Err(ProviderError::Refused {
                endpoint,
                error: "invalid_client".to_owned(),
                description: format!("status {}", reply.status().as_u16()),
            }),
            status => Err(ProviderError::Status { endpoint, status }),
        }
    }
}

/// HTTP Basic with both parts form-encoded (RFC 6749 §2.3.1).
pub(super) fn basic(client_id: &str, client_secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(client_secret));
    format!("Basic {}", STANDARD.encode(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded_before_basic() {
        let decoded = STANDARD
            .decode(basic("a b:c", "p+q/%é").strip_prefix("Basic ").unwrap())
            .unwrap();
        assert_eq!(decoded, b"a+b%3Ac:p%2Bq%2F%25%C3%A9");
    }
}
