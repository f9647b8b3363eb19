//! The app's own page for a sign-in that failed.

use std::sync::Arc;

use rocket::{Request, response};

use crate::request::SignInFailure;

pub(crate) type RenderFailure =
    dyn Fn(&Request<'_>, &SignInFailure) -> response::Result<'static> + Send + Sync;

/// The app's page for a sign-in that failed, if it has one; managed.
#[derive(Clone)]
pub(crate) struct ErrorPage(pub(crate) Option<Arc<RenderFailure>>);

impl ErrorPage {
    /// The app's answer, or a status for its catchers; `None` when the app leaves it to us.
    pub(crate) fn render(
        &self,
        request: &Request<'_>,
        failure: &SignInFailure,
    ) -> Option<response::Result<'static>> {
        self.0.as_ref().map(|render| render(request, failure))
    }
}
