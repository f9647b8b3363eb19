//! `Draft`: a guard for the page of a form, with what its user had typed.

use std::{collections::BTreeMap, convert::Infallible, fmt};

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    request::{FromRequest, Outcome},
};
use serde::{Serialize, Serializer};

use super::{is_fairing_missing, keep_form::form_of_user};

/// What the user had typed into the form of this page, if their session had ended when they sent it
/// ([`Kept`](crate::Kept)). It is empty for everyone else: it never fails.
///
/// It is there for 30 minutes, until the form was sent, for the same user in the same browser, on the page from which it was
/// sent and at the address to which. The values are the user's: check them as always, and escape them, as templates do.
///
/// In a template it serializes as a map of names to values.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::{Draft, LoggedIn};
/// # use rocket::http::RawStr;
/// # use rocket::response::content::RawHtml;
///
/// #[get("/notes/new")]
/// fn new_note(_user: LoggedIn, draft: Draft) -> RawHtml<String> {
///     let text = RawStr::new(draft.value("text").unwrap_or_default()).html_escape();
///     RawHtml(format!("<form method=post action=/notes><textarea name=text>{text}</textarea><button>Add</button></form>"))
/// }
/// # let _ = rocket::routes![new_note];
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Draft(Vec<(String, String)>);

impl Draft {
    /// The value of the first field of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        fields.find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Names and values, in the order of the form.
    pub fn fields(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether nothing was kept for this page.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Omits the values.
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name).collect();
        f.debug_tuple("Draft").field(&names).finish()
    }
}

impl Serialize for Draft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields: BTreeMap<_, _> = self.0.iter().rev().map(|(name, value)| (name, value)).collect();
        fields.serialize(serializer)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Draft {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let Ok(Some((found, rp))) = Box::pin(form_of_user(request)).await else {
            return Outcome::Success(Draft::default());
        };
        let is_here = found.form.is_of_page(rp.page_of(request).as_str());
        let fields = is_here.then(|| found.form.fields());
        Outcome::Success(Draft(fields.unwrap_or_default()))
    }
}

impl Sentinel for Draft {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket)
    }
}
