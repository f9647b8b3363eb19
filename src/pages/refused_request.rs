//! The page for a request of a sign-in route that is not a page load.

use serde::Serialize;

use super::refused;

/// What the page for a refused frame, `fetch` or prefetch shows. People see it if another page shows a sign-in in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusedRequest {
    /// The path of the app's start page in the browser.
    pub start_page: String,
}

/// The built-in page.
pub(super) fn page(request: &RefusedRequest) -> String {
    refused(
        "Not a page load",
        "Sign-in needs a page load. A fetch, a frame or a prefetch does not work.",
        &request.start_page,
    )
}
