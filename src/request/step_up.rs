//! What a signed-in user must do for a guard that demands more of their authentication.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    relying_party::{LocalPage, RelyingParty},
    requirement::{INSUFFICIENT, RequiredAuthentication},
    session::Session,
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
    /// The name of the user, and of their provider.
    #[serde(skip)]
    user: (String, Arc<str>),
}

impl StepUp {
    pub(crate) fn new(required: RequiredAuthentication, session: &Session) -> StepUp {
        StepUp {
            required,
            user: (session.user_name(), session.provider.clone()),
        }
    }

    /// What is demanded.
    pub fn required(&self) -> &RequiredAuthentication {
        &self.required
    }

    /// The URL of the sign-in that asks for it, and redirects to `next` afterwards, or to `/` if another user signs in.
    pub fn sign_in_url(&self, rp: &RelyingParty, next: impl LocalPage) -> String {
        let (user, provider) = &self.user;
        match self.required.provider().filter(|name| **name != **provider) {
            // Any user of that provider.
            Some(other) => rp.step_up_url(&self.required, None, next).provider(other).to_string(),
            None => rp.step_up_url(&self.required, Some(user.clone()), next).to_string(),
        }
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
