//! Detection of page loads: requests for a page that the browser displays.

use rocket::{Request, http::Method};

/// Whether the request is a page load: by its Fetch Metadata headers, or without them by `Accept`.
pub(crate) fn is_page_load(request: &Request<'_>) -> bool {
    let headers = request.headers();
    let is = |name, value: &str| headers.get_one(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    let has = |name, text| headers.get(name).any(|v| v.to_ascii_lowercase().contains(text));
    let is_prefetch = has("Sec-Purpose", "prefetch") || has("Purpose", "prefetch");

    if request.method() != Method::Get || is_prefetch {
        false
    } else if headers.contains("Sec-Fetch-Mode") || headers.contains("Sec-Fetch-Dest") {
        is("Sec-Fetch-Mode", "navigate") && is("Sec-Fetch-Dest", "document")
    } else {
        has("Accept", "text/html")
    }
}
