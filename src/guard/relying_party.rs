//! `&RelyingParty`: a guard that gives any route the sign-in and sign-out URLs.

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
};

use super::is_fairing_missing;
use crate::relying_party::RelyingParty;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for &'r RelyingParty {
    type Error = ();

    /// Success when the fairing is attached, which the sentinel checks at launch; else `Error(500)`.
    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match request.rocket().state::<RelyingParty>() {
            Some(rp) => Outcome::Success(rp),
            None => Outcome::Error((Status::InternalServerError, ())),
        }
    }
}

impl Sentinel for &RelyingParty {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket)
    }
}
