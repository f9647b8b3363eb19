//! The test provider's judge of DPoP proofs (RFC 9449), independent of that of the crate.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::endpoints::State;
use super::http::{RecordedRequest, Reply};
use super::keys::sha256_base64url;
use super::lock;
use super::provider::TestProvider;

impl RecordedRequest {
    /// Header and claims of the request's proof, whose signature is right.
    pub fn proof(&self) -> Option<(Value, Value)> {
        let proof = self.header("dpop")?;
        Some(verified(proof).unwrap_or_else(|fault| panic!("{fault}: {proof}")))
    }

    /// The thumbprint of the key of its proof.
    pub fn proved_key(&self) -> Option<String> {
        Some(thumbprint(&self.proof()?.0["jwk"]))
    }

    /// The token of the scheme `DPoP` in the `Authorization` header.
    pub fn dpop_token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("DPoP ")
    }
}

impl TestProvider {
    /// Binds tokens to keys, which its metadata says.
    pub fn bind_tokens(&self, algorithms: &[&str]) {
        self.metadata(|metadata| {
            metadata.insert("dpop_signing_alg_values_supported".into(), json!(algorithms));
        });
    }

    /// Demands this nonce in proofs from now on, at the token endpoint and at UserInfo.
    pub fn demand_nonce(&self, nonce: &str) {
        self.script().nonce = Some(nonce.to_owned());
    }
}

impl State {
    /// The thumbprint of the key that a request proves; `None` without a proof.
    pub(super) fn proved_key(&self, request: &RecordedRequest, token: Option<&str>) -> Result<Option<String>, Reply> {
        let proofs = request.headers.iter().filter(|(name, _)| name == "dpop");
        let proofs: Vec<_> = proofs.map(|(_, value)| value).collect();
        let [proof] = &proofs[..] else {
            return if proofs.is_empty() {
                Ok(None)
            } else {
                Err(invalid("several proofs"))
            };
        };
        let (header, claims) = verified(proof).map_err(|fault| invalid(&fault))?;
        let htu = format!("{}{}", self.issuer(), request.path);
        let ath = token.map(sha256_base64url);
        for (name, expected) in [
            ("htm", json!(request.method)),
            ("htu", json!(htu)),
            ("ath", json!(ath)),
            ("iat", json!(self.now())),
        ] {
            if claims[name] != expected {
                return Err(invalid(&format!("{name} is {}, expected {expected}", claims[name])));
            }
        }
        let jti = claims["jti"].as_str().unwrap_or("");
        if jti.len() < 22 || !lock(&self.grants).proofs.insert(jti.to_owned()) {
            return Err(invalid("jti is short, or was used before"));
        }
        let nonce = lock(&self.script).nonce.clone();
        if let Some(nonce) = nonce.filter(|nonce| claims["nonce"] != json!(nonce)) {
            return Err(Reply::error(400, "use_dpop_nonce", "another nonce").with_header("DPoP-Nonce", &nonce));
        }
        Ok(Some(thumbprint(&header["jwk"])))
    }
}

fn invalid(fault: &str) -> Reply {
    Reply::error(400, "invalid_dpop_proof", fault)
}

/// Header and claims of a proof.
fn verified(proof: &str) -> Result<(Value, Value), String> {
    let (input, signature) = proof.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = input.split_once('.').ok_or("not a JWT")?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string());
    let parse = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).map_err(|error| error.to_string());
    let (header, claims) = (parse(header)?, parse(claims)?);
    let jwk = &header["jwk"];
    let bytes = |name: &str| decode(jwk[name].as_str().unwrap_or(""));
    let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match header["alg"].as_str() {
        Some("ES256") => (&ECDSA_P256_SHA256_FIXED, [vec![4], bytes("x")?, bytes("y")?].concat()),
        Some("EdDSA" | "Ed25519") => (&ED25519, bytes("x")?),
        other => return Err(format!("alg {other:?}")),
    };
    if header["typ"] != "dpop+jwt" || jwk.get("d").is_some() {
        return Err("wrong header".to_owned());
    }
    UnparsedPublicKey::new(algorithm, key)
        .verify(input.as_bytes(), &decode(signature)?)
        .map_err(|_| "wrong signature".to_owned())?;
    Ok((header, claims))
}

/// RFC 7638 §3.
fn thumbprint(jwk: &Value) -> String {
    let text = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
    let (crv, x, y) = (text("crv"), text("x"), text("y"));
    sha256_base64url(&match &*text("kty") {
        "EC" => format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#),
        _ => format!(r#"{{"crv":"{crv}","kty":"OKP","x":"{x}"}}"#),
    })
}
