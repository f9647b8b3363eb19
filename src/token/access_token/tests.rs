//! Each test changes one thing against an accepted token.

mod products;
mod sentences;

use serde_json::{Value, json};

use super::*;
use crate::token::{
    JsonError, JwsError,
    test_keys::{TestKey, header, key_set, key_set_of, mac, rsa_public_key_forms, sign, sign_by, sign_text},
};

const RS256: SigningAlgorithm = SigningAlgorithm::RS256;
const ES256: SigningAlgorithm = SigningAlgorithm::ES256;
const NOW: i64 = 1_700_000_000;
const API: &str = "https://api.example";

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn expected() -> AccessTokenExpectations {
    AccessTokenExpectations {
        issuer: "https://op.example".into(),
        tenants: None,
        audience: vec![API.into()],
        audience_claim: AudienceClaim::Aud,
        introspection_needs_audience: true,
        client_id: "app".into(),
        accepts: Accepts::AccessTokens,
        accepts_setting: "oidc.accepts".into(),
        require_at_jwt: false,
        group_paths: Arc::default(),
        algorithms: None,
        clock_skew: Duration::from_secs(60),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://op.example", "aud": API, "sub": "alice", "client_id": "app",
        "scope": "notes:read notes:write", "iat": NOW, "exp": NOW + 300, "jti": "1",
    })
}

fn typed(typ: &str) -> Value {
    let mut header = header(ES256);
    header["typ"] = typ.into();
    header
}

/// Judges a token as the resource server does.
fn judge(
    token: &str,
    expected: &AccessTokenExpectations,
    algorithms: &[SigningAlgorithm],
) -> Result<AccessToken, AccessTokenError> {
    let algorithms = AllowedAlgorithms::only(algorithms);
    let unverified = UnverifiedAccessToken::parse(token)?;
    let checked = unverified.check(expected, algorithms, false, now())?;
    let verified = unverified.check_signature(&key_set(), algorithms, expected)?;
    unverified.accept(checked, verified, expected)
}

fn accept(token: &str) -> Result<AccessToken, AccessTokenError> {
    judge(token, &expected(), &[ES256, RS256])
}

/// With one claim changed; `null` removes it.
fn with(claim: &str, value: impl Into<Value>) -> Result<AccessToken, AccessTokenError> {
    with_under(&expected(), claim, value)
}

fn with_under(
    expected: &AccessTokenExpectations,
    claim: &str,
    value: impl Into<Value>,
) -> Result<AccessToken, AccessTokenError> {
    let mut claims = claims();
    claims[claim] = value.into();
    claims.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    judge(&sign(ES256, &typed("at+jwt"), &claims), expected, &[ES256])
}

#[track_caller]
fn refused(result: Result<AccessToken, AccessTokenError>, error: impl Into<AccessTokenError>) {
    let error = error.into();
    assert_eq!(result.map(|token| token.claims), Err(error));
}

fn wrong_type(claim: &'static str, expected: &'static str, actual: &'static str) -> ClaimError {
    ClaimError::WrongType {
        claim,
        expected,
        actual,
    }
}

#[test]
fn a_token_for_this_api_is_accepted() {
    let token = sign(ES256, &typed("at+jwt"), &claims());
    let accepted = accept(&token).unwrap();
    assert_eq!(accepted.subject(), Some("alice"));
    assert_eq!(accepted.client_id(), Some("app"));
    assert_eq!(accepted.issuer(), "https://op.example");
    assert_eq!(accepted.scopes, ["notes:read", "notes:write"]);
    assert_eq!(accepted.exp(), Some(NOW + 300));
    assert_eq!(accepted.token, Secret::new(&*token));
    assert!(with("aud", json!(["other", API])).is_ok());
    assert!(with("exp", NOW as f64 + 0.5).is_ok());
    assert!(with("nbf", NOW + 60).is_ok());
    assert!(with("iat", NOW + 60).is_ok());
    assert!(with("iat", Value::Null).is_ok());
}

#[test]
fn access_token_type() {
    let of_type = |typ: &str, is_required| {
        let expected = AccessTokenExpectations {
            require_at_jwt: is_required,
            ..expected()
        };
        judge(&sign(ES256, &typed(typ), &claims()), &expected, &[ES256]).map(|_| ())
    };
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        assert_eq!(of_type(typ, true), Ok(()), "{typ}");
    }
    for typ in ["JWT", "jwt", "application/jwt", "JOSE"] {
        assert_eq!(of_type(typ, false), Ok(()), "{typ}");
        let error = AccessTokenError::TokenType {
            expected: "\"at+jwt\"",
            actual: Some(typ.into()),
        };
        assert_eq!(of_type(typ, true), Err(error), "{typ}");
    }
    for typ in [
        "logout+jwt",
        "id+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "",
        "application:at+jwt",
        "application/application/at+jwt",
    ] {
        let error = AccessTokenError::TokenType {
            expected: "\"at+jwt\", \"JWT\", \"JOSE\" or none",
            actual: Some(typ.into()),
        };
        assert_eq!(of_type(typ, false), Err(error), "{typ}");
    }
    let untyped = sign(ES256, &header(ES256), &claims());
    assert!(accept(&untyped).is_ok());
    let strict = AccessTokenExpectations {
        require_at_jwt: true,
        ..expected()
    };
    refused(
        judge(&untyped, &strict, &[ES256]),
        AccessTokenError::TokenType {
            expected: "\"at+jwt\"",
            actual: None,
        },
    );
}

#[test]
fn access_token_issuer() {
    for actual in ["https://op.example/", "https://OP.example", "https://other.example", ""] {
        refused(
            with("iss", actual),
            ClaimError::Issuer {
                expected: "https://op.example".into(),
                actual: actual.into(),
            },
        );
    }
    refused(with("iss", Value::Null), ClaimError::Missing { claim: "iss" });
    refused(with("iss", 1), wrong_type("iss", "a string", "a number"));
}

#[test]
fn access_token_audience() {
    let another = |actual: &[&str]| AccessTokenError::Audience {
        expected: vec![API.into()],
        actual: actual.iter().map(|aud| (*aud).to_owned()).collect(),
    };
    refused(with("aud", Value::Null), ClaimError::Missing { claim: "aud" });
    refused(with("aud", "app"), another(&["app"]));
    refused(with("aud", json!([])), another(&[]));
    refused(with("aud", vec!["app"; 11]), another(&["app"; 10]));
    refused(with("aud", "https://api.example/"), another(&["https://api.example/"]));
    refused(with("aud", "https://api"), another(&["https://api"]));
    let expects = "a string or an array of strings";
    refused(with("aud", json!({})), wrong_type("aud", expects, "an object"));
    refused(
        with("aud", json!([API, 1])),
        wrong_type("aud", expects, "an array with other values"),
    );
    let several = AccessTokenExpectations {
        audience: vec!["a".into(), "b".into()],
        ..expected()
    };
    assert!(with_under(&several, "aud", "b").is_ok());
}

#[test]
fn access_token_times() {
    let at = |claim: &str, value: i64| with(claim, value).map(|_| ()).unwrap_err();
    assert_eq!(
        at("exp", NOW - 60),
        ClaimError::Expired {
            exp: NOW - 60,
            now: NOW
        }
        .into()
    );
    assert!(with("exp", NOW - 59).is_ok());
    assert_eq!(
        at("nbf", NOW + 61),
        ClaimError::NotYetValid {
            nbf: NOW + 61,
            now: NOW
        }
        .into()
    );
    assert_eq!(
        at("iat", NOW + 61),
        ClaimError::IssuedInTheFuture {
            iat: NOW + 61,
            now: NOW
        }
        .into()
    );
    refused(with("exp", Value::Null), ClaimError::Missing { claim: "exp" });
    for claim in ["exp", "nbf", "iat"] {
        refused(with(claim, "soon"), wrong_type(claim, "a number", "a string"));
    }
}

#[test]
fn access_token_of_nobody() {
    let lacks = |names: &[&str]| {
        let mut claims = claims();
        let claims = claims.as_object_mut().unwrap();
        claims.retain(|name, _| !names.contains(&name.as_str()));
        accept(&sign(ES256, &typed("at+jwt"), &json!(claims)))
    };
    assert_eq!(lacks(&["sub"]).unwrap().subject(), None);
    assert_eq!(lacks(&["client_id"]).unwrap().client_id(), None);
    refused(lacks(&["sub", "client_id"]), AccessTokenError::NoSubject);
    let client = |value: Value| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove("sub");
        claims["client_id"] = value;
        accept(&sign(ES256, &typed("at+jwt"), &claims))
    };
    for no_client in [json!(""), json!(7), json!(null), json!(["app"])] {
        refused(client(no_client), AccessTokenError::NoSubject);
    }
    refused(with("sub", ""), ClaimError::EmptySubject);
    refused(with("sub", 7), wrong_type("sub", "a string", "a number"));
    for name in ["azp", "appid", "cid"] {
        let mut claims = claims();
        let claims = claims.as_object_mut().unwrap();
        claims.retain(|name, _| name != "client_id" && name != "sub");
        claims.insert(name.into(), json!("other"));
        let accepted = accept(&sign(ES256, &typed("at+jwt"), &json!(claims))).unwrap();
        assert_eq!(accepted.client_id(), Some("other"), "{name}");
    }
}

/// The audience of an ID token is the client id: while that is accepted here, a token must show more.
#[test]
fn access_token_that_is_an_id_token() {
    let expected = AccessTokenExpectations {
        audience: vec!["app".into()],
        ..expected()
    };
    let mut id_token = claims();
    id_token["aud"] = "app".into();
    let judged = |claims: &Value| judge(&sign(ES256, &header(ES256), claims), &expected, &[ES256]);
    assert!(judged(&id_token).is_ok());

    for name in ["at_hash", "c_hash", "s_hash"] {
        let mut claims = id_token.clone();
        claims[name] = "x".into();
        let reason = format!("it has {name:?}");
        refused(judged(&claims), AccessTokenError::AnotherUse { reason });
    }
    id_token["scope"] = "openid email".into();
    let reason = "its audience is its own client, as that of an ID token, and it has no other scopes than OpenID's";
    let another_use = AccessTokenError::AnotherUse { reason: reason.into() };
    refused(judged(&id_token), another_use.clone());
    let bare = id_token.as_object_mut().unwrap();
    bare.retain(|name, _| !["scope", "client_id"].contains(&name.as_str()));
    refused(judged(&id_token), AccessTokenError::UnknownUseForClient);
    id_token["nonce"] = "x".into();
    refused(judged(&id_token), another_use);
    id_token["scp"] = json!(["notes:read"]);
    assert!(judged(&id_token).is_ok());
}

#[test]
fn access_token_wrong_use() {
    for typ in ["ID", "Refresh", "Offline", "Logout", "id"] {
        let reason = format!("its \"typ\" is {typ:?}");
        refused(with("typ", typ), AccessTokenError::AnotherUse { reason });
    }
    assert!(with("typ", "Bearer").is_ok());
    let reason = "it has \"events\"".to_owned();
    refused(
        with(
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
        AccessTokenError::AnotherUse { reason },
    );
    let cause = "its \"jkt\" is not a SHA-256 thumbprint in base64url".to_owned();
    refused(
        with("cnf", json!({"jkt": "x"})),
        AccessTokenError::Confirmation { cause },
    );
}

/// That a token is bound is not a reason to reject it, but a demand on each request.
#[test]
fn a_bound_token_needs_the_proof_of_its_key() {
    let (key, other) = ("A".repeat(43), "B".repeat(42) + "A");
    let bound = with("cnf", json!({ "jkt": key })).unwrap();
    let bearer = with("typ", "Bearer").unwrap();
    let introspected = introspected(|body| body["cnf"] = json!({ "jkt": key })).unwrap();
    for (token, proved, expected) in [
        (&bearer, None, Ok(())),
        (&bearer, Some(&key), Err(AccessTokenError::Unbound)),
        (&bound, None, Err(AccessTokenError::Bound)),
        (&bound, Some(&key), Ok(())),
        (&bound, Some(&other), Err(AccessTokenError::OtherKey)),
        (&introspected, None, Err(AccessTokenError::Bound)),
        (&introspected, Some(&key), Ok(())),
    ] {
        assert_eq!(token.check_possession(proved.map(String::as_str)), expected);
    }
}

#[test]
fn a_token_of_a_certificate_needs_that_certificate() {
    let certificate = Certificate::of_pem(include_str!("../../testing/certificate.pem")).unwrap();
    let [own, other] = [certificate.thumbprint().to_owned(), "A".repeat(43)];
    let bound_to = |thumbprint: &str| with("cnf", json!({ "x5t#S256": thumbprint })).unwrap();
    let both = with("cnf", json!({ "x5t#S256": own, "jkt": other })).unwrap();
    let introspected = introspected(|body| body["cnf"] = json!({ "x5t#S256": own })).unwrap();
    for (token, presented, expected) in [
        (&with("typ", "Bearer").unwrap(), None, Ok(())),
        (&with("typ", "Bearer").unwrap(), Some(&certificate), Ok(())),
        (&bound_to(&own), Some(&certificate), Ok(())),
        (&bound_to(&own), None, Err(AccessTokenError::NoCertificate)),
        (
            &bound_to(&other),
            Some(&certificate),
            Err(AccessTokenError::OtherCertificate),
        ),
        (&introspected, Some(&certificate), Ok(())),
        (&introspected, None, Err(AccessTokenError::NoCertificate)),
        (&both, Some(&certificate), Ok(())),
        (&both, None, Err(AccessTokenError::NoCertificate)),
    ] {
        assert_eq!(token.check_certificate(presented), expected);
    }
    assert_eq!(both.check_possession(None), Err(AccessTokenError::Bound));
}

#[test]
fn scopes_and_roles() {
    let scopes = |claims: Value, roles: Option<&str>| {
        let roles: Vec<_> = roles.into_iter().map(str::to_owned).collect();
        let paths = GroupPaths::new(&[], &roles);
        super::scopes(claims.as_object().unwrap(), &paths)
    };
    assert_eq!(scopes(json!({"scope": "a  b\tc"}), None), ["a", "b", "c"]);
    assert_eq!(scopes(json!({"scope": ["a", "b"]}), None), ["a", "b"]);
    assert_eq!(scopes(json!({"scp": "a b"}), None), ["a", "b"]);
    assert_eq!(scopes(json!({"scp": ["a", 1, "b"]}), None), ["a", "b"]);
    assert_eq!(scopes(json!({"scope": 7, "scp": {}}), None), [""; 0]);
    let keycloak = json!({"scope": "a", "realm_access": {"roles": ["admin", "user"]}});
    assert_eq!(scopes(keycloak.clone(), None), ["a"]);
    assert_eq!(
        scopes(keycloak.clone(), Some("realm_access.roles")),
        ["a", "admin", "user"]
    );
    for path in ["realm_access", "realm_access.roles.x", "nothing", "realm_access."] {
        assert_eq!(scopes(keycloak.clone(), Some(path)), ["a"], "{path}");
    }
    let auth0 = json!({"https://app.example/roles": ["admin"]});
    assert_eq!(scopes(auth0, Some("https://app.example/roles")), ["admin"]);
}

#[test]
fn access_token_signature() {
    let token = sign(ES256, &typed("at+jwt"), &claims());
    let stranger = sign_by(&typed("at+jwt").to_string(), &claims().to_string(), |message| {
        TestKey::StrangeEc256.sign(ES256, message)
    });
    let (input, signature) = token.rsplit_once('.').unwrap();
    let bad = AccessTokenError::Jws(JwsError::BadSignature {
        algorithm: ES256,
        kid: Some("ec256".into()),
    });
    refused(accept(&stranger), bad.clone());
    refused(accept(&format!("{input}.")), bad.clone());
    refused(accept(&format!("{input}.{}", &signature[..84])), bad);
    refused(
        accept(&sign(
            ES256,
            &json!({"alg": "ES256", "kid": "new", "typ": "at+jwt"}),
            &claims(),
        )),
        JwsError::UnknownKey { kid: "new".into() },
    );
    let not_allowed = JwsError::AlgorithmNotAllowed {
        expected: vec![RS256],
        actual: ES256,
    };
    refused(judge(&token, &expected(), &[RS256]), not_allowed);
}

/// The public key must not serve as a shared secret, whatever form an attacker takes it in.
#[test]
fn access_token_algorithm_confusion() {
    let forms = rsa_public_key_forms().into_iter();
    let jwk = TestKey::Rsa.jwk().to_string().into_bytes();
    for key in forms.chain([jwk]) {
        for kid in [Some("rsa"), None] {
            let mut header = json!({"alg": "HS256", "typ": "at+jwt"});
            if let Some(kid) = kid {
                header["kid"] = kid.into();
            }
            let token = sign_by(&header.to_string(), &claims().to_string(), |m| mac(&key, m));
            refused(
                accept(&token),
                JwsError::AlgorithmNotAllowed {
                    expected: vec![ES256, RS256],
                    actual: SigningAlgorithm::HS256,
                },
            );
        }
    }
    for alg in ["none", "None", "NONE", "nOnE", "HS512", ""] {
        let header = json!({"alg": alg, "typ": "at+jwt"}).to_string();
        for signature in [&[][..], &[1; 64]] {
            let token = sign_by(&header, &claims().to_string(), |_| signature.to_vec());
            refused(accept(&token), JwsError::UnknownAlgorithm { actual: alg.into() });
        }
    }
}

#[test]
fn access_token_that_brings_its_own_key() {
    let mut jwk = TestKey::StrangeEc256.jwk();
    jwk["kid"] = "own".into();
    for (member, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "own", "typ": "at+jwt"});
        header[member] = value;
        let token = sign_by(&header.to_string(), &claims().to_string(), |message| {
            TestKey::StrangeEc256.sign(ES256, message)
        });
        refused(accept(&token), JwsError::UnknownKey { kid: "own".into() });
    }
    let mut critical = typed("at+jwt");
    critical["crit"] = json!(["b64"]);
    refused(accept(&sign(ES256, &critical, &claims())), JwsError::CriticalExtension);
}

#[test]
fn access_token_with_a_member_twice() {
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let (head, body) = (typed("at+jwt").to_string(), claims().to_string());
    let duplicate = |name: &str| JsonError::DuplicateMember { name: name.into() };
    refused(
        accept(&sign_text(ES256, &head, &twice(&body, "\"sub\":\"admin\""))),
        JwsError::Payload(duplicate("sub")),
    );
    refused(
        accept(&sign_text(ES256, &head, &twice(&body, "\"a\":{\"b\":1,\"b\":2}"))),
        JwsError::Payload(duplicate("b")),
    );
    refused(
        accept(&sign_text(ES256, &twice(&head, "\"x\":1,\"x\":1"), &body)),
        JwsError::Header(duplicate("x")),
    );
}

/// Times of any size are compared, and none is too large for what is made of it.
#[test]
fn access_token_of_odd_times() {
    let latest = now() + Duration::from_secs(60);
    for exp in [json!(1e300), json!(u64::MAX), json!(NOW + 100)] {
        assert_eq!(with("exp", exp).unwrap().ends_by(latest), latest);
    }
    let soon = with("exp", NOW as f64 + 30.9).unwrap();
    assert_eq!(soon.ends_by(latest), now() + Duration::from_secs(30));
    let past = ClaimError::Expired {
        exp: i64::MIN,
        now: NOW,
    };
    refused(with("exp", -1e300), past);
    let never = ClaimError::NotYetValid {
        nbf: i64::MAX,
        now: NOW,
    };
    refused(with("nbf", 1e300), never);
    assert!(with("nbf", -1e300).is_ok());
    assert!(with("iat", -1e300).is_ok());
}

/// Every byte of a token of each kind of key: with a bit of it turned, another in its place, one before
/// it, without it, twice, and the token cut there.
#[test]
fn no_mutation_of_an_accepted_token_is_accepted() {
    const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let algorithms = [RS256, ES256, SigningAlgorithm::EdDSA];
    for algorithm in algorithms {
        let mut header = header(algorithm);
        header["typ"] = "at+jwt".into();
        let token = sign(algorithm, &header, &claims()).into_bytes();
        let judge = |token: &[u8]| {
            let token = std::str::from_utf8(token).unwrap();
            judge(token, &expected(), &algorithms).map(drop)
        };
        assert_eq!(judge(&token), Ok(()));

        let mut tried = 0;
        let mut refuse = |mutant: &[u8]| {
            if mutant != token {
                tried += 1;
                let text = String::from_utf8_lossy(mutant);
                assert!(judge(mutant).is_err(), "{algorithm}: {text}");
            }
        };
        for at in 0..token.len() {
            let own = token[at];
            let replaced = |by: &[u8]| [&token[..at], by, &token[at + 1..]].concat();
            for bit in 0..7 {
                refuse(&replaced(&[own ^ (1 << bit)]));
            }
            for byte in *b"A_.= {" {
                refuse(&replaced(&[byte]));
                refuse(&replaced(&[byte, own]));
            }
            refuse(&replaced(&[own, own]));
            refuse(&replaced(&[]));
            refuse(&token[..at]);
            refuse(&token[at..].repeat(2));
            if let Some(&next) = token.get(at + 1) {
                let swapped = [&token[..at], &[next, own], &token[at + 2..]].concat();
                refuse(&swapped);
                // The last of a part has bits that mean nothing, and must be zero.
                if next == b'.' {
                    for byte in BASE64URL {
                        refuse(&replaced(&[*byte]));
                    }
                }
            } else {
                for byte in BASE64URL {
                    refuse(&replaced(&[*byte]));
                }
            }
        }
        for more in [".", "=", "A", "AA", "AAAA", "\n", ".AAAA"] {
            refuse(&[&token[..], more.as_bytes()].concat());
        }
        refuse(&[&token[..], b".", &token[..]].concat());
        assert!(tried > 20 * token.len(), "{tried}");
    }
}

fn introspected(change: impl FnOnce(&mut Value)) -> Result<AccessToken, AccessTokenError> {
    let mut body = json!({
        "active": true, "iss": "https://op.example", "aud": API, "sub": "alice",
        "client_id": "app", "scope": "notes:read", "exp": NOW + 300, "iat": NOW,
        "token_type": "Bearer",
    });
    change(&mut body);
    let body = serde_json::to_vec(&body).unwrap();
    AccessToken::accept_introspection("opaque", &body, &expected(), now())
}

#[test]
fn what_introspection_says_is_judged() {
    let accepted = introspected(|_| ()).unwrap();
    assert_eq!(
        (accepted.subject(), accepted.exp(), &*accepted.scopes),
        (Some("alice"), Some(NOW + 300), &["notes:read".to_owned()][..])
    );
    assert_eq!(accepted.claims.value("active"), None);
    let lenient = AccessTokenExpectations {
        introspection_needs_audience: false,
        ..expected()
    };
    for careless in [
        json!({"active": true, "sub": "alice"}),
        json!({"active": true, "client_id": "app", "exp": NOW as f64 + 0.5, "iat": NOW as f64}),
        json!({"active": true, "sub": "alice", "aud": null, "iss": "", "nonce": "", "exp": null}),
        json!({"active": true, "sub": "alice", "aud": [], "scope": ""}),
    ] {
        let body = careless.to_string();
        let judged = |expected: &AccessTokenExpectations| {
            AccessToken::accept_introspection("opaque", body.as_bytes(), expected, now())
        };
        let accepted = judged(&lenient).unwrap();
        assert_eq!(accepted.check_again(&lenient, false, now()), Ok(()));
        let no_audience = AccessTokenError::NoAudience {
            expected: vec![API.into()],
        };
        assert_eq!(
            accepted.check_again(&expected(), false, now()),
            Err(no_audience.clone())
        );
        refused(judged(&expected()), no_audience);
    }
    let set = |name: &'static str, value: Value| introspected(|body| body[name] = value);
    for (name, value) in [
        ("aud", json!(["other", API])),
        ("exp", json!(NOW - 59)),
        ("iat", json!(NOW + 60)),
        ("nbf", json!(NOW as f64 + 59.5)),
        ("token_type", json!("bearer")),
        ("token_type", json!("access_token")),
        ("token_type", json!(null)),
        ("sub", json!("")),
        ("scope", json!(["notes:read"])),
        ("nonce", json!("x")),
        ("auth_time", json!(NOW)),
        ("typ", json!("Bearer")),
    ] {
        assert!(set(name, value.clone()).is_ok(), "{name}: {value}");
    }
    for (name, value, error) in [
        ("sub", json!(7), wrong_type("sub", "a string", "a number")),
        ("exp", json!("1"), wrong_type("exp", "a number", "a string")),
        ("nbf", json!("1"), wrong_type("nbf", "a number", "a string")),
        ("iat", json!("1"), wrong_type("iat", "a number", "a string")),
        ("iss", json!(["x"]), wrong_type("iss", "a string", "an array")),
        (
            "token_type",
            json!(["x"]),
            wrong_type("token_type", "a string", "an array"),
        ),
        ("client_id", json!(7), wrong_type("client_id", "a string", "a number")),
        ("scope", json!(7), wrong_type("scope", "a string", "a number")),
        (
            "aud",
            json!(7),
            wrong_type("aud", "a string or an array of strings", "a number"),
        ),
        ("active", json!("true"), wrong_type("active", "a boolean", "a string")),
        ("active", json!(null), ClaimError::Missing { claim: "active" }),
        (
            "iss",
            json!("https://other.example"),
            ClaimError::Issuer {
                expected: "https://op.example".into(),
                actual: "https://other.example".into(),
            },
        ),
    ] {
        let error = AccessTokenError::from(error);
        assert!(error.is_about_response(), "{name}: {value}");
        refused(set(name, value), error);
    }
    refused(
        set("iat", json!(NOW + 61)),
        ClaimError::IssuedInTheFuture {
            iat: NOW + 61,
            now: NOW,
        },
    );
    refused(
        set("typ", json!("Refresh")),
        AccessTokenError::AnotherUse {
            reason: "its \"typ\" is \"Refresh\"".into(),
        },
    );
    refused(
        set("events", json!({})),
        AccessTokenError::AnotherUse {
            reason: "it has \"events\"".into(),
        },
    );
    refused(set("active", json!(false)), AccessTokenError::Inactive);
    refused(
        set("aud", json!("other")),
        AccessTokenError::Audience {
            expected: vec![API.into()],
            actual: vec!["other".into()],
        },
    );
    refused(
        set("exp", json!(NOW - 60)),
        ClaimError::Expired {
            exp: NOW - 60,
            now: NOW,
        },
    );
    refused(
        set("nbf", json!(NOW + 61)),
        ClaimError::NotYetValid {
            nbf: NOW + 61,
            now: NOW,
        },
    );
    let reason = "its \"token_type\" is \"refresh_token\"".to_owned();
    refused(
        set("token_type", json!("refresh_token")),
        AccessTokenError::AnotherUse { reason },
    );
    let cause = "its \"x5t#S256\" is not a SHA-256 thumbprint in base64url".to_owned();
    refused(
        set("cnf", json!({"x5t#S256": "x"})),
        AccessTokenError::Confirmation { cause },
    );
    let cause = "the token is of the type \"DPoP\", and has no \"cnf\"".to_owned();
    refused(
        set("token_type", json!("DPoP")),
        AccessTokenError::Confirmation { cause },
    );
    refused(
        introspected(|body| *body = json!({"active": true, "aud": API})),
        AccessTokenError::NoSubject,
    );
    refused(
        introspected(|body| *body = json!([true])),
        AccessTokenError::Introspection(JsonError::NotAnObject { actual: "an array" }),
    );
}

/// Rows 1, 3 and 4 hold for introspection: UAA and others introspect ID tokens too.
#[test]
fn introspection_of_other_tokens() {
    let about = |claims: Value| introspected(|body| *body = claims).map(drop);
    let to_client = AccessTokenExpectations {
        audience: vec!["app".into()],
        ..expected()
    };
    let about_client = |claims: Value| {
        let body = claims.to_string();
        let judged = AccessToken::accept_introspection("t", body.as_bytes(), &to_client, now());
        judged.map(drop).map_err(|error| error.facts().reason)
    };
    let another_use = Err("access_token_wrong_use");
    let uaa = json!({
        "active": true, "sub": "7", "aud": ["app"], "scope": ["openid"], "cid": "app", "client_id": "app",
        "auth_time": NOW,
    });
    assert_eq!(about_client(uaa), another_use);
    let okta = json!({"active": true, "sub": "7", "aud": "app", "at_hash": "x"});
    assert_eq!(about_client(okta), another_use);
    let keycloak = json!({"active": true, "sub": "7", "aud": "app", "azp": "app", "typ": "ID"});
    assert_eq!(about_client(keycloak), another_use);
    let dex = json!({
        "active": true, "sub": "7", "aud": "app", "token_type": "Bearer", "token_use": "refresh_token",
    });
    assert_eq!(about_client(dex), another_use);
    // Authentik shows the scopes here, and not in its JWTs.
    let authentik = json!({
        "active": true, "sub": "7", "aud": "app", "client_id": "app", "auth_time": NOW, "nonce": "y",
        "scope": "openid notes",
    });
    assert_eq!(about_client(authentik), Ok(()));
    let fosite = json!({
        "active": true, "sub": "7", "aud": "app", "client_id": "app", "scope": "openid",
        "token_type": "Bearer", "token_use": "access_token",
    });
    assert_eq!(about_client(fosite), Ok(()));
    // The purpose is wrong whatever the audience is.
    let logout = json!({"active": true, "sub": "7", "events": {"x": {}}});
    let reason = "it has \"events\"".to_owned();
    assert_eq!(about(logout), Err(AccessTokenError::AnotherUse { reason }));
}

/// What was accepted says nothing about a guard with another audience, or an issuer that changed.
#[test]
fn the_purpose_is_judged_anew_in_other_circumstances() {
    let expected = expected();
    let bare = json!({"iss": "https://op.example", "aud": [API, "app"], "sub": "7", "exp": NOW + 300});
    let token = sign(ES256, &header(ES256), &bare);
    let algorithms = AllowedAlgorithms::only(&[ES256]);
    let accept = |expected: &AccessTokenExpectations, signs_nobody_in| {
        let unverified = UnverifiedAccessToken::parse(&token).unwrap();
        let checked = unverified.check(expected, algorithms, signs_nobody_in, now())?;
        let verified = unverified.check_signature(&key_set(), algorithms, expected)?;
        unverified.accept(checked, verified, expected)
    };
    let unknown = AccessTokenError::UnknownUse {
        setting: "oidc.accepts".into(),
        accepts: Accepts::AccessTokens,
    };
    refused(accept(&expected, false), unknown.clone());
    let accepted = accept(&expected, true).unwrap();
    let again = |expected: &AccessTokenExpectations, nobody| accepted.check_again(expected, nobody, now());
    assert_eq!(again(&expected, true), Ok(()));
    // Its metadata has a place to sign in now.
    assert_eq!(again(&expected, false), Err(unknown));
    // Another guard asks for our client id.
    let to_client = AccessTokenExpectations {
        audience: vec!["app".into()],
        ..expected.clone()
    };
    assert_eq!(again(&to_client, true), Err(AccessTokenError::UnknownUseForClient));
    let identity = AccessTokenExpectations {
        accepts: Accepts::IdentityTokens,
        ..expected
    };
    assert_eq!(again(&identity, false), Ok(()));
}

/// A key's own `alg` counts beside what the metadata lists, unless a setting limits the algorithms.
#[test]
fn access_token_with_the_algorithm_of_its_key() {
    const PS256: SigningAlgorithm = SigningAlgorithm::PS256;
    let token = |algorithm| {
        let mut header = header(algorithm);
        header["typ"] = "at+jwt".into();
        sign(algorithm, &header, &claims())
    };
    let judge = |token: &str, alg: Option<&str>, allows_alg_of_key| {
        let mut jwk = TestKey::Rsa.jwk();
        if let Some(alg) = alg {
            jwk["alg"] = alg.into();
        }
        let algorithms = AllowedAlgorithms {
            listed: &[RS256],
            allows_alg_of_key,
        };
        let unverified = UnverifiedAccessToken::parse(token)?;
        let checked = unverified.check(&expected(), algorithms, false, now())?;
        let verified = unverified.check_signature(&key_set_of(&[jwk]), algorithms, &expected())?;
        unverified.accept(checked, verified, &expected()).map(drop)
    };
    let not_allowed = |actual| {
        Err(AccessTokenError::Jws(JwsError::AlgorithmNotAllowed {
            expected: vec![RS256],
            actual,
        }))
    };
    assert_eq!(judge(&token(PS256), Some("PS256"), true), Ok(()));
    assert_eq!(judge(&token(PS256), None, true), not_allowed(PS256));
    assert_eq!(judge(&token(PS256), Some("RS256"), true), not_allowed(PS256));
    assert_eq!(judge(&token(PS256), Some("PS256"), false), not_allowed(PS256));
    assert_eq!(judge(&token(RS256), None, true), Ok(()));
    let hs256 = token(SigningAlgorithm::HS256);
    assert_eq!(judge(&hs256, Some("HS256"), true), not_allowed(SigningAlgorithm::HS256));
}

#[test]
fn what_was_accepted_is_checked_again() {
    let accepted = accept(&sign(ES256, &typed("at+jwt"), &claims())).unwrap();
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let again = |expected: &AccessTokenExpectations, now| accepted.check_again(expected, false, now);
    assert_eq!(again(&expected(), at(NOW + 359)), Ok(()));
    let expired = ClaimError::Expired {
        exp: NOW + 300,
        now: NOW + 360,
    };
    assert_eq!(again(&expected(), at(NOW + 360)), Err(expired.into()));
    let elsewhere = AccessTokenExpectations {
        audience: vec!["other".into()],
        ..expected()
    };
    assert_eq!(
        again(&elsewhere, now()),
        Err(AccessTokenError::Audience {
            expected: vec!["other".into()],
            actual: vec![API.into()],
        })
    );
    let early = with("nbf", NOW + 30).unwrap();
    let too_early = ClaimError::NotYetValid {
        nbf: NOW + 30,
        now: NOW - 31,
    };
    assert_eq!(
        early.check_again(&expected(), false, at(NOW - 31)),
        Err(too_early.into())
    );
}

#[test]
fn neither_errors_nor_debug_show_the_token() {
    let token = sign(ES256, &typed("at+jwt"), &claims());
    let (input, signature) = token.rsplit_once('.').unwrap();
    let shown = format!("{:?}", accept(&token).unwrap());
    assert!(!shown.contains(input) && !shown.contains(signature), "{shown}");
    let error = accept(&format!("{input}.AAAA")).unwrap_err();
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains(input) && !shown.contains("AAAA"), "{shown}");
    }
}
