//! `Kept`: a data guard for forms that survives the end of a session.

use std::{fmt, ops::Deref};

use rocket::{
    Data, Ignite, Request, Rocket, Sentinel,
    data::{self, FromData},
    form::{Errors, Form, FromForm},
    http::Status,
    outcome::Outcome,
    request::FromRequest,
};
use thiserror::Error;

use super::{
    LoggedIn,
    keep_form::{KeptRequest, drop_sent_form},
};
use crate::relying_party::RelyingParty;

/// A form for signed-in users that is not lost when their session has ended: it is kept while they sign in again, and
/// sent afterwards by a button.
///
/// It is a data guard that runs the guard `G` itself, [`LoggedIn`] or another one of this crate; a guard of the session
/// beside it in the route would reject the request before the form is read.
///
/// ```
/// use rocket::{FromForm, post, response::Redirect};
/// use rocket_openidconnect::Kept;
///
/// #[derive(FromForm)]
/// struct Note<'r> {
///     text: &'r str,
/// }
///
/// #[post("/notes", data = "<form>")]
/// fn add(form: Kept<Note<'_>>) -> Redirect {
///     let (user, note) = form.into_inner();
///     println!("{} notes {}", user.subject(), note.text);
///     Redirect::to("/notes")
/// }
/// # let _ = rocket::routes![add];
/// ```
///
/// | outcome | when | what the user sees |
/// |---|---|---|
/// | success | `G` succeeds, and the form is an `F` | the route |
/// | as `G` | `G` fails, and the form is not kept | as `G`; after a 401 the body is lost |
/// | `Error(401)` | `G` fails with 401, and the form is kept | sign-in, then a page with a button that sends the form |
/// | `Error(413)`, `Error(422)` and others | the form is not an `F` | as [`Form`] |
///
/// A form is kept for 30 minutes if a session has ended whose record can still be decrypted, or if its user must
/// authenticate again; if a page of this app sent it, as `application/x-www-form-urlencoded` and by no script; and if it
/// has 64 KB at most. After the sign-in it is there for the same user, in the same browser, at the same provider and host
/// alone, and until it was sent. The page is [`Pages::kept_form`](crate::Pages::kept_form), and [`Draft`](crate::Draft) fills
/// the form in again instead.
///
/// # Security
///
/// The form is encrypted, in the session store or, without a shared one, in the memory of this process, which loses it at a
/// restart; the browser has half of the key. Do not use it for forms with passwords, which would be in a page. More in
/// [forms](crate::manual::forms).
pub struct Kept<F, G = LoggedIn> {
    guard: G,
    form: F,
}

/// The error of [`Kept`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeptError<'r, E> {
    /// The guard failed with its own status.
    #[error("the guard of the form failed")]
    Guard(E),
    /// The form is not as expected, as with [`Form`].
    #[error("the form is not as expected")]
    Form(Errors<'r>),
}

impl<F, G> Kept<F, G> {
    /// The guard, such as the signed-in user.
    pub fn guard(&self) -> &G {
        &self.guard
    }

    /// The guard and the form.
    pub fn into_inner(self) -> (G, F) {
        (self.guard, self.form)
    }
}

impl<F, G> Deref for Kept<F, G> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.form
    }
}

/// Omits the form.
impl<F, G: fmt::Debug> fmt::Debug for Kept<F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

#[rocket::async_trait]
impl<'r, F, G, E> FromData<'r> for Kept<F, G>
where
    F: FromForm<'r>,
    G: FromRequest<'r, Error = E> + Send + 'r,
    E: fmt::Debug + Send + 'r,
{
    type Error = KeptError<'r, E>;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        let guard = match G::from_request(request).await {
            Outcome::Success(guard) => guard,
            Outcome::Forward(status) => return Outcome::Forward((data, status)),
            Outcome::Error((status, error)) => {
                if status == Status::Unauthorized {
                    Box::pin(keep(request, data)).await;
                }
                return Outcome::Error((status, KeptError::Guard(error)));
            }
        };
        let form = match Form::<F>::from_data(request, data).await {
            Outcome::Success(form) => form.into_inner(),
            Outcome::Forward((data, status)) => return Outcome::Forward((data, status)),
            Outcome::Error((status, errors)) => return Outcome::Error((status, KeptError::Form(errors))),
        };
        Box::pin(drop_sent_form(request)).await;
        Outcome::Success(Kept { guard, form })
    }
}

async fn keep(request: &Request<'_>, data: Data<'_>) {
    if let Some(kept) = KeptRequest::of(request).await {
        kept.keep(request, data).await;
    }
}

impl<F, G: Sentinel> Sentinel for Kept<F, G> {
    /// As `G`.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        if let Some(rp) = rocket.state::<RelyingParty>() {
            rp.kept_forms.note_use();
        }
        G::abort(rocket)
    }
}
