//! The UserInfo response: further claims, accepted only if they are about the user of the ID token.

use std::time::Duration;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    ClaimError, Claims, ExpectedIssuer, JsonError, Jws, JwsError, KeySet, SigningAlgorithm, StaleKeys,
    checks::{check_aud, check_exp, check_iss, check_nbf, check_typ, optional_seconds, since_1970, string},
    facts::{TokenFacts, TokenKind},
    parse_object,
};
use crate::printable::excerpt;
use crate::secret::Secret;

/// The expected values that a signed UserInfo response is checked against.
#[derive(Clone, Debug)]
pub(crate) struct UserInfoExpectations<'a> {
    pub(crate) issuer: &'a str,
    /// The issuer of the settings, for the keys of one tenant.
    pub(crate) template: ExpectedIssuer<'a>,
    pub(crate) client_id: &'a str,
    /// Audiences that `aud` may name besides the client.
    pub(crate) trusted_audiences: &'a [String],
    /// The subject of the accepted ID token.
    pub(crate) subject: &'a str,
    pub(crate) algorithms: &'a [SigningAlgorithm],
    /// For HS256 only.
    pub(crate) client_secret: Option<&'a Secret>,
    pub(crate) clock_skew: Duration,
}

/// Accepts a JSON UserInfo response about `subject`. The caller bounds its size.
///
/// <https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse>
pub(crate) fn accept_user_info(body: &[u8], subject: &str) -> Result<Claims, UserInfoError> {
    let claims = parse_object(body)?;
    check_subject(&claims, subject)?;
    Ok(Claims::from(claims))
}

/// Accepts a signed JWT UserInfo response.
///
/// The standard only recommends `iss` and `aud`; they are checked if present, and so are `exp` and `nbf`.
///
/// <https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse>
pub(crate) fn accept_signed_user_info(
    compact: &str,
    keys: &KeySet,
    expected: &UserInfoExpectations<'_>,
    now: OffsetDateTime,
) -> Result<Claims, UserInfoError> {
    let jws = Jws::parse(compact)?.of_issuer(expected.template);
    let jws = jws.verify(keys, expected.algorithms, expected.client_secret)?;
    check_typ(jws.typ.as_deref())?;

    let (claims, now, skew) = (&jws.claims, since_1970(now), expected.clock_skew);
    if claims.contains_key("iss") {
        check_iss(claims, expected.issuer)?;
    }
    if claims.contains_key("aud") {
        check_aud(claims, expected.client_id, expected.trusted_audiences)?;
    }
    if let Some(exp) = optional_seconds(claims, "exp")? {
        check_exp(exp, now, skew)?;
    }
    check_nbf(claims, now, skew)?;
    check_subject(claims, expected.subject)?;
    Ok(Claims::from(jws.claims))
}

/// The error of a rejected UserInfo response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserInfoError {
    /// It is not a JSON object.
    #[error("the UserInfo response cannot be parsed: {0}")]
    Json(#[from] JsonError),
    /// It is not a valid JWS by a key of the provider.
    #[error("the UserInfo response is rejected: {0}")]
    Jws(#[from] JwsError),
    /// A claim is absent or wrong.
    #[error("the UserInfo response is rejected: {0}")]
    Claim(#[from] ClaimError),
    /// It is about another user than the ID token.
    #[error("the UserInfo response is about {actual:?}, expected {expected:?}")]
    Subject {
        /// The `sub` of the ID token.
        expected: String,
        /// The `sub` of the response.
        actual: String,
    },
}

impl UserInfoError {
    /// The reason code.
    pub(crate) fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// How to fix it.
    pub(crate) fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    pub(super) fn facts(&self) -> TokenFacts {
        match self {
            UserInfoError::Json(error) => TokenFacts::new("user_info_malformed", error.remedy()),
            UserInfoError::Jws(error) => error.facts(TokenKind::UserInfo),
            UserInfoError::Claim(error) => error.facts(TokenKind::UserInfo),
            UserInfoError::Subject { .. } => TokenFacts::new(
                "user_info_sub",
                "refuse the response; if the provider uses another `sub` here, report it to the provider or set `user_info_enabled` to false",
            ),
        }
    }

    /// How the cached keys may be stale, if newer ones could make the response valid.
    pub(crate) fn wants_fresh_keys(&self) -> Option<StaleKeys> {
        match self {
            UserInfoError::Jws(error) => error.wants_fresh_keys(),
            _ => None,
        }
    }
}

/// "The `sub` Claim in the UserInfo Response MUST be verified to exactly match the `sub` Claim in the ID
/// Token; if they do not match, the UserInfo Response values MUST NOT be used."
fn check_subject(claims: &Map<String, Value>, expected: &str) -> Result<(), UserInfoError> {
    let actual = string(claims, "sub")?;
    if actual == expected {
        return Ok(());
    }
    Err(UserInfoError::Subject {
        expected: expected.to_owned(),
        actual: excerpt(actual),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::test_keys::{CLIENT_SECRET, header, key_set, sign};

    const ES256: SigningAlgorithm = SigningAlgorithm::ES256;
    const NOW: i64 = 1_700_000_000;

    fn signed(header: &Value, claims: &Value) -> Result<Claims, UserInfoError> {
        let token = sign(ES256, header, claims);
        let secret = Secret::new(CLIENT_SECRET);
        let expected = UserInfoExpectations {
            issuer: "https://op.example",
            template: ExpectedIssuer::exactly("https://op.example"),
            client_id: "client",
            trusted_audiences: &[],
            subject: "alice",
            algorithms: &[ES256],
            client_secret: Some(&secret),
            clock_skew: Duration::from_secs(60),
        };
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        accept_signed_user_info(&token, &key_set(), &expected, now)
    }

    fn with(claim: &str, value: impl Into<Value>) -> Result<Claims, UserInfoError> {
        let mut claims = json!({
            "iss": "https://op.example", "aud": "client", "sub": "alice", "email": "a@b.c",
        });
        claims[claim] = value.into();
        signed(&header(ES256), &claims)
    }

    fn another_subject(actual: &str) -> UserInfoError {
        UserInfoError::Subject {
            expected: "alice".into(),
            actual: actual.into(),
        }
    }

    #[test]
    fn a_json_response_about_the_subject_is_accepted() {
        let claims = accept_user_info(br#"{"sub":"alice","email":"a@b.c"}"#, "alice").unwrap();
        assert_eq!(claims.get::<String>("email").as_deref(), Some("a@b.c"));
    }

    #[test]
    fn userinfo_invalid_sub() {
        let refused = |body: &str| accept_user_info(body.as_bytes(), "alice").unwrap_err();
        for sub in ["bob", "Alice", "alice ", ""] {
            let body = json!({"sub": sub}).to_string();
            assert_eq!(refused(&body), another_subject(sub));
            assert_eq!(with("sub", sub), Err(another_subject(sub)));
        }
        assert_eq!(refused("{}"), ClaimError::Missing { claim: "sub" }.into());
        assert_eq!(
            refused(r#"{"sub":1}"#),
            ClaimError::WrongType {
                claim: "sub",
                expected: "a string",
                actual: "a number"
            }
            .into()
        );
        assert_eq!(
            refused(r#"{"sub":"alice","sub":"bob"}"#),
            JsonError::DuplicateMember { name: "sub".into() }.into()
        );
    }

    #[test]
    fn a_signed_response_about_the_subject_is_accepted() {
        assert!(with("name", "Alice").is_ok());
        let bare = json!({"sub": "alice"});
        assert!(signed(&header(ES256), &bare).is_ok());
    }

    #[test]
    fn a_signed_response_is_by_the_issuer_for_the_client_and_now() {
        assert_eq!(
            with("iss", "https://other.example"),
            Err(ClaimError::Issuer {
                expected: "https://op.example".into(),
                actual: "https://other.example".into()
            }
            .into())
        );
        assert_eq!(
            with("aud", "other"),
            Err(ClaimError::Audience {
                expected: "client".into(),
                actual: vec!["other".into()]
            }
            .into())
        );
        assert!(with("exp", NOW).is_ok());
        assert_eq!(
            with("exp", NOW - 60),
            Err(ClaimError::Expired {
                exp: NOW - 60,
                now: NOW
            }
            .into())
        );
        assert_eq!(
            with("nbf", NOW + 61),
            Err(ClaimError::NotYetValid {
                nbf: NOW + 61,
                now: NOW
            }
            .into())
        );
    }

    #[test]
    fn a_signed_response_is_signed_by_the_provider() {
        let mut head = header(ES256);
        head["kid"] = "new".into();
        let error = signed(&head, &json!({"sub": "alice"})).unwrap_err();
        assert_eq!(error, JwsError::UnknownKey { kid: "new".into() }.into());
        assert_eq!(error.wants_fresh_keys(), Some(StaleKeys::Missing));
        assert_eq!(with("aud", "other").unwrap_err().wants_fresh_keys(), None);

        head = header(ES256);
        head["typ"] = "at+jwt".into();
        assert_eq!(
            signed(&head, &json!({"sub": "alice"})),
            Err(ClaimError::TokenType {
                actual: "at+jwt".into()
            }
            .into())
        );
    }

    #[test]
    fn errors_have_a_reason_and_say_what_to_do() {
        let mut head = header(ES256);
        head["alg"] = "none".into();
        for (result, reason, remedy) in [
            (
                accept_user_info(b"<html>", "alice"),
                "user_info_malformed",
                "report this to the provider: what it sent is not a well-formed JSON object",
            ),
            (
                signed(&head, &json!({"sub": "alice"})),
                "user_info_alg",
                "have the provider sign with RS256, ES256 or another algorithm that is supported",
            ),
            (
                with("exp", NOW - 60),
                "user_info_expired",
                "synchronise the clocks of this machine and of the provider, or raise `clock_skew`",
            ),
            (
                with("sub", "bob"),
                "user_info_sub",
                "refuse the response; if the provider uses another `sub` here, report it to the provider or set `user_info_enabled` to false",
            ),
        ] {
            assert_eq!(result.unwrap_err().facts(), TokenFacts { reason, remedy });
        }
    }
}
