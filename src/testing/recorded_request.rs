//! `RecordedRequest`: a request of the app to the test provider.

use std::{fmt, sync::Arc};

use url::form_urlencoded;

use crate::provider::Endpoint;

/// A request of the app to the [`TestProvider`](super::TestProvider).
///
/// `Debug` shows the names of its parameters, but not their values, which may be secrets.
#[derive(Clone)]
pub struct RecordedRequest {
    provider: Arc<str>,
    endpoint: Endpoint,
    method: String,
    authorization: Option<String>,
    form: Vec<(String, String)>,
}

impl RecordedRequest {
    pub(super) fn new(provider: Arc<str>, endpoint: Endpoint, request: &reqwest::Request) -> RecordedRequest {
        let authorization = request.headers().get("Authorization");
        let authorization = authorization.and_then(|value| value.to_str().ok());
        let body = request.body().and_then(reqwest::Body::as_bytes);
        RecordedRequest {
            provider,
            endpoint,
            method: request.method().to_string(),
            authorization: authorization.map(str::to_owned),
            form: form_urlencoded::parse(body.unwrap_or_default()).into_owned().collect(),
        }
    }

    /// The name of the provider that was called, as [`User::provider`](crate::User::provider).
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The endpoint that was called.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// `GET` or `POST`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// The value of a form parameter, such as `grant_type`.
    pub fn form_value(&self, name: &str) -> Option<&str> {
        let found = self.form.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.form.iter().map(|(name, _)| name).collect();
        f.debug_struct("RecordedRequest")
            .field("provider", &self.provider)
            .field("endpoint", &self.endpoint)
            .field("method", &self.method)
            .field("form", &names)
            .finish_non_exhaustive()
    }
}
