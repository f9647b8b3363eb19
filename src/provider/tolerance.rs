//! What careless providers send, and how a member that is used is read all the same.
//!
//! The rule, for every document that a provider sends, is: read the members that are used, each with its own tolerance,
//! and ignore the rest. `token::Document` reads the JSON itself, in which `null` is absent. Here `""` is absent too, a
//! string is a list of its words, and a member that sign-in can do without is absent, with a word in the log, when it
//! cannot be used. Nothing here relaxes a check.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::ProviderError;
use crate::token::{Document, type_name};

/// A member of the metadata that a sign-in cannot do without, in the form that `parse` gives it.
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

/// A member of the metadata that a sign-in can do without, in the form that `parse` gives it.
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

/// A list of names of the metadata. A string is a list of its words, divided by white space or commas; what is no string
/// in a list is left out.
pub(super) fn list(document: &Document, member: &'static str) -> Option<Vec<String>> {
    let value = document.value(member)?;
    let list = strings(value).filter(|_| document.defect(member).is_none());
    if list.is_none() && *value != "" {
        ignored(
            member,
            "a list of strings",
            type_of(document, member, value),
        );
    }
    list
}

/// The strings of a list, or the words of one string; `None` for anything else, and for the empty string.
pub(crate) fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(words) => {
            let words = words.split(|c: char| c.is_whitespace() || c == ',');
            let words: Vec<String> = words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect();
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

/// A member of the metadata that is true or false; absent is false. The words of the two are read as well.
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

/// What a member is that is there; `None` when it is absent.
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
    tracing::warn!(
        "the member `{member}` of the provider's metadata is {actual}, expected {expected}; it is ignored"
    );
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
