//! Who answers for the provider in the place of the network, in tests.

use std::{fmt, sync::Arc, time::Duration};

use openidconnect::HttpResponse;

/// Answers requests to the provider without a socket.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) Arc<dyn Answers>);

/// What [`InProcess`] does.
#[rocket::async_trait]
pub(crate) trait Answers: Send + Sync {
    /// Fails when nobody answers within this time.
    async fn answer(
        &self,
        request: &reqwest::Request,
        timeout: Duration,
    ) -> Result<HttpResponse, NoAnswer>;
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    Unreachable,
    Timeout,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess(…)")
    }
}
