//! The page for a sign-out that the session store has not recorded yet.

use serde::Serialize;

use super::{document, escape};

/// What the page for a sign-out shows that the session store could not record: its effect so far, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnrecordedSignOut {
    /// Whether this server rejects every copy of the session until the sign-out is recorded; another server of the site
    /// may accept one.
    pub is_refused_here: bool,
    /// The URL at which the browser signs out at the provider too, if it can.
    pub at_provider: Option<String>,
    /// The page of the app to go on to.
    pub next: String,
}

/// The built-in page.
pub(super) fn page(sign_out: &UnrecordedSignOut) -> String {
    let copies = if sign_out.is_refused_here {
        "Until then, this server rejects every copy of your session, but another server of this site may accept one."
    } else {
        "Until then, a copy of your session may still be accepted."
    };
    let (there, class) = match sign_out.at_provider.as_deref().map(escape) {
        Some(provider) => (
            format!(
                "<a class=\"button\" id=\"sign-out-there\" href=\"{provider}\">Sign out of the sign-in service too</a> "
            ),
            "",
        ),
        None => (String::new(), " class=\"button\""),
    };
    let next = escape(&sign_out.next);
    document(
        "Signed out in this browser",
        &format!(
            "<h1>Signed out in this browser</h1>\
             <p>This site could not record your sign-out, because one of its services is not responding. It keeps trying.</p>\
             <p>{copies}</p><p>{there}<a{class} id=\"go-on\" href=\"{next}\">Continue</a></p>"
        ),
    )
}
