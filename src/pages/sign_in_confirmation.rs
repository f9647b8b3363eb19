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
    /// Whose session the sign-in would replace; `None` when another site began the sign-in, and the user has not been
    /// at the provider yet.
    pub replaces: Option<ReplacedUser>,
}

/// The users of a sign-in that would replace the session of another user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReplacedUser {
    /// The user who is signed in.
    pub current: UserLabel,
    /// The user who would be signed in.
    pub new: UserLabel,
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
    let Some(ReplacedUser { current, new }) = &sign_in.replaces else {
        let button = format!("Sign in with {}", sign_in.provider);
        let form = form(
            &sign_in.action,
            &sign_in.fields,
            ("confirm", &button),
            (&sign_in.cancel, "Cancel"),
        );
        let body = format!("<h1>Sign in?</h1><p>Another site asked to sign you in here.</p>{form}");
        return document("Sign in", &body);
    };
    let form = form(
        &sign_in.action,
        &sign_in.fields,
        ("confirm", "Switch user"),
        (&sign_in.cancel, "Keep the current user"),
    );
    let body = format!(
        "<h1>Switch user?</h1><p>You are signed in as {}.</p><p>This sign-in is for {}.</p>\
         <p>If you did not begin it, keep the current user.</p>{form}",
        user(current),
        user(new),
    );
    document("Switch user", &body)
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

    fn sign_in(text: &str, replaces: Option<ReplacedUser>) -> SignInConfirmation {
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
            replaces,
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

    /// Both users have the name that the second chose.
    #[test]
    fn a_sign_in_that_replaces_another_user() {
        let replaces = ReplacedUser {
            current: label("Alice", "1", "Acme"),
            new: label("Alice", "2", "Acme"),
        };
        let page = page(&sign_in("acme", Some(replaces)));
        assert!(page.contains("<title>Switch user</title>"), "{page}");
        assert!(
            page.contains(
                "<main><h1>Switch user?</h1>\
                 <p>You are signed in as <strong><bdi>Alice</bdi></strong> \
                 <span class=\"quiet\">(Acme, user id <code><bdi>1</bdi></code>)</span>.</p>\
                 <p>This sign-in is for <strong><bdi>Alice</bdi></strong> \
                 <span class=\"quiet\">(Acme, user id <code><bdi>2</bdi></code>)</span>.</p>\
                 <p>If you did not begin it, keep the current user.</p><form method=\"post\" "
            ),
            "{page}"
        );
        assert!(
            page.contains(
                "<button class=\"button\" id=\"confirm\">Switch user</button> \
                 <a href=\"&#x2F;acme\">Keep the current user</a></p></form></main>"
            ),
            "{page}"
        );
    }

    #[test]
    fn text_is_escaped() {
        let user = || label(EVIL, EVIL, EVIL);
        let replaces = ReplacedUser {
            current: user(),
            new: user(),
        };
        // In `action`, in a field and in `cancel`, and in the button or in the names of two users.
        for (page, escaped) in [
            (page(&sign_in(EVIL, None)), 4),
            (page(&sign_in(EVIL, Some(replaces))), 3 + 2 * 3),
        ] {
            assert!(!page.contains(EVIL), "{page}");
            assert_eq!(page.matches(ESCAPED).count(), escaped, "{page}");
        }
    }

    #[test]
    fn a_template_gets_every_field() {
        let replaces = ReplacedUser {
            current: label("Alice", "1", "Acme"),
            new: label("Bob", "2", "Other"),
        };
        let json = serde_json::to_value(sign_in("acme", Some(replaces))).unwrap();
        let expected = serde_json::json!({
            "action": "/oidc/login/acme",
            "fields": [{ "name": "button", "value": "vacme" }, { "name": "next", "value": "/me" }],
            "provider": "acme",
            "cancel": "/acme",
            "replaces": {
                "current": { "name": "Alice", "subject": "1", "provider": "Acme" },
                "new": { "name": "Bob", "subject": "2", "provider": "Other" },
            },
        });
        assert_eq!(json, expected);
    }
}
