//! A provider that costs nothing: fixed answers on a thread of its own, and tokens of every kind.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub const AUDIENCE: &str = "https://api.example.com";

/// The keys, and the address that they are published at.
pub struct Issuer {
    pub url: String,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    /// So many keys are published beside the three.
    further_keys: usize,
    /// While it is, connections are closed as they come.
    is_down: AtomicBool,
    refreshes: AtomicUsize,
}

impl Issuer {
    /// Listens on a free port of the loopback.
    pub fn start(further_keys: usize) -> Arc<Issuer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Arc::new(Issuer {
            url: format!("http://{}", listener.local_addr().unwrap()),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
            further_keys,
            is_down: AtomicBool::new(false),
            refreshes: AtomicUsize::new(0),
        });
        let answering = issuer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answering.answer(stream);
            }
        });
        issuer
    }

    /// Goes away, or comes back.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// How many refreshes it has granted.
    pub fn refreshes(&self) -> usize {
        self.refreshes.load(Ordering::Relaxed)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        if self.is_down.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.to_ascii_lowercase();
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
                Some(_) => {}
                None => break,
            }
        }
        let mut form = vec![0; length];
        reader.read_exact(&mut form)?;
        let body = self.reply(&path, &form).to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn reply(&self, path: &str, form: &[u8]) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        match path {
            "/jwks" => self.key_set(),
            "/token" => {
                let form = url::form_urlencoded::parse(form).into_owned();
                let form: HashMap<String, String> = form.collect();
                let mut reply = json!({ "access_token": "opaque", "token_type": "Bearer" });
                // The refresh token says how long its access tokens live.
                if let Some(seconds) = form.get("refresh_token") {
                    self.refreshes.fetch_add(1, Ordering::Relaxed);
                    reply["expires_in"] = seconds.as_str().into();
                    return reply;
                }
                // The code says what the ID token is to hold, a nonce and a number of bytes, how long
                // access tokens live, if they are to be refreshed, and who signs in.
                let code = form.get("code").map(String::as_str).unwrap_or_default();
                let mut parts = code.split('.');
                let mut next = || parts.next().unwrap_or_default();
                let (nonce, size, seconds, user) = (next(), next(), next(), next());
                let sub = if user.is_empty() { "alice" } else { user };
                if !seconds.is_empty() {
                    reply["expires_in"] = seconds.into();
                    reply["refresh_token"] = seconds.into();
                }
                let filler = "x".repeat(size.parse().unwrap_or(0));
                let id_token = self.rs256(&json!({
                    "iss": self.url, "aud": "client", "sub": sub, "nonce": nonce,
                    "iat": now(), "exp": now() + 3600, "filler": filler,
                }));
                reply["id_token"] = id_token.into();
                reply
            }
            _ => json!({
                "issuer": self.url,
                "authorization_endpoint": at("/authorize"),
                "token_endpoint": at("/token"),
                "jwks_uri": at("/jwks"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
            }),
        }
    }

    pub fn key_set(&self) -> Value {
        let n = self.rsa.public_key().modulus();
        let e = self.rsa.public_key().exponent();
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        let further = (0..self.further_keys).map(|i| {
            let key = Ed25519KeyPair::generate().unwrap();
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": format!("other-{i}"),
                    "x": base64url(key.public_key()) })
        });
        let own = [
            json!({ "kty": "RSA", "kid": "rsa", "n": base64url(n.big_endian_without_leading_zero()),
                    "e": base64url(e.big_endian_without_leading_zero()) }),
            json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "x": base64url(x), "y": base64url(y) }),
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed",
                    "x": base64url(self.ed.public_key()) }),
        ];
        json!({ "keys": further.chain(own).collect::<Vec<_>>() })
    }

    /// The claims of RFC 9068 §2.2, with values of the length that providers give them.
    pub fn claims(&self, jti: usize) -> Value {
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "4f5b1c1e-8c3a-4b7e-9d2f-0a1b2c3d4e5f",
            "client_id": "notes-frontend", "scope": "openid profile email notes:read notes:write",
            "iat": now(), "exp": now() + 3600, "jti": format!("at-{jti:032}"),
        })
    }

    pub fn rs256(&self, claims: &Value) -> String {
        let random = SystemRandom::new();
        Self::compact("RS256", "rsa", claims, |message| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                .unwrap();
            signature
        })
    }

    pub fn es256(&self, claims: &Value) -> String {
        let random = SystemRandom::new();
        Self::compact("ES256", "ec", claims, |message| {
            self.ec.sign(&random, message).unwrap().as_ref().to_vec()
        })
    }

    pub fn eddsa(&self, claims: &Value) -> String {
        Self::compact("EdDSA", "ed", claims, |message| self.ed.sign(message).as_ref().to_vec())
    }

    /// A token with this signature.
    pub fn compact(alg: &str, kid: &str, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let header = json!({ "alg": alg, "kid": kid, "typ": "at+jwt" });
        let header = match claims.get("nonce") {
            Some(_) => json!({ "alg": alg, "kid": kid, "typ": "JWT" }),
            None => header,
        };
        let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = base64url(sign(input.as_bytes()));
        format!("{input}.{signature}")
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}
