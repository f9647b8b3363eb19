//! Proofs: the examples of the standard, and what is wrong with others.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::json;

use super::*;
use crate::token::test_keys::{TestKey, base64url};

/// RFC 9449 §4.1, figure 2.
const OF_TOKEN_REQUEST: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
/// RFC 9449 §7.1, figure 12.
const OF_RESOURCE_REQUEST: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
/// RFC 9449 §6.1, figure 9.
const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

const NOW: i64 = 1_700_000_000;

fn accept(proof: &str, method: &str, target: &str, now: i64) -> Result<DpopProof, DpopProofError> {
    let targets = [TargetUri::parse(target).unwrap()];
    let expected = ProofExpectations {
        method,
        targets: &targets,
        token_hash: Some(&token_hash(TOKEN)),
        max_age: Duration::from_secs(60),
        accepts_nonce: None,
    };
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
    UnverifiedProof::parse(proof)?.accept(&expected, now)
}

#[test]
fn the_examples_of_the_standard() {
    let (method, target) = ("GET", "https://resource.example.org/protectedresource");
    let proof = accept(OF_RESOURCE_REQUEST, method, target, 1_562_262_618).unwrap();
    assert_eq!((&*proof.thumbprint, &*proof.jti), (JKT, "e1j3V_bKic8-LAEB"));
    assert_eq!(proof.ends, 1_562_262_618 + 61);
    for (now, error) in [
        (1_562_262_608, None),
        (1_562_262_678, None),
        (
            1_562_262_607,
            Some(DpopProofError::InTheFuture {
                iat: 1_562_262_618,
                now: 1_562_262_607,
            }),
        ),
        (
            1_562_262_679,
            Some(DpopProofError::TooOld {
                iat: 1_562_262_618,
                now: 1_562_262_679,
                max_age: Duration::from_secs(60),
            }),
        ),
    ] {
        assert_eq!(accept(OF_RESOURCE_REQUEST, method, target, now).err(), error);
    }
    // One for the token endpoint names no token.
    let unverified = UnverifiedProof::parse(OF_TOKEN_REQUEST).unwrap();
    assert_eq!(unverified.thumbprint(), JKT);
    assert_eq!(
        accept(
            OF_TOKEN_REQUEST,
            "POST",
            "https://server.example.com/token",
            1_562_262_616
        )
        .err(),
        Some(DpopProofError::Claim(ClaimError::Missing { claim: "ath" }))
    );
}

/// RFC 7638 §3.1, RFC 8037 appendix A.3.
#[test]
fn thumbprints_of_the_standards() {
    let rsa = json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    });
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    for (jwk, algorithm, expected) in [
        (
            &rsa,
            SigningAlgorithm::RS256,
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        (
            &ed,
            SigningAlgorithm::EdDSA,
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ] {
        let key = HeaderKey::parse(jwk, algorithm).map_err(|error| error.to_string());
        assert_eq!(key.unwrap().thumbprint(), expected);
    }
}

/// A proof before it is signed.
struct Parts {
    key: TestKey,
    algorithm: SigningAlgorithm,
    header: Value,
    claims: Value,
}

impl Parts {
    /// An acceptable proof, at `NOW`.
    fn good(algorithm: SigningAlgorithm) -> Parts {
        let key = TestKey::of(algorithm).unwrap();
        let ath = digest::digest(&digest::SHA256, TOKEN.as_bytes());
        Parts {
            key,
            algorithm,
            header: json!({ "typ": "dpop+jwt", "alg": algorithm, "jwk": key.jwk() }),
            claims: json!({
                "jti": "e1j3V_bKic8-LAEB",
                "htm": "GET",
                "htu": "https://api.example.com/notes",
                "iat": NOW,
                "ath": URL_SAFE_NO_PAD.encode(ath),
            }),
        }
    }

    fn sign(&self) -> String {
        self.sign_text(&self.header.to_string(), &self.claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = self.key.sign(self.algorithm, input.as_bytes());
        format!("{input}.{}", base64url(&signature))
    }
}

fn judge(proof: &str) -> Result<DpopProof, DpopProofError> {
    accept(proof, "GET", "https://api.example.com/notes", NOW)
}

#[track_caller]
fn refused(proof: &str, expected: &DpopProofError) {
    assert_eq!(judge(proof).err().as_ref(), Some(expected));
}

#[test]
fn every_asymmetric_algorithm_is_accepted() {
    for &algorithm in SigningAlgorithm::ASYMMETRIC {
        let proof = judge(&Parts::good(algorithm).sign());
        assert!(proof.is_ok(), "{algorithm}: {proof:?}");
    }
    let mut parts = Parts::good(SigningAlgorithm::EdDSA);
    parts.header["alg"] = json!("Ed25519");
    assert!(judge(&parts.sign()).is_ok());
}

#[test]
fn members_that_do_not_matter() {
    let mut parts = Parts::good(SigningAlgorithm::ES256);
    parts.header["kid"] = json!("key");
    parts.header["jku"] = json!("https://evil.example/jwks");
    parts.header["jwk"]["alg"] = json!("ES256");
    parts.header["jwk"]["use"] = json!("sig");
    parts.header["jwk"]["key_ops"] = json!(["verify"]);
    parts.header["jwk"]["ext"] = json!(true);
    parts.claims["nonce"] = json!("of another server");
    parts.claims["exp"] = json!(NOW + 1);
    parts.claims["nbf"] = json!(NOW);
    parts.claims["iat"] = json!(NOW as f64 + 0.5);
    parts.claims["htu"] = json!("https://API.example.com:443/notes?page=2#end");
    let proof = judge(&parts.sign()).unwrap();
    assert_eq!(proof.ends, NOW + 61);
}

#[test]
fn headers_that_are_rejected() {
    let set = |member: &str, value: Value| {
        let mut parts = Parts::good(SigningAlgorithm::ES256);
        parts.header[member] = value;
        parts.sign()
    };
    let typ = |actual: Option<&str>| DpopProofError::Type {
        actual: actual.map(str::to_owned),
    };
    let alg = |actual: Option<&str>| DpopProofError::Algorithm {
        actual: actual.map(str::to_owned),
    };
    for other in ["JWT", "at+jwt", "DPoP+JWT", "application/dpop+jwt", "dpop+jwt ", ""] {
        refused(&set("typ", json!(other)), &typ(Some(other)));
    }
    refused(&set("typ", json!(1)), &typ(Some("a number")));
    for other in ["none", "None", "HS256", "HS512", "ES256K", "es256", ""] {
        refused(&set("alg", json!(other)), &alg(Some(other)));
    }
    refused(&set("alg", json!(["ES256"])), &alg(Some("an array")));
    refused(&set("crit", json!([])), &DpopProofError::CriticalExtension);
    for (member, error) in [
        ("typ", typ(None)),
        ("alg", alg(None)),
        ("jwk", DpopProofError::Key(SkipReason::Missing { member: "jwk" })),
    ] {
        let mut parts = Parts::good(SigningAlgorithm::ES256);
        parts.header.as_object_mut().unwrap().remove(member);
        refused(&parts.sign(), &error);
    }
}

#[test]
fn keys_that_are_rejected() {
    type Change = fn(&mut Value);
    let algorithm = |alg: &str| SkipReason::Algorithm { alg: alg.to_owned() };
    let cases: [(SigningAlgorithm, Change, SkipReason); 22] = [
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["d"] = json!("AAAA"),
            SkipReason::Private,
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["d"] = Value::Null,
            SkipReason::Private,
        ),
        (
            SigningAlgorithm::RS256,
            |jwk| jwk["p"] = json!("AAAA"),
            SkipReason::Private,
        ),
        (
            SigningAlgorithm::RS256,
            |jwk| jwk["qi"] = json!("AAAA"),
            SkipReason::Private,
        ),
        (
            SigningAlgorithm::RS256,
            |jwk| jwk["oth"] = json!([]),
            SkipReason::Private,
        ),
        (
            SigningAlgorithm::EdDSA,
            |jwk| jwk["k"] = json!("AAAA"),
            SkipReason::Private,
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| *jwk = json!({ "kty": "oct", "k": "AAAA" }),
            SkipReason::Symmetric { kty: "oct".to_owned() },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| *jwk = json!("key"),
            SkipReason::NotAnObject { actual: "a string" },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["kty"] = json!("ec"),
            SkipReason::UnknownKeyType { kty: "ec".to_owned() },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["crv"] = json!("secp256k1"),
            SkipReason::UnknownCurve {
                crv: "secp256k1".to_owned(),
            },
        ),
        (
            SigningAlgorithm::EdDSA,
            |jwk| jwk["crv"] = json!("X25519"),
            SkipReason::UnknownCurve {
                crv: "X25519".to_owned(),
            },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| *jwk = TestKey::Rsa.jwk(),
            algorithm("ES256"),
        ),
        (
            SigningAlgorithm::RS256,
            |jwk| *jwk = TestKey::Ec256.jwk(),
            algorithm("RS256"),
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| *jwk = TestKey::Ec384.jwk(),
            algorithm("ES256"),
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["alg"] = json!("ES384"),
            algorithm("ES256"),
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["use"] = json!("enc"),
            SkipReason::Use {
                actual: "enc".to_owned(),
            },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["key_ops"] = json!(["sign"]),
            SkipReason::KeyOperations,
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| drop(jwk.as_object_mut().unwrap().remove("y")),
            SkipReason::Missing { member: "y" },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["x"] = json!(format!("{}=", jwk["x"].as_str().unwrap())),
            SkipReason::Base64 { member: "x" },
        ),
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["x"] = json!(base64url(&[1; 31])),
            SkipReason::Length {
                member: "x",
                expected: 32,
                actual: 31,
            },
        ),
        // Not on the curve.
        (
            SigningAlgorithm::ES256,
            |jwk| jwk["x"] = json!(base64url(&[1; 32])),
            SkipReason::Invalid,
        ),
        (
            SigningAlgorithm::RS256,
            |jwk| jwk["e"] = json!("AAEAAQ"),
            SkipReason::LeadingZero { member: "e" },
        ),
    ];
    for (algorithm, change, reason) in cases {
        let mut parts = Parts::good(algorithm);
        change(&mut parts.header["jwk"]);
        refused(&parts.sign(), &DpopProofError::Key(reason));
    }
}

/// A key of 1024 bits signs what it likes.
#[test]
fn small_rsa_keys_are_rejected() {
    let mut parts = Parts::good(SigningAlgorithm::RS256);
    parts.header["jwk"]["n"] = json!(base64url(&[0xff; 128]));
    let reason = SkipReason::RsaSize { actual: 1024 };
    refused(&parts.sign(), &DpopProofError::Key(reason));
    // One of 3072 bits does.
    let key = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
    let public = key.public_key();
    let n = base64url(public.modulus().big_endian_without_leading_zero());
    parts.header["jwk"] = json!({ "kty": "RSA", "n": n, "e": "AQAB" });
    let input = format!(
        "{}.{}",
        base64url(parts.header.to_string().as_bytes()),
        base64url(parts.claims.to_string().as_bytes())
    );
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        input.as_bytes(),
        &mut signature,
    )
    .unwrap();
    assert!(judge(&format!("{input}.{}", base64url(&signature))).is_ok());
}

#[test]
fn claims_that_are_rejected() {
    let with = |claim: &str, value: Value| {
        let mut parts = Parts::good(SigningAlgorithm::ES256);
        parts.claims[claim] = value;
        parts.sign()
    };
    let method = |actual: &str| DpopProofError::Method {
        expected: "GET".to_owned(),
        actual: actual.to_owned(),
    };
    for other in ["POST", "get", "HEAD", "", "GET "] {
        refused(&with("htm", json!(other)), &method(other));
    }
    for (htu, actual) in [
        ("https://api.example.com/notes/", Some("https://api.example.com/notes/")),
        ("https://api.example.com/Notes", Some("https://api.example.com/Notes")),
        ("https://api.example.com/", Some("https://api.example.com/")),
        (
            "https://api.example.com/notes%2F",
            Some("https://api.example.com/notes%2F"),
        ),
        ("http://api.example.com/notes", Some("http://api.example.com/notes")),
        (
            "https://api.example.com:8443/notes",
            Some("https://api.example.com:8443/notes"),
        ),
        ("https://evil.example/notes", Some("https://evil.example/notes")),
        ("/notes", None),
        ("", None),
    ] {
        let error = DpopProofError::Target {
            expected: Some("https://api.example.com/notes".to_owned()),
            actual: actual.map(str::to_owned),
        };
        refused(&with("htu", json!(htu)), &error);
    }
    for (iat, error) in [
        (
            json!(NOW + 11),
            DpopProofError::InTheFuture {
                iat: NOW + 11,
                now: NOW,
            },
        ),
        (
            json!(NOW - 61),
            DpopProofError::TooOld {
                iat: NOW - 61,
                now: NOW,
                max_age: Duration::from_secs(60),
            },
        ),
        (
            json!(-1e300),
            DpopProofError::TooOld {
                iat: i64::MIN,
                now: NOW,
                max_age: Duration::from_secs(60),
            },
        ),
        (
            json!(1e300),
            DpopProofError::InTheFuture {
                iat: i64::MAX,
                now: NOW,
            },
        ),
    ] {
        refused(&with("iat", iat), &error);
    }
    for iat in [NOW + 10, NOW - 60] {
        assert!(judge(&with("iat", json!(iat))).is_ok());
    }
    refused(&with("exp", json!(NOW)), &DpopProofError::Times);
    refused(&with("nbf", json!(NOW + 11)), &DpopProofError::Times);
    let other = digest::digest(&digest::SHA256, b"another token");
    for ath in [URL_SAFE_NO_PAD.encode(other), TOKEN.to_owned(), String::new()] {
        refused(&with("ath", json!(ath)), &DpopProofError::TokenHash);
    }
    let empty = DpopProofError::Claim(ClaimError::Missing { claim: "jti" });
    refused(&with("jti", json!("")), &empty);
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        let expected = if claim == "iat" { "a number" } else { "a string" };
        let wrong = ClaimError::WrongType {
            claim,
            expected,
            actual: "an array",
        };
        refused(&with(claim, json!([])), &DpopProofError::Claim(wrong));
        let mut parts = Parts::good(SigningAlgorithm::ES256);
        parts.claims.as_object_mut().unwrap().remove(claim);
        refused(&parts.sign(), &DpopProofError::Claim(ClaimError::Missing { claim }));
    }
}

#[test]
fn texts_that_are_not_proofs() {
    let parts = Parts::good(SigningAlgorithm::ES256);
    let good = parts.sign();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    for (text, actual) in [
        ("", 1),
        (input, 2),
        (&*format!("{good}."), 4),
        (&*format!("{good}, {good}"), 5),
    ] {
        refused(text, &DpopProofError::Parts { actual });
    }
    for (text, part) in [
        (format!("{header}=.{payload}.{signature}"), "header"),
        (format!("{header}.{payload}=.{signature}"), "payload"),
        (format!("{header}.{payload}.{signature}="), "signature"),
    ] {
        refused(&text, &DpopProofError::Base64 { part });
    }
    let long = format!("{good}{}", "A".repeat(MAX_PROOF));
    let actual = long.len();
    refused(&long, &DpopProofError::TooLong { max: MAX_PROOF, actual });
    let twice = |name: &str| JsonError::DuplicateMember { name: name.to_owned() };
    let (header, claims) = (parts.header.to_string(), parts.claims.to_string());
    let doubled = header.replacen('{', "{\"typ\":\"JWT\",", 1);
    let error = DpopProofError::Json {
        part: "header",
        cause: twice("typ"),
    };
    refused(&parts.sign_text(&doubled, &claims), &error);
    let doubled = claims.replacen('{', "{\"htm\":\"POST\",", 1);
    let error = DpopProofError::Json {
        part: "payload",
        cause: twice("htm"),
    };
    refused(&parts.sign_text(&header, &doubled), &error);
    for (claims, actual) in [("[]", "an array"), ("\"a\"", "a string")] {
        let error = DpopProofError::Json {
            part: "payload",
            cause: JsonError::NotAnObject { actual },
        };
        refused(&parts.sign_text(&header, claims), &error);
    }
}

#[test]
fn signatures_that_are_rejected() {
    let good = Parts::good(SigningAlgorithm::ES256).sign();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let wrong = DpopProofError::Signature {
        algorithm: SigningAlgorithm::ES256,
    };
    for signature in ["", &"A".repeat(86), &signature[..signature.len() - 2]] {
        refused(&format!("{input}.{signature}"), &wrong);
    }
    // By another key than the one in the header.
    let mut parts = Parts::good(SigningAlgorithm::ES256);
    parts.key = TestKey::StrangeEc256;
    refused(&parts.sign(), &wrong);
    // Of another algorithm of the same key.
    let mut parts = Parts::good(SigningAlgorithm::RS256);
    parts.header["alg"] = json!("PS256");
    let algorithm = SigningAlgorithm::PS256;
    refused(&parts.sign(), &DpopProofError::Signature { algorithm });
    // With the claims of another proof.
    let other = Parts {
        claims: json!({ "jti": "x" }),
        ..Parts::good(SigningAlgorithm::ES256)
    };
    let other = other.sign();
    let mixed = format!("{}.{}", input, other.rsplit_once('.').unwrap().1);
    refused(&mixed, &wrong);
}

#[test]
fn a_nonce_is_demanded() {
    let judge = |nonce: Option<Value>| {
        let mut parts = Parts::good(SigningAlgorithm::ES256);
        if let Some(nonce) = nonce {
            parts.claims["nonce"] = nonce;
        }
        let targets = [TargetUri::parse("https://api.example.com/notes").unwrap()];
        let expected = ProofExpectations {
            method: "GET",
            targets: &targets,
            token_hash: Some(&token_hash(TOKEN)),
            max_age: Duration::from_secs(60),
            accepts_nonce: Some(&|nonce| nonce == "ours"),
        };
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        let proof = parts.sign();
        UnverifiedProof::parse(&proof)?.accept(&expected, now)
    };
    assert!(judge(Some(json!("ours"))).is_ok());
    assert_eq!(judge(None).err(), Some(DpopProofError::NoNonce));
    for other in ["", "OURS", "another"] {
        assert_eq!(judge(Some(json!(other))).err(), Some(DpopProofError::StaleNonce));
    }
    let wrong = ClaimError::WrongType {
        claim: "nonce",
        expected: "a string",
        actual: "null",
    };
    assert_eq!(judge(Some(Value::Null)).err(), Some(DpopProofError::Claim(wrong)));
}

/// Nothing of the proof but what an operator needs.
#[test]
fn errors_do_not_hold_the_proof() {
    let mut parts = Parts::good(SigningAlgorithm::ES256);
    parts.claims["htu"] = json!("https://api.example.com/other?code=secret#secret");
    let proof = parts.sign();
    let error = judge(&proof).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the proof is for \"https://api.example.com/other\", expected \"https://api.example.com/notes\""
    );
    assert!(!format!("{error:?}").contains("secret"));
}
