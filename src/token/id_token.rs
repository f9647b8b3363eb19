//! The ID token: who has signed in, as the provider says it to this client, now.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    ClaimError, Claims, Jws, JwsError, KeySet, SigningAlgorithm,
    checks::{
        check_aud, check_exp, check_iat, check_iss, check_nbf, check_sub, check_typ,
        optional_string, seconds, since_1970, string,
    },
    excerpt,
};
use crate::Secret;

/// Types of tokens that are signed by the same keys and are no ID tokens.
const OTHER_TYPES: [&str; 2] = ["at+jwt", "logout+jwt"];

/// What an ID token must say to be accepted.
#[derive(Clone, Debug)]
pub(crate) struct IdTokenExpectations<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// Audiences that may be named beside the client.
    pub(crate) trusted_audiences: &'a [String],
    pub(crate) algorithms: &'a [SigningAlgorithm],
    /// For HS256 only.
    pub(crate) client_secret: Option<&'a Secret>,
    /// What was sent with the authorization request; `None` when the token comes from a refresh.
    pub(crate) nonce: Option<&'a Secret>,
    /// The access token that came along, for `at_hash`.
    pub(crate) access_token: Option<&'a Secret>,
    /// What was sent with the authorization request.
    pub(crate) max_age: Option<Duration>,
    /// What was asked for; empty when any will do.
    pub(crate) acr_values: &'a [String],
    pub(crate) clock_skew: Duration,
}

/// An ID token that was accepted. Only [`IdToken::accept`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct IdToken {
    pub(crate) claims: Claims,
    issuer: String,
    subject: String,
}

impl IdToken {
    /// Accepts an ID token, or says why not.
    ///
    /// The steps are those of [Core §3.1.3.7]; the signature is checked first, so that no error speaks
    /// about a claim that anybody could have written.
    ///
    /// [Core §3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub(crate) fn accept(
        compact: &str,
        keys: &KeySet,
        expected: &IdTokenExpectations<'_>,
        now: OffsetDateTime,
    ) -> Result<IdToken, IdTokenError> {
        // Step 1, decryption: encrypted tokens are not accepted; `Jws::parse` says so.
        // Steps 6 to 8: the signature, by an algorithm that was agreed on. Step 6 allows to trust the
        // TLS connection instead; we never do.
        let jws = Jws::parse(compact)?.verify(keys, expected.algorithms, expected.client_secret)?;
        check_typ(jws.typ.as_deref(), &OTHER_TYPES)?;

        let (claims, now, skew) = (&jws.claims, since_1970(now), expected.clock_skew);
        // Step 2.
        check_iss(claims, expected.issuer)?;
        // Step 3.
        check_aud(claims, expected.client_id, expected.trusted_audiences)?;
        // Steps 4 and 5.
        check_azp(claims, expected.client_id)?;
        // Step 9.
        check_exp(seconds(claims, "exp")?, now, skew)?;
        // Step 10. Being old is left to `exp`: the token has just come from the provider.
        check_iat(seconds(claims, "iat")?, now, skew)?;
        // Not a step, but a rule for every JWT.
        check_nbf(claims, now, skew)?;
        let subject = check_sub(claims)?.to_owned();
        // Step 11.
        check_nonce(claims, expected.nonce)?;
        // §3.1.3.8.
        check_at_hash(claims, jws.algorithm, expected.access_token)?;
        // Step 12.
        check_acr(claims, expected.acr_values)?;
        // Step 13.
        check_auth_time(claims, expected.max_age, now, skew)?;

        Ok(IdToken {
            issuer: expected.issuer.to_owned(),
            subject,
            claims: Claims::from(jws.claims),
        })
    }

    /// Who says it.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who has signed in, in the words of the issuer.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// The provider's name for the sign-in, by which a back-channel logout ends it.
    pub(crate) fn sid(&self) -> Option<&str> {
        self.claims.value("sid")?.as_str()
    }
}

/// An ID token that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenError {
    /// It is not signed as it should be.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A claim that every token has is absent or wrong.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// It was issued to another client.
    #[error("the ID token was issued to {actual:?} (\"azp\"), expected {expected:?}")]
    AuthorizedParty {
        /// The client id.
        expected: String,
        /// The `azp` of the token.
        actual: String,
    },
    /// It answers another authorization request.
    #[error("the nonce of the ID token is not the one that was sent")]
    Nonce,
    /// It was issued with another access token.
    #[error("the \"at_hash\" of the ID token is not the hash of the access token it came with")]
    AccessTokenHash,
    /// The person was not authenticated in the way that was asked for.
    #[error("the sign-in has the authentication context {actual:?}, expected one of {expected:?}")]
    AuthenticationContext {
        /// The `acr_values` that were asked for.
        expected: Vec<String>,
        /// The `acr` of the token.
        actual: String,
    },
    /// The person was authenticated longer ago than was asked for.
    #[error("the person was authenticated {actual} s ago, expected at most {expected} s")]
    AuthenticationTooOld {
        /// The `max_age` that was asked for, in seconds.
        expected: u64,
        /// The age of the authentication, in seconds.
        actual: u64,
    },
}

impl IdTokenError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            IdTokenError::Jws(error) => error.remedy(),
            IdTokenError::Claim(error) => error.remedy(),
            IdTokenError::AuthorizedParty { .. } => {
                "check that `client_id` is the id under which the provider knows this app"
            }
            IdTokenError::Nonce => {
                "start the sign-in again; if it happens often, somebody may be replaying responses"
            }
            IdTokenError::AccessTokenHash => {
                "refuse the response; if it came from the provider itself, report its \"at_hash\" to it"
            }
            IdTokenError::AuthenticationContext { .. } => {
                "have the provider support the `acr_values` that are asked for, or ask for others"
            }
            IdTokenError::AuthenticationTooOld { .. } => {
                "have the provider honour `max_age`, or ask for a longer one"
            }
        }
    }

    /// Whether newer keys of the provider could make the token good.
    pub(crate) fn wants_fresh_keys(&self) -> bool {
        matches!(self, IdTokenError::Jws(error) if error.wants_fresh_keys())
    }
}

/// Steps 4 and 5: an `azp` that is there names the client. It is not required beside several audiences,
/// since all of them are trusted by name.
/// <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>
fn check_azp(claims: &Map<String, Value>, client_id: &str) -> Result<(), IdTokenError> {
    match optional_string(claims, "azp")? {
        Some(azp) if azp != client_id => Err(IdTokenError::AuthorizedParty {
            expected: client_id.to_owned(),
            actual: excerpt(azp),
        }),
        _ => Ok(()),
    }
}

/// Step 11. <https://openid.net/specs/openid-connect-core-1_0.html#NonceNotes>
fn check_nonce(claims: &Map<String, Value>, expected: Option<&Secret>) -> Result<(), IdTokenError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    if Secret::new(string(claims, "nonce")?) == *expected {
        Ok(())
    } else {
        Err(IdTokenError::Nonce)
    }
}

/// The left half of the hash that belongs to the algorithm.
/// <https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowTokenValidation>
fn check_at_hash(
    claims: &Map<String, Value>,
    algorithm: SigningAlgorithm,
    access_token: Option<&Secret>,
) -> Result<(), IdTokenError> {
    let Some(access_token) = access_token else {
        return Ok(());
    };
    let Some(actual) = optional_string(claims, "at_hash")? else {
        return Ok(());
    };
    let hash = digest::digest(algorithm.digest(), access_token.expose().as_bytes());
    let (left_half, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    if Secret::new(URL_SAFE_NO_PAD.encode(left_half)) == Secret::new(actual) {
        Ok(())
    } else {
        Err(IdTokenError::AccessTokenHash)
    }
}

/// Step 12. Asked for as a list of values of which one must hold, more than the standard's wish.
/// <https://openid.net/specs/openid-connect-core-1_0.html#acrSemantics>
fn check_acr(claims: &Map<String, Value>, acr_values: &[String]) -> Result<(), IdTokenError> {
    if acr_values.is_empty() {
        return Ok(());
    }
    let actual = string(claims, "acr")?;
    if acr_values.iter().any(|acr| acr == actual) {
        return Ok(());
    }
    Err(IdTokenError::AuthenticationContext {
        expected: acr_values.to_vec(),
        actual: excerpt(actual),
    })
}

/// Step 13. <https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest> (`max_age`)
fn check_auth_time(
    claims: &Map<String, Value>,
    max_age: Option<Duration>,
    now: f64,
    clock_skew: Duration,
) -> Result<(), IdTokenError> {
    let Some(max_age) = max_age else {
        return Ok(());
    };
    let age = now - seconds(claims, "auth_time")?;
    if age <= max_age.as_secs_f64() + clock_skew.as_secs_f64() {
        return Ok(());
    }
    Err(IdTokenError::AuthenticationTooOld {
        expected: max_age.as_secs(),
        actual: age as u64,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::test_keys::{self, CLIENT_SECRET, header, key_set, sign};

    const ISSUER: &str = "https://op.example";
    const CLIENT: &str = "client";
    const NONCE: &str = "n-0S6_WzA2Mj";
    const NOW: i64 = 1_700_000_000;
    const SKEW: i64 = 60;

    /// An accepted case: a token, and what is expected of it. Each test changes one thing.
    struct Case {
        algorithm: SigningAlgorithm,
        header: Value,
        claims: Value,
        trusted_audiences: Vec<String>,
        nonce: Option<&'static str>,
        access_token: Option<&'static str>,
        max_age: Option<Duration>,
        acr_values: Vec<String>,
    }

    impl Case {
        fn new() -> Case {
            Case {
                algorithm: SigningAlgorithm::ES256,
                header: header(SigningAlgorithm::ES256),
                claims: json!({
                    "iss": ISSUER, "sub": "alice", "aud": CLIENT, "nonce": NONCE,
                    "exp": NOW + 300, "iat": NOW,
                }),
                trusted_audiences: Vec::new(),
                nonce: Some(NONCE),
                access_token: None,
                max_age: None,
                acr_values: Vec::new(),
            }
        }

        fn with(claim: &str, value: impl Into<Value>) -> Case {
            let mut case = Case::new();
            case.claims[claim] = value.into();
            case
        }

        fn without(claim: &str) -> Case {
            let mut case = Case::new();
            case.claims.as_object_mut().unwrap().remove(claim).unwrap();
            case
        }

        fn trusting(mut self, audience: &str) -> Case {
            self.trusted_audiences.push(audience.into());
            self
        }

        fn judged(&self) -> Result<IdToken, IdTokenError> {
            let token = sign(self.algorithm, &self.header, &self.claims);
            let secret = Secret::new(CLIENT_SECRET);
            let (nonce, access_token) = (
                self.nonce.map(Secret::new),
                self.access_token.map(Secret::new),
            );
            let expected = IdTokenExpectations {
                issuer: ISSUER,
                client_id: CLIENT,
                trusted_audiences: &self.trusted_audiences,
                algorithms: &[self.algorithm],
                client_secret: Some(&secret),
                nonce: nonce.as_ref(),
                access_token: access_token.as_ref(),
                max_age: self.max_age,
                acr_values: &self.acr_values,
                clock_skew: Duration::from_secs(SKEW as u64),
            };
            let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
            IdToken::accept(&token, &key_set(), &expected, now)
        }

        #[track_caller]
        fn is_accepted(&self) {
            assert_eq!(self.judged().map(|_| ()), Ok(()));
        }

        #[track_caller]
        fn is_refused(&self, error: impl Into<IdTokenError>) {
            assert_eq!(self.judged().map(|_| ()), Err(error.into()));
        }
    }

    fn missing(claim: &'static str) -> ClaimError {
        ClaimError::Missing { claim }
    }

    fn wrong_type(claim: &'static str, expected: &'static str, actual: &'static str) -> ClaimError {
        ClaimError::WrongType {
            claim,
            expected,
            actual,
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_good_token_is_accepted() {
        let token = Case::with("sid", "session-1").judged().unwrap();
        assert_eq!(token.issuer(), ISSUER);
        assert_eq!(token.subject(), "alice");
        assert_eq!(token.sid(), Some("session-1"));
        assert_eq!(token.claims.get::<i64>("exp"), Some(NOW + 300));
        assert_eq!(Case::with("sid", 1).judged().unwrap().sid(), None);
    }

    #[test]
    fn claims_that_are_not_needed_never_fail() {
        for claim in [
            "sid",
            "amr",
            "acr",
            "auth_time",
            "at_hash",
            "email",
            "email_verified",
            "updated_at",
            "c_hash",
            "jti",
            "address",
        ] {
            for odd in [
                json!(null),
                json!(1),
                json!("x"),
                json!([]),
                json!({"a": [1]}),
            ] {
                Case::with(claim, odd).is_accepted();
            }
        }
        let mut case = Case::with("nonce", json!(["another"]));
        case.nonce = None;
        case.is_accepted();
    }

    #[test]
    fn a_wrong_signature_wins_over_wrong_claims() {
        let mut case = Case::with("iss", "https://attacker.example");
        case.header["kid"] = "ec384".into();
        case.is_refused(JwsError::NoFittingKey {
            algorithm: SigningAlgorithm::ES256,
            kid: Some("ec384".into()),
        });
        case.header["kid"] = "new".into();
        let error = case.judged().unwrap_err();
        assert_eq!(error, JwsError::UnknownKey { kid: "new".into() }.into());
        assert!(error.wants_fresh_keys());
    }

    #[test]
    fn a_token_of_another_type_is_no_id_token() {
        for typ in ["JWT", "jwt", "application/jwt", "id_token+jwt", ""] {
            let mut case = Case::new();
            case.header["typ"] = typ.into();
            case.is_accepted();
        }
        for typ in [
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "Application/At+Jwt",
            "logout+jwt",
            "application/logout+jwt",
        ] {
            let mut case = Case::new();
            case.header["typ"] = typ.into();
            case.is_refused(ClaimError::TokenType { actual: typ.into() });
        }
    }

    #[test]
    fn id_token_bad_iss() {
        for iss in [
            "https://op.example/",
            "HTTPS://op.example",
            "https://other.example",
            "",
        ] {
            Case::with("iss", iss).is_refused(ClaimError::Issuer {
                expected: ISSUER.into(),
                actual: iss.into(),
            });
        }
        Case::with("iss", json!([ISSUER])).is_refused(wrong_type("iss", "a string", "an array"));
    }

    #[test]
    fn id_token_missing_iss() {
        Case::without("iss").is_refused(missing("iss"));
    }

    #[test]
    fn id_token_missing_sub() {
        Case::without("sub").is_refused(missing("sub"));
    }

    #[test]
    fn id_token_bad_sub() {
        Case::with("sub", "").is_refused(ClaimError::EmptySubject);
        Case::with("sub", 1).is_refused(wrong_type("sub", "a string", "a number"));
        Case::with("sub", json!(null)).is_refused(wrong_type("sub", "a string", "null"));
        Case::with("sub", "s".repeat(300)).is_accepted();
    }

    #[test]
    fn id_token_missing_aud() {
        Case::without("aud").is_refused(missing("aud"));
    }

    #[test]
    fn id_token_bad_aud() {
        let error = |actual: &[&str]| ClaimError::Audience {
            expected: CLIENT.into(),
            actual: strings(actual),
        };
        Case::with("aud", "other").is_refused(error(&["other"]));
        Case::with("aud", "Client").is_refused(error(&["Client"]));
        Case::with("aud", json!([])).is_refused(error(&[]));
        Case::with("aud", json!(["other"]))
            .trusting("other")
            .is_refused(error(&["other"]));
        let expected = "a string or an array of strings";
        for (aud, actual) in [
            (json!(null), "null"),
            (json!({"client": true}), "an object"),
            (json!(1), "a number"),
            (json!([CLIENT, 1]), "an array with other values"),
            (json!([[CLIENT]]), "an array with other values"),
        ] {
            Case::with("aud", aud).is_refused(wrong_type("aud", expected, actual));
        }
    }

    #[test]
    fn id_token_single_element_aud_array() {
        Case::with("aud", json!([CLIENT])).is_accepted();
    }

    #[test]
    fn an_untrusted_audience_is_refused() {
        let both = json!([CLIENT, "api"]);
        Case::with("aud", both.clone())
            .trusting("api")
            .is_accepted();
        Case::with("aud", both)
            .trusting("other")
            .is_refused(ClaimError::UntrustedAudience {
                trusted: strings(&["other"]),
                actual: "api".into(),
            });
    }

    #[test]
    fn an_azp_names_the_client() {
        Case::with("azp", CLIENT).is_accepted();
        Case::with("azp", "other").is_refused(IdTokenError::AuthorizedParty {
            expected: CLIENT.into(),
            actual: "other".into(),
        });
        Case::with("azp", json!(null)).is_refused(wrong_type("azp", "a string", "null"));
    }

    #[test]
    fn id_token_expired() {
        let expired = |exp| ClaimError::Expired { exp, now: NOW };
        Case::with("exp", NOW - SKEW + 1).is_accepted();
        Case::with("exp", (NOW - SKEW) as f64 + 0.5).is_accepted();
        Case::with("exp", 1e300).is_accepted();
        Case::with("exp", u64::MAX).is_accepted();
        Case::with("exp", NOW - SKEW).is_refused(expired(NOW - SKEW));
        Case::with("exp", (NOW - SKEW) as f64 - 0.5).is_refused(expired(NOW - SKEW - 1));
        Case::with("exp", -1e300).is_refused(expired(i64::MIN));
    }

    #[test]
    fn id_token_missing_exp() {
        Case::without("exp").is_refused(missing("exp"));
        let text = (NOW + 300).to_string();
        Case::with("exp", text).is_refused(wrong_type("exp", "a number", "a string"));
    }

    #[test]
    fn id_token_missing_iat() {
        Case::without("iat").is_refused(missing("iat"));
        Case::with("iat", json!(null)).is_refused(wrong_type("iat", "a number", "null"));
    }

    #[test]
    fn id_token_issued_in_the_future() {
        Case::with("iat", NOW + SKEW).is_accepted();
        Case::with("iat", 0).is_accepted();
        let error = |iat| ClaimError::IssuedInTheFuture { iat, now: NOW };
        Case::with("iat", NOW + SKEW + 1).is_refused(error(NOW + SKEW + 1));
        Case::with("iat", 1e300).is_refused(error(i64::MAX));
    }

    #[test]
    fn a_token_that_is_not_valid_yet_is_refused() {
        Case::with("nbf", NOW + SKEW).is_accepted();
        Case::with("nbf", NOW + SKEW + 1).is_refused(ClaimError::NotYetValid {
            nbf: NOW + SKEW + 1,
            now: NOW,
        });
        Case::with("nbf", "now").is_refused(wrong_type("nbf", "a number", "a string"));
    }

    #[test]
    fn nonce_invalid() {
        Case::with("nonce", "another").is_refused(IdTokenError::Nonce);
        Case::with("nonce", "").is_refused(IdTokenError::Nonce);
        Case::with("nonce", 1).is_refused(wrong_type("nonce", "a string", "a number"));
        Case::without("nonce").is_refused(missing("nonce"));
    }

    #[test]
    fn the_access_token_hash_is_checked_for_every_algorithm() {
        let access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        for &algorithm in [SigningAlgorithm::ASYMMETRIC, &[SigningAlgorithm::HS256]]
            .concat()
            .iter()
        {
            let size = match algorithm.as_str() {
                "EdDSA" => 512,
                name => name[2..].parse().unwrap(),
            };
            let hash = match size {
                256 => digest::digest(&digest::SHA256, access_token.as_bytes()),
                384 => digest::digest(&digest::SHA384, access_token.as_bytes()),
                _ => digest::digest(&digest::SHA512, access_token.as_bytes()),
            };
            let left_half = test_keys::base64url(&hash.as_ref()[..size / 16]);
            let mut case = Case::with("at_hash", left_half);
            case.algorithm = algorithm;
            case.header = header(algorithm);
            case.access_token = Some(access_token);
            case.is_accepted();
            case.access_token = Some("another");
            case.is_refused(IdTokenError::AccessTokenHash);
        }
    }

    /// The example of <https://openid.net/specs/openid-connect-core-1_0.html#code-id_tokenExample>.
    #[test]
    fn the_access_token_hash_of_the_standard_is_accepted() {
        let mut case = Case::with("at_hash", "77QmUPtjPfzWtF2AnpK9RQ");
        case.access_token = Some("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
        case.is_accepted();
    }

    #[test]
    fn id_token_bad_at_hash() {
        let mut case = Case::new();
        case.access_token = Some("token");
        case.is_accepted();
        case.claims["at_hash"] = "".into();
        case.is_refused(IdTokenError::AccessTokenHash);
        case.claims["at_hash"] = json!(["x"]);
        case.is_refused(wrong_type("at_hash", "a string", "an array"));
    }

    #[test]
    fn the_authentication_is_recent_enough() {
        let mut case = Case::with("auth_time", NOW - 600 - SKEW);
        case.max_age = Some(Duration::from_secs(600));
        case.is_accepted();
        case.claims["auth_time"] = (NOW - 601 - SKEW).into();
        case.is_refused(IdTokenError::AuthenticationTooOld {
            expected: 600,
            actual: 601 + SKEW as u64,
        });
        case.claims["auth_time"] = "today".into();
        case.is_refused(wrong_type("auth_time", "a number", "a string"));
        case.claims.as_object_mut().unwrap().remove("auth_time");
        case.is_refused(missing("auth_time"));
        case.max_age = Some(Duration::MAX);
        case.claims["auth_time"] = (-1e300).into();
        case.is_refused(IdTokenError::AuthenticationTooOld {
            expected: u64::MAX,
            actual: u64::MAX,
        });
    }

    #[test]
    fn the_authentication_context_is_one_that_was_asked_for() {
        let mut case = Case::with("acr", "gold");
        case.acr_values = strings(&["silver", "gold"]);
        case.is_accepted();
        case.claims["acr"] = "bronze".into();
        case.is_refused(IdTokenError::AuthenticationContext {
            expected: strings(&["silver", "gold"]),
            actual: "bronze".into(),
        });
        case.claims["acr"] = 0.into();
        case.is_refused(wrong_type("acr", "a string", "a number"));
        case.claims.as_object_mut().unwrap().remove("acr");
        case.is_refused(missing("acr"));
    }

    #[test]
    fn errors_speak_of_both_sides_and_never_of_the_nonce() {
        let sentence = |case: Case| case.judged().unwrap_err().to_string();
        assert_eq!(
            sentence(Case::with("iss", "https://op.example/")),
            r#"the token is issued by "https://op.example/", expected "https://op.example""#
        );
        assert_eq!(
            sentence(Case::with("aud", json!(["a", "b"]))),
            r#"the token is meant for ["a", "b"], expected "client" among them"#
        );
        assert_eq!(
            sentence(Case::with("exp", 1)),
            "the token expired at 1, it is now 1700000000 (seconds since 1970)"
        );
        assert_eq!(
            sentence(Case::with("nonce", "another")),
            "the nonce of the ID token is not the one that was sent"
        );
    }
}
