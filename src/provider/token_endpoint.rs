//! The token endpoint (RFC 6749 §3.2): code exchange and refresh.

use std::{net::IpAddr, time::Duration};

use openidconnect::{
    AuthUrl, ClientId, EndpointSet, HttpResponse, IssuerUrl, JsonWebKeySet, RedirectUrl, core::CoreClient,
};
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Endpoint, Metadata, Provider, ProviderError, breaker::CountedOutages, call_limits::Queue, github, tolerance,
};
use crate::{
    printable::printable,
    secret::Secret,
    settings::ProviderKind,
    token::{Document, ProofKey},
};

/// The `openidconnect` client that builds authorization requests.
pub(crate) type SignInClient = CoreClient<EndpointSet>;

/// The unverified tokens of one sign-in or refresh (OpenID Connect Core 1.0 §3.1.3.3).
#[derive(Debug)]
pub(crate) struct Tokens {
    pub access_token: Secret,
    pub expires_in: Option<Duration>,
    pub refresh_token: Option<Secret>,
    pub id_token: Option<Secret>,
    /// The granted scopes; `None` for those that were asked for.
    pub scope: Option<Vec<String>>,
    /// Absent means `Bearer`, except in an exchange.
    pub token_type: Option<String>,
    /// What was issued in an exchange ([RFC 8693 §2.2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1)).
    pub issued_token_type: Option<String>,
    /// The granted `authorization_details` ([RFC 9396 §7](https://www.rfc-editor.org/rfc/rfc9396#section-7)).
    pub authorization_details: Vec<Value>,
}

/// The token type of access tokens ([RFC 8693 §3](https://www.rfc-editor.org/rfc/rfc8693#section-3)).
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The queue that a request waits in, and for whom.
#[derive(Clone, Copy)]
struct Turn<'a> {
    queue: &'a Queue,
    client: Option<IpAddr>,
    counted: CountedOutages,
}

impl<'a> From<&'a Queue> for Turn<'a> {
    fn from(queue: &'a Queue) -> Turn<'a> {
        Turn {
            queue,
            client: None,
            counted: CountedOutages::All,
        }
    }
}

impl Provider {
    /// The `openidconnect` client that builds authorization requests.
    pub(crate) fn client(&self, metadata: &Metadata) -> Result<SignInClient, ProviderError> {
        let issuer = IssuerUrl::new(self.registration.issuer.clone()).map_err(|error| ProviderError::Malformed {
            endpoint: Endpoint::Metadata,
            cause: error.to_string(),
        })?;
        let client_id = ClientId::new(self.registration.client_id.clone());
        let client = CoreClient::new(client_id, issuer, JsonWebKeySet::default())
            .set_auth_uri(AuthUrl::from_url(metadata.authorization_endpoint()?.clone()));
        Ok(match &self.redirect_uri {
            Some(uri) => client.set_redirect_uri(RedirectUrl::from_url(uri.clone())),
            None => client,
        })
    }

    /// Exchanges an authorization code (OpenID Connect Core 1.0 §3.1.3.1), with a proof of the key that the tokens are to
    /// be bound to, if there is one. Not retried, because a code is valid for one attempt, unless the token endpoint does
    /// not exist any more and newer metadata names another one, or it demands a nonce in the proof.
    pub(crate) async fn exchange_code(
        &self,
        metadata: &Metadata,
        code: &Secret,
        code_verifier: &Secret,
        key: Option<&ProofKey>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let mut grant = vec![("grant_type", "authorization_code"), ("code", code.expose())];
        if !self.settings.insecure_omit_pkce {
            grant.push(("code_verifier", code_verifier.expose()));
        }
        grant.extend(self.redirect_uri.as_ref().map(|uri| ("redirect_uri", uri.as_str())));
        self.request_tokens(metadata, &grant, key, &self.limits.exchange, now)
            .await
    }

    /// Refreshes the tokens with a refresh token (OpenID Connect Core 1.0 §12.1). Not retried, because a provider
    /// that rotates refresh tokens treats a second use as theft, unless the token endpoint does not exist any more
    /// and newer metadata names another one, or it demands a nonce in the proof.
    pub(crate) async fn refresh(
        &self,
        metadata: &Metadata,
        refresh_token: &Secret,
        key: Option<&ProofKey>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
        ];
        self.request_tokens(metadata, &grant, key, &self.limits.refresh, now)
            .await
    }

    /// Requests a token for the client itself ([RFC 6749 §4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4)).
    pub(crate) async fn client_credentials(
        &self,
        metadata: &Metadata,
        parameters: &[(&'static str, String)],
        key: Option<&ProofKey>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let mut grant = vec![("grant_type", "client_credentials")];
        grant.extend(parameters.iter().map(|(name, value)| (*name, value.as_str())));
        self.request_tokens(metadata, &grant, key, &self.limits.api_tokens, now)
            .await
    }

    /// As [`refresh`](Self::refresh), for an access token with these parameters
    /// ([RFC 8707 §2.2](https://www.rfc-editor.org/rfc/rfc8707#section-2.2)).
    pub(crate) async fn refresh_for(
        &self,
        metadata: &Metadata,
        refresh_token: &Secret,
        parameters: &[(&'static str, String)],
        key: Option<&ProofKey>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let mut grant = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
        ];
        grant.extend(parameters.iter().map(|(name, value)| (*name, value.as_str())));
        self.request_tokens(metadata, &grant, key, &self.limits.api_tokens, now)
            .await
    }

    /// Exchanges an access token of the user, which the app's API accepted, for one for another API, for a client with
    /// this address ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)).
    pub(crate) async fn exchange_token(
        &self,
        metadata: &Metadata,
        subject_token: &Secret,
        parameters: &[(&'static str, String)],
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let mut grant = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject_token.expose()),
            ("subject_token_type", ACCESS_TOKEN_TYPE),
            ("requested_token_type", ACCESS_TOKEN_TYPE),
        ];
        grant.extend(parameters.iter().map(|(name, value)| (*name, value.as_str())));
        let tokens = self
            .request_tokens(metadata, &grant, None, self.exchanges_of(client), now)
            .await?;
        self.binding(&tokens, None, false)?;
        // §2.2.1: both members are required. A token that is none to be sent has the type `N_A`.
        match tokens.issued_token_type.as_deref() {
            Some(ACCESS_TOKEN_TYPE) if tokens.token_type.is_some() => Ok(tokens),
            Some(ACCESS_TOKEN_TYPE) => Err(malformed("`token_type` is missing")),
            Some(other) => {
                let other = printable(other);
                Err(malformed(format!(
                    "`issued_token_type` is `{other}`, expected `{ACCESS_TOKEN_TYPE}`"
                )))
            }
            None => Err(malformed("`issued_token_type` is missing")),
        }
    }

    /// The same at Microsoft Entra ID, whose response has no `issued_token_type`: the
    /// [on-behalf-of flow](https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow).
    pub(crate) async fn act_on_behalf_of(
        &self,
        metadata: &Metadata,
        assertion: &Secret,
        parameters: &[(&'static str, String)],
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let mut grant = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.expose()),
            ("requested_token_use", "on_behalf_of"),
        ];
        grant.extend(parameters.iter().map(|(name, value)| (*name, value.as_str())));
        let tokens = self
            .request_tokens(metadata, &grant, None, self.exchanges_of(client), now)
            .await?;
        self.binding(&tokens, None, false)?;
        Ok(tokens)
    }

    /// The queue of exchanges, of which a client has a quarter. What it sends may cause a status 500.
    fn exchanges_of(&self, client: Option<IpAddr>) -> Turn<'_> {
        Turn {
            queue: &self.limits.token_exchange,
            client,
            counted: CountedOutages::AllButStatus500,
        }
    }

    async fn request_tokens(
        &self,
        metadata: &Metadata,
        grant: &[(&str, &str)],
        key: Option<&ProofKey>,
        turn: impl Into<Turn<'_>>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let turn = turn.into();
        match self.request_tokens_once(metadata, grant, key, turn, now).await {
            Err(error) if error.is_missing() => match self.moved(metadata, |it| it.token_endpoint().ok(), now).await {
                Some(newer) => self.request_tokens_once(&newer, grant, key, turn, now).await,
                None => Err(error),
            },
            tokens => tokens,
        }
    }

    async fn request_tokens_once(
        &self,
        metadata: &Metadata,
        grant: &[(&str, &str)],
        key: Option<&ProofKey>,
        turn: Turn<'_>,
        now: OffsetDateTime,
    ) -> Result<Tokens, ProviderError> {
        let url = metadata.token_endpoint()?;
        let method = self.authentication_method(metadata);
        let mut is_repeated = false;
        let reply = loop {
            // Each request has a proof and an assertion of its own.
            let call = async {
                let authentication = self.authentication(method, url, now).await?;
                let proof = self.proof(key, "POST", url, None, now);
                self.post_proved_form(Endpoint::Token, url, grant.to_vec(), &authentication, proof)
                    .await
            };
            let reply = turn.queue.run(turn.client, turn.counted, now, call).await?;
            if !self.demands_nonce(key, url, &reply) || is_repeated {
                break reply;
            }
            is_repeated = true;
        };
        match self.registration.kind() {
            ProviderKind::OpenIdConnect => accept(&reply),
            ProviderKind::GitHub => {
                let tokens = accept(&github::form_as_json(reply))?;
                Ok(Tokens {
                    // Nothing could verify it.
                    id_token: None,
                    // The empty string is no scope: a GitHub App has permissions instead.
                    scope: Some(tokens.scope.unwrap_or_default()),
                    ..tokens
                })
            }
        }
    }
}

/// Parses a response of the token endpoint.
fn accept(reply: &HttpResponse) -> Result<Tokens, ProviderError> {
    let document = Document::parse(reply.body());
    let has = |member| {
        document
            .as_ref()
            .is_ok_and(|document| document.displayed(member).is_some())
    };
    // Some providers send an error response (RFC 6749 §5.2) with status 200.
    if reply.status() != 200 || (has("error") && !has("access_token")) {
        return Err(ProviderError::of_error_reply(Endpoint::Token, reply));
    }
    match document {
        Ok(document) => Tokens::accept(&document),
        Err(_) if reply.body().is_empty() => Err(malformed("it is empty")),
        Err(_) => Err(malformed("it is not a JSON object")),
    }
}

impl Tokens {
    /// Parses a success response, whose tokens stay strings: `token` verifies the ID token, and
    /// [`Provider::binding`] the type of the access token.
    pub(super) fn accept(reply: &Document) -> Result<Tokens, ProviderError> {
        let text = |member| match (reply.defect(member), reply.value(member)) {
            (Some(defect), _) => Err(malformed(format!("`{member}` is {defect}"))),
            (None, None) => Ok(None),
            (None, Some(Value::String(text))) => Ok(Some(text).filter(|text| !text.is_empty())),
            (None, Some(_)) => Err(malformed(format!("`{member}` is not a string"))),
        };
        let secret = |member| Ok(text(member)?.map(Secret::new));
        Ok(Tokens {
            access_token: secret("access_token")?.ok_or_else(|| malformed("`access_token` is missing"))?,
            expires_in: reply.value("expires_in").and_then(tolerance::seconds),
            refresh_token: secret("refresh_token")?,
            id_token: secret("id_token")?,
            scope: reply.value("scope").and_then(tolerance::strings),
            token_type: text("token_type")?.cloned(),
            issued_token_type: text("issued_token_type").ok().flatten().cloned(),
            authorization_details: match reply.value("authorization_details") {
                Some(Value::Array(details)) => details.clone(),
                _ => vec![],
            },
        })
    }
}

fn malformed(cause: impl Into<String>) -> ProviderError {
    ProviderError::Malformed {
        endpoint: Endpoint::Token,
        cause: cause.into(),
    }
}
