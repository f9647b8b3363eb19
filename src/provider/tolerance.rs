//! Lenient parsing of the provider's documents.
//!
//! The rule for every document of a provider: parse the members that are used, each with its own tolerance, and
//! ignore the rest. `token::Document` parses the JSON, in which `null` is absent. Here `""` is absent too, a string
//! is a list of its words, and an invalid member that sign-in does not require is absent, with a log message. Nothing
//! here relaxes a security check.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::ProviderError;
use crate::token::{Document, type_name};

/// A required member of the metadata, as `parse` converts it.
pub(super) fn required<T>(
    document: &Document,
    member: &'static str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ProviderError> {
    let Some(actual) = actual(document, member) else {
        return Err(ProviderError::MetadataMember {
            member,
            expected,
            actual: None,
        });
    };
    let value = document.text(member).and_then(parse);
    value.ok_or(ProviderError::MetadataMember {
        member,
        expected,
        actual: Some(actual),
    })
}

/// An optional member of the metadata, as `parse` converts it.
pub(super) fn optional<T>(
    document: &Document,
    member: &'static str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    match document.text(member).and_then(parse) {
        Some(value) => Some(value),
        None => {
            let actual = match document.value(member) {
                Some(value) if *value == "" => Some("the empty string"),
                _ => actual(document, member),
            };
            if let Some(actual) = actual {
                ignored(member, expected, actual);
            }
            None
        }
    }
}

/// A list of names in the metadata. A string is a list of its words, divided by white space or commas; list elements
/// that are not strings are skipped.
pub(super) fn list(document: &Document, member: &'static str) -> Option<Vec<String>> {
    let value = document.value(member)?;
    let list = strings(value).filter(|_| document.defect(member).is_none());
    if list.is_none() && *value != "" {
        ignored(member, "a list of strings", type_of(document, member, value));
    }
    list
}

/// The strings of a list, or the words of one string; `None` for anything else, and for the empty string.
pub(crate) fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(words) => {
            let words = words.split(|c: char| c.is_whitespace() || c == ',');
            let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
            (!words.is_empty()).then_some(words)
        }
        Value::Array(list) => Some(
            list.iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
        ),
        _ => None,
    }
}

/// A boolean member of the metadata; absent is false. The strings `true` and `false` are accepted too.
pub(super) fn flag(document: &Document, member: &'static str) -> bool {
    match document.value(member) {
        None => false,
        Some(Value::Bool(flag)) if document.defect(member).is_none() => *flag,
        Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => true,
        Some(Value::String(word)) if word.eq_ignore_ascii_case("false") || word.is_empty() => false,
        Some(other) => {
            ignored(member, "a boolean", type_of(document, member, other));
            false
        }
    }
}

/// The defect or the type of a member; `None` if it is absent.
fn actual(document: &Document, member: &str) -> Option<&'static str> {
    let defect = document.defect(member);
    defect.or_else(|| {
        let value = document.value(member).filter(|value| *value != "")?;
        Some(type_of(document, member, value))
    })
}

fn type_of(document: &Document, member: &str, value: &Value) -> &'static str {
    match document.defect(member) {
        Some(defect) => defect,
        None if value.is_string() => "another string",
        None => type_name(value),
    }
}

fn ignored(member: &str, expected: &str, actual: &str) {
    tracing::warn!("the member `{member}` of the provider's metadata is {actual}, expected {expected}; it is ignored");
}

/// Deserializes a string; `null` and `""` are absent.
pub(crate) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|text| !text.is_empty()))
}

/// Deserializes a list of words, or a string of words; anything else is absent.
pub(crate) fn words<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(strings(&Value::deserialize(d)?))
}

/// Deserializes `expires_in` from an integer, a float or a string of digits; it may be absent.
pub(crate) fn expires_in<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    let seconds = match Option::<Value>::deserialize(d)? {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}
