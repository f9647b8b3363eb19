//! The client's own keys: several in a JWK Set, published for the provider, and the app's own signer.

mod publication;
mod retries;
mod signer;

use aws_lc_rs::{
    encoding::{AsBigEndian, Curve25519SeedBin},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::{
    http::Status,
    serde::json::{Value, json},
};

use crate::{
    common::{App, launch_failure, signed_in},
    support::{RecordedRequest, TestProvider},
};

/// A key of the client.
struct Key {
    pair: Ed25519KeyPair,
    kid: &'static str,
}

impl Key {
    fn new(kid: &'static str) -> Key {
        let pair = Ed25519KeyPair::generate().unwrap();
        Key { pair, kid }
    }

    fn public(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid })
    }

    fn private(&self) -> Value {
        let d: Curve25519SeedBin<'_> = self.pair.seed().unwrap().as_be_bytes().unwrap();
        let mut jwk = self.public();
        jwk["d"] = URL_SAFE_NO_PAD.encode(d.as_ref()).into();
        jwk
    }

    /// As the app publishes it.
    fn published(&self) -> Value {
        let mut jwk = self.public();
        jwk["use"] = "sig".into();
        jwk["alg"] = "EdDSA".into();
        jwk
    }
}

/// A file with a JWK Set.
fn file(keys: &[Value]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({ "keys": keys }).to_string()).unwrap();
    file
}

/// The claims of a request's assertion, which this key signed and whose header names it.
#[track_caller]
fn claims(request: &RecordedRequest, key: &Key) -> Value {
    let assertion = request.form_value("client_assertion").expect("an assertion");
    let (input, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header, json!({ "typ": "JWT", "alg": "EdDSA", "kid": key.kid }));
    UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref())
        .verify(input.as_bytes(), &decode(signature))
        .expect("the signature of this key");
    serde_json::from_slice(&decode(claims)).unwrap()
}

#[rocket::async_test]
async fn the_first_key_of_a_set_that_can_sign_signs() {
    let provider = TestProvider::start().await;
    let [old, active, next] = ["old", "active", "next"].map(Key::new);
    let file = file(&[old.public(), active.private(), next.private()]);
    let app = App::public(&provider).with("oidc.private_key_file", file.path());
    signed_in(&app, &provider).await;
    claims(&provider.last_request("/token"), &active);
}

#[rocket::async_test]
async fn a_set_that_contradicts_the_other_settings_stops_the_launch() {
    let provider = TestProvider::start().await;
    let [one, two] = ["one", "two"].map(Key::new);
    let set = file(&[one.private(), two.private()]);
    let app = App::public(&provider).with("oidc.private_key_file", set.path());
    let same = app.clone().with("oidc.private_key_id", "one");
    same.open().await.visit("/").await.is(Status::Ok);
    let shown = set.path().display();
    let (_, log) = launch_failure(app.with("oidc.private_key_id", "two").rocket()).await;
    let cause = format!("the key of the JWK Set `{shown}` that signs, its first one, has the `kid` \"one\"");
    assert!(log[0].contains(&cause), "{log:?}");
    assert_eq!(
        log[1],
        "INFO: remove `private_key_id`; to sign with another key, move it to the beginning of the JWK Set"
    );
}

#[rocket::async_test]
async fn an_unusable_set_is_named_by_file_and_kid_and_never_by_content() {
    let provider = TestProvider::start().await;
    let [one, two] = ["one", "two"].map(Key::new);
    let mut broken = two.private();
    broken["x"] = "hush".into();
    let mut same = two.private();
    same["kid"] = "one".into();
    for (keys, cause) in [
        (
            vec![one.private(), broken],
            "the key \"two\" of the JWK Set is not usable",
        ),
        (
            vec![one.private(), same],
            "two keys of the JWK Set have the `kid` \"one\"",
        ),
        (vec![one.public()], "no key of the JWK Set can sign"),
    ] {
        let set = file(&keys);
        let app = App::public(&provider).with("oidc.private_key_file", set.path());
        let (_, log) = launch_failure(app.rocket()).await;
        let shown = set.path().display();
        let expected = format!("`{shown}` is not a usable private key: {cause}");
        assert!(log[0].contains(&expected), "{log:?}");
        let all = log.concat();
        for secret in [one.private(), two.private()] {
            assert!(!all.contains(secret["d"].as_str().unwrap()), "{all}");
        }
        assert!(!all.contains("hush"), "{all}");
    }
}
