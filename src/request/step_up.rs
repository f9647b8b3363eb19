//! What a signed-in user must do for a guard that demands more of their authentication.

use serde::Serialize;

use crate::{
    relying_party::RelyingParty,
    requirement::{INSUFFICIENT, RequiredAuthentication},
};

/// A guard demands a more recent or another authentication than the signed-in user has. For catchers, which make the
/// body of the 401:
///
/// ```
/// use rocket::{Request, catch, serde::json::{Value, json}};
/// use rocket_openidconnect::StepUp;
///
/// #[catch(401)]
/// fn unauthorized(request: &Request<'_>) -> Value {
///     match StepUp::of(request) {
///         Some(step_up) => json!({ "error": "step_up", "demanded": step_up }),
///         None => json!({ "error": "sign_in" }),
///     }
/// }
/// ```
///
/// It serializes as `{ max_age, acr_values }`, each where it is demanded.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct StepUp {
    required: RequiredAuthentication,
    /// The name of the user.
    #[serde(skip)]
    user: String,
}

impl StepUp {
    pub(crate) fn new(required: RequiredAuthentication, user: String) -> StepUp {
        StepUp { required, user }
    }

    /// What is demanded.
    pub fn required(&self) -> &RequiredAuthentication {
        &self.required
    }

    /// The URL of the sign-in that asks for it, and redirects to `next` afterwards, or to `/` if another user signs in.
    pub fn sign_in_url(&self, rp: &RelyingParty, next: &str) -> String {
        rp.step_up_url(&self.required, self.user.clone(), next)
    }

    /// The challenge of [RFC 9470 §3](https://www.rfc-editor.org/rfc/rfc9470#section-3).
    pub(crate) fn challenge(&self) -> String {
        let mut challenge = format!("Bearer error=\"{INSUFFICIENT}\"");
        for (name, value) in self.required.challenge_parameters() {
            challenge.extend([", ", name, "=\"", &value, "\""]);
        }
        challenge
    }
}
