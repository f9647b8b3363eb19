use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::token::{Jws, KeySet};

const LONGEST: Duration = Duration::from_secs(10);

/// What the key service does.
#[derive(Clone, Copy)]
enum Does {
    Signs,
    ReturnsDer,
    Fails,
    Panics,
    Hangs,
}

type Change<'a> = &'a dyn Fn(&mut Service);

struct Service {
    pkcs8: Vec<u8>,
    does: Does,
    jwk: Value,
    alg: &'static str,
    kid: &'static str,
    others: Vec<Value>,
}

impl Service {
    fn new(does: Does) -> Service {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        Service {
            jwk: json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }),
            pkcs8: key.to_pkcs8v1().unwrap().as_ref().to_vec(),
            does,
            alg: "ES256",
            kid: "hsm-1",
            others: vec![],
        }
    }

    fn signature(&self, algorithm: &'static EcdsaSigningAlgorithm, input: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).unwrap();
        key.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()
    }

    fn attach(self) -> Result<AttachedSigner, String> {
        AttachedSigner::new(Arc::new(self))
    }
}

#[rocket::async_trait]
impl ClientSigner for Service {
    fn alg(&self) -> &str {
        self.alg
    }

    fn kid(&self) -> &str {
        self.kid
    }

    fn public_jwk(&self) -> Value {
        self.jwk.clone()
    }

    fn other_public_jwks(&self) -> Vec<Value> {
        self.others.clone()
    }

    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        tokio::task::yield_now().await;
        match self.does {
            Does::Signs => Ok(self.signature(&ECDSA_P256_SHA256_FIXED_SIGNING, input)),
            Does::ReturnsDer => Ok(self.signature(&ECDSA_P256_SHA256_ASN1_SIGNING, input)),
            Does::Fails => Err("the key is disabled\nforged line".into()),
            Does::Panics => panic!("the driver of the module"),
            Does::Hangs => std::future::pending().await,
        }
    }
}

async fn failure(does: Does) -> SignerFailure {
    let signer = Service::new(does).attach().unwrap();
    signer.sign("JWT", &json!({}), LONGEST).await.unwrap_err()
}

#[tokio::test]
async fn a_signature_of_the_service_is_verified_by_the_published_key() {
    let signer = Service::new(Does::Signs).attach().unwrap();
    let token = signer.sign("JWT", &json!({ "iss": "app" }), LONGEST).await.unwrap();
    let keys = json!({ "keys": [signer.published()[0].jwk()] }).to_string();
    let keys = KeySet::parse(keys.as_bytes()).unwrap();
    let jws = Jws::parse(token.expose()).unwrap();
    assert_eq!((jws.kid(), jws.typ()), (Some("hsm-1"), Some("JWT")));
    let verified = jws.verify(&keys, &[SigningAlgorithm::ES256], None).unwrap();
    assert_eq!(verified.claims["iss"], "app");
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_service_are_typed() {
    assert_eq!(
        failure(Does::Fails).await,
        SignerFailure::Error("the key is disabled\\nforged line".to_owned())
    );
    assert_eq!(failure(Does::Panics).await, SignerFailure::Panic);
    assert_eq!(failure(Does::Hangs).await, SignerFailure::Timeout { after: LONGEST });
    let SignerFailure::Length { alg, expected, actual } = failure(Does::ReturnsDer).await else {
        panic!("DER was accepted");
    };
    assert_eq!((alg, expected), ("ES256", 64));
    assert!((68..=72).contains(&actual), "{actual}");
}

#[test]
fn a_signer_that_is_not_what_it_says_is_rejected() {
    let other = Service::new(Does::Signs).jwk;
    let further = |members: Value| {
        let mut jwk = other.clone();
        jwk.as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        jwk
    };
    let cases: [(Change<'_>, &str); 6] = [
        (
            &|service| service.jwk["d"] = "aHVzaA".into(),
            "its public JWK is not usable: the key is a private key",
        ),
        (
            &|service| service.alg = "RS256",
            "its public JWK is not usable: the algorithm \"RS256\" is not one that this kind of key verifies here",
        ),
        (&|service| service.alg = "none", "its `alg` \"none\" is not supported"),
        (&|service| service.kid = " ", "its `kid` is empty"),
        (
            &|service| service.others = vec![further(json!({ "kid": "hsm-2" }))],
            "a further public key has no `alg`",
        ),
        (
            &|service| service.others = vec![further(json!({ "kid": "hsm-1", "alg": "ES256" }))],
            "two of its public keys have the `kid` \"hsm-1\"",
        ),
    ];
    for (change, expected) in cases {
        let mut service = Service::new(Does::Signs);
        change(&mut service);
        assert_eq!(service.attach().unwrap_err(), expected);
    }
    let mut service = Service::new(Does::Signs);
    service.others = vec![further(json!({ "kid": "hsm-2", "alg": "ES256", "use": "sig" }))];
    let signer = service.attach().unwrap();
    let kids: Vec<_> = signer.published().iter().map(PublicKey::kid).collect();
    assert_eq!(kids, ["hsm-1", "hsm-2"]);
    assert_eq!(
        format!("{signer:?}"),
        "AttachedSigner { alg: ES256, kid: \"hsm-1\", .. }"
    );
}
