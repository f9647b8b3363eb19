//! An in-process HTTP backend that replaces the network in tests.

use std::{fmt, sync::Arc, time::Duration};

use openidconnect::HttpResponse;

/// Responds to requests to the provider without a socket.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) Arc<dyn Answers>);

/// The backend of [`InProcess`].
#[rocket::async_trait]
pub(crate) trait Answers: Send + Sync {
    /// Fails if there is no response within this time.
    async fn answer(&self, request: &reqwest::Request, timeout: Duration) -> Result<HttpResponse, NoAnswer>;
}

/// Why there is no response.
pub(crate) enum NoAnswer {
    Unreachable,
    Timeout,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess(…)")
    }
}
