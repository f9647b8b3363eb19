use serde_json::json;

use super::*;
use crate::token::private_key::tests::{Made, all, claims, ec, ed25519};

/// Members of private keys (RFC 7518 §6.2.2, §6.3.2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

fn set(keys: &[&Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn with(jwk: &Value, members: Value) -> Value {
    let mut jwk = jwk.clone();
    for (member, value) in members.as_object().unwrap() {
        jwk[member] = value.clone();
    }
    jwk
}

fn kids(keys: &ClientKeys) -> Vec<&str> {
    keys.published().iter().map(PublicKey::kid).collect()
}

#[test]
fn no_private_member_is_published_for_any_kind_of_key() {
    for Made {
        pem,
        private,
        public,
        algorithm,
    } in all()
    {
        let mut expected = with(&public, json!({ "use": "sig", "alg": algorithm.as_str() }));
        let noted = with(&private, json!({ "iat": 1, "x5c": ["…"], "note": "ours" }));
        for text in [pem, private.to_string(), set(&[&private]), set(&[&noted])] {
            let keys = ClientKeys::parse(&text).unwrap();
            let [key] = keys.published() else { panic!("{keys:?}") };
            expected["kid"] = key.kid().into();
            assert_eq!(Value::Object(key.jwk().clone()), expected);
            assert!(PRIVATE.iter().all(|member| !key.jwk().contains_key(*member)));
            // RFC 7638: of SHA-256, in base64url.
            assert_eq!(key.kid().len(), 43);
            assert_eq!(key.alg(), algorithm);
            let debug = format!("{keys:?}");
            let secret = private["d"].as_str().unwrap();
            assert!(!debug.contains(secret), "{debug}");
            claims(keys.active(), &with(&public, json!({ "kid": key.kid() })), algorithm);
        }
    }
}

#[test]
fn the_first_key_of_a_set_that_can_sign_is_active() {
    let [retired, encrypts, first, second, verifies] = ["retired", "encrypts", "first", "second", "verifies"];
    let key = |kid: &str| with(&ed25519().private, json!({ "kid": kid }));
    let text = set(&[
        &with(&ec("P-256", SigningAlgorithm::ES256).public, json!({ "kid": retired })),
        &with(&key(encrypts), json!({ "use": "enc" })),
        &with(&key("derives"), json!({ "key_ops": ["deriveKey"] })),
        &with(&key(verifies), json!({ "key_ops": ["verify"] })),
        &with(&key(first), json!({ "use": "sig", "key_ops": ["sign"] })),
        &key(second),
    ]);
    let keys = ClientKeys::parse(&text).unwrap();
    assert_eq!(keys.active().kid(), Some(first));
    // A key for encryption is not published: the provider would encrypt with it.
    assert_eq!(kids(&keys), [retired, verifies, first, second]);
    assert!(keys.is_set());
    assert_eq!(keys.named(Some("other")).active().kid(), Some(first));
}

#[test]
fn a_key_without_a_kid_has_its_thumbprint() {
    // The example of RFC 8037 A.3.
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
                      "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    let keys = ClientKeys::parse(&set(&[&jwk])).unwrap();
    assert_eq!(keys.active().kid(), Some(thumbprint));
    assert_eq!(kids(&keys), [thumbprint]);
    // Assertions of a single key have the `kid` of the settings or of the file, as they had before there were sets.
    let keys = ClientKeys::parse(&jwk.to_string()).unwrap();
    assert_eq!(keys.active().kid(), None);
    assert_eq!(kids(&keys), [thumbprint]);
    let keys = keys.named(Some("mine"));
    assert_eq!(keys.active().kid(), Some("mine"));
    assert_eq!(kids(&keys), ["mine"]);
}

#[test]
fn sets_that_are_not_usable_are_rejected_by_kid() {
    let made = ed25519();
    let key = with(&made.private, json!({ "kid": "mine" }));
    let in_set = |key: &str, cause: &str| ClientKeysError::InSet {
        key: key.to_owned(),
        cause: cause.to_owned(),
    };
    let rsa = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255_u8; 128]), "e": "AQAB", "kid": "small" });
    let unsupported = PrivateKeyError::UnsupportedJwk.to_string();
    for (text, expected) in [
        (set(&[]), ClientKeysError::NoneSigns),
        (set(&[&made.public]), ClientKeysError::NoneSigns),
        (json!({ "keys": {} }).to_string(), ClientKeysError::NotAnArray),
        (
            set(&[
                &key,
                &with(&ec("P-256", SigningAlgorithm::ES256).private, json!({ "kid": "mine" })),
            ]),
            ClientKeysError::Duplicate { kid: "mine".into() },
        ),
        (
            set(&[&key, &json!("hush")]),
            in_set("at position 2", "it is not a JSON object"),
        ),
        (
            set(&[&with(&key, json!({ "kid": 7 }))]),
            in_set("at position 1", "its `kid` is not a string, or is empty"),
        ),
        (
            set(&[&with(&key, json!({ "use": "tls" }))]),
            in_set("\"mine\"", "its `use` is neither \"sig\" nor \"enc\""),
        ),
        (
            set(&[&with(&key, json!({ "alg": "ES256" }))]),
            in_set("\"mine\"", "the key does not sign with `alg` \"ES256\""),
        ),
        (
            set(&[&with(&key, json!({ "x": "hush" }))]),
            in_set("\"mine\"", &unsupported),
        ),
        (
            set(&[&with(&key, json!({ "kty": "EC", "crv": "P-521" }))]),
            in_set("\"mine\"", &unsupported),
        ),
        (
            set(&[&json!({ "kty": "oct", "k": "aHVzaA", "kid": "shared" })]),
            in_set(
                "\"shared\"",
                "the key type \"oct\" holds a shared secret, not a public key",
            ),
        ),
        (
            set(&[&key, &rsa]),
            in_set("\"small\"", "the RSA modulus has 1024 bits, not 2048 to 8192"),
        ),
    ] {
        let error = ClientKeys::parse(&text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        let secret = made.private["d"].as_str().unwrap();
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

#[test]
fn signatures_have_the_length_of_their_algorithm() {
    for made in all() {
        let keys = ClientKeys::parse(&made.private.to_string()).unwrap();
        let token = keys.active().sign("JWT", &json!({})).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap();
        assert_eq!(signature.len(), keys.published()[0].signature_len());
    }
}
