//! Detection of page loads: requests for a page that the browser displays.

use rocket::{Request, http::Method};

/// Whether the request is a page load: by its Fetch Metadata headers, or without them by `Accept`.
pub(crate) fn is_page_load(request: &Request<'_>) -> bool {
    request.method() == Method::Get && is_navigation(request)
}

/// The same for the form of a page, whose response the browser displays.
pub(crate) fn is_form_navigation(request: &Request<'_>) -> bool {
    request.method() != Method::Get && is_navigation(request)
}

fn is_navigation(request: &Request<'_>) -> bool {
    let headers = request.headers();
    let is = |name, value: &str| headers.get_one(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    let has = |name, text| headers.get(name).any(|v| v.to_ascii_lowercase().contains(text));

    if is_speculative(request) {
        false
    } else if has_fetch_metadata(request) {
        is("Sec-Fetch-Mode", "navigate") && is("Sec-Fetch-Dest", "document")
    } else {
        has("Accept", "text/html")
    }
}

/// Whether the browser reports that it loads this page into a tab or a window. Without Fetch Metadata headers it may be
/// a frame.
pub(crate) fn is_top_level_page_load(request: &Request<'_>) -> bool {
    has_fetch_metadata(request) && is_page_load(request)
}

/// Whether the browser reports that this is not a page load: a fetch, a frame, an image, a prefetch, a preview. A
/// client that reports nothing, such as an old browser, counts as a page load.
pub(crate) fn is_fetched(request: &Request<'_>) -> bool {
    let headers = request.headers();
    let is = |name, value: &str| headers.get(name).all(|v| v.eq_ignore_ascii_case(value));
    is_speculative(request) || !is("Sec-Fetch-Mode", "navigate") || !is("Sec-Fetch-Dest", "document")
}

/// Whether the browser reports that the user may never see the response: a prefetch, a prerendered page, a preview.
fn is_speculative(request: &Request<'_>) -> bool {
    let headers = request.headers();
    let is_speculative = |value: &str| {
        let value = value.to_ascii_lowercase();
        let mut purposes = ["prefetch", "prerender", "preview"].iter();
        purposes.any(|purpose| value.contains(purpose))
    };
    let mut names = ["Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"].into_iter();
    names.any(|name| headers.get(name).any(is_speculative))
}

fn has_fetch_metadata(request: &Request<'_>) -> bool {
    let headers = request.headers();
    headers.contains("Sec-Fetch-Mode") || headers.contains("Sec-Fetch-Dest")
}
