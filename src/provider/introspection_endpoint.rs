//! The introspection endpoint (RFC 7662), which reports whether a token is active and what it is for.

use std::net::IpAddr;

use time::OffsetDateTime;
use url::Url;

use super::{
    Endpoint, Metadata, Provider, ProviderError, breaker::CountedOutages, client_authentication::ClientAuthentication,
};
use crate::settings::{IntrospectionAuthMethod, TokenEndpointAuthMethod};

/// The URL of the introspection endpoint, and how the client authenticates at it.
#[derive(Clone, Debug)]
pub(crate) struct IntrospectionEndpoint {
    pub(crate) url: Url,
    /// `None`: by the introspected token itself.
    method: Option<TokenEndpointAuthMethod>,
}

impl Provider {
    /// The introspection endpoint, if there is one: that of the client secrets, else that of the metadata.
    pub(crate) fn introspection_endpoint(&self, metadata: Option<&Metadata>) -> Option<IntrospectionEndpoint> {
        let own = self.registration.introspection_endpoint.as_ref();
        let metadata = metadata.filter(|_| own.is_none());
        let url = match own {
            Some(url) => url,
            None => metadata?.introspection_endpoint.as_ref()?,
        };
        Some(IntrospectionEndpoint {
            url: url.clone(),
            method: self.introspection_method(metadata),
        })
    }

    /// How the client authenticates there ([RFC 7662 §2.1]): by the method of the setting; else by that of the token
    /// endpoint, for which it is registered, unless the metadata lists only others. Without metadata:
    /// `client_secret_post`, as Flask-OIDC does, unless a method is set for the token endpoint.
    ///
    /// [RFC 7662 §2.1]: https://www.rfc-editor.org/rfc/rfc7662#section-2.1
    fn introspection_method(&self, metadata: Option<&Metadata>) -> Option<TokenEndpointAuthMethod> {
        use TokenEndpointAuthMethod::{ClientSecretBasic, ClientSecretPost, PrivateKeyJwt};

        let set = self.settings.introspection_auth_method;
        if set == Some(IntrospectionAuthMethod::Bearer) {
            return None;
        }
        // A client with a key, or a certificate, and no secret can only use that.
        if !self.registration.has_secret() {
            return Some(PrivateKeyJwt);
        }
        Some(match (set, metadata) {
            (Some(IntrospectionAuthMethod::ClientSecretBasic), _) => ClientSecretBasic,
            (Some(_), _) => ClientSecretPost,
            (None, None) => {
                let at_token_endpoint = self.settings.token_endpoint_auth_method;
                at_token_endpoint.unwrap_or(ClientSecretPost)
            }
            (None, Some(metadata)) => {
                let listed = &metadata.introspection_endpoint_auth_methods_supported;
                self.authentication_method_at(listed, metadata)
            }
        })
    }

    /// Introspects a token, for a client with this address. Returns the unvalidated body of a response with status
    /// 200. Failures count for the circuit breaker in full only if the provider reported the token as active before.
    pub(crate) async fn introspect(
        &self,
        endpoint: &IntrospectionEndpoint,
        token: &str,
        was_active: bool,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Vec<u8>, ProviderError> {
        let call = async {
            // §2.1. One method per request: client credentials are never sent twice.
            let authentication = match endpoint.method {
                Some(method) => self.authentication(method, &endpoint.url, now).await?,
                None => ClientAuthentication::Authorization(format!("Bearer {token}")),
            };
            let form = vec![("token", token), ("token_type_hint", "access_token")];
            let endpoint_kind = Endpoint::Introspection;
            let reply = self
                .post_form(endpoint_kind, &endpoint.url, form, &authentication)
                .await?;
            match reply.status().as_u16() {
                200 => Ok(reply.into_body()),
                // §2.3: the token authorizes its own introspection, and is not active.
                401 if endpoint.method.is_none() => Ok(br#"{"active":false}"#.to_vec()),
                // RFC 6749 §5.2, whatever the body says: the client is rejected, not the token.
                status @ (400 | 401 | 403) => Err(ProviderError::Refused {
                    endpoint: endpoint_kind,
                    status,
                    error: "invalid_client".to_owned(),
                    description: format!("status {status}"),
                    retry_after: None,
                }),
                _ => Err(ProviderError::of_status(endpoint_kind, &reply)),
            }
        };
        let counted = if was_active {
            CountedOutages::All
        } else {
            CountedOutages::OnlyStatus429
        };
        let queue = &self.limits.introspection;
        queue.run(client, counted, now, call).await
    }
}
