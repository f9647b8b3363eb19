//! `SignInFailureKind`: what a page says about a failed sign-in, in a few kinds.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::relying_party::SignInError;

/// The kind of a failed sign-in: what the user can do about it. A page needs a text for each kind, in each of its
/// languages, rather than for each reason code. [The manual](crate::manual::errors#kinds-of-failed-sign-ins) lists the
/// reason codes of each.
///
/// It serializes as its name in snake case, such as `start_again`, which is also its `Display`.
///
/// ```
/// use rocket_openidconnect::{SignInFailure, SignInFailureKind};
///
/// fn in_german(failure: &SignInFailure) -> &'static str {
///     match failure.kind() {
///         SignInFailureKind::Cancelled => "Sie haben die Anmeldung abgebrochen.",
///         SignInFailureKind::StartAgain => "Diese Anmeldung ist abgelaufen. Bitte melden Sie sich noch einmal an.",
///         _ => "Die Anmeldung ist fehlgeschlagen.",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignInFailureKind {
    /// The user, or the provider for them, denied the request.
    Cancelled,
    /// The sign-in has expired, was completed, or began in another browser. Another attempt will do.
    StartAgain,
    /// The browser does not keep the cookies of a sign-in.
    CookiesBlocked,
    /// The user may not come in, or not in this way. Another attempt does not help.
    NotAllowed,
    /// The provider or this site does not respond, or is too busy. A later attempt will do.
    TryLater,
    /// Settings of this site or of the provider are wrong. The operators have to correct them.
    NotSetUp,
    /// The response does not belong to this sign-in. Another attempt may do; a forged response never does.
    Mismatch,
    /// What the provider sent could not be verified.
    NotVerified,
}

/// The reason codes of each kind. Those of the tokens, which begin with `id_token_` and `user_info_`, are `NotVerified`.
const CODES: [(SignInFailureKind, &[&str]); 8] = [
    (SignInFailureKind::Cancelled, &["access_denied"]),
    (
        SignInFailureKind::StartAgain,
        &[
            "invalid_grant",
            "link_session_ended",
            "not_pending",
            "response_posted_too_late",
            "sessions_ended_during_sign_in",
            "sign_in_already_used",
            "sign_in_expired",
            "sign_in_url_expired",
            "state_mismatch",
        ],
    ),
    (
        SignInFailureKind::CookiesBlocked,
        &["sign_in_cookie_missing", "sign_in_loop"],
    ),
    (
        SignInFailureKind::NotAllowed,
        &[
            "acr_not_trusted",
            "authentication_not_stated",
            "email_not_permitted",
            "refused_by_app",
            "scopes_not_granted",
        ],
    ),
    (
        SignInFailureKind::TryLater,
        &[
            "provider_busy",
            "provider_keys_just_read",
            "provider_rate_limited",
            "provider_timeout",
            "provider_unavailable",
            "provider_unreachable",
            "store_unavailable",
            "too_many_sign_ins",
        ],
    ),
    (
        SignInFailureKind::NotSetUp,
        &[
            "app_parameter_not_allowed",
            "app_parameters_too_long",
            "authorization_error",
            "client_signer",
            "http_client",
            "initiated_by_another_issuer",
            "invalid_client",
            "posted_response",
            "provider_address",
            "provider_iss",
            "provider_not_metadata",
            "provider_profile",
            "provider_without_dpop",
            "session_too_large",
            "unreadable_form",
        ],
    ),
    (
        SignInFailureKind::Mismatch,
        &[
            "code_missing",
            "redirect_uri_mismatch",
            "repeated_parameter",
            "response_iss_mismatch",
            "response_iss_missing",
            "unproved_response",
        ],
    ),
    (
        SignInFailureKind::NotVerified,
        &[
            "id_token_missing",
            "provider_refused",
            "provider_reply_malformed",
            "provider_reply_too_large",
            "provider_status",
            "token_bound_to_other_key",
            "token_not_bound",
        ],
    ),
];

impl SignInFailureKind {
    /// The kind of a reason code; `None` for a code that is not of a failed sign-in.
    pub fn of_reason(reason: &str) -> Option<SignInFailureKind> {
        let is_of_a_token = ["id_token_", "user_info_"].iter().any(|kind| reason.starts_with(kind));
        let found = CODES.iter().find(|(_, codes)| codes.contains(&reason));
        let found = found.map(|(kind, _)| *kind);
        found.or(is_of_a_token.then_some(SignInFailureKind::NotVerified))
    }

    /// The kind of an error: that of its reason code, unless the error says more.
    pub(crate) fn of(error: &SignInError) -> SignInFailureKind {
        match error {
            SignInError::Response(error) if error.is_denial() => SignInFailureKind::Cancelled,
            SignInError::IdToken(error) if error.is_about_tenant() => SignInFailureKind::NotAllowed,
            // The provider says that it is down, with whatever code.
            error if matches!(error.status(), 503 | 504) => SignInFailureKind::TryLater,
            error => SignInFailureKind::of_reason(error.reason()).unwrap_or(SignInFailureKind::NotVerified),
        }
    }

    /// The name in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            SignInFailureKind::Cancelled => "cancelled",
            SignInFailureKind::StartAgain => "start_again",
            SignInFailureKind::CookiesBlocked => "cookies_blocked",
            SignInFailureKind::NotAllowed => "not_allowed",
            SignInFailureKind::TryLater => "try_later",
            SignInFailureKind::NotSetUp => "not_set_up",
            SignInFailureKind::Mismatch => "mismatch",
            SignInFailureKind::NotVerified => "not_verified",
        }
    }
}

impl fmt::Display for SignInFailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SignInFailureKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code_flow::ResponseError;

    #[test]
    fn an_error_may_say_more_than_its_code() {
        let of_provider = |error: &str| {
            SignInFailureKind::of(&SignInError::from(ResponseError::Provider {
                error: error.to_owned(),
                description: String::new(),
            }))
        };
        assert_eq!(of_provider("access_denied"), SignInFailureKind::Cancelled);
        assert_eq!(of_provider("temporarily_unavailable"), SignInFailureKind::TryLater);
        assert_eq!(of_provider("invalid_scope"), SignInFailureKind::NotSetUp);
        let denied = ResponseError::Unverified {
            error: "access_denied".to_owned(),
            description: String::new(),
        };
        assert_eq!(SignInFailureKind::of(&denied.into()), SignInFailureKind::Cancelled);
    }

    #[test]
    fn a_code_has_one_kind() {
        let mut codes: Vec<_> = CODES.iter().flat_map(|(_, codes)| codes.iter()).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert_eq!(SignInFailureKind::of_reason("signed_in"), None);
        assert_eq!(
            SignInFailureKind::of_reason("id_token_nonce"),
            Some(SignInFailureKind::NotVerified)
        );
    }
}
