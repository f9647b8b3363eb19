//! `GET {mount}/kept-form`: the page that sends a form whose session had ended, after the sign-in.

use rocket::{http::Status, route::Outcome};

use super::{RouteContext, outcome, redirect};
use crate::{
    guard::{current_session, form_of_user},
    pages::{HiddenField, KeptFormPage, protect_form},
};

impl<'r> RouteContext<'r, '_> {
    /// The page with the button; to sign-in without a session, and to the page with the form if it is not kept any more, or
    /// is another user's.
    pub(super) async fn kept_form(&self) -> Outcome<'r> {
        let next = self.next();
        if let Err(reason) = current_session(self.request).await {
            if reason.is_outage() {
                return Outcome::Error(Status::ServiceUnavailable);
            }
            let here = self.request.uri().to_string();
            return Outcome::Success(redirect(&self.rp.login_url(&here)));
        }
        let Ok(found) = form_of_user(self.request).await else {
            return Outcome::Error(Status::ServiceUnavailable);
        };
        let Some((found, _)) = found else {
            // The form of another user cannot be read without this key.
            let cookie = self.rp.kept_form_cookie();
            self.set(cookie.read(self.request.cookies()).map(|_| cookie.remove()));
            return Outcome::Success(redirect(next.as_str()));
        };
        let fields = found.form.fields().into_iter();
        let page = KeptFormPage {
            action: found.form.target.clone(),
            fields: fields.map(|(name, value)| HiddenField { name, value }).collect(),
            form_page: found.form.form_page.clone(),
            cancel: self.rp.site.paths.home(),
        };
        let rendered = self.pages().kept_form(self.request, &page).map(|mut response| {
            protect_form(&mut response);
            response
        });
        outcome(Status::Ok, rendered)
    }
}
