//! The built-in HTML pages: failed sign-in, the sign-out button, and a sign-out that was not recorded.

pub(crate) mod debug;
mod error_page;

use std::borrow::Cow;

use rocket::http::RawStr;

pub(crate) use error_page::ErrorPage;

use crate::request::SignInFailure;

/// Escapes text for HTML elements and quoted attributes.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    RawStr::new(text).html_escape()
}

/// The page for a failed sign-in: an explanation, links to continue, and the error id that is also logged.
pub(crate) fn sign_in_failed(failure: &SignInFailure) -> String {
    page(
        "Sign-in failed",
        &format!(
            "<h1>Sign-in failed</h1><p>{}</p>\
             <p><a class=\"button\" href=\"{}\">Try again</a> <a href=\"/\">Start page</a></p>\
             <p class=\"quiet\">Error id: <code id=\"error-id\">{}</code></p>",
            escape(&failure.explanation),
            escape(&failure.try_again),
            escape(&failure.id),
        ),
    )
}

/// The sign-out page with a button, so that a link to it works and an image on another site cannot sign the user
/// out. The form posts `value` as `button`.
pub(crate) fn sign_out(action: &str, value: &str) -> String {
    let body = format!("<h1>Sign out?</h1>{}", sign_out_form(action, value));
    page("Sign out", &body)
}

/// The page for a sign-out request that did not come from a page of this app, with the sign-out button.
pub(crate) fn sign_out_refused(explanation: &str, action: &str, value: &str) -> String {
    let body = format!(
        "<h1>Not signed out</h1><p>{}</p>{}",
        escape(explanation),
        sign_out_form(action, value)
    );
    page("Not signed out", &body)
}

fn sign_out_form(action: &str, value: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"button\" value=\"{}\">\
         <p><button class=\"button\" id=\"sign-out\">Sign out</button> <a href=\"/\">Stay signed in</a></p></form>",
        escape(action),
        escape(value),
    )
}

/// The page for a sign-out that the session store did not record: its effect so far, and links to the provider's
/// logout page and to a page of this app.
pub(crate) fn sign_out_unrecorded(is_refused_here: bool, provider: Option<&str>, here: &str) -> String {
    let copies = if is_refused_here {
        "Until then, this server rejects every copy of your session, but another server of this site may accept one."
    } else {
        "Until then, a copy of your session may still be accepted."
    };
    let (there, class) = match provider.map(escape) {
        Some(provider) => (
            format!(
                "<a class=\"button\" id=\"sign-out-there\" href=\"{provider}\">Sign out of the sign-in service too</a> "
            ),
            "",
        ),
        None => (String::new(), " class=\"button\""),
    };
    let here = escape(here);
    page(
        "Signed out in this browser",
        &format!(
            "<h1>Signed out in this browser</h1>\
             <p>This site could not record your sign-out, because one of its services is not responding. It keeps trying.</p>\
             <p>{copies}</p><p>{there}<a{class} id=\"go-on\" href=\"{here}\">Continue</a></p>"
        ),
    )
}

/// The page for a rejected frame or prefetch request, which changes nothing.
pub(crate) fn refused(title: &str, explanation: &str) -> String {
    page(
        title,
        &format!(
            "<h1>{}</h1><p>{}</p><p><a href=\"/\">Start page</a></p>",
            escape(title),
            escape(explanation)
        ),
    )
}

fn page(title: &str, body: &str) -> String {
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
box-shadow:0 8px 30px #0002}h1{font-size:1.35rem;margin:0 0 .75rem}a{color:var(--accent)}\
.button{display:inline-block;border:0;border-radius:8px;padding:.6rem 1.1rem;margin-right:.75rem;font:inherit;\
background:var(--accent);color:#fff;text-decoration:none;cursor:pointer}\
@media(prefers-color-scheme:dark){.button{color:#12151f}}.quiet{color:var(--soft);font-size:.85rem}";

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
        });
        assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2F;script&gt;"));
        assert!(page.contains("&quot;id&#x27;"));
        assert!(page.contains("href=\"&#x2F;login?next=&quot;&gt;&lt;b&gt;\""));
        assert!(!page.contains("<script>"));
    }
}
