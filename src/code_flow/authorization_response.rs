//! The authorization response (RFC 6749 §4.1.2, RFC 9207): the parameters that reach the callback.

use super::{ResponseError, UnverifiedUser, response_error::requires_interaction};
use crate::{printable::printable, secret::Secret, token::ExpectedIssuer};

/// The parameters of an authorization response, each at most once.
#[derive(Debug, Default)]
pub(crate) struct AuthorizationResponse {
    pub state: Option<Secret>,
    code: Option<Secret>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// Of Sign in with Apple.
    user: Option<String>,
}

/// The response to an attempt. Only its code proves anything, at the token endpoint.
pub(crate) struct AcceptedResponse {
    pub code: Secret,
    pub unverified_user: Option<UnverifiedUser>,
}

impl AuthorizationResponse {
    /// Parses a query or form. A repeated parameter makes it invalid (RFC 6749 §3.1).
    pub(crate) fn parse(query: &str) -> Result<AuthorizationResponse, ResponseError> {
        let mut response = AuthorizationResponse::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let is_repeated = match &*name {
                "state" => response.state.replace(Secret::new(value)).is_some(),
                "code" => response.code.replace(Secret::new(value)).is_some(),
                "iss" => response.iss.replace(value.into_owned()).is_some(),
                "error" => response.error.replace(value.into_owned()).is_some(),
                "user" => response.user.replace(value.into_owned()).is_some(),
                "error_description" => response.error_description.replace(value.into_owned()).is_some(),
                _ => false,
            };
            if is_repeated {
                return Err(ResponseError::RepeatedParameter {
                    name: name.into_owned(),
                });
            }
        }
        Ok(response)
    }

    /// Whether the response is `access_denied`: the user or the provider denied the request.
    pub(crate) fn is_denial(&self) -> bool {
        self.error.as_deref() == Some("access_denied")
    }

    /// Whether the response says that the provider must show a page to the user.
    pub(crate) fn requires_interaction(&self) -> bool {
        self.error.as_deref().is_some_and(requires_interaction)
    }

    /// The error for a response that belongs to no attempt. Its content is unauthenticated and only logged:
    /// some providers omit `state` from an error (RFC 6749 §4.1.2.1 requires it).
    pub(crate) fn reject_without_attempt(self) -> ResponseError {
        match self.error {
            Some(error) if !error.is_empty() => ResponseError::Unverified {
                error: printable(&error),
                description: printable(self.error_description.as_deref().unwrap_or_default()),
            },
            _ => ResponseError::StateMismatch,
        }
    }

    /// Validates the response to an attempt at this issuer. The caller has verified `state`.
    pub(crate) fn accept(
        self,
        issuer: ExpectedIssuer<'_>,
        iss_is_required: bool,
    ) -> Result<AcceptedResponse, ResponseError> {
        // RFC 9207 §2.4: compared whenever present, required when the metadata announces it. For an issuer
        // template, `iss` may be the template itself, as in the metadata, or the issuer of a tenant, as in
        // tokens.
        match &self.iss {
            Some(iss) if iss == issuer.as_str() || issuer.accepts(iss) => {}
            Some(iss) => {
                return Err(ResponseError::IssMismatch {
                    expected: issuer.as_str().to_owned(),
                    actual: printable(iss),
                });
            }
            None if iss_is_required => return Err(ResponseError::IssMissing),
            None => {}
        }

        if let Some(error) = self.error {
            return Err(ResponseError::Provider {
                error: printable(&error),
                description: printable(self.error_description.as_deref().unwrap_or_default()),
            });
        }
        let code = self.code.filter(|code| !code.expose().is_empty());
        Ok(AcceptedResponse {
            code: code.ok_or(ResponseError::CodeMissing)?,
            unverified_user: self.user.as_deref().and_then(UnverifiedUser::parse),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://op.example";

    fn judge(query: &str, iss_is_required: bool) -> Result<String, String> {
        AuthorizationResponse::parse(query)
            .and_then(|response| response.accept(ExpectedIssuer::exactly(ISSUER), iss_is_required))
            .map(|response| response.code.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_code_is_accepted() {
        assert_eq!(judge("code=a+b%2B&state=s", false).unwrap(), "a b+");
        let with_iss = "code=c&state=s&iss=https%3A%2F%2Fop.example&session_state=x%3D";
        assert_eq!(judge(with_iss, true).unwrap(), "c");
    }

    #[test]
    fn iss_is_compared_and_required_when_announced() {
        assert_eq!(
            judge("code=c&state=s&iss=https://op.example/", false).unwrap_err(),
            "the response's `iss` is `https://op.example/`, expected `https://op.example`"
        );
        assert_eq!(
            judge("code=c&state=s", true).unwrap_err(),
            "the response has no `iss`, which the provider's metadata announces or `shared_redirect_uri` requires"
        );
        assert_eq!(
            judge("error=access_denied&state=s", true).unwrap_err(),
            "the response has no `iss`, which the provider's metadata announces or `shared_redirect_uri` requires"
        );
    }

    #[test]
    fn an_error_response_has_the_providers_error() {
        assert_eq!(
            judge("error=access_denied&error_description=no%0Away&state=s", false).unwrap_err(),
            "the provider returned `access_denied`: no\\nway"
        );
    }

    #[test]
    fn an_error_without_an_attempt_is_unproved() {
        for (query, expected) in [
            (
                "error=invalid_scope&error_description=no%0Away",
                "`state` is missing, or was not issued by this app; the response, which is not \
                 authenticated, has the error `invalid_scope`: no\\nway",
            ),
            (
                "error=access_denied",
                "`state` is missing, or was not issued by this app; the response, which is not \
                 authenticated, has the error `access_denied`: ",
            ),
            ("error=", "`state` is missing, or was not issued by this app"),
            ("code=c", "`state` is missing, or was not issued by this app"),
            ("", "`state` is missing, or was not issued by this app"),
        ] {
            let response = AuthorizationResponse::parse(query).unwrap();
            let error = response.reject_without_attempt();
            assert_eq!(error.to_string(), expected, "{query}");
        }
        let long = format!("error={0}&error_description={0}", "\u{202e}".repeat(5_000));
        let response = AuthorizationResponse::parse(&long).unwrap();
        let text = response.reject_without_attempt().to_string();
        assert!(text.len() < 6_000 && !text.contains('\u{202e}'), "{}", text.len());
    }

    #[test]
    fn a_response_without_code_is_rejected() {
        for query in ["state=s", "state=s&code="] {
            assert_eq!(judge(query, false).unwrap_err(), "the response has no `code`");
        }
    }

    #[test]
    fn a_repeated_parameter_is_rejected() {
        for name in ["state", "code", "iss", "error", "error_description", "user"] {
            let query = format!("{name}=x&{name}=x");
            assert_eq!(
                judge(&query, false).unwrap_err(),
                format!("`{name}` appears more than once in the response")
            );
        }
    }
}
