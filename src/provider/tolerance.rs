//! What careless providers send, and how it is read all the same. Nothing here relaxes a check.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

/// Mends metadata whose lesser members would otherwise fail it as a whole.
pub(crate) fn repair_metadata(document: &mut Map<String, Value>) {
    // Required by Discovery §3, and left out by providers that have only one of each.
    for (member, usual) in [
        ("response_types_supported", json!(["code"])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(["RS256"])),
    ] {
        if !document.get(member).is_some_and(Value::is_array) {
            document.insert(member.into(), usual);
        }
    }

    // Links that sign-in can do without, often empty or relative: a bad one is no reason to fail.
    for member in [
        "service_documentation",
        "op_policy_uri",
        "op_tos_uri",
        "registration_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
        "end_session_endpoint",
        "pushed_authorization_request_endpoint",
    ] {
        let usable = document
            .get(member)
            .and_then(Value::as_str)
            .is_some_and(|link| url::Url::parse(link).is_ok());
        if !usable {
            document.remove(member);
        }
    }
    document.retain(|_, value| !value.is_null());
}

/// The strings of a list, or of one string; anything else is left out.
pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => vec![],
    }
}

/// As [`strings`].
pub(crate) fn list_of_strings<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(strings(Some(&Value::deserialize(d)?)))
}

/// A text; `null` and the empty text are absent.
pub(crate) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|text| !text.is_empty()))
}

/// `expires_in` as a number, a float, a string of digits, or absent.
pub(crate) fn expires_in<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    let seconds = match Option::<Value>::deserialize(d)? {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}
