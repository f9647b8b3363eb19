//! The page that asks the user to confirm a sign-in.

use serde::Serialize;

use super::{HiddenField, document, escape, form::form};

/// What the page shows that asks the user to confirm a sign-in: a button that posts a form, and a link to cancel.
///
/// Another site can begin a sign-in, for an account that is not the user's. The form is posted, so no prefetch
/// confirms it, and the browser's headers say that this app's page sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SignInConfirmation {
    /// The URL to which the form is posted.
    pub action: String,
    /// The hidden fields of the form.
    pub fields: Vec<HiddenField>,
    /// The name of the provider that users read.
    pub provider: String,
    /// The page of this app to which a user goes who does not confirm.
    pub cancel: String,
    /// The user who is signed in now; their session ends when another user signs in.
    pub signed_in: Option<UserLabel>,
}

/// A user as a page shows them.
///
/// # Security
///
/// Users can choose their names at many providers. Show the provider and `subject` too, so that two users of the same
/// name differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UserLabel {
    /// The name that users read.
    pub name: String,
    /// The `sub` claim.
    pub subject: String,
    /// The name of the provider that users read.
    pub provider: String,
}

/// The built-in page.
pub(super) fn page(sign_in: &SignInConfirmation) -> String {
    let button = format!("Sign in with {}", sign_in.provider);
    let form = form(
        &sign_in.action,
        &sign_in.fields,
        ("confirm", &button),
        (&sign_in.cancel, "Cancel"),
    );
    let signed_in = sign_in.signed_in.as_ref().map(|current| {
        format!(
            "<p>You are signed in as {}. A new sign-in ends that session. If you did not begin it, cancel.</p>",
            user(current)
        )
    });
    let signed_in = signed_in.unwrap_or_default();
    let body = format!("<h1>Sign in?</h1><p>Another site asked to sign you in here.</p>{signed_in}{form}");
    document("Sign in", &body)
}

/// The name with what tells apart two users of one name. Right-to-left characters in it do not change what follows.
fn user(user: &UserLabel) -> String {
    format!(
        "<strong><bdi>{}</bdi></strong> <span class=\"quiet\">({}, user id <code><bdi>{}</bdi></code>)</span>",
        escape(&user.name),
        escape(&user.provider),
        escape(&user.subject),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "\"<>&'";
    const ESCAPED: &str = "&quot;&lt;&gt;&amp;&#x27;";

    fn label(name: &str, subject: &str, provider: &str) -> UserLabel {
        UserLabel {
            name: name.to_owned(),
            subject: subject.to_owned(),
            provider: provider.to_owned(),
        }
    }

    fn sign_in(text: &str, signed_in: Option<UserLabel>) -> SignInConfirmation {
        SignInConfirmation {
            action: format!("/oidc/login/{text}"),
            fields: vec![
                HiddenField {
                    name: "button".to_owned(),
                    value: format!("v{text}"),
                },
                HiddenField {
                    name: "next".to_owned(),
                    value: "/me".to_owned(),
                },
            ],
            provider: text.to_owned(),
            cancel: format!("/{text}"),
            signed_in,
        }
    }

    #[test]
    fn a_sign_in_that_another_site_began() {
        let page = page(&sign_in("acme", None));
        assert!(page.contains("<title>Sign in</title>"), "{page}");
        assert!(
            page.ends_with(
                "<main><h1>Sign in?</h1><p>Another site asked to sign you in here.</p>\
                 <form method=\"post\" action=\"&#x2F;oidc&#x2F;login&#x2F;acme\">\
                 <input type=\"hidden\" name=\"button\" value=\"vacme\">\
                 <input type=\"hidden\" name=\"next\" value=\"&#x2F;me\">\
                 <p><button class=\"button\" id=\"confirm\">Sign in with acme</button> \
                 <a href=\"&#x2F;acme\">Cancel</a></p></form></main></body></html>"
            ),
            "{page}"
        );
    }

    #[test]
    fn a_sign_in_of_a_browser_with_a_session() {
        let page = page(&sign_in("acme", Some(label("Alice", "1", "Acme"))));
        assert!(
            page.contains(
                "<p>You are signed in as <strong><bdi>Alice</bdi></strong> \
                 <span class=\"quiet\">(Acme, user id <code><bdi>1</bdi></code>)</span>. \
                 A new sign-in ends that session. If you did not begin it, cancel.</p><form method=\"post\" "
            ),
            "{page}"
        );
    }

    #[test]
    fn text_is_escaped() {
        // In `action`, in a field, in `cancel` and in the button, and in the name of the user.
        for (page, escaped) in [
            (page(&sign_in(EVIL, None)), 4),
            (page(&sign_in(EVIL, Some(label(EVIL, EVIL, EVIL)))), 4 + 3),
        ] {
            assert!(!page.contains(EVIL), "{page}");
            assert_eq!(page.matches(ESCAPED).count(), escaped, "{page}");
        }
    }

    #[test]
    fn a_template_gets_every_field() {
        let signed_in = label("Alice", "1", "Acme");
        let json = serde_json::to_value(sign_in("acme", Some(signed_in))).unwrap();
        let expected = serde_json::json!({
            "action": "/oidc/login/acme",
            "fields": [{ "name": "button", "value": "vacme" }, { "name": "next", "value": "/me" }],
            "provider": "acme",
            "cancel": "/acme",
            "signed_in": { "name": "Alice", "subject": "1", "provider": "Acme" },
        });
        assert_eq!(json, expected);
    }
}
