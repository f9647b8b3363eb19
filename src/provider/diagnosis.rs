//! Provider calls for `rocket-oidc doctor`, which return unvalidated responses.

use openidconnect::{
    HttpResponse,
    http::{Request, header},
};
use time::OffsetDateTime;
use url::Url;

use super::{Endpoint, Metadata, MetadataSource, Provider, ProviderError};
use crate::{secret::Secret, token::ProofKey};

impl Provider {
    /// Reads the metadata now, bypassing the cache and the back-off.
    pub(crate) async fn current_metadata(&self) -> Result<Metadata, ProviderError> {
        self.read_metadata().await
    }

    /// The response that `doctor` reads first: the metadata, or the key set where the settings name the endpoints.
    pub(crate) async fn first_reply(&self) -> Result<HttpResponse, ProviderError> {
        let endpoint = if self.is_discovered() {
            Endpoint::Metadata
        } else {
            Endpoint::KeySet
        };
        self.read(endpoint, self.first_url()).await
    }

    /// Whether the endpoints come from discovery.
    pub(crate) fn is_discovered(&self) -> bool {
        matches!(self.registration.metadata, MetadataSource::Discovery { .. })
    }

    /// The unparsed key set document.
    pub(crate) async fn key_set_reply(&self, metadata: &Metadata) -> Result<HttpResponse, ProviderError> {
        self.read(Endpoint::KeySet, metadata.jwks_uri()?).await
    }

    /// Tries to exchange an invalid code. The expected response is `invalid_grant`: a provider authenticates the
    /// client first (RFC 6749 §4.1.3, §5.2).
    pub(crate) async fn try_code(&self, metadata: &Metadata, now: OffsetDateTime) -> Result<(), ProviderError> {
        let code = Secret::random();
        let key = self.proof_algorithm(metadata)?.map(ProofKey::random);
        self.exchange_code(metadata, &code, &Secret::random(), key.as_ref(), now)
            .await
            .map(drop)
    }

    /// The response to a `GET`, including redirects and errors.
    pub(crate) async fn visit(&self, endpoint: Endpoint, url: &Url) -> Result<HttpResponse, ProviderError> {
        self.http.get(endpoint, url).await
    }

    /// The response to a `GET` with a header.
    pub(crate) async fn visit_with(
        &self,
        endpoint: Endpoint,
        url: &Url,
        (name, value): (&str, &str),
    ) -> Result<HttpResponse, ProviderError> {
        let request = Request::get(url.as_str())
            .header(name, value)
            .body(Vec::new())
            .map_err(|_| ProviderError::Address { endpoint })?;
        self.http.call(endpoint, request).await
    }

    /// The response to a `POST` of an empty form.
    pub(crate) async fn post_nothing(&self, endpoint: Endpoint, url: &Url) -> Result<HttpResponse, ProviderError> {
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Vec::new())
            .map_err(|_| ProviderError::Address { endpoint })?;
        self.http.call(endpoint, request).await
    }
}
