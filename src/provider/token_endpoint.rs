//! The token endpoint (RFC 6749 §3.2): code exchange and refresh.

use std::{fmt, sync::Arc, time::Duration};

use openidconnect::{
    AccessToken, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, EmptyAdditionalClaims,
    EndpointNotSet, EndpointSet, IssuerUrl, JsonWebKeySet, OAuth2TokenResponse, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, StandardErrorResponse, TokenResponse, TokenUrl,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
        CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Endpoint, Metadata, Provider, ProviderError, breaker::CountedOutages, client_authentication::ClientAuthentication,
    tolerance,
};
use crate::{printable::printable, secret::Secret};

/// The `openidconnect` client, with our token response type and the two endpoints that sign-in needs.
pub(crate) type SignInClient = Client<
    EmptyAdditionalClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenReply,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;

/// A success response of the token endpoint (OpenID Connect Core 1.0 §3.1.3.3).
///
/// The ID token stays a string: one invalid claim must not fail the whole response, and `token` validates it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TokenReply {
    #[serde(serialize_with = "unserializable", deserialize_with = "access_token")]
    access_token: AccessToken,
    #[serde(default, deserialize_with = "tolerance::text")]
    token_type: Option<String>,
    #[serde(default, deserialize_with = "tolerance::expires_in")]
    expires_in: Option<Duration>,
    #[serde(default, skip_serializing, deserialize_with = "refresh_token")]
    refresh_token: Option<RefreshToken>,
    #[serde(default, skip_serializing, deserialize_with = "tolerance::text")]
    id_token: Option<String>,
    #[serde(default, skip_serializing, deserialize_with = "tolerance::words")]
    scope: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    authorization_details: Value,
}

/// `openidconnect` requires `Serialize` and never uses it. No token is written.
fn unserializable<S: Serializer>(_: &AccessToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

/// Deserializes an access token, which must not be empty.
fn access_token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessToken, D::Error> {
    match String::deserialize(deserializer)? {
        empty if empty.is_empty() => Err(serde::de::Error::custom("`access_token` is empty")),
        token => Ok(AccessToken::new(token)),
    }
}

fn refresh_token<'de, D: Deserializer<'de>>(d: D) -> Result<Option<RefreshToken>, D::Error> {
    Ok(tolerance::text(d)?.map(RefreshToken::new))
}

impl fmt::Debug for TokenReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReply")
            .field("token_type", &self.token_type)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

impl OAuth2TokenResponse for TokenReply {
    type TokenType = CoreTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &CoreTokenType {
        &CoreTokenType::Bearer
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl TokenResponse<EmptyAdditionalClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>
    for TokenReply
{
    /// Always `None`: see the type. The ID token is in [`Tokens::id_token`].
    fn id_token(
        &self,
    ) -> Option<
        &openidconnect::IdToken<
            EmptyAdditionalClaims,
            CoreGenderClaim,
            CoreJweContentEncryptionAlgorithm,
            CoreJwsSigningAlgorithm,
        >,
    > {
        None
    }
}

/// The unverified tokens of one sign-in or refresh.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub access_token: Secret,
    pub expires_in: Option<Duration>,
    pub refresh_token: Option<Secret>,
    pub id_token: Option<Secret>,
    /// The granted scopes; `None` for those that were asked for.
    pub scope: Option<Vec<String>>,
    /// The granted `authorization_details` ([RFC 9396 §7](https://www.rfc-editor.org/rfc/rfc9396#section-7)).
    pub authorization_details: Vec<Value>,
}

impl Provider {
    /// The `openidconnect` client that builds authorization requests.
    pub(crate) fn client(&self, metadata: &Metadata) -> Result<SignInClient, ProviderError> {
        self.client_with(metadata, None)
    }

    /// The `openidconnect` client for these settings and this metadata, with this client authentication.
    fn client_with(
        &self,
        metadata: &Metadata,
        authentication: Option<&ClientAuthentication>,
    ) -> Result<SignInClient, ProviderError> {
        let malformed = |cause: String| ProviderError::Malformed {
            endpoint: Endpoint::Metadata,
            cause,
        };
        let issuer = IssuerUrl::new(self.registration.issuer.clone()).map_err(|error| malformed(error.to_string()))?;
        let client: SignInClient = Client::new(
            ClientId::new(self.registration.client_id.clone()),
            issuer,
            JsonWebKeySet::default(),
        )
        .set_auth_uri(AuthUrl::from_url(metadata.authorization_endpoint()?.clone()))
        .set_token_uri(TokenUrl::from_url(metadata.token_endpoint()?.clone()));
        let client = match &self.redirect_uri {
            Some(uri) => client.set_redirect_uri(RedirectUrl::from_url(uri.clone())),
            None => client,
        };

        let client = client.set_auth_type(AuthType::RequestBody);
        Ok(match authentication {
            Some(ClientAuthentication::ClientSecretBasic(secret)) => client
                .set_auth_type(AuthType::BasicAuth)
                .set_client_secret(ClientSecret::new(secret.expose().to_owned())),
            Some(ClientAuthentication::ClientSecretPost(secret)) => {
                client.set_client_secret(ClientSecret::new(secret.expose().to_owned()))
            }
            _ => client,
        })
    }

    /// The client authentication of a request to the token endpoint.
    fn token_authentication(
        &self,
        metadata: &Metadata,
        now: OffsetDateTime,
    ) -> Result<ClientAuthentication, ProviderError> {
        let method = self.authentication_method(metadata);
        Ok(self.authentication(method, metadata.token_endpoint()?, now))
    }

    /// Exchanges an authorization code (OpenID Connect Core 1.0 §3.1.3.1). Not retried, because a code is valid for
    /// one attempt, unless the token endpoint does not exist any more and newer metadata names another one.
    pub(crate) async fn exchange_code(
        &self,
        metadata: &Metadata,
        code: &Secret,
        code_verifier: &Secret,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let exchanged = self.exchange_code_at(metadata, code, code_verifier, now);
        match self.moved_token_endpoint(metadata, exchanged.await, now).await {
            Ok(exchanged) => exchanged,
            Err(newer) => self.exchange_code_at(&newer, code, code_verifier, now).await,
        }
    }

    /// The result of a request; or newer metadata, if the token endpoint of `metadata` does not exist any more and
    /// the newer one names another.
    async fn moved_token_endpoint(
        &self,
        metadata: &Metadata,
        answer: Result<Tokens, ProviderError>,
        now: OffsetDateTime,
    ) -> Result<Result<Tokens, ProviderError>, Arc<Metadata>> {
        match answer {
            Err(error) if error.is_not_there() => match Box::pin(self.look_up_again(metadata, now)).await {
                Some(newer) if newer.token_endpoint().ok() != metadata.token_endpoint().ok() => Err(newer),
                _ => Ok(Err(error)),
            },
            answer => Ok(answer),
        }
    }

    async fn exchange_code_at(
        &self,
        metadata: &Metadata,
        code: &Secret,
        code_verifier: &Secret,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let authentication = self.token_authentication(metadata, now)?;
        let client = self.client_with(metadata, Some(&authentication))?;
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(code_verifier.expose().to_owned()));
        for (name, value) in authentication.assertion_parameters() {
            request = request.add_extra_param(name, value);
        }
        let http = self.http.for_endpoint(Endpoint::Token);
        let call = async { request.request_async(&http).await.map_err(token_error) };
        let reply = self.limits.exchange.run(None, CountedOutages::All, now, call).await?;

        reply.into_tokens()
    }

    /// Refreshes the tokens with a refresh token (OpenID Connect Core 1.0 §12.1). Not retried, because a provider
    /// that rotates refresh tokens treats a second use as theft, unless the token endpoint does not exist any more
    /// and newer metadata names another one.
    pub(crate) async fn refresh(
        &self,
        metadata: &Metadata,
        refresh_token: &Secret,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let refreshed = self.refresh_at(metadata, refresh_token, now);
        match self.moved_token_endpoint(metadata, refreshed.await, now).await {
            Ok(refreshed) => refreshed,
            Err(newer) => self.refresh_at(&newer, refresh_token, now).await,
        }
    }

    async fn refresh_at(
        &self,
        metadata: &Metadata,
        refresh_token: &Secret,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let authentication = self.token_authentication(metadata, now)?;
        let client = self.client_with(metadata, Some(&authentication))?;
        let refresh_token = RefreshToken::new(refresh_token.expose().to_owned());
        let mut request = client.exchange_refresh_token(&refresh_token);
        for (name, value) in authentication.assertion_parameters() {
            request = request.add_extra_param(name, value);
        }
        let http = self.http.for_endpoint(Endpoint::Token);
        let call = async { request.request_async(&http).await.map_err(token_error) };
        let reply = self.limits.refresh.run(None, CountedOutages::All, now, call).await?;
        reply.into_tokens()
    }
}

impl TokenReply {
    /// The tokens, if their type is `Bearer` or absent.
    pub(super) fn into_tokens(self) -> Result<Tokens, ProviderError> {
        match &self.token_type {
            Some(kind) if !kind.eq_ignore_ascii_case("bearer") => Err(ProviderError::Malformed {
                endpoint: Endpoint::Token,
                cause: format!("`token_type` is `{}`, expected `Bearer`", printable(kind)),
            }),
            _ => Ok(Tokens {
                access_token: Secret::new(self.access_token.secret().as_str()),
                expires_in: self.expires_in,
                refresh_token: self.refresh_token.map(|token| Secret::new(token.secret().as_str())),
                id_token: self.id_token.map(Secret::new),
                scope: self.scope,
                authorization_details: match self.authorization_details {
                    Value::Array(details) => details,
                    _ => vec![],
                },
            }),
        }
    }
}

/// Converts the error and drops the response body, which may hold tokens.
fn token_error(error: RequestTokenError<ProviderError, StandardErrorResponse<CoreErrorResponseType>>) -> ProviderError {
    let endpoint = Endpoint::Token;
    let malformed = |cause: String| ProviderError::Malformed { endpoint, cause };
    match error {
        // `EndpointClient` reports error responses this way too, and passes none on.
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(_) => malformed("it is an error reply".to_owned()),
        // serde's message may quote a value, which may be a token: only the member's name is kept.
        RequestTokenError::Parse(error, _) => {
            let path = error.path().to_string();
            let message = error.inner().to_string();
            let missing = message
                .strip_prefix("missing field `")
                .and_then(|rest| rest.split('`').next());
            malformed(match (missing, path.as_str()) {
                (Some(member), _) => format!("`{member}` is missing"),
                (None, ".") => "it is not the JSON of a token reply".to_owned(),
                (None, member) => format!("`{member}` is not what it should be"),
            })
        }
        RequestTokenError::Other(_) => malformed("it is empty".to_owned()),
    }
}
