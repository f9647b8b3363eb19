//! Accepted logout tokens, and each rule broken by changing one thing.

use serde_json::json;

use super::*;
use crate::token::test_keys::{self, CLIENT_SECRET, header, key_set, sign};

const ISSUER: &str = "https://op.example";
const CLIENT: &str = "client";
const NOW: i64 = 1_700_000_000;
const SKEW: i64 = 60;

/// An accepted case. Each test changes one thing.
struct Case {
    algorithm: SigningAlgorithm,
    allowed: Vec<SigningAlgorithm>,
    header: Value,
    claims: Value,
}

impl Case {
    fn new() -> Case {
        let algorithm = SigningAlgorithm::ES256;
        let mut header = header(algorithm);
        header["typ"] = json!("logout+jwt");
        Case {
            algorithm,
            allowed: vec![algorithm],
            header,
            claims: json!({
                "iss": ISSUER, "sub": "alice", "sid": "session-1", "aud": CLIENT, "jti": "1",
                "exp": NOW + 120, "iat": NOW, "events": { EVENT: {} },
            }),
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

    fn of_type(typ: impl Into<Value>) -> Case {
        let mut case = Case::new();
        case.header["typ"] = typ.into();
        case
    }

    fn judge(&self, token: &str) -> Result<LogoutToken, LogoutTokenError> {
        let secret = Secret::new(CLIENT_SECRET);
        let expected = LogoutTokenExpectations {
            issuer: ExpectedIssuer::exactly(ISSUER),
            client_id: CLIENT,
            trusted_audiences: &[],
            algorithms: &self.allowed,
            client_secret: Some(&secret),
            clock_skew: Duration::from_secs(SKEW as u64),
        };
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        LogoutToken::accept(token, &key_set(), &expected, now)
    }

    fn judged(&self) -> Result<LogoutToken, LogoutTokenError> {
        self.judge(&sign(self.algorithm, &self.header, &self.claims))
    }

    #[track_caller]
    fn is_refused(&self, error: impl Into<LogoutTokenError>) {
        assert_eq!(self.judged(), Err(error.into()));
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

#[test]
fn a_logout_token_is_accepted() {
    let accepted = Case::new().judged().unwrap();
    let expected = LogoutToken {
        issuer: ISSUER.to_owned(),
        jti: "1".into(),
        ended: EndedSession::SidOf {
            sid: "session-1".into(),
            subject: "alice".into(),
        },
        ends: NOW + 120 + SKEW,
    };
    assert_eq!(accepted, expected);
}

#[test]
fn a_sid_ends_one_session_and_a_sub_ends_all() {
    let ended = |case: Case| case.judged().unwrap().ended;
    assert_eq!(ended(Case::without("sub")), EndedSession::Sid("session-1".into()));
    assert_eq!(ended(Case::without("sid")), EndedSession::Subject("alice".into()));
}

#[test]
fn logout_token_without_sub_and_sid() {
    let mut case = Case::without("sub");
    case.claims.as_object_mut().unwrap().remove("sid");
    case.is_refused(LogoutTokenError::NoSubject);
}

#[test]
fn logout_token_sub_or_sid_is_empty_or_no_string() {
    Case::with("sub", "").is_refused(ClaimError::EmptySubject);
    Case::with("sid", "").is_refused(LogoutTokenError::EmptySid);
    Case::with("sub", 1).is_refused(wrong_type("sub", "a string", "a number"));
    // `null` is absent: the `sid` beside it says whose session it is.
    assert!(Case::with("sub", json!(null)).judged().is_ok());
    Case::with("sid", json!(["x"])).is_refused(wrong_type("sid", "a string", "an array"));
}

#[test]
fn logout_token_typ() {
    for typ in [json!("application/logout+jwt"), json!("JWT"), json!("Logout+JWT")] {
        assert!(Case::of_type(typ.clone()).judged().is_ok(), "{typ}");
    }
    let mut bare = Case::new();
    bare.header.as_object_mut().unwrap().remove("typ");
    assert!(bare.judged().is_ok());
    for typ in ["at+jwt", "id+jwt", "logout", ""] {
        Case::of_type(typ).is_refused(LogoutTokenError::TokenType { actual: typ.into() });
    }
}

#[test]
fn logout_token_iss() {
    Case::without("iss").is_refused(missing("iss"));
    Case::with("iss", "https://op.example/").is_refused(ClaimError::Issuer {
        expected: ISSUER.into(),
        actual: "https://op.example/".into(),
    });
}

#[test]
fn logout_token_aud() {
    Case::without("aud").is_refused(missing("aud"));
    Case::with("aud", "other").is_refused(ClaimError::Audience {
        expected: CLIENT.into(),
        actual: vec!["other".into()],
    });
    Case::with("aud", json!([CLIENT, "other"])).is_refused(ClaimError::UntrustedAudience {
        trusted: vec![],
        actual: "other".into(),
    });
    assert!(Case::with("aud", json!([CLIENT])).judged().is_ok());
}

#[test]
fn logout_token_times() {
    Case::without("iat").is_refused(missing("iat"));
    assert!(Case::with("iat", NOW + SKEW).judged().is_ok());
    Case::with("iat", NOW + SKEW + 1).is_refused(ClaimError::IssuedInTheFuture {
        iat: NOW + SKEW + 1,
        now: NOW,
    });
    assert!(Case::with("exp", NOW - SKEW + 1).judged().is_ok());
    Case::with("exp", NOW - SKEW).is_refused(ClaimError::Expired {
        exp: NOW - SKEW,
        now: NOW,
    });
    Case::with("nbf", NOW + SKEW + 1).is_refused(ClaimError::NotYetValid {
        nbf: NOW + SKEW + 1,
        now: NOW,
    });
}

/// The time during which its `jti` is remembered covers the time during which it is accepted.
#[test]
fn logout_token_without_exp_is_accepted_for_two_minutes() {
    let issued = |iat: i64, exp: Option<Value>| {
        let mut case = Case::without("exp");
        case.claims["iat"] = json!(iat);
        if let Some(exp) = exp {
            case.claims["exp"] = exp;
        }
        case.judged()
    };
    for exp in [None, Some(json!(null))] {
        for (iat, ends) in [
            (NOW - 120, NOW + SKEW),
            (NOW, NOW + 120 + SKEW),
            (NOW + SKEW, NOW + 120 + 2 * SKEW),
        ] {
            let accepted = issued(iat, exp.clone());
            assert_eq!(accepted.map(|token| token.ends), Ok(ends));
        }
        let too_old = LogoutTokenError::TooOld {
            iat: NOW - 121,
            now: NOW,
        };
        assert_eq!(issued(NOW - 121, exp), Err(too_old));
    }
    // Of a part of a second, its end.
    let accepted = issued(NOW, Some(json!(NOW as f64 + 60.5)));
    assert_eq!(accepted.map(|token| token.ends), Ok(NOW + 61 + SKEW));
    let error = wrong_type("exp", "a number", "a string");
    assert_eq!(issued(NOW, Some(json!("soon"))), Err(error.into()));
}

#[test]
fn logout_token_jti() {
    Case::without("jti").is_refused(missing("jti"));
    Case::with("jti", 1).is_refused(wrong_type("jti", "a string", "a number"));
    Case::with("jti", "").is_refused(LogoutTokenError::EmptyJti);
}

#[test]
fn logout_token_events() {
    Case::without("events").is_refused(missing("events"));
    Case::with("events", json!([EVENT])).is_refused(wrong_type("events", "an object", "an array"));
    Case::with("events", EVENT).is_refused(wrong_type("events", "an object", "a string"));
    for events in [
        json!({}),
        json!({ "http://schemas.openid.net/event/other": {} }),
        json!({ EVENT: null }),
        json!({ EVENT: true }),
    ] {
        Case::with("events", events).is_refused(LogoutTokenError::NoLogoutEvent);
    }
    let more = json!({ EVENT: { "x": 1 }, "urn:other": {} });
    assert!(Case::with("events", more).judged().is_ok());
}

#[test]
fn logout_token_with_nonce() {
    for nonce in [json!("n"), json!("")] {
        Case::with("nonce", nonce).is_refused(LogoutTokenError::Nonce);
    }
    // It is absent.
    assert!(Case::with("nonce", json!(null)).judged().is_ok());
}

#[test]
fn logout_token_signature() {
    let mut case = Case::new();
    case.algorithm = SigningAlgorithm::RS256;
    assert!(
        matches!(case.judged(), Err(LogoutTokenError::Jws(_))),
        "signed by another key"
    );
    let mut case = Case::new();
    case.header["kid"] = json!("new");
    let error = case.judged().unwrap_err();
    assert_eq!(error, JwsError::UnknownKey { kid: "new".into() }.into());
    assert_eq!(error.wants_fresh_keys(), Some(StaleKeys::Missing));

    let error = Case::with("aud", "other").judged().unwrap_err();
    assert_eq!(error.wants_fresh_keys(), None);
}

#[test]
fn logout_token_by_an_algorithm_that_is_not_agreed_on() {
    let unsigned = {
        let mut case = Case::new();
        case.header["alg"] = json!("none");
        test_keys::sign_by(&case.header.to_string(), &case.claims.to_string(), |_| vec![])
    };
    let error = Case::new().judge(&unsigned).unwrap_err();
    assert!(matches!(error, LogoutTokenError::Jws(_)));
    // Other keys would not make it good.
    assert_eq!(error.wants_fresh_keys(), None);
    let mut symmetric = Case::new();
    symmetric.algorithm = SigningAlgorithm::HS256;
    symmetric.header = json!({ "alg": "HS256" });
    assert!(matches!(symmetric.judged(), Err(LogoutTokenError::Jws(_))));
    symmetric.allowed.push(SigningAlgorithm::HS256);
    assert!(symmetric.judged().is_ok());
}

#[test]
fn an_id_token_is_no_logout_token() {
    let mut case = Case::without("events");
    case.header.as_object_mut().unwrap().remove("typ");
    case.claims["nonce"] = json!("n");
    case.is_refused(missing("events"));
}

#[test]
fn errors_say_what_to_do() {
    let remedy = |case: Case| case.judged().unwrap_err().remedy();
    let mut case = Case::new();
    case.header["alg"] = json!("none");
    assert_eq!(
        remedy(case),
        "have the provider sign with RS256, ES256 or another algorithm that is supported"
    );
    assert_eq!(
        remedy(Case::without("iat")),
        "have the provider send the claim as its standard requires"
    );
    let mut old = Case::without("exp");
    old.claims["iat"] = json!(NOW - 121);
    assert_eq!(
        remedy(old),
        "have the provider send `exp`, and check the clocks of both machines"
    );
    assert_eq!(
        remedy(Case::with("nonce", "n")),
        "refuse the request; if it came from the provider itself, report to it what its logout token lacks"
    );
    assert_eq!(
        LogoutTokenError::Replayed.remedy(),
        "ignore it if it is rare: the provider may send a logout token twice; else check where the requests come from"
    );
}
