//! The page that sends a form whose session had ended.

use serde::Serialize;

use super::{HiddenField, document, escape, form::form};

/// What the page shows that sends a form whose session had ended when its user sent it: a button that posts the same fields
/// to the same address.
///
/// # Security
///
/// Have the user press the button: never send the form by a script. The fields are as the user typed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptFormPage {
    /// The URL to which the form is posted: path and query of the route.
    pub action: String,
    /// The fields of the form, as hidden fields.
    pub fields: Vec<HiddenField>,
    /// The URL of the page with the form, if the browser stated it, which [`Draft`](crate::Draft) fills in again.
    pub form_page: Option<String>,
    /// The path of the app's start page in the browser.
    pub cancel: String,
}

impl KeptFormPage {
    /// The names of the fields, each once.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![];
        for field in &self.fields {
            if !names.contains(&&*field.name) {
                names.push(&field.name);
            }
        }
        names
    }
}

/// The built-in page.
pub(super) fn page(kept: &KeptFormPage) -> String {
    let link = match &kept.form_page {
        Some(page) => (&**page, "Back to the form"),
        None => (&*kept.cancel, "Do not send"),
    };
    let form = form(&kept.action, &kept.fields, ("send", "Send"), link);
    let names = kept
        .names()
        .into_iter()
        .map(|name| format!("<code><bdi>{}</bdi></code>", escape(name)));
    let names = names.collect::<Vec<_>>().join(", ");
    let body = format!(
        "<h1>Send your form?</h1><p>You had been signed out when you sent this form, so it was not sent. Now you are signed \
         in again.</p><p class=\"quiet\">To: <code id=\"target\">{}</code><br>Fields: {names}</p>{form}",
        escape(&kept.action),
    );
    document("Send your form", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "\"<>&'";
    const ESCAPED: &str = "&quot;&lt;&gt;&amp;&#x27;";

    fn kept(text: &str, form_page: Option<&str>) -> KeptFormPage {
        let field = |name: &str, value: &str| HiddenField {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        KeptFormPage {
            action: format!("/notes?{text}"),
            fields: vec![
                field(&format!("t{text}"), text),
                field("tag", "one"),
                field("tag", "two"),
            ],
            form_page: form_page.map(str::to_owned),
            cancel: "/".to_owned(),
        }
    }

    #[test]
    fn it_names_target_and_fields() {
        let page = page(&kept("", Some("/notes/new")));
        assert!(page.contains("To: <code id=\"target\">&#x2F;notes?</code>"), "{page}");
        assert!(
            page.contains("Fields: <code><bdi>t</bdi></code>, <code><bdi>tag</bdi></code></p>"),
            "{page}"
        );
        assert!(
            page.contains(
                "<form method=\"post\" action=\"&#x2F;notes?\"><input type=\"hidden\" name=\"t\" value=\"\">\
                 <input type=\"hidden\" name=\"tag\" value=\"one\"><input type=\"hidden\" name=\"tag\" value=\"two\">\
                 <p><button class=\"button\" id=\"send\">Send</button> \
                 <a href=\"&#x2F;notes&#x2F;new\">Back to the form</a></p></form>"
            ),
            "{page}"
        );
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn without_a_page_of_the_form_it_links_to_the_start_page() {
        let page = page(&kept("", None));
        assert!(page.contains("<a href=\"&#x2F;\">Do not send</a>"), "{page}");
    }

    #[test]
    fn text_is_escaped() {
        let page = page(&kept(EVIL, Some(EVIL)));
        assert!(!page.contains(EVIL), "{page}");
        // In the target and its text, a name and its text, a value, and the link.
        assert_eq!(page.matches(ESCAPED).count(), 6, "{page}");
    }
}
