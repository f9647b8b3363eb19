//! The app's own error page for a failed sign-in.

use std::sync::Arc;

use rocket::{Request, response};

use crate::request::SignInFailure;

pub(crate) type RenderFailure = dyn Fn(&Request<'_>, &SignInFailure) -> response::Result<'static> + Send + Sync;

/// The app's own error page for a failed sign-in, if there is one. Rocket-managed state.
#[derive(Clone)]
pub(crate) struct ErrorPage(pub(crate) Option<Arc<RenderFailure>>);

impl ErrorPage {
    /// The app's response, or a status for its catchers; `None` to render the built-in page.
    pub(crate) fn render(&self, request: &Request<'_>, failure: &SignInFailure) -> Option<response::Result<'static>> {
        self.0.as_ref().map(|render| render(request, failure))
    }
}
