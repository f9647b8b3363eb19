//! Requests that are wrong in one thing each, beside one that is right.

use rocket::{
    http::{Header, Method},
    serde::json::{Value, json},
};

use super::app::{Answer, Api, BASE_URL, bound_token, proof, thumbprint};
use crate::{
    common::NOW,
    support::{
        JwtParts, SigningKey, case,
        keys::{base64url, sha256_base64url},
    },
};

const INVALID: &str = "invalid_dpop_proof";
const MALFORMED: &str = "the proof is not a well-formed signed JWT";
const KEY: &str = "the jwk of the proof is not an accepted public key";
const ALGORITHM: &str = "the proof is signed with an algorithm that is not accepted";
const CLAIM: &str = "a claim of the proof is missing or of the wrong type";
const TYP: &str = "the typ of the proof is not dpop+jwt";
const METHOD: &str = "the proof is for another method";
const URI: &str = "the proof is for another URI";
const NOT_NOW: &str = "the proof is not valid now";
const OLD: &str = "the proof is too old";
const TOKEN: &str = "the proof is for another token";
const SIGNATURE: &str = "the signature of the proof is wrong";

type Change = Box<dyn FnOnce(&mut JwtParts)>;

fn set(claim: &'static str, value: Value) -> Change {
    Box::new(move |proof| proof.set(claim, value))
}

fn without(claim: &'static str) -> Change {
    Box::new(move |proof| proof.remove(claim))
}

fn header(member: &'static str, value: Value) -> Change {
    Box::new(move |proof| proof.set_header(member, value))
}

fn jwk(change: impl FnOnce(&mut Value) + 'static) -> Change {
    Box::new(move |proof| {
        let mut jwk = proof.header["jwk"].clone();
        change(&mut jwk);
        proof.set_header("jwk", jwk);
    })
}

fn change(change: impl FnOnce(&mut JwtParts) + 'static) -> Change {
    Box::new(change)
}

/// Each by itself makes a good proof a bad one.
fn wrong_proofs() -> Vec<(&'static str, Change)> {
    vec![
        // The header.
        (TYP, change(|proof| proof.remove_header("typ"))),
        (TYP, header("typ", json!("JWT"))),
        (TYP, header("typ", json!("at+jwt"))),
        (TYP, header("typ", json!("DPOP+JWT"))),
        (TYP, header("typ", json!(["dpop+jwt"]))),
        (ALGORITHM, change(|proof| proof.remove_header("alg"))),
        (ALGORITHM, header("alg", json!("none"))),
        (
            ALGORITHM,
            change(|proof| {
                proof.set_header("alg", "none");
                proof.strip_signature = true;
            }),
        ),
        (
            ALGORITHM,
            change(|proof| {
                let public = proof.header["jwk"]["x"]
                    .as_str()
                    .unwrap_or_default()
                    .as_bytes()
                    .to_vec();
                proof.sign_with(SigningKey::Hs256(public));
            }),
        ),
        (ALGORITHM, header("alg", json!("ES256K"))),
        (ALGORITHM, header("alg", json!("es256"))),
        (KEY, header("alg", json!("ES384"))),
        (KEY, header("alg", json!("RS256"))),
        (MALFORMED, header("crit", json!(["b64"]))),
        (
            MALFORMED,
            change(|proof| {
                let text = json!(proof.header).to_string();
                proof.raw_header = Some(text.replacen('{', "{\"typ\":\"JWT\",", 1));
            }),
        ),
        // The key.
        (KEY, change(|proof| proof.remove_header("jwk"))),
        (KEY, header("jwk", json!(null))),
        (KEY, header("jwk", json!("key"))),
        (KEY, jwk(|jwk| jwk["d"] = json!("AAAA"))),
        (KEY, jwk(|jwk| jwk["k"] = json!("AAAA"))),
        (KEY, jwk(|jwk| jwk["qi"] = json!(null))),
        (KEY, jwk(|jwk| *jwk = json!({ "kty": "oct", "k": "AAAA" }))),
        (KEY, jwk(|jwk| jwk["kty"] = json!("RSA"))),
        (KEY, jwk(|jwk| jwk["crv"] = json!("secp256k1"))),
        (KEY, jwk(|jwk| jwk["use"] = json!("enc"))),
        (KEY, jwk(|jwk| jwk["key_ops"] = json!(["sign"]))),
        (KEY, jwk(|jwk| jwk["alg"] = json!("ES512"))),
        (KEY, jwk(|jwk| drop(jwk.as_object_mut().unwrap().remove("x")))),
        (KEY, jwk(|jwk| jwk["y"] = json!("not base64!"))),
        // The claims.
        (CLAIM, without("jti")),
        (CLAIM, set("jti", json!(""))),
        (CLAIM, set("jti", json!(7))),
        (CLAIM, without("htm")),
        (METHOD, set("htm", json!("POST"))),
        (METHOD, set("htm", json!("get"))),
        (METHOD, set("htm", json!("HEAD"))),
        (CLAIM, without("htu")),
        (URI, set("htu", json!("https://api.example.com/note"))),
        (URI, set("htu", json!("https://api.example.com/notes/"))),
        (URI, set("htu", json!("https://api.example.com/NOTES"))),
        (URI, set("htu", json!("https://api.example.com:444/notes"))),
        (URI, set("htu", json!("http://api.example.com/notes"))),
        (URI, set("htu", json!("https://localhost/notes"))),
        (URI, set("htu", json!("https://evil.example/notes"))),
        (URI, set("htu", json!("https://api.example.com@evil.example/notes"))),
        (URI, set("htu", json!("/notes"))),
        (CLAIM, set("htu", json!([format!("{BASE_URL}/notes")]))),
        (CLAIM, without("iat")),
        (NOT_NOW, set("iat", json!(NOW + 11))),
        (OLD, set("iat", json!(NOW - 61))),
        (OLD, set("iat", json!(0))),
        (CLAIM, set("iat", json!(NOW.to_string()))),
        (NOT_NOW, set("exp", json!(NOW))),
        (NOT_NOW, set("nbf", json!(NOW + 11))),
        (CLAIM, without("ath")),
        (TOKEN, set("ath", json!(sha256_base64url("another token")))),
        (TOKEN, set("ath", json!(""))),
        (CLAIM, set("ath", json!(null))),
        (
            MALFORMED,
            change(|proof| {
                let text = json!(proof.claims).to_string();
                proof.raw_claims = Some(text.replacen('{', "{\"htm\":\"POST\",", 1));
            }),
        ),
        (MALFORMED, change(|proof| proof.raw_claims = Some("[]".to_owned()))),
        // The signature.
        (SIGNATURE, change(|proof| proof.break_signature = true)),
        (SIGNATURE, change(|proof| proof.strip_signature = true)),
        (
            SIGNATURE,
            change(|proof| {
                let input = proof.compact();
                let (input, _) = input.rsplit_once('.').unwrap();
                proof.raw = Some(format!("{input}.{}", base64url([0; 64])));
            }),
        ),
        (
            SIGNATURE,
            change(|proof| {
                let mut other = proof.clone();
                other.set("jti", "another");
                let (own, other) = (proof.compact(), other.compact());
                let signature = other.rsplit_once('.').unwrap().1;
                proof.raw = Some(format!("{}.{signature}", own.rsplit_once('.').unwrap().0));
            }),
        ),
        // The text.
        (MALFORMED, change(|proof| proof.raw = Some(String::new()))),
        (MALFORMED, change(|proof| proof.raw = Some(proof.compact() + "."))),
        (MALFORMED, change(|proof| proof.raw = Some(proof.compact() + "="))),
        (
            MALFORMED,
            change(|proof| proof.raw = Some(format!("{0}, {0}", proof.compact()))),
        ),
        (
            MALFORMED,
            change(|proof| proof.raw = Some(format!("DPoP {}", proof.compact()))),
        ),
        (
            "the proof is too long",
            change(|proof| proof.set("more", "x".repeat(8_192))),
        ),
    ]
}

/// The good proof has the `jti` of the bad ones: only a proof that is accepted uses it up.
#[rocket::async_test]
async fn a_proof_that_is_wrong_in_one_thing_is_rejected() {
    let api = Api::open().await;
    let token = api.token();
    let wrong = wrong_proofs();
    assert!(wrong.len() >= 60, "{} proofs", wrong.len());
    let mut proofs = vec![];
    for (i, (description, change)) in wrong.into_iter().enumerate() {
        case(description);
        let mut parts = proof(&format!("{BASE_URL}/notes"), &token);
        parts.set("jti", format!("proof {i}"));
        let good = parts.compact();
        change(&mut parts);
        let (bad, dpop) = (parts.compact(), format!("DPoP {token}"));
        let answer = api.send(Method::Get, "/notes", &dpop, &[&bad]).await;
        println!("{i}");
        answer.is_refused(INVALID, description);
        api.send(Method::Get, "/notes", &dpop, &[&good]).await.is_accepted();
        let again = api.send(Method::Get, "/notes", &dpop, &[&good]).await;
        again.is_refused(INVALID, "the proof was used before");
        proofs.extend([good, bad]);
    }
    let mut secrets: Vec<_> = proofs.iter().map(String::as_str).collect();
    secrets.push(&token);
    api.logs_none_of(&secrets);
}

#[rocket::async_test]
async fn a_proof_of_another_key_is_rejected() {
    let api = Api::open().await;
    let token = api.token();
    let url = format!("{BASE_URL}/notes");
    for key in [SigningKey::Ed, SigningKey::Rsa] {
        let other = super::app::proof_by(key, &url, &token).compact();
        let answer = api
            .send(Method::Get, "/notes", &format!("DPoP {token}"), &[&other])
            .await;
        answer.is_refused("invalid_token", "the token is bound to another key");
    }
    // The key of the token in the header, and another one that signs.
    let answer = api.prove("/notes", &token, |proof| proof.signing = SigningKey::Ed);
    answer.await.is_refused(INVALID, SIGNATURE);
}

#[rocket::async_test]
async fn keys_of_each_kind_are_accepted() {
    let api = Api::open().await;
    for (key, alg) in [
        (SigningKey::Ec, "ES256"),
        (SigningKey::Ed, "EdDSA"),
        (SigningKey::Ed, "Ed25519"),
        (SigningKey::Rsa, "RS256"),
        (SigningKey::Rsa, "PS512"),
    ] {
        let token = bound_token(&api.provider, &key);
        let mut parts = super::app::proof_by(key, &format!("{BASE_URL}/notes"), &token);
        let mut jwk = parts.header["jwk"].clone();
        jwk["alg"] = json!(alg);
        parts.set_header("jwk", jwk);
        parts.set_header("alg", alg);
        let proof = parts.compact();
        let answer = api
            .send(Method::Get, "/notes", &format!("DPoP {token}"), &[&proof])
            .await;
        answer.is_accepted();
    }
}

#[rocket::async_test]
async fn one_header_has_one_proof() {
    let api = Api::open().await;
    let token = api.token();
    let url = format!("{BASE_URL}/notes");
    let [one, other] = [(); 2].map(|()| proof(&url, &token).compact());
    let dpop = format!("DPoP {token}");
    for proofs in [&[&*one, &other][..], &[&one, &one], &[&one, ""]] {
        let answer = api.send(Method::Get, "/notes", &dpop, proofs).await;
        answer.is_refused(INVALID, "the request has more than one proof");
    }
    let answer = api.send(Method::Get, "/notes", &dpop, &[]).await;
    answer.is_refused(INVALID, "the request has no proof");
    api.send(Method::Get, "/notes", &dpop, &[&one]).await.is_accepted();
}

/// What a token says of its key counts as a whole.
#[rocket::async_test]
async fn a_token_that_is_bound_otherwise_is_rejected() {
    let api = Api::open().await;
    let jkt = thumbprint(&SigningKey::Ec);
    let issue = |cnf: Value| {
        api.provider.access_token("notes:read", |token| {
            token.set("sub", "alice");
            token.set("cnf", cnf);
        })
    };
    const OTHERWISE: &str = "the token is bound in a way that is not accepted";
    for cnf in [
        json!({}),
        json!([]),
        json!("x"),
        json!({ "jkt": jkt, "x5t#S256": "A" }),
        json!({ "jkt": jkt, "kid": "ec-1" }),
        json!({ "jwk": SigningKey::Ec.jwk() }),
        json!({ "jkt": [jkt] }),
        json!({ "jkt": format!("{jkt}=") }),
        json!({ "kid": "ec-1" }),
    ] {
        let token = issue(cnf);
        let answer = api.prove("/notes", &token, |_| ()).await;
        answer.is_refused("invalid_token", OTHERWISE);
        let answer = api.send(Method::Get, "/notes", &format!("Bearer {token}"), &[]).await;
        assert_eq!(answer.status, 401);
    }
    api.prove("/notes", &issue(json!({ "jkt": jkt })), |_| ())
        .await
        .is_accepted();
    // Keycloak writes the type into the token.
    let typed = api
        .provider
        .access_token("notes:read", |token| token.set("typ", "DPoP"));
    let answer = api.send(Method::Get, "/notes", &format!("Bearer {typed}"), &[]).await;
    assert_eq!(answer.status, 401);
}

#[rocket::async_test]
async fn the_scheme_says_whether_the_token_is_bound() {
    let api = Api::open().await;
    let (bound, bearer) = (api.token(), api.provider.access_token("notes:read", |_| ()));
    let url = format!("{BASE_URL}/notes");
    let answer = api.prove("/notes", &bearer, |_| ()).await;
    answer.is_refused("invalid_token", "the token is not bound to a key");
    for scheme in ["DPoP", "dpop", "DPOP", "dPoP "] {
        let proof = proof(&url, &bound).compact();
        let answer = api
            .send(Method::Get, "/notes", &format!("{scheme} {bound}"), &[&proof])
            .await;
        answer.is_accepted();
    }
    // A proof beside it does not make a bearer token of it, nor the other way round.
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let proof = proof(&url, &bound).compact();
        let answer = api
            .send(Method::Get, "/notes", &format!("{scheme} {bound}"), &[&proof])
            .await;
        assert_eq!(answer.status, 401, "{answer:#?}");
        assert_eq!(
            answer.challenges,
            [
                format!(
                    "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"the token is bound to a key, \
                     which the request does not prove\", {}",
                    super::app::METADATA
                ),
                format!("DPoP realm=\"api\", {}, {}", super::app::METADATA, super::app::ALGS),
            ]
        );
    }
    let answer = api
        .send(Method::Get, "/notes", &format!("Bearer {bearer}"), &["no proof"])
        .await;
    assert_eq!(answer.status, 200);
}

/// A proof names the settings' URL, whatever the request says about its host.
#[rocket::async_test]
async fn no_header_changes_the_uri() {
    let api = Api::open().await;
    let token = api.token();
    for name in [
        "Host",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Original-URL",
    ] {
        for (host, is_accepted) in [("api.example.com", true), ("evil.example", false)] {
            let proof = proof(&format!("https://{host}/notes"), &token).compact();
            let mut request = api.client.get("/notes");
            for (name, value) in [
                (name, "evil.example".to_owned()),
                ("Authorization", format!("DPoP {token}")),
                ("DPoP", proof),
            ] {
                request.add_header(Header::new(name, value));
            }
            let answer = Answer::to(request).await;
            if is_accepted {
                answer.is_accepted();
            } else {
                answer.is_refused(INVALID, URI);
            }
        }
    }
}

/// A stolen proof is usable once, and only where it is for.
#[rocket::async_test]
async fn a_proof_serves_one_request() {
    let api = Api::open().await;
    let (token, other) = (api.token(), api.token());
    let stolen = proof(&format!("{BASE_URL}/notes"), &token).compact();
    let send = async |method, path: &'static str, token: &str| {
        api.send(method, path, &format!("DPoP {token}"), &[&stolen]).await
    };
    send(Method::Post, "/notes", &token).await.is_refused(INVALID, METHOD);
    send(Method::Get, "/either", &token).await.is_refused(INVALID, URI);
    send(Method::Get, "/notes", &other).await.is_refused(INVALID, TOKEN);
    send(Method::Get, "/notes?page=2", &token).await.is_accepted();
    let again = send(Method::Get, "/notes", &token).await;
    again.is_refused(INVALID, "the proof was used before");
}
