//! `&RelyingParty`: a guard that gives any route the sign-in and sign-out URLs.

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
};

use super::is_fairing_missing;
use crate::{
    relying_party::{NoProvider, RelyingParty},
    request::relying_party,
};

#[rocket::async_trait]
impl<'r> FromRequest<'r> for &'r RelyingParty {
    type Error = ();

    /// Success when the fairing is attached, which the sentinel checks at launch; else `Error(500)`. With
    /// [`Oidc::provider_for`](crate::Oidc::provider_for), it is that of the request's provider: `Error(404)` if there is
    /// none, and `Error(503)` if it cannot be decided.
    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let Some(app) = request.rocket().state::<RelyingParty>() else {
            return Outcome::Error((Status::InternalServerError, ()));
        };
        match relying_party(request, app).await {
            Ok(rp) => Outcome::Success(rp),
            Err(NoProvider::Unknown) => Outcome::Error((Status::NotFound, ())),
            Err(NoProvider::Undecided) => Outcome::Error((Status::ServiceUnavailable, ())),
        }
    }
}

impl Sentinel for &RelyingParty {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        is_fairing_missing::<Self>(rocket)
    }
}
