//! RSA keys by their size: the same tokens, each really signed by keys of 1,024 bits and more, so that
//! nothing but the size decides. Of 2,048 bits (RFC 7518 §3.3) they are accepted. An ID token needs the nonce
//! of its attempt, which nobody chooses: the unit tests of ID tokens have that case.
//!
//! `rsa_sizes.json` has the public keys and the signatures, of RS256. `openssl genrsa` made the keys and
//! `openssl dgst -sha256 -sign` the signatures; the private keys are nowhere.

use aws_lc_rs::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::http::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bearer::app::{Api, refused},
    common::Log,
    rejections::{self, Launched, is_accepted, is_refused},
    support::{Callback, Page, Reply, SigningKey, TestProvider, case, keys::base64url},
};

/// The issuer of all tokens here, whose metadata is where a setting says.
const ISSUER: &str = "https://op.example";

const HEADER: &str = r#"{"alg":"RS256","kid":"rsa"}"#;
const USER_INFO: &str = r#"{"iss":"https://op.example","sub":"alice","aud":"client","email":"alice@example.com"}"#;
const LOGOUT_HEADER: &str = r#"{"alg":"RS256","kid":"rsa","typ":"logout+jwt"}"#;
const LOGOUT_TOKEN: &str = r#"{"iss":"https://op.example","sub":"alice","aud":"client","jti":"logout-1","events":{"http://schemas.openid.net/event/backchannel-logout":{}},"iat":1700000000,"exp":1700000120}"#;
const ACCESS_HEADER: &str = r#"{"alg":"RS256","kid":"rsa","typ":"at+jwt"}"#;
const ACCESS_TOKEN: &str = r#"{"iss":"https://op.example","sub":"alice","aud":"https://api.example.com","client_id":"client","scope":"notes:read","jti":"access-1","iat":1700000000,"exp":1700000300}"#;

/// A public key, and its signatures of the tokens above.
#[derive(Deserialize)]
struct RsaKey {
    bits: usize,
    n: String,
    user_info: String,
    logout_token: String,
    access_token: String,
}

impl RsaKey {
    /// Of 1,024, 2,040, 2,047 and 2,048 bits.
    fn all() -> Vec<RsaKey> {
        let keys: Vec<RsaKey> = serde_json::from_str(include_str!("rsa_sizes.json")).unwrap();
        let sizes: Vec<_> = keys.iter().map(|key| key.bits).collect();
        assert_eq!(sizes, [1024, 2040, 2047, 2048]);
        keys
    }

    /// The token in its compact form, whose signature holds.
    fn signed(&self, header: &str, claims: &str, signature: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let n = decoded(&self.n);
        assert_eq!(n.len() * 8 - n[0].leading_zeros() as usize, self.bits);
        RsaPublicKeyComponents { n, e: vec![1, 0, 1] }
            .verify(
                &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
                message.as_bytes(),
                &decoded(signature),
            )
            .expect("the signature holds");
        format!("{message}.{signature}")
    }

    fn is_long_enough(&self) -> bool {
        self.bits >= 2048
    }

    /// A provider that publishes this key beside its own.
    async fn provider(&self) -> TestProvider {
        let provider = TestProvider::start().await;
        provider.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(ISSUER))));
        provider.on_id_token(|token| token.set("iss", ISSUER));
        let key = json!({ "kty": "RSA", "kid": "rsa", "n": self.n, "e": "AQAB" });
        let keys = json!({ "keys": [SigningKey::Rsa.jwk(), key] });
        provider.on_path("/jwks", Reply::json(keys));
        case(&format!("a key of {} bits", self.bits));
        provider
    }

    /// The log says why the key is not used, if it is not.
    #[track_caller]
    fn is_judged_by_its_size(&self, log: &Log) {
        let said = "DEBUG: a key of the provider is not used: ";
        let lines = log.debug_lines();
        let mut said: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(said)).collect();
        // A key that is not there is looked for once more.
        said.dedup();
        let size = format!("the RSA modulus has {} bits, not 2048 to 8192", self.bits);
        if self.is_long_enough() {
            assert_eq!(said, [""; 0]);
        } else {
            assert_eq!(said, [size], "{lines:#?}");
        }
    }
}

/// Where the metadata of [`ISSUER`] is.
fn settings(provider: &TestProvider) -> Value {
    let url = format!("{}{}", provider.issuer(), TestProvider::DISCOVERY);
    json!({ "issuer": ISSUER, "server_metadata_url": url })
}

async fn launch(provider: &TestProvider) -> Launched {
    rejections::launch(provider, settings(provider)).await
}

/// Begins to sign in.
async fn begin(app: &Launched, provider: &TestProvider) -> Callback {
    let callback = app.browser.begin_sign_in(provider, "/me").await;
    callback.set("iss", ISSUER)
}

/// Signs in, as far as it goes.
async fn finish(app: &Launched, provider: &TestProvider, callback: Callback) -> Page {
    let arriving = callback.path_and_query();
    let page = app.browser.arrive_from_provider(&arriving).await;
    app.browser.follow(provider, page).await
}

/// What a sign-in comes to.
async fn ends_by_the_size(key: &RsaKey, app: &Launched, page: &Page, refused: &str) {
    if key.is_long_enough() {
        is_accepted(app, page).await;
    } else {
        let error = format!("{refused} the provider's key set has no usable key \"rsa\"");
        is_refused(app, page, 502, &error).await;
    }
}

#[rocket::async_test]
async fn user_info_by_a_key_of_each_size() {
    for key in RsaKey::all() {
        let provider = key.provider().await;
        let user_info = key.signed(HEADER, USER_INFO, &key.user_info);
        provider.user_info_as_jwt(move |jwt| jwt.raw = Some(user_info.clone()));
        let app = launch(&provider).await;
        let log = Log::listen();
        let callback = begin(&app, &provider).await;
        let page = finish(&app, &provider, callback).await;
        let refused = "the UserInfo response is rejected:";
        ends_by_the_size(&key, &app, &page, refused).await;
        key.is_judged_by_its_size(&log);
    }
}

#[rocket::async_test]
async fn logout_token_by_a_key_of_each_size() {
    for key in RsaKey::all() {
        let provider = key.provider().await;
        let app = launch(&provider).await;
        let log = Log::listen();
        let callback = begin(&app, &provider).await;
        let page = finish(&app, &provider, callback).await;
        is_accepted(&app, &page).await;

        let token = key.signed(LOGOUT_HEADER, LOGOUT_TOKEN, &key.logout_token);
        let answer = app.browser.post_logout_token(&token).await;
        let visitor: Value = app.browser.visit("/").await.json();
        if key.is_long_enough() {
            assert_eq!((answer.status, &*answer.body), (200, ""));
            assert_eq!(visitor, json!({ "logged_in": false, "user": null }));
        } else {
            answer.is(Status::BadRequest);
            assert_eq!(
                answer.json::<Value>(),
                json!({
                    "error": "invalid_request",
                    "error_description": "the logout token is rejected: \
                        the provider's key set has no usable key \"rsa\"",
                })
            );
            assert_eq!(visitor["user"]["sub"], "alice");
        }
        key.is_judged_by_its_size(&log);
    }
}

#[rocket::async_test]
async fn access_token_by_a_key_of_each_size() {
    for key in RsaKey::all() {
        let provider = key.provider().await;
        let settings = settings(&provider);
        let api = Api::at(provider, settings).await;
        let token = key.signed(ACCESS_HEADER, ACCESS_TOKEN, &key.access_token);
        let log = Log::listen();
        let answer = api.call("/notes", &token).await;
        if key.is_long_enough() {
            assert_eq!((answer.status, &*answer.body), (200, "notes of Some(\"alice\")"));
        } else {
            assert_eq!(answer, refused("the token is signed with an unknown key"));
            log.has(
                "DEBUG: the access token is rejected: \
                 the provider's key set has no usable key \"rsa\"",
            );
        }
        key.is_judged_by_its_size(&log);
    }
}
