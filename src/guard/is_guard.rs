//! A compile error that names the guards, for a type of this crate that looks like one.

use rocket::{
    Request,
    http::Status,
    request::{FromRequest, Outcome},
};

use crate::relying_party::User;

/// Implemented by no type: the bound of `FromRequest` for types that are not guards, whose message says what to write.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request guard",
    label = "this is what a guard gives to the app",
    note = "for signed-in users: `user: LoggedIn` or `user: Authorized<Policy>`; for everyone: `visitor: OptionalUser` or `visitor: Visitor`",
    note = "all of them take the app's claims: `LoggedIn<Claims>`"
)]
pub trait IsGuard {}

#[rocket::async_trait]
impl<'r, C> FromRequest<'r> for User<C>
where
    User<C>: IsGuard,
{
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Error((Status::InternalServerError, ()))
    }
}
