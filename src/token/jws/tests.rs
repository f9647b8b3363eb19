//! The rejections of a JWS before its claims are checked.

use serde_json::json;

use super::*;
use crate::token::test_keys::{
    self, CLIENT_SECRET, TestKey, base64url, header, key_set, key_set_of, sign, sign_by, sign_text,
};

const RS256: SigningAlgorithm = SigningAlgorithm::RS256;
const ES256: SigningAlgorithm = SigningAlgorithm::ES256;
const HS256: SigningAlgorithm = SigningAlgorithm::HS256;

fn everything() -> Vec<SigningAlgorithm> {
    [SigningAlgorithm::ASYMMETRIC, &[HS256]].concat()
}

fn verify_with(keys: &KeySet, token: &str) -> Result<VerifiedJws, JwsError> {
    Jws::parse(token)?.verify(keys, &everything(), Some(&Secret::new(CLIENT_SECRET)))
}

/// Why the token is refused, with every algorithm allowed and every key there.
fn refusal(token: &str) -> JwsError {
    verify_with(&key_set(), token).unwrap_err()
}

fn bad_signature(algorithm: SigningAlgorithm) -> JwsError {
    JwsError::BadSignature {
        algorithm,
        kid: TestKey::of(algorithm).map(|key| key.kid().into()),
    }
}

#[test]
fn a_token_is_verified_with_every_algorithm() {
    for algorithm in everything() {
        let token = sign(algorithm, &header(algorithm), &json!({"sub": "alice"}));
        let verified = verify_with(&key_set(), &token).unwrap();
        assert_eq!(Value::Object(verified.claims), json!({"sub": "alice"}));
        assert_eq!((verified.algorithm, verified.typ), (algorithm, None));
    }
}

#[test]
fn a_token_without_kid_is_verified_by_the_keys_that_fit() {
    for &algorithm in SigningAlgorithm::ASYMMETRIC {
        let token = sign(algorithm, &json!({"alg": algorithm}), &json!({}));
        assert!(verify_with(&key_set(), &token).is_ok(), "{algorithm}");
    }
}

#[test]
fn the_newer_name_of_eddsa_is_accepted() {
    let header = json!({"alg": "Ed25519", "kid": "ed25519", "typ": "JWT"});
    let token = sign(SigningAlgorithm::EdDSA, &header, &json!({}));
    let verified = verify_with(&key_set(), &token).unwrap();
    assert_eq!(verified.algorithm, SigningAlgorithm::EdDSA);
    assert_eq!(verified.typ.as_deref(), Some("JWT"));
}

#[test]
fn id_token_sig_none() {
    for alg in ["none", "None", "NONE", "nOnE", "", "none ", "\0"] {
        let error = JwsError::UnknownAlgorithm { actual: alg.into() };
        let head = json!({"alg": alg, "kid": "rsa"});
        assert_eq!(refusal(&sign(RS256, &head, &json!({}))), error);
        let unsigned = sign_by(&head.to_string(), "{}", |_| Vec::new());
        assert_eq!(refusal(&unsigned), error);
    }
}

#[test]
fn id_token_bad_sig() {
    for algorithm in everything() {
        let token = sign(algorithm, &header(algorithm), &json!({}));
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut changed = signature.clone();
        changed[5] ^= 1;
        let mut longer = signature.clone();
        longer.push(0);
        for signature in [
            changed,
            longer,
            signature[..signature.len() - 1].to_vec(),
            vec![0; signature.len()],
            Vec::new(),
        ] {
            let token = format!("{input}.{}", base64url(&signature));
            assert_eq!(refusal(&token), bad_signature(algorithm), "{algorithm}");
        }
    }
}

#[test]
fn a_changed_payload_is_refused() {
    let token = sign(ES256, &header(ES256), &json!({"sub": "alice"}));
    let payload = base64url(br#"{"sub":"admin"}"#);
    let mut parts: Vec<_> = token.split('.').collect();
    parts[1] = &payload;
    assert_eq!(refusal(&parts.join(".")), bad_signature(ES256));
}

#[test]
fn a_changed_header_is_refused() {
    let token = sign(RS256, &header(RS256), &json!({}));
    let head = base64url(br#"{"alg":"RS256","kid":"rsa","typ":"x"}"#);
    let (_, rest) = token.split_once('.').unwrap();
    assert_eq!(refusal(&format!("{head}.{rest}")), bad_signature(RS256));
}

#[test]
fn one_rsa_algorithm_does_not_verify_another() {
    let token = sign(SigningAlgorithm::PS256, &header(RS256), &json!({}));
    assert_eq!(refusal(&token), bad_signature(RS256));
}

#[test]
fn a_der_signature_is_not_an_ecdsa_signature() {
    let token = sign_by(&header(ES256).to_string(), "{}", |message| {
        let raw = TestKey::Ec256.sign(ES256, message);
        let integer = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
        let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
        [&[0x30, body.len() as u8], body.as_slice()].concat()
    });
    assert_eq!(refusal(&token), bad_signature(ES256));
}

#[test]
fn an_algorithm_that_is_not_allowed_is_refused_by_name() {
    let token = sign(ES256, &header(ES256), &json!({}));
    let result = Jws::parse(&token).unwrap().verify(&key_set(), &[RS256], None);
    let error = JwsError::AlgorithmNotAllowed {
        expected: vec![RS256],
        actual: ES256,
    };
    assert_eq!(result.unwrap_err(), error);
    assert_eq!(error.to_string(), "the token is signed with ES256, expected RS256");
}

#[test]
fn hs256_needs_its_place_in_the_list_and_the_secret() {
    let token = sign(HS256, &header(HS256), &json!({}));
    let [secret, empty, another] = [CLIENT_SECRET, "", "another"].map(Secret::new);
    let verify = |allowed: &[_], secret| {
        let jws = Jws::parse(&token).unwrap();
        jws.verify(&key_set(), allowed, secret).map(|_| ())
    };
    assert_eq!(verify(&[HS256], Some(&secret)), Ok(()));
    assert_eq!(
        verify(SigningAlgorithm::ASYMMETRIC, Some(&secret)),
        Err(JwsError::AlgorithmNotAllowed {
            expected: SigningAlgorithm::ASYMMETRIC.to_vec(),
            actual: HS256
        })
    );
    for missing in [None, Some(&empty)] {
        assert_eq!(
            verify(&[HS256], missing),
            Err(JwsError::MissingClientSecret { algorithm: HS256 })
        );
    }
    let error = verify(&[HS256], Some(&another)).unwrap_err();
    assert_eq!(error, bad_signature(HS256));
    assert_eq!(
        error.facts(TokenKind::IdToken).remedy,
        "check that `client_secret` is the one the provider signs with"
    );
}

#[test]
fn hs256_keyed_with_the_rsa_public_key_is_refused() {
    for key in test_keys::rsa_public_key_forms() {
        for header in [json!({"alg": "HS256", "kid": "rsa"}), json!({"alg": "HS256"})] {
            let token = sign_by(&header.to_string(), "{}", |message| test_keys::mac(&key, message));
            let expected = JwsError::BadSignature {
                algorithm: HS256,
                kid: header["kid"].as_str().map(str::to_owned),
            };
            assert_eq!(refusal(&token), expected);
            let jws = Jws::parse(&token).unwrap();
            assert_eq!(
                jws.verify(&key_set(), &[RS256], None).unwrap_err(),
                JwsError::AlgorithmNotAllowed {
                    expected: vec![RS256],
                    actual: HS256
                }
            );
        }
    }
}

#[test]
fn an_oct_key_of_the_key_set_is_not_a_mac_key() {
    let secret = b"a published secret of 32 bytes..";
    let oct = json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": base64url(secret)});
    let keys = key_set_of(&[oct]);
    let token = sign_by(r#"{"alg":"HS256","kid":"oct"}"#, "{}", |message| {
        test_keys::mac(secret, message)
    });
    let error = JwsError::BadSignature {
        algorithm: HS256,
        kid: Some("oct".into()),
    };
    assert_eq!(verify_with(&keys, &token).unwrap_err(), error);
}

#[test]
fn keys_that_come_with_the_token_are_not_used() {
    let mut head = header(ES256);
    head["jwk"] = TestKey::StrangeEc256.jwk();
    head["jku"] = "https://attacker.example/jwks".into();
    head["x5u"] = "https://attacker.example/x5u".into();
    head["x5c"] = json!(["AA"]);
    let strange = |message: &[u8]| TestKey::StrangeEc256.sign(ES256, message);
    let token = sign_by(&head.to_string(), "{}", strange);
    assert_eq!(refusal(&token), bad_signature(ES256));

    let good = sign(ES256, &head, &json!({}));
    assert!(verify_with(&key_set(), &good).is_ok());
}

#[test]
fn crit_is_refused() {
    for (crit, value) in [("b64", json!(false)), ("exp", json!(1))] {
        let mut head = header(ES256);
        head["crit"] = json!([crit]);
        head[crit] = value;
        let token = sign(ES256, &head, &json!({}));
        assert_eq!(refusal(&token), JwsError::CriticalExtension);
    }
}

#[test]
fn kid_unknown() {
    let token = sign(ES256, &json!({"alg": "ES256", "kid": "new"}), &json!({}));
    let error = refusal(&token);
    assert_eq!(error, JwsError::UnknownKey { kid: "new".into() });
    assert_eq!(error.wants_fresh_keys(), Some(StaleKeys::Missing));
}

#[test]
fn a_key_for_encryption_does_not_verify() {
    let mut jwk = TestKey::Rsa.jwk();
    jwk["use"] = "enc".into();
    let keys = key_set_of(&[jwk]);
    let token = sign(RS256, &header(RS256), &json!({}));
    assert_eq!(
        verify_with(&keys, &token).unwrap_err(),
        JwsError::UnknownKey { kid: "rsa".into() }
    );
}

#[test]
fn a_key_does_not_fit_another_algorithm() {
    let no_fitting = |algorithm, kid: Option<&str>| JwsError::NoFittingKey {
        algorithm,
        kid: kid.map(Into::into),
    };
    // The kid of a key of another type.
    let token = sign(ES256, &json!({"alg": "ES256", "kid": "rsa"}), &json!({}));
    assert_eq!(refusal(&token), no_fitting(ES256, Some("rsa")));

    // A key that names another algorithm.
    let mut jwk = TestKey::Rsa.jwk();
    jwk["alg"] = "PS256".into();
    let keys = key_set_of(&[jwk]);
    let token = sign(RS256, &json!({"alg": "RS256"}), &json!({}));
    let error = verify_with(&keys, &token).unwrap_err();
    assert_eq!(error, no_fitting(RS256, None));
    assert_eq!(error.wants_fresh_keys(), Some(StaleKeys::Missing));
}

#[test]
fn several_keys_may_share_a_kid() {
    let named = |key: TestKey| {
        let mut jwk = key.jwk();
        jwk["kid"] = "shared".into();
        jwk
    };
    let keys = key_set_of(&[named(TestKey::Rsa), named(TestKey::StrangeEc256), named(TestKey::Ec256)]);
    let token = sign(ES256, &json!({"alg": "ES256", "kid": "shared"}), &json!({}));
    assert!(verify_with(&keys, &token).is_ok());
}

#[test]
fn at_most_five_keys_are_tried() {
    let token = sign(ES256, &json!({"alg": "ES256"}), &json!({}));
    for (strangers, accepted) in [(4, true), (5, false)] {
        let mut jwks = vec![TestKey::StrangeEc256.jwk(); strangers];
        jwks.push(TestKey::Ec256.jwk());
        let result = verify_with(&key_set_of(&jwks), &token).map(|_| ());
        let error = JwsError::BadSignature {
            algorithm: ES256,
            kid: None,
        };
        assert_eq!(error.wants_fresh_keys(), Some(StaleKeys::Missing));
        assert_eq!(result, if accepted { Ok(()) } else { Err(error) });
    }
}

/// So that nobody makes this app ask the provider by sending tokens.
#[test]
fn fresh_keys_are_wanted_only_where_the_key_may_be_new() {
    let bad_signature = |algorithm, kid: Option<&str>| JwsError::BadSignature {
        algorithm,
        kid: kid.map(Into::into),
    };
    for (error, wants_fresh_keys) in [
        (bad_signature(ES256, None), Some(StaleKeys::Missing)),
        (bad_signature(ES256, Some("ec256")), Some(StaleKeys::Replaced)),
        (bad_signature(HS256, None), None),
        (bad_signature(HS256, Some("ec256")), None),
        (JwsError::MissingAlgorithm, None),
    ] {
        assert_eq!(error.wants_fresh_keys(), wants_fresh_keys, "{error:?}");
    }
}

#[test]
fn a_token_has_three_parts() {
    let token = sign(ES256, &header(ES256), &json!({}));
    let (unsigned, _) = token.rsplit_once('.').unwrap();
    for (token, actual) in [
        ("", 1),
        ("opaque", 1),
        (unsigned, 2),
        (&format!("{token}."), 4),
        (&format!("{token}.a.b"), 5),
    ] {
        assert_eq!(refusal(token), JwsError::Parts { actual });
    }
}

#[test]
fn the_length_of_a_token_is_bounded() {
    let token = "a".repeat(MAX_TOKEN + 1);
    let error = JwsError::TooLong {
        max: MAX_TOKEN,
        actual: MAX_TOKEN + 1,
    };
    assert_eq!(refusal(&token), error);
    assert_eq!(refusal(&token[1..]), JwsError::Parts { actual: 1 });
}

#[test]
fn base64url_is_strict() {
    let token = sign(ES256, &header(ES256), &json!({}));
    let parts: Vec<_> = token.split('.').collect();
    for (index, part) in ["header", "payload", "signature"].into_iter().enumerate() {
        for change in ["=", "\n", " ", "+", "ä"] {
            let changed = format!("{}{change}", parts[index]);
            let mut parts = parts.clone();
            parts[index] = &changed;
            assert_eq!(refusal(&parts.join(".")), JwsError::Base64 { part });
        }
    }
    // 64 bytes leave four unused bits in the last character, which must be zero.
    let (rest, last) = token.split_at(token.len() - 1);
    let next = (last.as_bytes()[0] + 1) as char;
    assert_eq!(
        refusal(&format!("{rest}{next}")),
        JwsError::Base64 { part: "signature" }
    );
}

#[test]
fn duplicate_members_are_refused() {
    let duplicate = |name: &str| JsonError::DuplicateMember { name: name.into() };
    let head = header(ES256).to_string();
    assert_eq!(
        refusal(&sign_text(ES256, &head, r#"{"sub":"alice","sub":"admin"}"#)),
        JwsError::Payload(duplicate("sub"))
    );
    let head = r#"{"alg":"ES256","kid":"ec256","alg":"ES256"}"#;
    assert_eq!(
        refusal(&sign_text(ES256, head, "{}")),
        JwsError::Header(duplicate("alg"))
    );
}

#[test]
fn header_and_payload_are_objects() {
    assert_eq!(
        refusal(&sign_text(ES256, "[]", "{}")),
        JwsError::Header(JsonError::NotAnObject { actual: "an array" })
    );
    assert_eq!(
        refusal(&sign_text(ES256, &header(ES256).to_string(), "\"x\"")),
        JwsError::Payload(JsonError::NotAnObject { actual: "a string" })
    );
}

#[test]
fn headers_are_parsed_strictly() {
    let usual = |kid: Option<&str>, typ: Option<&str>| {
        Ok(Header {
            algorithm: ES256,
            kid: kid.map(str::to_owned),
            typ: typ.map(str::to_owned),
        })
    };
    let wrong_type = |member, actual| Err(JwsError::HeaderMember { member, actual });
    let not_json = |column| Err(JwsError::Header(JsonError::Syntax { line: 1, column }));
    let duplicate = |name: &str| Err(JwsError::Header(JsonError::DuplicateMember { name: name.into() }));
    let an_array = Err(JwsError::Header(JsonError::NotAnObject { actual: "an array" }));
    let cases = [
        (r#"{"alg":"ES256"}"#, usual(None, None)),
        (
            r#"{"alg":"ES256","kid":"a","typ":"JWT"}"#,
            usual(Some("a"), Some("JWT")),
        ),
        (r#" {"typ":"","kid":"","alg":"ES256"} "#, usual(Some(""), Some(""))),
        (
            r#"{"\u0061lg":"ES\u003256","kid":"\u0061\"é"}"#,
            usual(Some("a\"é"), None),
        ),
        (
            r#"{"alg":"ES256","x5t":"x","jku":"https://evil.example"}"#,
            usual(None, None),
        ),
        (r#"["ES256","a","JWT"]"#, an_array),
        (r#"{"alg":"ES256","kid":null}"#, wrong_type("kid", "null")),
        (r#"{"alg":"ES256","typ":null}"#, wrong_type("typ", "null")),
        (r#"{"alg":null}"#, wrong_type("alg", "null")),
        (r#"{"kid":"a"}"#, Err(JwsError::MissingAlgorithm)),
        (
            r#"{"alg":"none"}"#,
            Err(JwsError::UnknownAlgorithm { actual: "none".into() }),
        ),
        (r#"{"alg":"ES256","crit":null}"#, Err(JwsError::CriticalExtension)),
        (r#"{"alg":"ES256","kid":"a","kid":"a"}"#, duplicate("kid")),
        (r#"{"alg":"ES256","x":{"y":1,"y":1}}"#, duplicate("y")),
        (r#"{"alg":"ES256"}{}"#, not_json(16)),
        (r#"{"alg":"ES256",}"#, not_json(16)),
    ];
    for (json, expected) in cases {
        assert_eq!(Header::parse(json.as_bytes()), expected, "{json}");
    }
}

#[test]
fn header_members_have_their_types() {
    assert_eq!(
        refusal(&sign(ES256, &json!({"kid": "ec256"}), &json!({}))),
        JwsError::MissingAlgorithm
    );
    for member in ["alg", "kid", "typ"] {
        let mut head = header(ES256);
        head[member] = json!(["ES256"]);
        let actual = "an array";
        assert_eq!(
            refusal(&sign(ES256, &head, &json!({}))),
            JwsError::HeaderMember { member, actual }
        );
    }
}

#[test]
fn errors_have_a_reason_and_say_what_to_do() {
    const REPORT: &str = "report this to the provider: its token is not a well-formed signed JWT";
    const KEYS: &str = "check that the provider publishes its signing keys at its `jwks_uri`, and see the log for keys that were skipped";
    let (max, actual) = (MAX_TOKEN, MAX_TOKEN + 1);
    let json = JsonError::NotAnObject { actual: "null" };
    for (error, reason, remedy) in [
        (
            JwsError::TooLong { max, actual },
            "id_token_too_long",
            "have the provider put fewer claims into the token; UserInfo can carry the rest",
        ),
        (
            JwsError::Parts { actual: 5 },
            "id_token_malformed",
            "have the provider send signed tokens that are not encrypted for this client",
        ),
        (JwsError::Base64 { part: "header" }, "id_token_malformed", REPORT),
        (JwsError::Header(json.clone()), "id_token_malformed", REPORT),
        (
            JwsError::HeaderMember {
                member: "kid",
                actual: "null",
            },
            "id_token_malformed",
            REPORT,
        ),
        (JwsError::Payload(json), "id_token_malformed", REPORT),
        (JwsError::CriticalExtension, "id_token_crit", REPORT),
        (JwsError::MissingAlgorithm, "id_token_alg", REPORT),
        (
            JwsError::UnknownAlgorithm { actual: "none".into() },
            "id_token_alg",
            "have the provider sign with RS256, ES256 or another algorithm that is supported",
        ),
        (
            JwsError::AlgorithmNotAllowed {
                expected: vec![RS256],
                actual: ES256,
            },
            "id_token_alg",
            "have the provider sign with an expected algorithm for this client, or set `id_token_signing_algs`",
        ),
        (
            JwsError::MissingClientSecret { algorithm: HS256 },
            "id_token_alg",
            "set `client_secret`, or have the provider sign with a public key algorithm",
        ),
        (JwsError::UnknownKey { kid: "new".into() }, "id_token_unknown_key", KEYS),
        (
            JwsError::NoFittingKey {
                algorithm: ES256,
                kid: None,
            },
            "id_token_unknown_key",
            KEYS,
        ),
        (
            bad_signature(ES256),
            "id_token_signature",
            "refuse the token; if it came from the provider itself, check that its `jwks_uri` shows its current keys",
        ),
        (
            bad_signature(HS256),
            "id_token_signature",
            "check that `client_secret` is the one the provider signs with",
        ),
    ] {
        assert_eq!(
            error.facts(TokenKind::IdToken),
            TokenFacts { reason, remedy },
            "{error}"
        );
    }
}

#[test]
fn errors_and_debug_do_not_show_the_token() {
    let token = sign(ES256, &header(ES256), &json!({"sub": "alice"}));
    assert_eq!(
        format!("{:?}", Jws::parse(&token).unwrap()),
        "Jws { algorithm: ES256, kid: Some(\"ec256\"), typ: None, .. }"
    );
    let kid = "k".repeat(10_000);
    let error = refusal(&sign(ES256, &json!({"alg": "ES256", "kid": kid}), &json!({})));
    assert!(error.to_string().len() < 300, "{error}");
}
