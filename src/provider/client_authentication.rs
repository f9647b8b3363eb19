//! Client authentication (OpenID Connect Core 1.0 §9), by one method per request.

use base64::{Engine, engine::general_purpose::STANDARD};
use openidconnect::http::{Request, Response, header};
use serde_json::Value;
use time::OffsetDateTime;
use url::{Url, form_urlencoded};

use super::{Endpoint, Metadata, Provider, ProviderError};
use crate::{
    client_key::ClientKey,
    secret::Secret,
    settings::TokenEndpointAuthMethod,
    token::{CLIENT_ASSERTION_TYPE, assertion_claims, client_secret_claims},
};

/// The credentials that one request carries.
pub(super) enum ClientAuthentication {
    /// HTTP Basic (RFC 6749 §2.3.1).
    ClientSecretBasic(Secret),
    /// The client id and secret in the form.
    ClientSecretPost(Secret),
    /// The client id, and an assertion signed for this request.
    PrivateKeyJwt(Secret),
    /// The client id alone: a public client.
    None,
    /// An `Authorization` header that does not authenticate the client.
    Authorization(String),
}

impl ClientAuthentication {
    /// Whether the form has no client parameters.
    pub(super) fn is_in_a_header(&self) -> bool {
        matches!(
            self,
            ClientAuthentication::ClientSecretBasic(_) | ClientAuthentication::Authorization(_)
        )
    }
}

impl Provider {
    /// The method at the token endpoint: that of the setting, else by the credentials that the client has and the
    /// methods that the metadata lists.
    pub(crate) fn authentication_method(&self, metadata: &Metadata) -> TokenEndpointAuthMethod {
        let (has_secret, key) = (self.registration.has_secret(), &self.registration.client_key);
        match (self.settings.token_endpoint_auth_method, has_secret, key) {
            (Some(method), ..) => method,
            (None, false, None) if self.registration.client_identity.is_some() => by_certificate(metadata),
            (None, false, None) => TokenEndpointAuthMethod::None,
            (None, false, Some(_)) => TokenEndpointAuthMethod::PrivateKeyJwt,
            (None, true, _) => default_authentication_method(metadata),
        }
    }

    /// Whether the client authenticates at the token endpoint.
    pub(crate) fn is_confidential_client(&self) -> bool {
        let registration = &self.registration;
        let has_credentials =
            registration.has_secret() || registration.client_key.is_some() || registration.client_identity.is_some();
        has_credentials && self.settings.token_endpoint_auth_method != Some(TokenEndpointAuthMethod::None)
    }

    /// The method at another endpoint, whose methods the metadata lists ([RFC 8414 §2]): that of the token endpoint,
    /// for which the client is registered, if it is listed or if nothing is listed. A provider that lists all its
    /// methods accepts the client's own. Else the first of the listed methods that this client can use.
    ///
    /// [RFC 8414 §2]: https://www.rfc-editor.org/rfc/rfc8414#section-2
    pub(super) fn authentication_method_at(&self, listed: &[String], metadata: &Metadata) -> TokenEndpointAuthMethod {
        use TokenEndpointAuthMethod::{
            ClientSecretBasic, ClientSecretPost, PrivateKeyJwt, SelfSignedTlsClientAuth, TlsClientAuth,
        };

        let at_token_endpoint = self.authentication_method(metadata);
        let is_listed = |method: &TokenEndpointAuthMethod| listed.iter().any(|name| name == method.as_str());
        if listed.is_empty() || is_listed(&at_token_endpoint) {
            return at_token_endpoint;
        }
        let can_use = |method: &TokenEndpointAuthMethod| match method {
            PrivateKeyJwt => self.registration.client_key.is_some(),
            TlsClientAuth | SelfSignedTlsClientAuth => self.registration.client_identity.is_some(),
            _ => self.registration.has_secret(),
        };
        let others = [
            ClientSecretBasic,
            ClientSecretPost,
            PrivateKeyJwt,
            TlsClientAuth,
            SelfSignedTlsClientAuth,
        ];
        let mut usable = others.into_iter().filter(can_use);
        usable.find(is_listed).unwrap_or(at_token_endpoint)
    }

    /// The credentials of a request to `url` when the client authenticates by `method`. Without the credential that
    /// the method needs, the request carries the client id alone. What is signed is for one request: call this again for
    /// a retry.
    ///
    /// # Errors
    ///
    /// [`ProviderError::ClientSigner`], only of an app with a signer of its own.
    pub(super) async fn authentication(
        &self,
        method: TokenEndpointAuthMethod,
        url: &Url,
        now: OffsetDateTime,
    ) -> Result<ClientAuthentication, ProviderError> {
        use TokenEndpointAuthMethod::{ClientSecretBasic, ClientSecretPost, PrivateKeyJwt};

        let (client_id, key) = (&self.registration.client_id, &self.registration.client_key);
        let audience = self.assertion_audience(url);
        let secret = match (&self.registration.secret_issuer, key) {
            (Some(issuer), Some(key)) if method != PrivateKeyJwt => {
                let claims = client_secret_claims(issuer, client_id, audience, now);
                Some(self.sign(key, &claims).await?)
            }
            _ => self.registration.client_secret.clone(),
        };
        Ok(match (method, secret, key) {
            (ClientSecretBasic, Some(secret), _) => ClientAuthentication::ClientSecretBasic(secret),
            (ClientSecretPost, Some(secret), _) => ClientAuthentication::ClientSecretPost(secret),
            (PrivateKeyJwt, _, Some(key)) => {
                let claims = assertion_claims(client_id, audience, now);
                ClientAuthentication::PrivateKeyJwt(self.sign(key, &claims).await?)
            }
            // Also with a certificate, which the connection has (RFC 8705 §2).
            _ => ClientAuthentication::None,
        })
    }

    async fn sign(&self, key: &ClientKey, claims: &Value) -> Result<Secret, ProviderError> {
        let signed = key.sign(claims, self.settings.http.timeout).await;
        signed.map_err(|failure| ProviderError::ClientSigner {
            cause: failure.to_string(),
        })
    }

    /// The `aud` of what the client's key signs for a request to `url`.
    fn assertion_audience<'a>(&'a self, url: &'a Url) -> &'a str {
        match self.settings.client_assertion_audience.as_deref() {
            Some("endpoint") => url.as_str(),
            Some(audience) => audience,
            // A template does not identify an authorization server.
            None if self.registration.expected_issuer().is_template() => url.as_str(),
            None => &self.registration.issuer,
        }
    }

    /// Posts a form, with the client authentication in the form or in a header.
    pub(super) async fn post_form(
        &self,
        endpoint: Endpoint,
        url: &Url,
        form: Vec<(&str, &str)>,
        authentication: &ClientAuthentication,
    ) -> Result<Response<Vec<u8>>, ProviderError> {
        self.post_proved_form(endpoint, url, form, authentication, None).await
    }

    /// As [`post_form`](Self::post_form), with a DPoP proof.
    pub(super) async fn post_proved_form(
        &self,
        endpoint: Endpoint,
        url: &Url,
        mut form: Vec<(&str, &str)>,
        authentication: &ClientAuthentication,
        proof: Option<String>,
    ) -> Result<Response<Vec<u8>>, ProviderError> {
        let client_id = self.registration.client_id.as_str();
        let mut authorization = None;
        match authentication {
            ClientAuthentication::ClientSecretBasic(secret) => {
                authorization = Some(basic(client_id, secret.expose()));
            }
            ClientAuthentication::ClientSecretPost(secret) => {
                form.extend([("client_id", client_id), ("client_secret", secret.expose())]);
            }
            // RFC 7523 §2.2.
            ClientAuthentication::PrivateKeyJwt(assertion) => form.extend([
                ("client_id", client_id),
                ("client_assertion_type", CLIENT_ASSERTION_TYPE),
                ("client_assertion", assertion.expose()),
            ]),
            ClientAuthentication::None => form.push(("client_id", client_id)),
            ClientAuthentication::Authorization(value) => authorization = Some(value.clone()),
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();

        let mut request = Request::post(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(proof) = proof {
            request = request.header("DPoP", proof);
        }
        let request = request
            .body(form.into_bytes())
            .map_err(|_| ProviderError::Address { endpoint })?;
        self.http.call(endpoint, request).await
    }
}

/// The method of a client with a certificate and nothing else: a request is the same by each of them.
fn by_certificate(metadata: &Metadata) -> TokenEndpointAuthMethod {
    use TokenEndpointAuthMethod::{None, SelfSignedTlsClientAuth, TlsClientAuth};

    let listed = metadata.token_endpoint_auth_methods_supported.as_deref();
    let is_listed =
        |method: &TokenEndpointAuthMethod| listed.unwrap_or_default().iter().any(|it| it == method.as_str());
    let methods = [SelfSignedTlsClientAuth, TlsClientAuth].into_iter();
    methods.clone().find(is_listed).unwrap_or(None)
}

/// The method of a client with a secret when only the metadata decides.
pub(crate) fn default_authentication_method(metadata: &Metadata) -> TokenEndpointAuthMethod {
    match metadata.token_endpoint_auth_methods_supported.as_deref() {
        Some(methods)
            if methods.iter().any(|method| method == "client_secret_post")
                && !methods.iter().any(|method| method == "client_secret_basic") =>
        {
            TokenEndpointAuthMethod::ClientSecretPost
        }
        // Discovery §3: if the metadata lists none, the default is client_secret_basic.
        _ => TokenEndpointAuthMethod::ClientSecretBasic,
    }
}

/// The HTTP Basic header, with both parts form-encoded (RFC 6749 §2.3.1).
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
