//! JSON objects from outside, in which every member has one meaning.
//!
//! Parsers disagree on a member that occurs twice, which lets one token say different things to two
//! readers. [RFC 7519 §4] allows to refuse it, and so we do, at any depth.
//!
//! [RFC 7519 §4]: https://www.rfc-editor.org/rfc/rfc7519#section-4

use std::{cell::Cell, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

use super::excerpt;

/// A text that is not one JSON object with unique members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is not JSON, or nested deeper than 127 levels.
    #[error("not valid JSON: parsing failed at line {line}, column {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 before the first character of a line.
        column: usize,
    },
    /// It is JSON, but no object.
    #[error("expected a JSON object, found {actual}")]
    NotAnObject {
        /// The type of the value that was found.
        actual: &'static str,
    },
    /// An object has two members of one name.
    #[error("the member {name:?} occurs more than once in one JSON object")]
    DuplicateMember {
        /// The name, cut when it is long.
        name: String,
    },
}

impl JsonError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "report this to the provider: what it sent is not a well-formed JSON object"
    }
}

/// Parses one JSON object. The caller bounds its size.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    // Most objects from outside hold no other object: building them tells of a name that is there twice.
    // A text that is known to be UTF-8 as a whole is not looked at again, string by string.
    let is_flat = bytes
        .split_first()
        .is_some_and(|(first, rest)| *first == b'{' && memchr::memchr(b'{', rest).is_none());
    match std::str::from_utf8(bytes) {
        Ok(text) if is_flat => match serde_json::from_str(text) {
            Ok(Flat(object)) => Ok(object),
            Err(_) => parse_nested_object(bytes),
        },
        _ => parse_nested_object(bytes),
    }
}

/// As [`parse_object`], for an object that may hold others, and for what is wrong with any.
fn parse_nested_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    // Names are checked apart from building the value: serde_json shows numbers to a visitor in another
    // form when any crate of the app turns on its feature `arbitrary_precision`.
    check_unique_members(bytes)?;
    match serde_json::from_slice(bytes).map_err(|error| syntax(&error))? {
        Value::Object(object) => Ok(object),
        other => Err(JsonError::NotAnObject {
            actual: type_name(&other),
        }),
    }
}

/// An object whose own members are unique.
struct Flat(Map<String, Value>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flat, D::Error> {
        struct FlatVisitor;

        impl<'de> Visitor<'de> for FlatVisitor {
            type Value = Flat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Flat, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    match object.entry(name) {
                        Entry::Vacant(place) => place.insert(value),
                        Entry::Occupied(_) => return Err(de::Error::custom("duplicate member")),
                    };
                }
                Ok(Flat(object))
            }
        }

        deserializer.deserialize_map(FlatVisitor)
    }
}

/// What a JSON value is, for errors that must not show the value.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn check_unique_members(bytes: &[u8]) -> Result<(), JsonError> {
    let duplicate = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    UniqueMembers(&duplicate)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| match duplicate.take() {
            Some(name) => JsonError::DuplicateMember { name },
            None => syntax(&error),
        })
}

// The message of a serde_json error can quote the input, so only its place is kept.
fn syntax(error: &serde_json::Error) -> JsonError {
    JsonError::Syntax {
        line: error.line(),
        column: error.column(),
    }
}

/// Walks through a value and stops at the first member that is there already, leaving its name.
#[derive(Clone, Copy)]
struct UniqueMembers<'a>(&'a Cell<Option<String>>);

impl<'de> DeserializeSeed<'de> for UniqueMembers<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueMembers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if names.contains(&name) {
                self.0.set(Some(excerpt(&name)));
                return Err(de::Error::custom("duplicate member"));
            }
            names.insert(name);
            members.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicate(name: &str) -> Result<Map<String, Value>, JsonError> {
        Err(JsonError::DuplicateMember { name: name.into() })
    }

    #[test]
    fn an_object_is_parsed() {
        let object = parse_object(br#" {"a":1,"b":[{"a":1},{"a":-2.5}],"c":null,"d":"x"} "#);
        let expected =
            serde_json::json!({"a": 1, "b": [{"a": 1}, {"a": -2.5}], "c": null, "d": "x"});
        assert_eq!(object.map(Value::Object), Ok(expected));
    }

    #[test]
    fn a_duplicate_member_is_refused_at_any_depth() {
        assert_eq!(parse_object(br#"{"sub":"a","sub":"b"}"#), duplicate("sub"));
        assert_eq!(
            parse_object(br#"{"sub":"a","s\u0075b":"a"}"#),
            duplicate("sub")
        );
        assert_eq!(
            parse_object(br#"{"x":[{"y":{"z":1,"z":1}}]}"#),
            duplicate("z")
        );
    }

    #[test]
    fn what_is_no_object_is_refused_by_type() {
        for (json, actual) in [
            ("[]", "an array"),
            ("1", "a number"),
            ("\"x\"", "a string"),
            ("null", "null"),
            ("true", "a boolean"),
        ] {
            assert_eq!(
                parse_object(json.as_bytes()),
                Err(JsonError::NotAnObject { actual })
            );
        }
    }

    #[test]
    fn what_is_not_json_is_refused_without_quoting_it() {
        for json in [
            &b""[..],
            b"{",
            b"{} {}",
            b"{\"a\":}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"{\"a\":NaN}",
            b"{\"exp\":1e999}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"\xff\":1}",
        ] {
            let error = parse_object(json).unwrap_err();
            assert!(
                matches!(error, JsonError::Syntax { line: 0 | 1, .. }),
                "{error:?}"
            );
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_object(nested(126).as_bytes()).is_ok());
        for depth in [127, 100_000] {
            let error = parse_object(nested(depth).as_bytes()).unwrap_err();
            assert!(matches!(error, JsonError::Syntax { .. }), "{error:?}");
        }
    }
}
