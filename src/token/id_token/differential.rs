//! A differential test of ID token verification against two verifiers that share no code with ours: openidconnect, and
//! jsonwebtoken with RustCrypto.
//!
//! Every token is an accepted one with up to three changes. Where the verdicts differ, one of the changes
//! has a reason for that.

use std::{str::FromStr, sync::LazyLock};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, crypto::rust_crypto};
use openidconnect::{
    ClientId, IssuerUrl, Nonce,
    core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde_json::json;

use super::*;
use crate::token::test_keys::{TestKey, header, key_set, sign_by};

const ISSUER: &str = "https://op.example";
const CLIENT: &str = "client";
const NONCE: &str = "n-0S6_WzA2Mj";

/// An unsigned token.
struct Draft {
    header: Value,
    claims: Value,
    signs: SigningAlgorithm,
    key: TestKey,
    is_broken: bool,
    /// The beginning of the claims' JSON text, after the opening brace.
    begins: String,
}

type Change = fn(&mut Draft, i64);

/// The changes, and why the verdict of openidconnect may differ from ours.
const CHANGES: &[(&str, Option<&str>, Change)] = &[
    ("iss of another", None, |t, _| {
        t.claims["iss"] = json!("https://evil.example");
    }),
    ("iss with a slash", None, |t, _| {
        t.claims["iss"] = json!("https://op.example/");
    }),
    ("iss as a list", None, |t, _| {
        t.claims["iss"] = json!(["https://op.example"]);
    }),
    ("no iss", None, |t, _| remove(t, "iss")),
    ("aud of another", None, |t, _| t.claims["aud"] = json!("other")),
    ("aud as a list of one", None, |t, _| t.claims["aud"] = json!([CLIENT])),
    ("aud with a stranger", None, |t, _| {
        t.claims["aud"] = json!([CLIENT, "other"]);
    }),
    ("aud empty", None, |t, _| t.claims["aud"] = json!([])),
    ("aud of a longer name", None, |t, _| t.claims["aud"] = json!("client2")),
    ("no aud", None, |t, _| remove(t, "aud")),
    ("azp ours", None, |t, _| t.claims["azp"] = json!(CLIENT)),
    ("azp of another", Some("it leaves `azp` to its caller"), |t, _| {
        t.claims["azp"] = json!("other");
    }),
    ("expired", None, |t, now| t.claims["exp"] = json!(now - 3600)),
    (
        "expired a moment ago",
        Some("we allow for clocks that differ"),
        |t, now| {
            t.claims["exp"] = json!(now - 30);
        },
    ),
    ("exp as a float", None, |t, now| {
        t.claims["exp"] = json!(now as f64 + 300.5);
    }),
    ("exp as a text", None, |t, now| {
        t.claims["exp"] = json!((now + 300).to_string());
    }),
    ("no exp", None, |t, _| remove(t, "exp")),
    ("iat in the future", Some("it leaves that to its caller"), |t, now| {
        t.claims["iat"] = json!(now + 3600);
    }),
    ("no iat", None, |t, _| remove(t, "iat")),
    ("nbf in the future", Some("it does not know `nbf`"), |t, now| {
        t.claims["nbf"] = json!(now + 3600);
    }),
    ("nbf in the past", None, |t, now| t.claims["nbf"] = json!(now - 60)),
    ("no sub", None, |t, _| remove(t, "sub")),
    ("sub empty", Some("it takes the empty subject"), |t, _| {
        t.claims["sub"] = json!("");
    }),
    ("sub as a number", None, |t, _| t.claims["sub"] = json!(7)),
    ("nonce of another", None, |t, _| t.claims["nonce"] = json!("another")),
    ("no nonce", None, |t, _| remove(t, "nonce")),
    (
        "email_verified as a number",
        Some("it refuses claims of odd types, which we pass on"),
        |t, _| {
            t.claims["email_verified"] = json!(1);
        },
    ),
    (
        "amr as a string",
        Some("it refuses claims of odd types, which we pass on"),
        |t, _| {
            t.claims["amr"] = json!("pwd");
        },
    ),
    (
        "acr as a number",
        Some("it refuses claims of odd types, which we pass on"),
        |t, _| {
            t.claims["acr"] = json!(1);
        },
    ),
    (
        "updated_at as a date",
        Some("it refuses claims of odd types, which we pass on"),
        |t, _| t.claims["updated_at"] = json!("2020-01-01T00:00:00Z"),
    ),
    ("auth_time as a float", None, |t, now| {
        t.claims["auth_time"] = json!(now as f64 - 0.5);
    }),
    ("at_hash of nothing", None, |t, _| {
        t.claims["at_hash"] = json!("77QmUPtjPfzWtF2AnpK9RQ");
    }),
    ("azp null", None, |t, _| t.claims["azp"] = json!(null)),
    ("nbf null", None, |t, _| t.claims["nbf"] = json!(null)),
    ("at_hash null", None, |t, _| t.claims["at_hash"] = json!(null)),
    ("sub null", None, |t, _| t.claims["sub"] = json!(null)),
    ("exp null", None, |t, _| t.claims["exp"] = json!(null)),
    ("nonce null", None, |t, _| t.claims["nonce"] = json!(null)),
    ("azp empty", None, |t, _| t.claims["azp"] = json!("")),
    ("exp empty", None, |t, _| t.claims["exp"] = json!("")),
    ("nbf empty", None, |t, _| t.claims["nbf"] = json!("")),
    (
        "email twice, equal",
        Some("it refuses a claim that it knows and that is there twice; equal ones are one"),
        |t, _| t.begins += r#""email":"a@op.example","email":"a@op.example","#,
    ),
    ("email twice, different", None, |t, _| {
        t.begins += r#""email":"a@op.example","email":"b@op.example","#;
    }),
    (
        "a claim of its own twice, different",
        Some("it does not look at claims that it does not know; an app decides by them"),
        |t, _| t.begins += r#""groups":"a","groups":"b","#,
    ),
    ("sub twice, different", None, |t, _| t.begins += r#""sub":"mallory","#),
    (
        "sub twice, equal",
        Some("it refuses a claim that it knows and that is there twice; equal ones are one"),
        |t, _| t.begins += r#""sub":"alice","#,
    ),
    (
        "half of a surrogate pair in a name",
        Some("it refuses what is no character; claims that are displayed may hold it"),
        |t, _| t.begins += r#""name":"J\ud83d","#,
    ),
    ("half of a surrogate pair in groups", None, |t, _| {
        t.begins += r#""groups":["J\ud83d"],"#;
    }),
    ("half of a surrogate pair in email", None, |t, _| {
        t.begins += r#""email":"J\ud83d","#;
    }),
    ("a byte-order mark", Some("RFC 8259 §8.1 allows to skip it"), |t, _| {
        t.begins = "\u{feff}{".to_owned();
    }),
    ("more claims", None, |t, _| {
        t.claims["groups"] = json!(["a", { "b": 1 }]);
    }),
    ("RS256", None, |t, _| signed_by(t, SigningAlgorithm::RS256)),
    ("PS256", None, |t, _| signed_by(t, SigningAlgorithm::PS256)),
    ("EdDSA", None, |t, _| signed_by(t, SigningAlgorithm::EdDSA)),
    ("signature broken", None, |t, _| t.is_broken = true),
    ("key that is not published", None, |t, _| {
        signed_by(t, SigningAlgorithm::ES256);
        t.key = TestKey::StrangeEc256;
    }),
    ("alg none", None, |t, _| t.header["alg"] = json!("none")),
    ("alg of another kind of key", None, |t, _| {
        t.header["alg"] = json!("RS512");
    }),
    (
        "no kid",
        Some("it wants a name where there are several keys, we try those that fit"),
        |t, _| {
            t.header.as_object_mut().unwrap().remove("kid");
        },
    ),
    ("kid of nobody", None, |t, _| t.header["kid"] = json!("nobody")),
    ("crit", None, |t, _| t.header["crit"] = json!(["x"])),
    ("typ JWT", None, |t, _| t.header["typ"] = json!("JWT")),
    ("typ of an access token", None, |t, _| t.header["typ"] = json!("at+jwt")),
    ("jku", None, |t, _| t.header["jku"] = json!("https://evil.example")),
];

/// Why the verdict of jsonwebtoken may differ from ours, by the name of the change.
const REASONS_OF_JSONWEBTOKEN: &[(&str, &str)] = &[
    ("iss as a list", "it accepts a list with the issuer in it"),
    ("aud with a stranger", "it accepts other audiences besides ours"),
    ("azp of another", "it leaves `azp` to its caller"),
    ("iat in the future", "it does not check `iat`"),
    ("no iat", "it does not check `iat`"),
    ("sub empty", "it accepts the empty subject"),
    ("nbf null", "it rejects `null`, which we ignore"),
    ("nbf empty", "it rejects an empty text, which we ignore"),
    (
        "email twice, different",
        "it accepts duplicate members that it does not check",
    ),
    (
        "a claim of its own twice, different",
        "it accepts duplicate members that it does not check",
    ),
    (
        "sub twice, equal",
        "it rejects duplicate members that it checks; equal ones are one",
    ),
    (
        "half of a surrogate pair in a name",
        "it rejects what is not a character; displayed claims may hold it",
    ),
    ("a byte-order mark", "RFC 8259 §8.1 allows to skip it"),
    ("typ of an access token", "it leaves `typ` to its caller"),
];

fn remove(draft: &mut Draft, claim: &str) {
    draft.claims.as_object_mut().unwrap().remove(claim);
}

fn signed_by(draft: &mut Draft, algorithm: SigningAlgorithm) {
    draft.header = header(algorithm);
    draft.signs = algorithm;
    draft.key = TestKey::of(algorithm).unwrap();
}

fn drafted(changes: &[usize], now: i64) -> String {
    let mut draft = Draft {
        header: header(SigningAlgorithm::ES256),
        claims: json!({
            "iss": ISSUER, "sub": "alice", "aud": CLIENT, "nonce": NONCE, "exp": now + 300, "iat": now,
        }),
        signs: SigningAlgorithm::ES256,
        key: TestKey::Ec256,
        is_broken: false,
        begins: String::new(),
    };
    for change in changes {
        CHANGES[*change].2(&mut draft, now);
    }
    let (header, claims) = (draft.header.to_string(), draft.claims.to_string());
    let claims = match draft.begins.strip_suffix('{') {
        Some(before) => format!("{before}{claims}"),
        None => claims.replacen('{', &format!("{{{}", draft.begins), 1),
    };
    sign_by(&header, &claims, |message| {
        let mut signature = draft.key.sign(draft.signs, message);
        signature[0] ^= u8::from(draft.is_broken);
        signature
    })
}

fn our_verdict(token: &str, now: OffsetDateTime) -> bool {
    let nonce = Secret::new(NONCE);
    let expected = IdTokenExpectations {
        issuer: ExpectedIssuer::exactly(ISSUER),
        client_id: CLIENT,
        trusted_audiences: &[],
        algorithms: &ALGORITHMS.map(|(ours, _)| ours),
        client_secret: None,
        nonce: Some(&nonce),
        accepts_missing_nonce: false,
        access_token: None,
        max_age: None,
        authenticated_since: None,
        acr_values: &[],
        clock_skew: Duration::from_secs(60),
    };
    IdToken::accept(token, &key_set(), &expected, now).is_ok()
}

const ALGORITHMS: [(SigningAlgorithm, CoreJwsSigningAlgorithm); 4] = [
    (SigningAlgorithm::RS256, CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
    (SigningAlgorithm::PS256, CoreJwsSigningAlgorithm::RsaSsaPssSha256),
    (SigningAlgorithm::ES256, CoreJwsSigningAlgorithm::EcdsaP256Sha256),
    (SigningAlgorithm::EdDSA, CoreJwsSigningAlgorithm::EdDsa),
];

/// The published keys without P-521, which neither of the other verifiers supports.
const KEYS: [TestKey; 4] = [TestKey::Rsa, TestKey::Ec256, TestKey::Ec384, TestKey::Ed25519];

fn verdict_of_openidconnect(token: &str) -> bool {
    let keys = json!({ "keys": KEYS.map(TestKey::jwk) }).to_string();
    let keys: CoreJsonWebKeySet = serde_json::from_str(&keys).unwrap();
    let verifier = CoreIdTokenVerifier::new_public_client(
        ClientId::new(CLIENT.to_owned()),
        IssuerUrl::new(ISSUER.to_owned()).unwrap(),
        keys,
    )
    .set_allowed_algs(ALGORITHMS.map(|(_, theirs)| theirs));
    CoreIdToken::from_str(token).is_ok_and(|token| token.claims(&verifier, &Nonce::new(NONCE.to_owned())).is_ok())
}

/// jsonwebtoken leaves the choice of the key and the `nonce` to its caller.
fn verdict_of_jsonwebtoken(token: &str) -> bool {
    static DECODING_KEYS: LazyLock<Vec<(&str, DecodingKey)>> = LazyLock::new(|| {
        rust_crypto::DEFAULT_PROVIDER.install_default().unwrap();
        let key = |key: TestKey| {
            let jwk = serde_json::from_value(key.jwk()).unwrap();
            (key.kid(), DecodingKey::from_jwk(&jwk).unwrap())
        };
        KEYS.map(key).to_vec()
    });
    let keys = LazyLock::force(&DECODING_KEYS);
    let Ok(header) = jsonwebtoken::decode_header(token) else {
        return false;
    };
    let mut keys = keys
        .iter()
        .filter(|(kid, _)| header.kid.as_ref().is_none_or(|named| named == kid));
    keys.any(|(_, key)| {
        let mut validation = Validation::new_for_family(key.family());
        let allowed = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
        validation.algorithms.retain(|algorithm| allowed.contains(algorithm));
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[CLIENT]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.validate_nbf = true;
        // It reads the clock of the machine, which goes on during the test.
        validation.leeway = 600;
        let decoded = jsonwebtoken::decode::<Value>(token, key, &validation);
        decoded.is_ok_and(|token| token.claims["nonce"] == NONCE)
    })
}

/// Compares a verifier with ours, given the reason why their verdicts may differ for a change.
fn compare_with(their_verdict: fn(&str) -> bool, reason: impl Fn(usize) -> Option<&'static str>) {
    let now = OffsetDateTime::now_utc();
    let seconds = now.unix_timestamp();
    let mut differing = vec![false; CHANGES.len()];
    let mut accepted = 0;
    let mut compare = |changes: &[usize]| {
        let token = drafted(changes, seconds);
        let (ours, theirs) = (our_verdict(&token, now), their_verdict(&token));
        accepted += usize::from(ours);
        if ours != theirs {
            let names: Vec<_> = changes.iter().map(|i| CHANGES[*i].0).collect();
            let reasons: Vec<_> = changes.iter().filter(|i| reason(**i).is_some()).collect();
            assert!(!reasons.is_empty(), "ours: {ours}, theirs: {theirs}, for {names:?}");
            if let [only] = reasons[..] {
                differing[*only] = true;
            }
        }
    };

    compare(&[]);
    let all = 0..CHANGES.len();
    for first in all.clone() {
        compare(&[first]);
        for second in all.clone() {
            compare(&[first, second]);
        }
    }
    // Three changes at a time, in steps that cover every pair.
    for i in (0..CHANGES.len().pow(3)).step_by(71) {
        let n = CHANGES.len();
        compare(&[i % n, i / n % n, i / n / n]);
    }
    assert!(accepted > 100, "{accepted}");

    // Every listed reason is needed.
    for (i, (name, ..)) in CHANGES.iter().enumerate() {
        assert_eq!(differing[i], reason(i).is_some(), "{name}: {:?}", reason(i));
    }
}

#[test]
fn verdicts_agree_with_openidconnect_but_for_listed_reasons() {
    compare_with(verdict_of_openidconnect, |i| CHANGES[i].1);
}

#[test]
fn verdicts_agree_with_jsonwebtoken_but_for_listed_reasons() {
    for (name, _) in REASONS_OF_JSONWEBTOKEN {
        assert!(CHANGES.iter().any(|change| change.0 == *name), "{name}");
    }
    compare_with(verdict_of_jsonwebtoken, |i| {
        let mut reasons = REASONS_OF_JSONWEBTOKEN.iter();
        reasons
            .find(|(name, _)| *name == CHANGES[i].0)
            .map(|(_, reason)| *reason)
    });
}

#[test]
fn the_unchanged_token_is_accepted_by_all() {
    let now = OffsetDateTime::now_utc();
    let token = drafted(&[], now.unix_timestamp());
    assert!(our_verdict(&token, now) && verdict_of_openidconnect(&token) && verdict_of_jsonwebtoken(&token));
}
