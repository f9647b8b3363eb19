//! What no guard can do without, by itself: one signature, or one header in the answer.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, VerificationAlgorithm,
    },
};
use rocket::{
    Build, Request, Rocket,
    fairing::AdHoc,
    get,
    http::{Header, Status},
    request::{FromRequest, Outcome},
    routes,
};

/// As long as what is signed of the token in the other cases.
const MESSAGE: [u8; 430] = [b'a'; 430];

/// RS256, ES256 and EdDSA.
struct Signatures([(ParsedPublicKey, Vec<u8>); 3]);

/// One of [`Signatures`], verified.
struct Signed<const ALGORITHM: usize>;

#[rocket::async_trait]
impl<'r, const ALGORITHM: usize> FromRequest<'r> for Signed<ALGORITHM> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let (key, signature) = &request.rocket().state::<Signatures>().unwrap().0[ALGORITHM];
        match key.verify_sig(&MESSAGE, signature) {
            Ok(()) => Outcome::Success(Signed),
            Err(_) => Outcome::Error((Status::Unauthorized, ())),
        }
    }
}

#[get("/signed/rs256")]
fn rs256(_signed: Signed<0>) -> &'static str {
    "hello"
}

#[get("/signed/es256")]
fn es256(_signed: Signed<1>) -> &'static str {
    "hello"
}

#[get("/signed/eddsa")]
fn eddsa(_signed: Signed<2>) -> &'static str {
    "hello"
}

/// A guard that only refuses.
#[derive(Debug)]
struct Refused;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Refused {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Refused, ()> {
        Outcome::Error((Status::Unauthorized, ()))
    }
}

#[get("/refused")]
fn refused(_refused: Refused) {}

#[get("/challenged")]
fn challenged(_refused: Refused) {}

/// Adds these routes, and the header.
pub fn routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket
        .mount("/", routes![rs256, es256, eddsa, refused, challenged])
        .manage(Signatures::new())
        .attach(AdHoc::on_response("Challenge", |request, response| {
            Box::pin(async move {
                if request.uri().path() == "/challenged" {
                    let challenge = Header::new("WWW-Authenticate", r#"Bearer realm="example""#);
                    response.adjoin_header(challenge);
                }
            })
        }))
}

impl Signatures {
    fn new() -> Signatures {
        let random = SystemRandom::new();
        let parsed =
            |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| ParsedPublicKey::new(algorithm, key).unwrap();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let mut by_rsa = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, &MESSAGE, &mut by_rsa).unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let by_ec = ec.sign(&random, &MESSAGE).unwrap().as_ref().to_vec();
        let ed = Ed25519KeyPair::generate().unwrap();
        let by_ed = ed.sign(&MESSAGE).as_ref().to_vec();
        Signatures([
            (parsed(&RSA_PKCS1_2048_8192_SHA256, rsa.public_key().as_ref()), by_rsa),
            (parsed(&ECDSA_P256_SHA256_FIXED, ec.public_key().as_ref()), by_ec),
            (parsed(&ED25519, ed.public_key().as_ref()), by_ed),
        ])
    }
}
