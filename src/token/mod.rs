//! Judging tokens: bytes, keys, expectations and the time go in, a verified type or an error comes out.
//!
//! Nothing in here opens a socket, reads a clock or knows the web framework, so that each rule can be
//! tested by what it is given. A type such as the verified ID token can only be made by its `accept`.

mod access_token;
mod algorithm;
mod checks;
mod claim_sources;
mod claims;
mod client_assertion;
mod id_token;
mod issuer;
mod json;
mod jwk;
mod jws;
mod logout_token;
mod purpose;
mod reason;
mod refreshed_id_token;
#[cfg(test)]
mod test_keys;
mod user_info;

pub use access_token::{AudienceClaim, BearerTokenError};
pub use algorithm::{SigningAlgorithm, UnknownAlgorithm};
pub use checks::ClaimError;
pub use claims::Claims;
pub use id_token::IdTokenError;
pub use json::JsonError;
pub use jwk::KeySetError;
pub use jws::JwsError;
pub use purpose::Accepts;
pub use user_info::UserInfoError;

pub(crate) use access_token::{
    AccessToken, AccessTokenExpectations, ClaimPath, MAX_ACCESS_TOKEN, UnverifiedAccessToken,
};
pub(crate) use claim_sources::{ClaimSources, VERIFIED};
pub(crate) use client_assertion::{CLIENT_ASSERTION_TYPE, ClientKey};
pub(crate) use id_token::{IdToken, IdTokenExpectations};
pub(crate) use issuer::{ExpectedIssuer, PERSONAL_ACCOUNTS, TENANT_ID, Tenants};
pub(crate) use json::{Document, parse_object, parse_strict_object, type_name};
pub(crate) use jwk::KeySet;
pub(crate) use jws::{AllowedAlgorithms, Jws, StaleKeys, parts_of};
pub(crate) use logout_token::{
    EndedSession, LogoutToken, LogoutTokenError, LogoutTokenExpectations,
};
pub(crate) use reason::TokenKind;
pub(crate) use refreshed_id_token::{OriginalSignIn, RefreshedIdToken, RefreshedIdTokenError};
pub(crate) use user_info::{UserInfoExpectations, accept_signed_user_info, accept_user_info};

/// The issuer of a testing profile that names none.
pub(crate) const TESTING_ISSUER: &str = "urn:rocket_openidconnect:testing_profile";

/// The beginning of a value from outside, short enough for an error or a log line that quotes it.
pub(crate) fn excerpt(text: &str) -> String {
    beginning(text, 120)
}

fn beginning(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// As [`printable`], for what names a user or a provider: whole, as long as the standard allows (255 characters of
/// `sub`).
pub(crate) fn printable_name(name: &str) -> String {
    let kept: String = name.chars().take(255).collect();
    kept.escape_debug().to_string()
}

/// The beginning of what somebody outside says in words, with its control characters escaped, for what does not quote.
pub(crate) fn printable(text: &str) -> String {
    let escaped = beginning(text, 300).escape_debug().to_string();
    // Each quotation mark is escaped too, and need not be.
    escaped.replace("\\'", "'").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn words_of_others_keep_their_quotation_marks() {
        for (text, expected) in [
            (
                "Policy 'Trusted Hosts' said \"no\"",
                "Policy 'Trusted Hosts' said \"no\"",
            ),
            ("a\\b \\' \\\\'", "a\\\\b \\\\' \\\\\\\\'"),
            (
                "two\nlines\u{1b}[31m\u{202e}",
                "two\\nlines\\u{1b}[31m\\u{202e}",
            ),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
