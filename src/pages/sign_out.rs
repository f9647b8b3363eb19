//! The sign-out page with its button.

use serde::Serialize;

use super::{HiddenField, document, escape, form::form};

/// What the sign-out page shows: a button that posts a form.
///
/// The button keeps a link to sign-out working, while an image or a form on another site cannot sign the user out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SignOutConfirmation {
    /// The URL to which the form is posted.
    pub action: String,
    /// The hidden fields of the form.
    pub fields: Vec<HiddenField>,
    /// The path of the app's start page in the browser, for users who stay signed in.
    pub cancel: String,
    /// Why a sign-out request was rejected, in English: another site sent it, or the browser hid which site did. `None`
    /// when the user followed a link.
    pub rejected: Option<String>,
}

/// The built-in page.
pub(super) fn page(sign_out: &SignOutConfirmation) -> String {
    let button = ("sign-out", "Sign out");
    let form = form(
        &sign_out.action,
        &sign_out.fields,
        button,
        (&sign_out.cancel, "Stay signed in"),
    );
    match &sign_out.rejected {
        Some(explanation) => {
            let explanation = escape(explanation);
            document(
                "Not signed out",
                &format!("<h1>Not signed out</h1><p>{explanation}</p>{form}"),
            )
        }
        None => document("Sign out", &format!("<h1>Sign out?</h1>{form}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_out(rejected: Option<&str>) -> SignOutConfirmation {
        SignOutConfirmation {
            action: "/oidc/logout?next=%2F&x=\"<'>".to_owned(),
            fields: vec![HiddenField {
                name: "button".to_owned(),
                value: "\"<&'>".to_owned(),
            }],
            cancel: "/".to_owned(),
            rejected: rejected.map(str::to_owned),
        }
    }

    const FORM: &str = "<form method=\"post\" action=\"&#x2F;oidc&#x2F;logout?next=%2F&amp;x=&quot;&lt;&#x27;&gt;\">\
                        <input type=\"hidden\" name=\"button\" value=\"&quot;&lt;&amp;&#x27;&gt;\">\
                        <p><button class=\"button\" id=\"sign-out\">Sign out</button> \
                        <a href=\"&#x2F;\">Stay signed in</a></p></form>";

    #[test]
    fn the_button() {
        let page = page(&sign_out(None));
        assert!(page.contains("<title>Sign out</title>"), "{page}");
        let main = format!("<main><h1>Sign out?</h1>{FORM}</main>");
        assert!(page.contains(&main), "{page}");
    }

    #[test]
    fn a_rejected_request_has_the_button_too() {
        let page = page(&sign_out(Some("Another <site> asked.")));
        assert!(page.contains("<title>Not signed out</title>"), "{page}");
        let main = format!("<main><h1>Not signed out</h1><p>Another &lt;site&gt; asked.</p>{FORM}</main>");
        assert!(page.contains(&main), "{page}");
    }

    #[test]
    fn debug_output_has_no_value_of_a_field() {
        let debug = format!("{:?}", sign_out(None));
        assert!(debug.contains("HiddenField { name: \"button\", .. }"), "{debug}");
    }
}
