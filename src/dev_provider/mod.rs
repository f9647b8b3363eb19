use crate::{Secret, settings::DevProviderSettings};
use url::Url;
pub(crate) struct DevProvider;
pub(crate) struct DevClient {
    pub client_id: String,
    pub client_secret: Secret,
    pub redirect_uri: String,
    pub base_url: Url,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub(crate) struct DevProviderError;
impl DevProviderError {
    pub fn remedy(&self) -> &'static str {
        ""
    }
}
impl DevProvider {
    pub(crate) async fn start(
        _: &DevProviderSettings,
        _: DevClient,
    ) -> Result<DevProvider, DevProviderError> {
        todo!()
    }
    pub(crate) fn issuer(&self) -> &str {
        ""
    }
}
