//! Tokens that nobody issued: what an attacker without a key can write.

use rocket::http::{ContentType, Cookie};
use serde_json::{Value, json};

use super::app::{Answer, Api, METADATA, refused};
use crate::support::{JwtParts, SigningKey, keys::base64url};

const NOT_ACCEPTED: &str = "the token is signed with an algorithm that is not accepted";
const MALFORMED: &str = "the token is not a well-formed signed JWT";
const WRONG: &str = "the signature of the token is wrong";
const UNKNOWN: &str = "the token is signed with an unknown key";

/// Sends this in place of a token that is accepted.
async fn refuses_raw(api: &Api, raw: String, description: &str, logged: &str) {
    api.refuses(|token| token.raw = Some(raw), description, logged).await;
}

fn jwt_only() -> Value {
    json!({ "token_validation": "jwt" })
}

/// The header and the claims of a token as the provider makes it.
fn accepted_parts(api: &Api) -> (String, String, String) {
    let token = api.provider.access_token("notes:read", |_| ());
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let [header, claims, signature] = &parts[..] else {
        panic!("{} parts", parts.len());
    };
    (header.clone(), claims.clone(), signature.clone())
}

/// As bytes: DER, and the numbers of the JWK.
#[rocket::async_test]
async fn access_token_signed_with_the_public_key_in_der_as_secret() {
    use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};

    let api = Api::open().await;
    let pem = SigningKey::Rsa.public_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let n = SigningKey::Rsa.jwk()["n"].as_str().unwrap().to_owned();
    for secret in [
        STANDARD.decode(&body).unwrap(),
        body.into_bytes(),
        URL_SAFE_NO_PAD.decode(&n).unwrap(),
        n.into_bytes(),
        vec![],
    ] {
        for kid in [Some("rsa-1"), None] {
            api.refuses(
                |token| {
                    token.sign_with(SigningKey::Hs256(secret.clone()));
                    if let Some(kid) = kid {
                        token.set_header("kid", kid);
                    }
                },
                NOT_ACCEPTED,
                "the token is signed with HS256, expected RS256, PS256, ES256, EdDSA",
            )
            .await;
        }
    }
}

/// A key of one kind does not serve another, whatever the header says.
#[rocket::async_test]
async fn access_token_with_the_algorithm_of_another_key() {
    let api = Api::open().await;
    for (key, alg, kid) in [
        (SigningKey::Rsa, "ES256", "rsa-1"),
        (SigningKey::Rsa, "EdDSA", "rsa-1"),
        (SigningKey::Rsa, "RS256", "ec-1"),
        (SigningKey::Ec, "RS256", "ec-1"),
        (SigningKey::Ed, "ES256", "ed-1"),
        // The key names RS256 as its one algorithm.
        (SigningKey::Rsa, "PS256", "rsa-1"),
    ] {
        api.refuses(
            |token| {
                token.signing = key;
                token.set_header("alg", alg);
                token.set_header("kid", kid);
            },
            UNKNOWN,
            &format!("the provider's key set has no key for {alg} named {kid:?}"),
        )
        .await;
    }
    for alg in ["HS384", "HS512", "ES256K", "RSA-OAEP", "rs256", " RS256", ""] {
        api.refuses(
            |token| token.set_header("alg", alg),
            NOT_ACCEPTED,
            &format!("the token is signed with {alg:?}, which is never accepted"),
        )
        .await;
    }
    // Known, and not listed by the metadata.
    api.refuses(
        |token| token.set_header("alg", "RS512"),
        NOT_ACCEPTED,
        "the token is signed with RS512, expected RS256, PS256, ES256, EdDSA",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_with_a_truncated_signature() {
    let api = Api::open().await;
    let (header, claims, signature) = accepted_parts(&api);
    for length in [0, 4, signature.len() / 8 * 4, signature.len() - 2] {
        let raw = format!("{header}.{claims}.{}", &signature[..length]);
        refuses_raw(&api, raw, WRONG, "the RS256 signature of the token is wrong").await;
    }
    for odd in [
        format!("{signature}="),
        format!("{signature}=="),
        signature.replace(['A', 'B', 'C', 'D'], "+"),
        signature[..signature.len() / 4 * 4 - 3].to_owned(),
    ] {
        let raw = format!("{header}.{claims}.{odd}");
        let logged = "the signature of the token is not base64url without padding";
        refuses_raw(&api, raw, MALFORMED, logged).await;
    }
    let twice = format!("{header}.{claims}.{signature}{signature}");
    let logged = "the RS256 signature of the token is wrong";
    refuses_raw(&api, twice, WRONG, logged).await;
}

/// Zeros are no signature (CVE-2022-21449), in ECDSA or elsewhere.
#[rocket::async_test]
async fn access_token_signed_with_zeros() {
    let api = Api::open().await;
    for (alg, kid, length) in [("ES256", "ec-1", 64), ("EdDSA", "ed-1", 64), ("RS256", "rsa-1", 256)] {
        for byte in [0, 1, 255] {
            let mut token = String::new();
            api.provider.access_token("notes:read", |parts| {
                parts.set_header("alg", alg);
                parts.set_header("kid", kid);
                parts.strip_signature = true;
                token = parts.compact();
            });
            token.push_str(&base64url(vec![byte; length]));
            let logged = format!("the {alg} signature of the token is wrong");
            refuses_raw(&api, token, WRONG, &logged).await;
        }
    }
}

/// What is signed is the text that was sent.
#[rocket::async_test]
async fn access_token_of_parts_of_several_tokens() {
    let api = Api::open().await;
    let (header, claims, signature) = accepted_parts(&api);
    let (_, other_claims, other_signature) = accepted_parts(&api);
    let with_typ = |typ: &str| base64url(json!({"alg": "RS256", "kid": "rsa-1", "typ": typ}).to_string());
    for raw in [
        format!("{header}.{other_claims}.{signature}"),
        format!("{header}.{claims}.{other_signature}"),
        format!("{}.{claims}.{signature}", with_typ("JWT")),
    ] {
        refuses_raw(&api, raw, WRONG, "the RS256 signature of the token is wrong").await;
    }
}

#[rocket::async_test]
async fn access_token_of_another_number_of_parts() {
    let api = Api::with(jwt_only()).await;
    let (header, claims, signature) = accepted_parts(&api);
    for (raw, parts) in [
        (header.clone(), 1),
        (format!("{header}.{claims}"), 2),
        (format!("{header}.{claims}.{signature}."), 4),
        (format!("{header}..{claims}.{signature}.{signature}"), 5),
    ] {
        let logged = format!("expected a signed JWT of 3 parts, found {parts}");
        refuses_raw(&api, raw, MALFORMED, &logged).await;
    }
    let unreadable = |text: &str| format!("{text}.{claims}.{signature}");
    for (header, logged) in [
        (
            "",
            "the header of the token cannot be parsed: not valid JSON: parsing failed at line 1, column 0",
        ),
        (
            "W10",
            "the header of the token cannot be parsed: expected a JSON object, found an array",
        ),
        ("~~~~", "the header of the token is not base64url without padding"),
    ] {
        refuses_raw(&api, unreadable(header), MALFORMED, logged).await;
    }
}

#[rocket::async_test]
async fn access_token_with_an_odd_header() {
    let api = Api::open().await;
    type Change = fn(&mut JwtParts);
    let cases: [(Change, &str); 6] = [
        (
            |token| token.remove_header("alg"),
            "the header of the token has no \"alg\"",
        ),
        (
            |token| token.set_header("alg", json!(["RS256"])),
            "the header member \"alg\" of the token is an array, not a string",
        ),
        (
            |token| token.set_header("kid", 1),
            "the header member \"kid\" of the token is a number, not a string",
        ),
        (
            |token| token.set_header("typ", json!(null)),
            "the header member \"typ\" of the token is null, not a string",
        ),
        (
            |token| token.set_header("crit", json!([])),
            "the token requires header extensions (\"crit\"), of which none is supported",
        ),
        (
            |token| {
                let header = json!(token.header).to_string();
                token.raw_header = Some(header.replacen('{', "{\"alg\":\"none\",", 1));
            },
            "the header of the token cannot be parsed: the member \"alg\" occurs more than once in one JSON object",
        ),
    ];
    for (change, logged) in cases {
        api.refuses(change, MALFORMED, logged).await;
    }
    for (claims, logged) in [
        ("[]", "expected a JSON object, found an array"),
        ("", "not valid JSON: parsing failed at line 1, column 0"),
        ("{} x", "not valid JSON: parsing failed at line 1, column 4"),
    ] {
        let logged = format!("the payload of the token cannot be parsed: {logged}");
        let change = |token: &mut JwtParts| token.raw_claims = Some(claims.to_owned());
        api.refuses(change, MALFORMED, &logged).await;
    }
}

/// A key in the header is never used, not even beside the name of a key of the provider.
#[rocket::async_test]
async fn access_token_that_brings_a_key_under_a_known_name() {
    let api = Api::open().await;
    for member in ["jwk", "x5c"] {
        for kid in [Some("rsa-1"), None] {
            api.refuses(
                |token| {
                    token.signing = SigningKey::Foreign;
                    let jwk = SigningKey::Foreign.jwk();
                    token.set_header(member, if member == "jwk" { jwk } else { json!(["MIIB"]) });
                    match kid {
                        Some(kid) => token.set_header("kid", kid),
                        None => token.remove_header("kid"),
                    }
                },
                WRONG,
                "the RS256 signature of the token is wrong",
            )
            .await;
        }
    }
}

/// Only the header counts (RFC 6750 §2.2 and §2.3 are not offered).
#[rocket::async_test]
async fn a_token_elsewhere_is_no_token() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |_| ());
    let bare = Answer {
        status: 401,
        challenge: Some(format!("Bearer realm=\"api\", scope=\"notes:read\", {METADATA}")),
        retry_after: None,
        body: "no".to_owned(),
    };
    let in_form = api
        .client
        .post("/notes")
        .header(ContentType::Form)
        .body(format!("access_token={token}"));
    let in_cookie = api
        .client
        .get("/notes")
        .cookie(Cookie::new("access_token", token.clone()));
    let proxied = api.client.get("/notes").header(rocket::http::Header::new(
        "Proxy-Authorization",
        format!("Bearer {token}"),
    ));
    for request in [in_form, in_cookie, proxied] {
        assert_eq!(Answer::to(request).await, bare);
    }
    let written = api
        .client
        .post("/notes")
        .header(rocket::http::Header::new("Authorization", format!("Bearer {token}")))
        .body("a note");
    assert_eq!(Answer::to(written).await.body, "a note");
}

/// What was refused once is refused again, and makes nothing else accepted.
#[rocket::async_test]
async fn a_refused_token_is_not_cached_as_accepted() {
    let api = Api::open().await;
    let good = api.provider.access_token("notes:read", |_| ());
    let (input, _) = good.rsplit_once('.').unwrap();
    let bad = format!("{input}.AAAA");
    for _ in 0..3 {
        assert_eq!(api.call("/notes", &bad).await, refused(WRONG));
        assert_eq!(api.call("/notes", &good).await.status, 200);
    }
}

/// However much of it is the token that is remembered.
#[rocket::async_test]
async fn no_mutation_of_a_cached_token_is_accepted() {
    let api = Api::open().await;
    let good = api.provider.access_token("notes:read", |_| ());
    for _ in 0..2 {
        assert_eq!(api.call("/notes", &good).await.status, 200);
    }
    for place in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_eq!(api.call("/notes", &changed).await.status, 401, "{place}");
    }
    for changed in [&good[1..], &good[..good.len() - 1], &format!("A{good}")] {
        assert_eq!(api.call("/notes", changed).await.status, 401);
    }
    assert_eq!(api.call("/notes", &good).await.status, 200);
}
