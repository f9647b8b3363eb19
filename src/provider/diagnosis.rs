//! What only `rocket-oidc doctor` asks a provider: answers as they came, before they are judged.

use openidconnect::{
    HttpResponse,
    http::{Request, header},
};
use time::OffsetDateTime;
use url::Url;

use super::{Endpoint, Metadata, MetadataSource, Provider, ProviderError};
use crate::secret::Secret;

impl Provider {
    /// The metadata, read now, with the cause when that fails.
    pub(crate) async fn current_metadata(&self) -> Result<Metadata, ProviderError> {
        self.read_metadata().await
    }

    /// What is read first: the metadata, or the key set where client secrets name the endpoints.
    pub(crate) async fn first_reply(&self) -> Result<HttpResponse, ProviderError> {
        let endpoint = match self.is_discovered() {
            true => Endpoint::Metadata,
            false => Endpoint::KeySet,
        };
        self.read(endpoint, self.first_address()).await
    }

    /// Whether the metadata says where the endpoints are.
    pub(crate) fn is_discovered(&self) -> bool {
        matches!(self.registration.metadata, MetadataSource::Discovery { .. })
    }

    /// The address that everything begins with.
    pub(crate) fn first_address(&self) -> &Url {
        match &self.registration.metadata {
            MetadataSource::Discovery { url } => url,
            MetadataSource::Given(endpoints) => &endpoints.jwks_uri,
            MetadataSource::Keys { jwks_uri } => jwks_uri,
        }
    }

    /// The key set's document, unread.
    pub(crate) async fn key_set_reply(
        &self,
        metadata: &Metadata,
    ) -> Result<HttpResponse, ProviderError> {
        self.read(Endpoint::KeySet, metadata.jwks_uri()).await
    }

    /// Tries to exchange a code that nobody issued. The right answer is `invalid_grant`: a provider
    /// authenticates the client first (RFC 6749 §4.1.3, §5.2).
    pub(crate) async fn try_code(
        &self,
        metadata: &Metadata,
        now: OffsetDateTime,
    ) -> Result<(), ProviderError> {
        let code = Secret::random();
        self.exchange_code(metadata, &code, &Secret::random(), now)
            .await
            .map(drop)
    }

    /// Any answer to a `GET`, redirects and errors among them.
    pub(crate) async fn visit(
        &self,
        endpoint: Endpoint,
        url: &Url,
    ) -> Result<HttpResponse, ProviderError> {
        self.http.get(endpoint, url).await
    }

    /// Any answer to an empty form.
    pub(crate) async fn post_nothing(
        &self,
        endpoint: Endpoint,
        url: &Url,
    ) -> Result<HttpResponse, ProviderError> {
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Vec::new())
            .map_err(|_| ProviderError::Address { endpoint })?;
        self.http.call(endpoint, request).await
    }
}
