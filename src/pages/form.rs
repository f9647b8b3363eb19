//! A form whose button the user must press.

use std::fmt;

use serde::Serialize;

use super::escape;

/// A hidden field of a form: `<input type="hidden" name="…" value="…">`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HiddenField {
    /// The attribute `name`.
    pub name: String,
    /// The attribute `value`: encrypted, and valid for this browser only; in a [`KeptFormPage`](crate::KeptFormPage), what the
    /// user typed.
    pub value: String,
}

/// Omits the value.
impl fmt::Debug for HiddenField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HiddenField")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A form that posts the fields to `action`, with a button and a link beside it: each an id, a text, and the link's
/// target.
pub(super) fn form(action: &str, fields: &[HiddenField], button: (&str, &str), link: (&str, &str)) -> String {
    let fields = fields.iter().map(|field| {
        let (name, value) = (escape(&field.name), escape(&field.value));
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
    });
    let ((id, text), (href, stay)) = (button, link);
    format!(
        "<form method=\"post\" action=\"{}\">{}<p><button class=\"button\" id=\"{}\">{}</button> \
         <a href=\"{}\">{}</a></p></form>",
        escape(action),
        fields.collect::<String>(),
        escape(id),
        escape(text),
        escape(href),
        escape(stay),
    )
}
