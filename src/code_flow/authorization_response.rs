//! The authorization response (RFC 6749 §4.1.2, RFC 9207): what the browser brings back.

use super::PendingSignIn;
use crate::{Secret, error::SignInError};

/// The query of the callback, each parameter at most once.
#[derive(Debug, Default)]
pub(crate) struct AuthorizationResponse {
    pub state: Option<Secret>,
    code: Option<Secret>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl AuthorizationResponse {
    /// Reads a query. A parameter that stands there twice makes it unusable (RFC 6749 §3.1).
    pub(crate) fn parse(query: &str) -> Result<AuthorizationResponse, SignInError> {
        let mut response = AuthorizationResponse::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let is_repeated = match &*name {
                "state" => response.state.replace(Secret::new(value)).is_some(),
                "code" => response.code.replace(Secret::new(value)).is_some(),
                "iss" => response.iss.replace(value.into_owned()).is_some(),
                "error" => response.error.replace(value.into_owned()).is_some(),
                "error_description" => {
                    response.error_description.replace(value.into_owned()).is_some()
                }
                _ => false,
            };
            if is_repeated {
                return Err(SignInError::RepeatedParameter {
                    name: name.into_owned(),
                });
            }
        }
        Ok(response)
    }

    /// Judges the response against the attempt it answers, and yields its code.
    pub(crate) fn accept(
        self,
        pending: &PendingSignIn,
        iss_is_required: bool,
    ) -> Result<Secret, SignInError> {
        // State before anything else; `Secret` compares in constant time.
        if self.state.as_ref() != Some(&pending.state) {
            return Err(SignInError::State);
        }

        // RFC 9207 §2.4: compared whenever it is there, required when the metadata announces it.
        match &self.iss {
            Some(iss) if *iss == pending.issuer => {}
            Some(iss) => {
                return Err(SignInError::Iss {
                    expected: pending.issuer.clone(),
                    actual: iss.escape_debug().to_string(),
                });
            }
            None if iss_is_required => return Err(SignInError::IssMissing),
            None => {}
        }

        if let Some(error) = self.error {
            return Err(SignInError::Response {
                error: error.escape_debug().to_string(),
                description: self
                    .error_description
                    .map(|text| text.escape_debug().to_string())
                    .unwrap_or_default(),
            });
        }
        self.code
            .filter(|code| !code.expose().is_empty())
            .ok_or(SignInError::CodeMissing)
    }
}
