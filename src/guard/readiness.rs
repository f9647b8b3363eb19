//! `Readiness`: a guard for the route of a readiness probe.

use rocket::{
    Ignite, Request, Rocket, Sentinel,
    http::Status,
    request::{FromRequest, Outcome},
};

use super::log_missing_fairing;
use crate::{
    relying_party::{Readiness, RelyingParty},
    resource_server::ResourceServer,
};

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Readiness {
    type Error = ();

    /// Success when the fairing is attached, which the sentinel checks at launch; else `Error(500)`. It does not depend on
    /// the request: neither on its session nor on its tenant.
    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let rocket = request.rocket();
        if let Some(rp) = rocket.state::<RelyingParty>() {
            return Outcome::Success(rp.ready().await);
        }
        match rocket.state::<ResourceServer>() {
            Some(server) => Outcome::Success(Readiness::of_api(server).await),
            None => Outcome::Error((Status::InternalServerError, ())),
        }
    }
}

impl Sentinel for Readiness {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        rocket.state::<ResourceServer>().is_none() && log_missing_fairing::<Self>()
    }
}
