//! Which keys are used, and why others are not.

use serde_json::json;

use super::*;
use crate::token::test_keys::{self, TestKey};

fn parse(keys: Value) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// The reason for which `jwk` is skipped; a good key beside it stays.
fn skip_reason(jwk: Value) -> SkipReason {
    let set = parse(json!([jwk, TestKey::Ec256.jwk()]));
    assert_eq!(set.len(), 1);
    assert_eq!(set.skipped()[0].index, 0);
    set.skipped()[0].reason.clone()
}

fn with(key: TestKey, member: &str, value: impl Into<Value>) -> Value {
    let mut jwk = key.jwk();
    jwk[member] = value.into();
    jwk
}

fn algorithms(jwk: Value) -> Vec<SigningAlgorithm> {
    let set = parse(json!([jwk]));
    assert_eq!(set.skipped(), []);
    set.keys[0].verifiers.iter().map(|(alg, _)| *alg).collect()
}

#[test]
fn a_key_fits_the_algorithms_of_its_kind() {
    use SigningAlgorithm::*;
    let rsa = [RS256, RS384, RS512, PS256, PS384, PS512];
    assert_eq!(algorithms(TestKey::Rsa.jwk()), rsa);
    assert_eq!(algorithms(TestKey::Ec256.jwk()), [ES256]);
    assert_eq!(algorithms(TestKey::Ec384.jwk()), [ES384]);
    assert_eq!(algorithms(TestKey::Ec521.jwk()), [ES512]);
    assert_eq!(algorithms(TestKey::Ed25519.jwk()), [EdDSA]);
}

#[test]
fn a_key_that_names_its_algorithm_fits_that_one() {
    use SigningAlgorithm::*;
    assert_eq!(algorithms(with(TestKey::Rsa, "alg", "PS384")), [PS384]);
    assert_eq!(algorithms(with(TestKey::Ed25519, "alg", "Ed25519")), [EdDSA]);
    for (key, alg) in [
        (TestKey::Rsa, "RSA-OAEP"),
        (TestKey::Rsa, "HS256"),
        (TestKey::Rsa, "none"),
        (TestKey::Ec256, "ES384"),
    ] {
        let reason = SkipReason::Algorithm { alg: alg.into() };
        assert_eq!(skip_reason(with(key, "alg", alg)), reason);
    }
}

#[test]
fn use_and_key_ops_must_allow_verifying() {
    assert_eq!(algorithms(with(TestKey::Ec256, "use", "sig")).len(), 1);
    let ops = json!(["sign", "verify"]);
    assert_eq!(algorithms(with(TestKey::Ec256, "key_ops", ops)).len(), 1);

    let reason = SkipReason::Use { actual: "enc".into() };
    assert_eq!(skip_reason(with(TestKey::Rsa, "use", "enc")), reason);
    for ops in [json!([]), json!(["encrypt"])] {
        assert_eq!(
            skip_reason(with(TestKey::Rsa, "key_ops", ops)),
            SkipReason::KeyOperations
        );
    }
    let reason = SkipReason::WrongType {
        member: "key_ops",
        expected: "an array",
        actual: "a string",
    };
    assert_eq!(skip_reason(with(TestKey::Rsa, "key_ops", "verify")), reason);
}

#[test]
fn secret_and_private_keys_are_skipped() {
    let oct = json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0", "alg": "HS256"});
    let set = parse(json!([oct]));
    assert!(set.is_empty());
    let skipped = SkippedKey {
        index: 0,
        kid: Some("shared".into()),
        reason: SkipReason::Symmetric { kty: "oct".into() },
    };
    assert_eq!(set.skipped(), [skipped]);
    assert_eq!(skip_reason(with(TestKey::Ec256, "d", "AQAB")), SkipReason::Private);
}

#[test]
fn unknown_kinds_are_skipped() {
    let kty = "AKP".to_string();
    assert_eq!(
        skip_reason(json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"})),
        SkipReason::UnknownKeyType { kty }
    );
    for (key, crv) in [
        (TestKey::Ec256, "P-224"),
        (TestKey::Ec256, "secp256k1"),
        (TestKey::Ed25519, "X25519"),
        (TestKey::Ed25519, "Ed448"),
    ] {
        let reason = SkipReason::UnknownCurve { crv: crv.into() };
        assert_eq!(skip_reason(with(key, "crv", crv)), reason);
    }
    assert_eq!(skip_reason(json!({"kid": "x"})), SkipReason::Missing { member: "kty" });
    assert_eq!(
        skip_reason(json!("key")),
        SkipReason::NotAnObject { actual: "a string" }
    );
    let reason = SkipReason::WrongType {
        member: "kid",
        expected: "a string",
        actual: "a number",
    };
    assert_eq!(skip_reason(with(TestKey::Ec256, "kid", 1)), reason);
}

#[test]
fn rsa_keys_have_2048_to_8192_bits() {
    let modulus = |bytes: usize, first: u8| {
        let mut n = vec![0xff; bytes];
        n[0] = first;
        with(TestKey::Rsa, "n", test_keys::base64url(&n))
    };
    for (jwk, actual) in [
        (modulus(128, 0x80), 1024),
        (modulus(256, 0x7f), 2047),
        (modulus(1025, 0x01), 8193),
        (with(TestKey::Rsa, "n", ""), 0),
        (with(TestKey::Rsa, "n", "AAAA"), 0),
    ] {
        assert_eq!(skip_reason(jwk), SkipReason::RsaSize { actual });
    }
    assert_eq!(algorithms(modulus(1024, 0x80)).len(), 6);
}

#[test]
fn rsa_exponents_are_odd_and_small() {
    for e in [
        &[][..],
        &[0],
        &[1],
        &[2],
        &[1, 0, 0],
        &[2, 0, 0, 0, 1],
        &[1, 0, 0, 0, 0, 1],
    ] {
        let jwk = with(TestKey::Rsa, "e", test_keys::base64url(e));
        assert_eq!(skip_reason(jwk), SkipReason::RsaExponent, "{e:?}");
    }
    for e in [&[3][..], &[0, 1, 0, 1], &[1, 0, 0, 0, 1]] {
        let jwk = with(TestKey::Rsa, "e", test_keys::base64url(e));
        assert_eq!(algorithms(jwk).len(), 6, "{e:?}");
    }
}

#[test]
fn odd_numbers_are_skipped() {
    for text in ["AQAB=", "AQ+B", "AR", "ä"] {
        let reason = SkipReason::Base64 { member: "e" };
        assert_eq!(skip_reason(with(TestKey::Rsa, "e", text)), reason);
    }
    let length = |expected, actual| SkipReason::Length {
        member: "x",
        expected,
        actual,
    };
    let short = test_keys::base64url(&[7; 31]);
    assert_eq!(skip_reason(with(TestKey::Ec256, "x", short.as_str())), length(32, 31));
    assert_eq!(skip_reason(with(TestKey::Ed25519, "x", short.as_str())), length(32, 31));
    assert_eq!(skip_reason(with(TestKey::Ec384, "x", short.as_str())), length(48, 31));
    let elsewhere = test_keys::base64url(&[7; 32]);
    assert_eq!(skip_reason(with(TestKey::Ec256, "x", elsewhere)), SkipReason::Invalid);
}

#[test]
fn a_set_is_bounded() {
    let set = parse(Value::Array(vec![TestKey::Ed25519.jwk(); 2_001]));
    assert_eq!((set.len(), set.is_empty()), (2_000, false));
    let reason = SkipReason::TooMany {
        max: 2_000,
        actual: 2_001,
    };
    assert_eq!(set.skipped()[0].reason, reason);
}

#[test]
fn what_is_no_key_set_is_refused() {
    let error = |json: &str| KeySet::parse(json.as_bytes()).unwrap_err();
    assert_eq!(error("{}"), KeySetError::MissingKeys);
    assert_eq!(
        error(r#"{"keys":{}}"#),
        KeySetError::KeysNotAnArray { actual: "an object" }
    );
    assert_eq!(
        error("[]"),
        KeySetError::Json(JsonError::NotAnObject { actual: "an array" })
    );
    assert_eq!(
        error("<html>"),
        KeySetError::Json(JsonError::Syntax { line: 1, column: 1 })
    );
    assert_eq!(KeySet::parse(br#"{"keys":[]}"#).unwrap().len(), 0);
}

/// The set of these keys as text, in which `from` is replaced.
fn parse_text(keys: Value, from: &str, to: &str) -> Result<KeySet, KeySetError> {
    let text = json!({ "keys": keys }).to_string();
    assert!(text.contains(from), "{text}");
    KeySet::parse(text.replacen(from, to, 1).as_bytes())
}

#[test]
fn null_and_nothing_are_absent() {
    for member in ["alg", "use", "key_ops", "d"] {
        let jwk = with(TestKey::Ec256, member, Value::Null);
        assert_eq!(parse(json!([jwk])).len(), 1, "{member}");
    }
    for member in ["alg", "use"] {
        let jwk = with(TestKey::Ec256, member, "");
        assert_eq!(parse(json!([jwk])).len(), 1, "{member}");
    }
    let set = parse(json!([with(TestKey::Ec256, "kid", Value::Null)]));
    assert_eq!(set.keys[0].kid, None);
    // A token can name it so.
    assert!(parse(json!([with(TestKey::Ec256, "kid", "")])).has_kid(""));
    assert_eq!(
        KeySet::parse(br#"{"keys":null}"#).unwrap_err(),
        KeySetError::MissingKeys
    );
}

/// One odd key does not take the others with it.
#[test]
fn a_key_that_says_two_things_is_skipped() {
    let keys = json!([with(TestKey::Ec256, "kid", "a"), with(TestKey::Ec384, "kid", "b")]);
    let twice = |member: &str| {
        let member = format!("{{{member},");
        parse_text(
            keys.clone(),
            "{\"crv\":\"P-256\",",
            &format!("{member}\"crv\":\"P-256\","),
        )
        .unwrap()
    };
    assert_eq!(twice(r#""crv":"P-256""#).len(), 2);
    let set = twice(r#""crv":"P-384""#);
    assert_eq!((set.len(), set.has_kid("b")), (1, true));
    assert_eq!(set.skipped()[0].reason, SkipReason::Ambiguous);
    // Two sets in one are none.
    let two = parse_text(keys.clone(), "{\"keys\":", "{\"keys\":[],\"keys\":");
    assert_eq!(
        two.unwrap_err(),
        JsonError::DuplicateMember { name: "keys".into() }.into()
    );
}

#[test]
fn a_name_with_half_of_a_surrogate_pair_names_no_key() {
    let keys = json!([with(TestKey::Ec256, "kid", "a?"), with(TestKey::Ec384, "kid", "b")]);
    let set = parse_text(keys.clone(), "a?", r"a\ud83d").unwrap();
    assert_eq!((set.len(), set.has_kid("b")), (1, true));
    let reason = SkipReason::UnpairedSurrogate { member: "kid" };
    assert_eq!(set.skipped()[0].reason, reason);
    // In a member that nobody reads it does not matter, and U+FFFD itself is a character.
    let named = json!([with(TestKey::Ec256, "x-name", "a?")]);
    assert_eq!(parse_text(named, "a?", r"\ud83d").unwrap().len(), 1);
    let set = parse_text(keys, "a?", "a\u{fffd}").unwrap();
    assert!(set.has_kid("a\u{fffd}"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let set = parse_text(json!([TestKey::Ec256.jwk()]), "{\"keys\"", "\u{feff}{\"keys\"");
    assert_eq!(set.unwrap().len(), 1);
}
