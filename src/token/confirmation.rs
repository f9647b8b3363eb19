//! The confirmation of an access token, `cnf`: the key that its sender must prove to have.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{AccessTokenError, json::type_name, parse_object, parts_of, purpose::is_dpop_token};
use crate::printable::excerpt;

/// The thumbprint of the key that the token is bound to, `jkt` of `cnf`
/// ([RFC 9449 §6](https://www.rfc-editor.org/rfc/rfc9449#section-6)); `None` for a bearer token.
///
/// A token whose confirmation cannot be proved here is rejected: `cnf` with another member, alone or beside `jkt`, or a
/// token of the type `DPoP` that names no key.
pub(super) fn confirmed_key(claims: &Map<String, Value>) -> Result<Option<String>, AccessTokenError> {
    let refused = |cause: String| Err(AccessTokenError::Confirmation { cause });
    let confirmation = match claims.get("cnf") {
        None | Some(Value::Null) if is_dpop_token(claims) => {
            return refused("the token is of the type \"DPoP\", and has no \"cnf\"".to_owned());
        }
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(confirmation)) => confirmation,
        Some(other) => return refused(format!("it is {}, not an object", type_name(other))),
    };
    if let Some(member) = confirmation.keys().find(|member| *member != "jkt") {
        return refused(format!(
            "no proof for its member {:?} is verified here",
            excerpt(member)
        ));
    }
    let Some(jkt) = confirmation.get("jkt") else {
        return refused("it is empty".to_owned());
    };
    let jkt = jkt.as_str().filter(|jkt| is_thumbprint(jkt));
    match jkt {
        Some(jkt) => Ok(Some(jkt.to_owned())),
        None => refused("its \"jkt\" is not a SHA-256 thumbprint in base64url".to_owned()),
    }
}

/// The confirmed key of an introspected token. If it is a JWT, its own `cnf` and that of the response must agree:
/// a response may leave it out.
pub(super) fn confirmed_key_of_introspected(
    token: &str,
    response: &Map<String, Value>,
) -> Result<Option<String>, AccessTokenError> {
    let of_response = confirmed_key(response)?;
    let payload = parts_of(token).and_then(|[_, payload, _]| URL_SAFE_NO_PAD.decode(payload).ok());
    // Another payload is not that of a JWT: the token is opaque.
    let Some(payload) = payload.filter(|payload| payload.first() == Some(&b'{')) else {
        return Ok(of_response);
    };
    let own = parse_object(&payload).map_err(|error| AccessTokenError::Confirmation {
        cause: format!("the payload of the introspected token cannot be parsed: {error}"),
    })?;
    if confirmed_key(&own)? == of_response {
        Ok(of_response)
    } else {
        Err(AccessTokenError::Confirmation {
            cause: "the introspected token and the introspection response have different ones".to_owned(),
        })
    }
}

/// The length is that of 32 bytes in base64url without padding (RFC 9449 §6.1).
fn is_thumbprint(jkt: &str) -> bool {
    URL_SAFE_NO_PAD.decode(jkt).is_ok_and(|hash| hash.len() == 32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    fn key(claims: Value) -> Result<Option<String>, String> {
        let Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        confirmed_key(&claims).map_err(|error| error.to_string())
    }

    #[test]
    fn a_thumbprint_alone_confirms_a_key() {
        assert_eq!(key(json!({})), Ok(None));
        assert_eq!(key(json!({ "cnf": null, "token_type": "Bearer" })), Ok(None));
        assert_eq!(key(json!({ "cnf": { "jkt": JKT } })), Ok(Some(JKT.to_owned())));
        assert_eq!(
            key(json!({ "cnf": { "jkt": JKT }, "typ": "DPoP" })),
            Ok(Some(JKT.to_owned()))
        );
    }

    #[test]
    fn other_confirmations_are_rejected() {
        const JKT_CAUSE: &str = "its \"jkt\" is not a SHA-256 thumbprint in base64url";
        let member = |name: &str| format!("no proof for its member {name:?} is verified here");
        for (claims, cause) in [
            (json!({ "cnf": {} }), "it is empty".to_owned()),
            (json!({ "cnf": "jkt" }), "it is a string, not an object".to_owned()),
            (json!({ "cnf": [JKT] }), "it is an array, not an object".to_owned()),
            (json!({ "cnf": { "jkt": 1 } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": "" } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": format!("{JKT}=") } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "jkt": &JKT[1..] } }), JKT_CAUSE.to_owned()),
            (json!({ "cnf": { "x5t#S256": JKT } }), member("x5t#S256")),
            (json!({ "cnf": { "jkt": JKT, "x5t#S256": JKT } }), member("x5t#S256")),
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
            assert_eq!(key(claims.clone()), Err(expected), "{claims}");
        }
    }

    #[test]
    fn an_introspected_jwt_and_the_response_agree() {
        let jwt = |claims: &Value| format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let (bound, unbound) = (json!({ "cnf": { "jkt": JKT } }), json!({ "sub": "alice" }));
        let other = json!({ "cnf": { "jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" } });
        let judge = |token: &str, response: &Value| {
            let response = response.as_object().unwrap();
            confirmed_key_of_introspected(token, response).map_err(|error| error.to_string())
        };
        let bound_to = Ok(Some(JKT.to_owned()));
        assert_eq!(judge(&jwt(&bound), &bound), bound_to);
        assert_eq!(judge(&jwt(&unbound), &unbound), Ok(None));
        // Opaque: no payload, or another one.
        for opaque in ["opaque", "a.b", "e30.AAAA.AAAA", "e30.!.AAAA"] {
            assert_eq!(judge(opaque, &bound), bound_to);
            assert_eq!(judge(opaque, &unbound), Ok(None));
        }
        let differ = "the \"cnf\" of the token is not accepted: the introspected token and the introspection response \
                      have different ones";
        for (token, response) in [(&bound, &unbound), (&unbound, &bound), (&bound, &other)] {
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
