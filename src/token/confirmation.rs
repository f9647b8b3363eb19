//! The confirmation of an access token, `cnf`: the key or the certificate that its sender must prove to have.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{AccessTokenError, json::type_name, parse_object, parts_of, purpose::is_dpop_token};
use crate::printable::excerpt;

/// What the token is bound to; nothing for a bearer token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// `jkt`: the thumbprint of the key of proofs
    /// ([RFC 9449 §6](https://www.rfc-editor.org/rfc/rfc9449#section-6)).
    pub(crate) key: Option<String>,
    /// `x5t#S256`: the thumbprint of the client certificate
    /// ([RFC 8705 §3.1](https://www.rfc-editor.org/rfc/rfc8705#section-3.1)).
    pub(crate) certificate: Option<String>,
}

impl Confirmation {
    /// Reads `cnf`.
    ///
    /// A token whose confirmation cannot be proved here is rejected: `cnf` with another member, alone or beside these, or a
    /// token of the type `DPoP` that names no key.
    pub(crate) fn of(claims: &Map<String, Value>) -> Result<Confirmation, AccessTokenError> {
        let refused = |cause: String| Err(AccessTokenError::Confirmation { cause });
        let confirmation = match claims.get("cnf") {
            None | Some(Value::Null) if is_dpop_token(claims) => {
                return refused("the token is of the type \"DPoP\", and has no \"cnf\"".to_owned());
            }
            None | Some(Value::Null) => return Ok(Confirmation::default()),
            Some(Value::Object(confirmation)) => confirmation,
            Some(other) => return refused(format!("it is {}, not an object", type_name(other))),
        };
        let is_unproved = |(member, value): &(&String, &Value)| {
            !MEMBERS.contains(&member.as_str()) && !describes_key(member, value, confirmation)
        };
        if let Some((member, _)) = confirmation.iter().find(is_unproved) {
            return refused(format!(
                "no proof for its member {:?} is verified here",
                excerpt(member)
            ));
        }
        let mut thumbprints = [None, None];
        for (member, thumbprint) in MEMBERS.into_iter().zip(&mut thumbprints) {
            let Some(value) = confirmation.get(member) else {
                continue;
            };
            match value.as_str().filter(|text| is_thumbprint(text)) {
                Some(text) => *thumbprint = Some(text.to_owned()),
                None => return refused(format!("its {member:?} is not a SHA-256 thumbprint in base64url")),
            }
        }
        match thumbprints {
            [None, None] => refused("it is empty".to_owned()),
            [None, Some(_)] if is_dpop_token(claims) => {
                refused("the token is of the type \"DPoP\", and its \"cnf\" has no \"jkt\"".to_owned())
            }
            [key, certificate] => Ok(Confirmation { key, certificate }),
        }
    }

    /// Whether the token is bound to a key or a certificate.
    pub(crate) fn is_bound(&self) -> bool {
        self.key.is_some() || self.certificate.is_some()
    }
}

/// The thumbprint of the certificate that a JWT says it is bound to, without its verification; `None` for any other token.
pub(crate) fn certificate_of(jwt: &str) -> Option<String> {
    let [_, payload, _] = parts_of(jwt)?;
    let claims = parse_object(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(claims.get("cnf")?.get("x5t#S256")?.as_str()?.to_owned())
}

/// The members of `cnf` that requests prove here.
const MEMBERS: [&str; 2] = ["jkt", "x5t#S256"];

/// Whether a member says only what `jkt` is: Keycloak, since version 26.5, marks keys of proofs by `kc-jkt-type`.
fn describes_key(member: &str, value: &Value, confirmation: &Map<String, Value>) -> bool {
    member == "kc-jkt-type" && value == "DPoP" && confirmation.contains_key("jkt")
}

/// What an introspected token is bound to. If it is a JWT, its own `cnf` and that of the response must agree: a response
/// may leave it out.
pub(super) fn confirmation_of_introspected(
    token: &str,
    response: &Map<String, Value>,
) -> Result<Confirmation, AccessTokenError> {
    let of_response = Confirmation::of(response)?;
    let payload = parts_of(token).and_then(|[_, payload, _]| URL_SAFE_NO_PAD.decode(payload).ok());
    // Another payload is not that of a JWT: the token is opaque.
    let Some(payload) = payload.filter(|payload| payload.first() == Some(&b'{')) else {
        return Ok(of_response);
    };
    let own = parse_object(&payload).map_err(|error| AccessTokenError::Confirmation {
        cause: format!("the payload of the introspected token cannot be parsed: {error}"),
    })?;
    if Confirmation::of(&own)? == of_response {
        Ok(of_response)
    } else {
        Err(AccessTokenError::Confirmation {
            cause: "the introspected token and the introspection response have different ones".to_owned(),
        })
    }
}

/// The length is that of 32 bytes in base64url without padding (RFC 9449 §6.1, RFC 8705 §3.1).
fn is_thumbprint(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|hash| hash.len() == 32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    /// That of RFC 8705 §3.1, whose last character has bits that no encoder sets.
    const X5T: &str = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0";

    fn read(claims: Value) -> Result<Confirmation, String> {
        let Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        Confirmation::of(&claims).map_err(|error| error.to_string())
    }

    fn bound(key: Option<&str>, certificate: Option<&str>) -> Confirmation {
        let [key, certificate] = [key, certificate].map(|it| it.map(str::to_owned));
        Confirmation { key, certificate }
    }

    #[test]
    fn thumbprints_confirm_a_key_a_certificate_or_both() {
        let unbound = Ok(Confirmation::default());
        assert_eq!(read(json!({})), unbound);
        assert_eq!(read(json!({ "cnf": null, "token_type": "Bearer" })), unbound);
        let key = Ok(bound(Some(JKT), None));
        assert_eq!(read(json!({ "cnf": { "jkt": JKT } })), key);
        assert_eq!(read(json!({ "cnf": { "jkt": JKT }, "typ": "DPoP" })), key);
        // Keycloak's.
        assert_eq!(read(json!({ "cnf": { "jkt": JKT, "kc-jkt-type": "DPoP" } })), key);
        let certificate = Ok(bound(None, Some(X5T)));
        assert_eq!(read(json!({ "cnf": { "x5t#S256": X5T } })), certificate);
        assert_eq!(
            read(json!({ "cnf": { "x5t#S256": X5T }, "typ": "Bearer" })),
            certificate
        );
        let both = Ok(bound(Some(JKT), Some(X5T)));
        assert_eq!(read(json!({ "cnf": { "x5t#S256": X5T, "jkt": JKT } })), both);
    }

    #[test]
    fn other_confirmations_are_rejected() {
        const JKT_CAUSE: &str = "its \"jkt\" is not a SHA-256 thumbprint in base64url";
        const X5T_CAUSE: &str = "its \"x5t#S256\" is not a SHA-256 thumbprint in base64url";
        let member = |name: &str| format!("no proof for its member {name:?} is verified here");
        for (claims, cause) in [
            (json!({ "cnf": {} }), "it is empty".to_owned()),
            (json!({ "cnf": "jkt" }), "it is a string, not an object".to_owned()),
            (json!({ "cnf": [JKT] }), "it is an array, not an object".to_owned()),
            (json!({ "cnf": { "jkt": 1 } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": "" } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": format!("{JKT}=") } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": &JKT[1..] } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "x5t#S256": null } }), X5T_CAUSE.to_owned()),
            (json!({ "cnf": { "x5t#S256": [X5T] } }), X5T_CAUSE.to_owned()),
            (
                json!({ "cnf": { "x5t#S256": format!("{X5T}=") } }),
                X5T_CAUSE.to_owned(),
            ),
            (json!({ "cnf": { "jkt": JKT, "x5t#S256": "" } }), X5T_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": null, "x5t#S256": X5T } }), JKT_CAUSE.to_owned()),
            (
                json!({ "cnf": { "jkt": JKT, "kc-jkt-type": "mTLS" } }),
                member("kc-jkt-type"),
            ),
            (
                json!({ "cnf": { "x5t#S256": X5T, "kc-jkt-type": "DPoP" } }),
                member("kc-jkt-type"),
            ),
            (json!({ "cnf": { "kc-jkt-type": "DPoP" } }), member("kc-jkt-type")),
            (json!({ "cnf": { "x5t": X5T } }), member("x5t")),
            (json!({ "cnf": { "x5t#s256": X5T } }), member("x5t#s256")),
            (
                json!({ "cnf": { "jkt": JKT, "x5t#S256": X5T, "kid": "1" } }),
                member("kid"),
            ),
            (
                json!({ "typ": "DPoP", "cnf": { "x5t#S256": X5T } }),
                "the token is of the type \"DPoP\", and its \"cnf\" has no \"jkt\"".to_owned(),
            ),
            (json!({ "cnf": { "jwk": { "kty": "EC" } } }), member("jwk")),
            (json!({ "cnf": { "JKT": JKT } }), member("JKT")),
            (
                json!({ "token_type": "dpop" }),
                "the token is of the type \"DPoP\", and has no \"cnf\"".to_owned(),
            ),
            (
                json!({ "typ": "DPoP", "cnf": null }),
                "the token is of the type \"DPoP\", and has no \"cnf\"".to_owned(),
            ),
        ] {
            let expected = format!("the \"cnf\" of the token is not accepted: {cause}");
            assert_eq!(read(claims.clone()), Err(expected), "{claims}");
        }
    }

    #[test]
    fn an_introspected_jwt_and_the_response_agree() {
        let jwt = |claims: &Value| format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let (bound_token, unbound) = (json!({ "cnf": { "jkt": JKT } }), json!({ "sub": "alice" }));
        let by_certificate = json!({ "cnf": { "x5t#S256": JKT } });
        let other = json!({ "cnf": { "jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" } });
        let judge = |token: &str, response: &Value| {
            let response = response.as_object().unwrap();
            confirmation_of_introspected(token, response).map_err(|error| error.to_string())
        };
        let bound_to = Ok(bound(Some(JKT), None));
        assert_eq!(judge(&jwt(&bound_token), &bound_token), bound_to);
        assert_eq!(judge(&jwt(&unbound), &unbound), Ok(Confirmation::default()));
        // Opaque: no payload, or another one.
        for opaque in ["opaque", "a.b", "e30.AAAA.AAAA", "e30.!.AAAA"] {
            assert_eq!(judge(opaque, &bound_token), bound_to);
            assert_eq!(judge(opaque, &unbound), Ok(Confirmation::default()));
        }
        let differ = "the \"cnf\" of the token is not accepted: the introspected token and the introspection response \
                      have different ones";
        for (token, response) in [
            (&bound_token, &unbound),
            (&unbound, &bound_token),
            (&bound_token, &other),
            (&bound_token, &by_certificate),
            (&by_certificate, &unbound),
        ] {
            assert_eq!(judge(&jwt(token), response), Err(differ.to_owned()));
        }
        let unreadable = format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode("{\"cnf\":1,\"cnf\":2}"));
        let cause = judge(&unreadable, &unbound).unwrap_err();
        assert!(
            cause.contains("the payload of the introspected token cannot be parsed"),
            "{cause}"
        );
    }
}
