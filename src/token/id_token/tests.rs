//! Accepted ID tokens, and each rule broken by changing one thing.

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
    accepts_missing_nonce: bool,
    access_token: Option<&'static str>,
    max_age: Option<Duration>,
    authenticated_since: Option<i64>,
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
            accepts_missing_nonce: false,
            access_token: None,
            max_age: None,
            authenticated_since: None,
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
        let (nonce, access_token) = (self.nonce.map(Secret::new), self.access_token.map(Secret::new));
        let expected = IdTokenExpectations {
            issuer: ExpectedIssuer::exactly(ISSUER),
            client_id: CLIENT,
            trusted_audiences: &self.trusted_audiences,
            algorithms: &[self.algorithm],
            client_secret: Some(&secret),
            nonce: nonce.as_ref(),
            accepts_missing_nonce: self.accepts_missing_nonce,
            access_token: access_token.as_ref(),
            max_age: self.max_age,
            authenticated_since: self.authenticated_since,
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
    assert_eq!(token.subject(), "alice");
    assert_eq!(token.claims.get::<i64>("exp"), Some(NOW + 300));
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
        for odd in [json!(null), json!(1), json!("x"), json!([]), json!({"a": [1]})] {
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
    assert_eq!(error.wants_fresh_keys(), Some(StaleKeys::Missing));

    let error = Case::with("aud", "other").judged().unwrap_err();
    assert_eq!(error.wants_fresh_keys(), None);
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
    for iss in ["https://op.example/", "HTTPS://op.example", "https://other.example", ""] {
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
    Case::with("sub", json!(null)).is_refused(missing("sub"));
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
    Case::with("aud", vec!["other"; 11]).is_refused(error(&["other"; 10]));
    Case::with("aud", json!(["other"]))
        .trusting("other")
        .is_refused(error(&["other"]));
    let expected = "a string or an array of strings";
    for (aud, actual) in [
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
    Case::with("aud", both.clone()).trusting("api").is_accepted();
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
    Case::with("azp", 7).is_refused(wrong_type("azp", "a string", "a number"));
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
    Case::with("iat", json!(null)).is_refused(missing("iat"));
    Case::with("iat", "").is_refused(missing("iat"));
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
    for &algorithm in &[SigningAlgorithm::ASYMMETRIC, &[SigningAlgorithm::HS256]].concat() {
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
    case.claims["at_hash"] = "x".into();
    case.is_refused(IdTokenError::AccessTokenHash);
    case.claims["at_hash"] = json!(["x"]);
    case.is_refused(wrong_type("at_hash", "a string", "an array"));
}

#[test]
fn id_token_auth_time_before_the_request_that_demands_a_new_one() {
    for (auth_time, before) in [
        (json!(NOW), None),
        (json!(NOW + 30), None),
        (json!(NOW - 100 - SKEW), None),
        (json!(NOW - 101 - SKEW), Some(61)),
        (json!(0), Some(1_699_999_900)),
        (json!(-1e300), Some(u64::MAX)),
    ] {
        let mut case = Case::with("auth_time", auth_time);
        // The user authenticated anew, and then took longer than that.
        case.max_age = Some(Duration::ZERO);
        case.authenticated_since = Some(NOW - 100);
        match before {
            None => case.is_accepted(),
            Some(before) => case.is_refused(IdTokenError::NotAuthenticatedAgain { before }),
        }
    }
    let mut case = Case::new();
    case.authenticated_since = Some(NOW);
    assert_eq!(case.judged().map(drop).unwrap_err().reason(), "id_token_claim_missing");
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

#[test]
fn errors_say_what_to_do() {
    let remedy = |case: Case| case.judged().unwrap_err().facts().remedy;
    let mut case = Case::new();
    case.header["alg"] = "none".into();
    assert_eq!(
        remedy(case),
        "have the provider sign with RS256, ES256 or another algorithm that is supported"
    );
    assert_eq!(
        remedy(Case::without("exp")),
        "have the provider send the claim as its standard requires"
    );
    assert_eq!(
        remedy(Case::with("azp", "other")),
        "check that `client_id` is the id under which the provider knows this app"
    );
    assert_eq!(
        remedy(Case::with("nonce", "another")),
        "sign in again; if it happens often, check the log for replayed responses"
    );
    let mut case = Case::with("at_hash", "AAAAAAAAAAAAAAAAAAAAAA");
    case.access_token = Some("access token");
    assert_eq!(
        remedy(case),
        "refuse the response; if it came from the provider itself, report its \"at_hash\" to it"
    );
    let mut case = Case::with("acr", "bronze");
    case.acr_values = strings(&["silver"]);
    assert_eq!(
        remedy(case),
        "have the provider support the `acr_values` that are asked for, or ask for others"
    );
    let mut case = Case::with("auth_time", NOW - 1000);
    case.max_age = Some(Duration::from_secs(600));
    assert_eq!(
        remedy(case),
        "have the provider honour `max_age`, or ask for a longer one"
    );
}

/// The same token, really signed by keys of 1,024 bits and more, which `openssl` made.
#[test]
fn signed_by_an_rsa_key_of_each_size() {
    const HEADER: &str = r#"{"alg":"RS256","kid":"rsa"}"#;
    const ID_TOKEN: &str = r#"{"iss":"https://op.example","sub":"alice","aud":"client","nonce":"the nonce of the fixture","iat":1700000000,"exp":1700000300}"#;
    let keys = include_str!("../../../tests/behaviour/rsa_sizes.json");
    let keys: Vec<Value> = serde_json::from_str(keys).unwrap();
    let base64url = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", base64url(HEADER), base64url(ID_TOKEN));
    let nonce = Secret::new("the nonce of the fixture");
    for (key, bits) in keys.iter().zip([1024, 2040, 2047, 2048]) {
        assert_eq!(key["bits"], bits);
        let jwk = json!({ "kty": "RSA", "kid": "rsa", "n": key["n"], "e": "AQAB" });
        let set = json!({ "keys": [jwk] }).to_string();
        let set = std::sync::Arc::new(KeySet::parse(set.as_bytes()).unwrap());
        let expected = IdTokenExpectations {
            issuer: ExpectedIssuer::exactly(ISSUER),
            client_id: CLIENT,
            trusted_audiences: &[],
            algorithms: &[SigningAlgorithm::RS256],
            client_secret: None,
            nonce: Some(&nonce),
            accepts_missing_nonce: false,
            access_token: None,
            max_age: None,
            authenticated_since: None,
            acr_values: &[],
            clock_skew: Duration::ZERO,
        };
        let token = format!("{message}.{}", key["id_token"].as_str().unwrap());
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        let verdict = IdToken::accept(&token, &set, &expected, now);
        match bits {
            2048 => assert_eq!(verdict.unwrap().subject(), "alice"),
            _ => assert_eq!(
                verdict.err().unwrap().to_string(),
                "the provider's key set has no usable key \"rsa\""
            ),
        }
    }
}

/// Providers send them so. What a claim that is needed says is missing then.
#[test]
fn null_and_nothing_are_absent() {
    for claim in ["azp", "at_hash", "nbf", "auth_time", "acr", "sid"] {
        for nothing in [json!(null), json!("")] {
            let mut case = Case::with(claim, nothing);
            case.access_token = Some("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
            case.is_accepted();
        }
    }
    for claim in ["iss", "sub", "aud", "exp", "iat", "nonce"] {
        Case::with(claim, json!(null)).is_refused(missing(claim));
    }
    Case::with("exp", "").is_refused(missing("exp"));
    Case::with("sub", "").is_refused(ClaimError::EmptySubject);
    let mut case = Case::with("auth_time", json!(null));
    case.max_age = Some(Duration::from_secs(60));
    case.is_refused(missing("auth_time"));
}

#[test]
fn a_missing_nonce_is_accepted_where_settings_say_so() {
    for absent in [Case::without("nonce"), Case::with("nonce", json!(null))] {
        let mut case = absent;
        case.accepts_missing_nonce = true;
        case.is_accepted();
    }
    for other in [json!("another"), json!(""), json!(7)] {
        let mut case = Case::with("nonce", other.clone());
        let strict = case.judged().unwrap_err();
        case.accepts_missing_nonce = true;
        assert_eq!(case.judged().unwrap_err(), strict, "{other}");
    }
}
