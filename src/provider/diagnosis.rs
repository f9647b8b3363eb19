//! What only the command-line tool asks a provider: answers as they came.

use url::Url;

use super::{Metadata, MetadataSource, Provider, ProviderError};

impl Provider {
    /// The metadata, read now, with the cause when that fails.
    pub(crate) async fn current_metadata(&self) -> Result<Metadata, ProviderError> {
        self.read_metadata().await
    }

    /// The address that everything begins with.
    pub(crate) fn first_address(&self) -> &Url {
        match &self.registration.metadata {
            MetadataSource::Discovery { url } => url,
            MetadataSource::Given(endpoints) => &endpoints.jwks_uri,
        }
    }
}
