//! The HTML pages: those that an app may render itself, and the built-in ones.

mod app_pages;
pub(crate) mod debug;
mod form;
mod kept_form;
mod provider_choice;
mod refused_request;
mod sign_in_confirmation;
mod sign_out;
mod unrecorded_sign_out;

use std::{borrow::Cow, io::Cursor};

use rocket::{
    Response,
    http::{ContentType, RawStr, Status},
};

pub(crate) use app_pages::AppPages;
pub use app_pages::{BuiltInPages, Pages};
pub use form::HiddenField;
pub use kept_form::KeptFormPage;
pub use provider_choice::{ProviderChoice, ProviderLink};
pub use refused_request::RefusedRequest;
pub use sign_in_confirmation::{SignInConfirmation, UserLabel};
pub use sign_out::SignOutConfirmation;
pub use unrecorded_sign_out::UnrecordedSignOut;

use crate::request::SignInFailure;

/// A built-in page without forms that redirect to another site.
pub(crate) fn html<'r>(status: Status, page: String) -> Response<'r> {
    let mut response = built_in(page, "form-action 'self'; ");
    response.set_status(status);
    response.set_raw_header("Cache-Control", "no-store");
    response.set_raw_header("Referrer-Policy", "no-referrer");
    response
}

/// A built-in page with these directives in its `Content-Security-Policy`. A page whose form redirects to the provider
/// has no `form-action`: browsers apply it to every subsequent redirect.
fn built_in<'r>(page: String, directives: &str) -> Response<'r> {
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; {directives}{NO_FRAMES}");
    Response::build()
        .header(ContentType::HTML)
        .raw_header("Content-Security-Policy", policy)
        .sized_body(page.len(), Cursor::new(page))
        .finalize()
}

/// Sets the headers of a page with buttons, whoever rendered it.
pub(crate) fn protect_buttons(response: &mut Response<'_>) {
    response.set_raw_header("Cache-Control", "no-store");
    // With `no-referrer` a form would be posted with `Origin: null`; with `same-origin` the URL of a callback, with its
    // code, would be in the `Referer` of the app's next request.
    response.set_raw_header("Referrer-Policy", "strict-origin");
    // Another site could place the button of a page in a frame under the user's pointer.
    let mut policies = response.headers().get("Content-Security-Policy");
    let forbids = |policy: &str| {
        let policy = policy.to_ascii_lowercase();
        let mut directives = policy.split(';').map(str::trim);
        // The first directive of a name counts.
        directives.find(|directive| directive.starts_with("frame-ancestors")) == Some(NO_FRAMES)
    };
    let is_forbidden = policies.any(forbids);
    drop(policies);
    if !is_forbidden {
        response.adjoin_raw_header("Content-Security-Policy", NO_FRAMES);
    }
}

/// The same for the page that sends a form of the app: with this policy, the route gets the `Origin` and the page of it, and
/// no other site does.
pub(crate) fn protect_form(response: &mut Response<'_>) {
    protect_buttons(response);
    response.set_raw_header("Referrer-Policy", "same-origin");
}

const NO_FRAMES: &str = "frame-ancestors 'none'";

/// Escapes text for HTML elements and quoted attributes.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    RawStr::new(text).html_escape()
}

/// The page for a failed sign-in: an explanation, links to continue, and the error id that is also logged.
pub(crate) fn sign_in_failed(failure: &SignInFailure) -> String {
    document(
        "Sign-in failed",
        &format!(
            "<h1>Sign-in failed</h1><p>{}</p>\
             <p><a class=\"button\" href=\"{}\">Try again</a> <a href=\"{}\">Start page</a></p>\
             <p class=\"quiet\">Error id: <code id=\"error-id\">{}</code></p>",
            escape(&failure.explanation),
            escape(&failure.try_again),
            escape(&failure.start_page),
            escape(&failure.id),
        ),
    )
}

/// The page for a rejected frame or prefetch request, which changes nothing.
pub(crate) fn refused(title: &str, explanation: &str, start_page: &str) -> String {
    document(
        title,
        &format!(
            "<h1>{}</h1><p>{}</p><p><a href=\"{}\">Start page</a></p>",
            escape(title),
            escape(explanation),
            escape(start_page),
        ),
    )
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>",
        escape(title)
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2433;--soft:#667085;--paper:#fff;--ground:#f4f5f8;--accent:#3157d5}\
@media(prefers-color-scheme:dark){:root{--ink:#e8eaf0;--soft:#98a2b3;--paper:#1b2030;--ground:#12151f;--accent:#7d9bff}}\
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--ground);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif}\
main{background:var(--paper);max-width:26rem;margin:1rem;padding:2rem 2.25rem;border-radius:14px;\
box-shadow:0 8px 30px #0002;overflow-wrap:anywhere}h1{font-size:1.35rem;margin:0 0 .75rem}a{color:var(--accent)}\
.button{display:inline-block;border:0;border-radius:8px;padding:.6rem 1.1rem;margin:0 .75rem .4rem 0;font:inherit;\
background:var(--accent);color:#fff;text-decoration:none;cursor:pointer}\
@media(prefers-color-scheme:dark){.button{color:#12151f}}.quiet{color:var(--soft);font-size:.85rem}\
.choice{list-style:none;margin:0;padding:0}.choice li{margin-top:.75rem}\
.choice .button{display:flex;gap:.6rem;align-items:center;margin:0}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped() {
        let page = sign_in_failed(&SignInFailure {
            error: crate::relying_party::SignInError::AlreadyUsed,
            explanation: "<script>alert(1)</script>".to_owned(),
            id: "\"id'".to_owned(),
            try_again: "/login?next=\"><b>".to_owned(),
            start_page: "/team/".to_owned(),
        });
        assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2F;script&gt;"));
        assert!(page.contains("&quot;id&#x27;"));
        assert!(page.contains("href=\"&#x2F;login?next=&quot;&gt;&lt;b&gt;\""));
        assert!(page.contains("href=\"&#x2F;team&#x2F;\">Start page"));
        assert!(!page.contains("<script>"));
    }
}
