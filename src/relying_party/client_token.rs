//! Access tokens for the app itself: the client credentials grant.

use std::{borrow::Cow, sync::Arc};

use super::{Client, NoProvider, RelyingParty};
use crate::{
    api_tokens::{ApiTokenError, IssuedToken, IssuedTokens, Limits, Target},
    clock::Clock,
    settings::ProviderKind,
};

/// The tokens of one client: an app asks for few, unless it has an API for each of its customers.
const LIMITS: Limits = Limits {
    bytes: 32 * 1024 * 1024,
    targets: 1_000,
};

/// The tokens of the client of one relying party.
pub(crate) type ClientTokens = Arc<IssuedTokens<()>>;

/// A cache for the client of one relying party.
pub(crate) fn client_tokens(clock: &Clock) -> ClientTokens {
    Arc::new(IssuedTokens::new("token of the client", LIMITS, clock))
}

impl RelyingParty {
    /// An access token with which this app calls another API as itself, not for a user: the client credentials grant
    /// ([RFC 6749 §4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4)).
    ///
    /// `resource` is the identifier of the API, an absolute URI
    /// ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)); without one, the provider chooses by the
    /// scopes. A provider that names APIs otherwise has the setting
    /// [`resource_parameter`](crate::settings::Settings::resource_parameter).
    ///
    /// The token is cached in this process until shortly before it expires: call this for each request to the API.
    /// Simultaneous calls share one request to the provider. After a failure, none is made for 5 s, then for longer, up
    /// to a minute.
    ///
    /// ```
    /// use rocket::get;
    /// use rocket_openidconnect::{ApiTokenError, RelyingParty};
    ///
    /// #[get("/stock")]
    /// async fn stock(rp: &RelyingParty) -> Result<String, ApiTokenError> {
    ///     let token = rp.client_token(&["stock:read"], Some("https://stock.example.com")).await?;
    ///     Ok(fetch_stock(token.expose()).await)
    /// }
    /// # async fn fetch_stock(_: &str) -> String { String::new() }
    /// # let _ = rocket::routes![stock];
    /// ```
    ///
    /// # Errors
    ///
    /// When the client has no credentials, when the provider is down or rejects the request; in an app with several
    /// providers, for which there is [`client_token_at`](Self::client_token_at); and while `enabled = false`.
    pub async fn client_token(&self, scopes: &[&str], resource: Option<&str>) -> Result<IssuedToken, ApiTokenError> {
        self.token_of_client(None, Target::of_resource(resource, scopes)?).await
    }

    /// As [`client_token`](Self::client_token), from one of several providers, by its name in the settings or in the
    /// app's [`ProviderSource`](crate::ProviderSource).
    ///
    /// # Errors
    ///
    /// As there, and if there is no such provider.
    pub async fn client_token_at(
        &self,
        provider: &str,
        scopes: &[&str],
        resource: Option<&str>,
    ) -> Result<IssuedToken, ApiTokenError> {
        self.token_of_client(Some(provider), Target::of_resource(resource, scopes)?)
            .await
    }

    /// A token of the client at the provider of this name, or at the only one.
    pub(crate) async fn token_of_client(
        &self,
        provider: Option<&str>,
        target: Target,
    ) -> Result<IssuedToken, ApiTokenError> {
        let rp = self.at_token_provider(provider).await?;
        let client = rp.client().ok_or(ApiTokenError::Disabled)?;
        client.client_credentials(target).await
    }

    /// The relying party of the provider of this name, or of the only one.
    pub(crate) async fn at_token_provider(&self, name: Option<&str>) -> Result<Cow<'_, RelyingParty>, ApiTokenError> {
        match (self.providers(), name) {
            (None, Some(name)) if self.is_enabled() && name != self.provider_name() => Err(ApiTokenError::NoProvider),
            (None, _) => Ok(Cow::Borrowed(self)),
            (Some(_), None) => Err(ApiTokenError::NoProvider),
            (Some(providers), Some(name)) => match providers.named(name, None).await {
                Ok(rp) => Ok(Cow::Owned(RelyingParty::clone(&rp))),
                Err(NoProvider::Unknown) => Err(ApiTokenError::NoProvider),
                Err(NoProvider::Undecided) => Err(ApiTokenError::ProviderUndecided),
            },
        }
    }
}

impl Client<'_> {
    async fn client_credentials(&self, target: Target) -> Result<IssuedToken, ApiTokenError> {
        self.can_have_tokens()?;
        // RFC 6749 §4.4: such clients alone.
        if !self.provider.is_confidential_client() {
            return Err(ApiTokenError::NoCredentials);
        }
        let begin = || {
            let (provider, clock) = (self.provider.clone(), self.clock.clone());
            let parameters = target.parameters(self.settings.resource_parameter);
            async move {
                let now = clock.now();
                let metadata = provider.metadata(now).await?;
                let now = clock.now();
                let key = provider.client_proof_key(&metadata)?;
                let reply = provider
                    .client_credentials(&metadata, &parameters, key.as_ref(), now)
                    .await?;
                provider.binding(&reply, key.as_ref(), true)?;
                Ok(IssuedToken::accept(reply, now, None, key)?)
            }
        };
        let tokens = &self.rp.client_tokens;
        let provider = self.sessions.observed.name();
        tokens.get((), target.clone(), provider, begin, drop).await
    }

    /// Fails if the provider issues no tokens for other APIs.
    pub(super) fn can_have_tokens(&self) -> Result<(), ApiTokenError> {
        match self.provider.registration.kind() {
            ProviderKind::OpenIdConnect => Ok(()),
            ProviderKind::GitHub => Err(ApiTokenError::Unsupported),
        }
    }
}
