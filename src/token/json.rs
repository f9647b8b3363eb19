//! Parsing of untrusted JSON objects: duplicate members, `null` and unpaired surrogates.
//!
//! Parsers disagree on duplicate members, so one text may mean different things to two readers. [RFC 7519 §4]
//! permits rejecting them. Here a duplicate member with different values is rejected, at any depth; with equal
//! values it counts as one member.
//!
//! Real providers send other malformed JSON, and these rules apply to every document of theirs (metadata, key sets,
//! responses, payloads of tokens):
//!
//! - A member whose value is `null` is absent, in nested objects too. In an array `null` stays: removing it would
//!   shift the others.
//! - A byte-order mark is skipped ([RFC 8259 §8.1] allows it).
//! - An escape for half of a surrogate pair (`"J\ud83d"`, from a truncated name) is not a character. It becomes
//!   U+FFFD in claims that are only displayed, and is rejected elsewhere: two different texts would become equal,
//!   and with them two users.
//!
//! The header of a JWS tolerates none of this: see [`parse_strict_object`].
//!
//! [RFC 7519 §4]: https://www.rfc-editor.org/rfc/rfc7519#section-4
//! [RFC 8259 §8.1]: https://www.rfc-editor.org/rfc/rfc8259#section-8.1

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, btree_map},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

use crate::printable::excerpt;

/// Claims for display only, which identify and authorize no user. Their language variants (`name#ja`) are displayed
/// as well. Values are covered at any depth, as in `address`.
const DISPLAYED: [&str; 16] = [
    "address",
    "bio",
    "birthdate",
    "description",
    "displayName",
    "display_name",
    "family_name",
    "gender",
    "given_name",
    "locale",
    "middle_name",
    "name",
    "nickname",
    "picture",
    "profile",
    "website",
];

/// The error of a text that is not an unambiguous JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// It is not JSON, or nested deeper than 127 levels.
    #[error("not valid JSON: parsing failed at line {line}, column {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 before the first character of a line.
        column: usize,
    },
    /// It is JSON, but not an object.
    #[error("expected a JSON object, found {actual}")]
    NotAnObject {
        /// The type of the value that was found.
        actual: &'static str,
    },
    /// An object has a duplicate member with different values.
    #[error("the member {name:?} occurs more than once in one JSON object")]
    DuplicateMember {
        /// The name, truncated if it is long.
        name: String,
    },
    /// An identifying text has half of a surrogate pair, which is not a character.
    #[error("the member {name:?} has an unpaired surrogate, which is not a character")]
    UnpairedSurrogate {
        /// The name of the member, truncated if it is long.
        name: String,
    },
}

impl JsonError {
    /// How to fix it.
    pub fn remedy(&self) -> &'static str {
        match self {
            JsonError::UnpairedSurrogate { .. } => {
                "correct the value at the provider: a text was cut in the middle of a character"
            }
            _ => "report this to the provider: what it sent is not a well-formed JSON object",
        }
    }
}

/// Parses a JSON object of claims: the payload of a token, a UserInfo or introspection response. The caller bounds
/// its size.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let Some(mut object) = parse_flat(bytes) else {
        return Document::parse(bytes)?.into_claims();
    };
    remove_nulls(&mut object);
    Ok(object)
}

/// Parses a JSON object strictly: no duplicate members, `null` is a value, and every escape is a character. For
/// input in which a provider's mistakes are not tolerated: the header of a JWS, and our own keys and sessions.
pub(crate) fn parse_strict_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    if let Some(object) = parse_flat(bytes) {
        return Ok(object);
    }
    match Shape::parse(bytes)? {
        (_, Some(duplicate)) => Err(duplicate),
        (_, None) => to_object(bytes),
    }
}

/// A parsed JSON object of a provider, with its defects: they count only for the members that are read.
#[derive(Debug)]
pub(crate) struct Document {
    members: Map<String, Value>,
    /// The members that are duplicates with different values, or contain such duplicates; without any, those with
    /// unpaired surrogates, which are U+FFFD in the values.
    defective: Vec<String>,
    /// The error of the first duplicate.
    duplicate: Option<JsonError>,
}

impl Document {
    /// Parses a JSON object. The caller bounds its size.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document, JsonError> {
        let bytes = without_byte_order_mark(bytes);
        let mut document = match Shape::parse(bytes) {
            Ok((shape, duplicate)) => {
                let defective = shape.ambiguous_members();
                Document {
                    members: to_object(bytes)?,
                    duplicate: duplicate.filter(|_| !defective.is_empty()),
                    defective,
                }
            }
            Err(error) => {
                let repaired = replace_unpaired_surrogates(bytes).ok_or(error)??;
                Document {
                    // Texts that differ only in what was replaced would become equal.
                    members: parse_strict_object(&repaired.json)?,
                    defective: repaired.garbled,
                    duplicate: None,
                }
            }
        };
        remove_nulls(&mut document.members);
        Ok(document)
    }

    /// The member; `None` if it is absent or `null`.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// The defect of the member, if any.
    pub(crate) fn defect(&self, name: &str) -> Option<&'static str> {
        let is_defective = self.defective.iter().any(|defective| defective == name);
        is_defective.then_some(match self.duplicate {
            Some(_) => "present twice, with different values",
            None => "a string with an unpaired surrogate, which is not a character",
        })
    }

    /// The member as an identifying text: not empty, and without defects.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let text = self.value(name)?.as_str()?;
        (!text.is_empty() && self.defect(name).is_none()).then_some(text)
    }

    /// The member as a text for display.
    pub(crate) fn displayed(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The members for display.
    pub(crate) fn into_displayed(self) -> Map<String, Value> {
        self.members
    }

    /// The members as claims; an error for a defect outside of displayed claims.
    fn into_claims(self) -> Result<Map<String, Value>, JsonError> {
        if let Some(duplicate) = self.duplicate {
            return Err(duplicate);
        }
        let is_displayed = |name: &str| {
            let name = name.split_once('#').map_or(name, |(name, _)| name);
            DISPLAYED.contains(&name)
        };
        match self.defective.iter().find(|name| !is_displayed(name)) {
            Some(name) => Err(JsonError::UnpairedSurrogate { name: excerpt(name) }),
            None => Ok(self.members),
        }
    }
}

/// The fast path: parses a well-formed object without nested objects and without duplicate members, in one pass. Input
/// checked as UTF-8 once needs no check per string.
fn parse_flat(bytes: &[u8]) -> Option<Map<String, Value>> {
    let (first, rest) = bytes.split_first()?;
    if *first != b'{' || memchr::memchr(b'{', rest).is_some() {
        return None;
    }
    let Flat(object) = serde_json::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    Some(object)
}

/// Parses an object whose duplicate members are known to be equal or absent.
///
/// Duplicates are checked in a separate pass: serde_json passes numbers to a visitor in another form when any crate
/// of the app enables its feature `arbitrary_precision`.
fn to_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match serde_json::from_slice(bytes).map_err(|error| syntax(&error))? {
        Value::Object(object) => Ok(object),
        other => Err(JsonError::NotAnObject {
            actual: type_name(&other),
        }),
    }
}

/// [RFC 8259 §8.1](https://www.rfc-editor.org/rfc/rfc8259#section-8.1)
pub(super) fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Removes members that are `null`, in nested objects too.
pub(super) fn remove_nulls(object: &mut Map<String, Value>) {
    // Check first: `null` is rare, and `retain` rebuilds the object.
    if object.values().any(is_or_has_null) {
        remove_null_members(object);
    }
}

fn is_or_has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.iter().any(is_or_has_null),
        Value::Object(members) => members.values().any(is_or_has_null),
        _ => false,
    }
}

fn remove_null_members(object: &mut Map<String, Value>) {
    object.retain(|_, value| !value.is_null());
    object.values_mut().for_each(remove_nested_nulls);
}

fn remove_nested_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => remove_null_members(members),
        Value::Array(elements) => elements.iter_mut().for_each(remove_nested_nulls),
        _ => {}
    }
}

/// An object without duplicate members.
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

/// The type of a JSON value, for errors that must not quote it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

// A message of serde_json can quote the input: only its position is kept.
pub(super) fn syntax(error: &serde_json::Error) -> JsonError {
    JsonError::Syntax {
        line: error.line(),
        column: error.column(),
    }
}

/// A JSON value for comparison. Numbers are kept as serde_json passes them, see [`to_object`].
#[derive(PartialEq)]
pub(super) enum Shape<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Array(Vec<Shape<'a>>),
    Object {
        members: BTreeMap<Cow<'a, str>, Shape<'a>>,
        /// The names of duplicate members with different values.
        conflicts: Vec<Cow<'a, str>>,
    },
}

impl<'a> Shape<'a> {
    /// Parses a JSON text. Also returns the error of its first duplicate member, of any value.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<(Shape<'a>, Option<JsonError>), JsonError> {
        let duplicate = Cell::new(None);
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let shape = ShapeVisitor(&duplicate).deserialize(&mut deserializer);
        let shape = shape.and_then(|shape| deserializer.end().map(|()| shape));
        let shape = shape.map_err(|error| syntax(&error))?;
        Ok((shape, duplicate.take().map(|name| JsonError::DuplicateMember { name })))
    }

    /// Whether duplicate members have equal values, at any depth.
    pub(super) fn is_unambiguous(&self) -> bool {
        match self {
            Shape::Array(elements) => elements.iter().all(Shape::is_unambiguous),
            Shape::Object { members, conflicts } => conflicts.is_empty() && members.values().all(Shape::is_unambiguous),
            _ => true,
        }
    }

    /// The members of an object that are duplicates with different values, or contain such duplicates.
    fn ambiguous_members(&self) -> Vec<String> {
        let Shape::Object { members, conflicts } = self else {
            return vec![];
        };
        let nested = members.iter().filter(|(_, value)| !value.is_unambiguous());
        let names = conflicts.iter().chain(nested.map(|(name, _)| name));
        names.map(|name| name.clone().into_owned()).collect()
    }
}

/// Builds a [`Shape`], and stores the name of the first duplicate member.
#[derive(Clone, Copy)]
struct ShapeVisitor<'n>(&'n Cell<Option<String>>);

/// The name of a member, borrowed from the text if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for ShapeVisitor<'_> {
    type Value = Shape<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ShapeVisitor<'_> {
    type Value = Shape<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape<'de>, A::Error> {
        let (mut members, mut conflicts) = (BTreeMap::new(), vec![]);
        while let Some(Name(name)) = entries.next_key()? {
            let value = entries.next_value_seed(self)?;
            match members.entry(name) {
                btree_map::Entry::Vacant(place) => drop(place.insert(value)),
                btree_map::Entry::Occupied(first) => {
                    let duplicate = self.0.take().unwrap_or_else(|| excerpt(first.key()));
                    self.0.set(Some(duplicate));
                    if *first.get() != value {
                        conflicts.push(first.key().clone());
                    }
                }
            }
        }
        Ok(Shape::Object { members, conflicts })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Shape<'de>, A::Error> {
        let mut array = vec![];
        while let Some(element) = elements.next_element_seed(self)? {
            array.push(element);
        }
        Ok(Shape::Array(array))
    }

    fn visit_unit<E>(self) -> Result<Shape<'de>, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape<'de>, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape<'de>, E> {
        Ok(Shape::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape<'de>, E> {
        Ok(Shape::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape<'de>, E> {
        Ok(Shape::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Shape<'de>, E> {
        Ok(Shape::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape<'de>, E> {
        Ok(Shape::Text(Cow::Owned(value.to_owned())))
    }
}

/// A JSON text whose unpaired surrogates were replaced.
pub(super) struct Repaired {
    pub(super) json: Vec<u8>,
    /// The members of the outermost object that had unpaired surrogates.
    garbled: Vec<String>,
}

/// Replaces each escape for half of a surrogate pair by `\ufffd`, and returns the affected members of the outermost
/// object. `None` if there are no such escapes, an error if one is in the name of a member.
pub(super) fn replace_unpaired_surrogates(json: &[u8]) -> Option<Result<Repaired, JsonError>> {
    let mut repaired = json.to_vec();
    let (mut member, mut garbled) = (String::new(), vec![]);
    let (mut at, mut depth, mut is_changed) = (0, 0_usize, false);
    while let Some(byte) = json.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at;
                let (end, is_garbled) = repair_string(json, at, &mut repaired);
                at = end;
                is_changed |= is_garbled;
                let after = json[end..].iter().find(|byte| !byte.is_ascii_whitespace());
                let is_name = after == Some(&b':');
                if is_name && depth == 1 {
                    let name = repaired.get(start..end);
                    let name = name.and_then(|name| serde_json::from_slice(name).ok());
                    member = name.unwrap_or_default();
                }
                if is_garbled && is_name {
                    let name = match depth {
                        1 => excerpt(&member),
                        _ => excerpt(&format!("{member}.…")),
                    };
                    return Some(Err(JsonError::UnpairedSurrogate { name }));
                }
                if is_garbled && garbled.last() != Some(&member) {
                    garbled.push(member.clone());
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    is_changed.then_some(Ok(Repaired {
        json: repaired,
        garbled,
    }))
}

/// Repairs a string from its opening quotation mark. Returns its end, and whether anything was replaced.
fn repair_string(json: &[u8], start: usize, repaired: &mut [u8]) -> (usize, bool) {
    const ESCAPE: usize = r"\uXXXX".len();

    let (mut at, mut is_garbled) = (start + 1, false);
    loop {
        match json.get(at) {
            None => return (json.len(), is_garbled),
            Some(b'"') => return (at + 1, is_garbled),
            Some(b'\\') => match (escaped(json, at), escaped(json, at + ESCAPE)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE,
                (Some(0xd800..=0xdfff), _) => {
                    repaired[at..at + ESCAPE].copy_from_slice(br"\ufffd");
                    is_garbled = true;
                    at += ESCAPE;
                }
                (Some(_), _) => at += ESCAPE,
                (None, _) => at = (at + 2).min(json.len()),
            },
            Some(_) => at += 1,
        }
    }
}

/// The code unit of an escape `\uXXXX` at this position.
fn escaped(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(br"\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
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
        let expected = serde_json::json!({"a": 1, "b": [{"a": 1}, {"a": -2.5}], "d": "x"});
        assert_eq!(object.map(Value::Object), Ok(expected));
    }

    #[test]
    fn a_duplicate_member_of_another_value_is_refused_at_any_depth() {
        for (json, name) in [
            (r#"{"sub":"a","sub":"b"}"#, "sub"),
            (r#"{"sub":"a","s\u0075b":"b"}"#, "sub"),
            (r#"{"sub":"a","sub":"a","sub":"b"}"#, "sub"),
            (r#"{"sub":"a","sub":"a\u0000"}"#, "sub"),
            (r#"{"sub":"a","sub":null}"#, "sub"),
            (r#"{"sub":null,"sub":"a"}"#, "sub"),
            (r#"{"sub":"a","sub":["a"]}"#, "sub"),
            (r#"{"exp":1,"exp":1.0}"#, "exp"),
            (r#"{"exp":1,"exp":"1"}"#, "exp"),
            (r#"{"a":true,"a":false}"#, "a"),
            (r#"{"x":[{"y":{"z":1,"z":2}}]}"#, "z"),
            (r#"{"x":{"a":1},"x":{"a":2}}"#, "x"),
            (r#"{"x":[1,2],"x":[2,1]}"#, "x"),
            (r#"{"x":{"a":1,"a":2},"x":{"a":1,"a":2}}"#, "a"),
        ] {
            assert_eq!(parse_object(json.as_bytes()), duplicate(name), "{json}");
        }
    }

    #[test]
    fn equal_duplicates_are_one_member() {
        for (json, once) in [
            (r#"{"sub":"a","s\u0075b":"a"}"#, r#"{"sub":"a"}"#),
            (
                r#"{"a":-1,"a":-1,"b":1.5,"b":1.5,"c":true,"c":true}"#,
                r#"{"a":-1,"b":1.5,"c":true}"#,
            ),
            (r#"{"a":null,"a":null}"#, "{}"),
            (r#"{"x":[{"y":{"z":1,"z":1}}]}"#, r#"{"x":[{"y":{"z":1}}]}"#),
            (
                r#"{"address":{"a":"x","b":[1]},"address":{"b":[1],"a":"x","a":"x"}}"#,
                r#"{"address":{"a":"x","b":[1]}}"#,
            ),
        ] {
            let object = parse_object(json.as_bytes()).map(Value::Object);
            assert_eq!(object, Ok(serde_json::from_str(once).unwrap()), "{json}");
        }
    }

    #[test]
    fn null_is_absent() {
        for (json, expected) in [
            (r#"{"azp":null}"#, "{}"),
            (r#" {"azp":null,"sub":"a"}"#, r#"{"sub":"a"}"#),
            (r#"{"azp":null,"x":{"y":null}}"#, r#"{"x":{}}"#),
            (r#"{"x":{"y":{"z":null,"a":1}}}"#, r#"{"x":{"y":{"a":1}}}"#),
            // An array element is not a member: removing it would shift the others.
            (
                r#"{"x":[null,{"y":null,"z":[null]}],"w":[null]}"#,
                r#"{"x":[null,{"z":[null]}],"w":[null]}"#,
            ),
            ("\u{feff}{\"x\":{\"y\":null}}", r#"{"x":{}}"#),
        ] {
            let object = parse_object(json.as_bytes()).map(Value::Object);
            assert_eq!(object, Ok(serde_json::from_str(expected).unwrap()), "{json}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_in_what_is_displayed() {
        for (json, expected) in [
            (r#"{"name":"J\ud83d"}"#, r#"{"name":"J\ufffd"}"#),
            (r#"{"name":"\udC00\ud83d x"}"#, r#"{"name":"\ufffd\ufffd x"}"#),
            (r#"{"name":"\ud83d\ud83d\ude00"}"#, r#"{"name":"\ufffd\ud83d\ude00"}"#),
            (r#"{"name":"\\ud83d\\\ud83d"}"#, r#"{"name":"\\ud83d\\\ufffd"}"#),
            (r#"{"name#ja":"\ud83d"}"#, r#"{"name#ja":"\ufffd"}"#),
            (r#"{"n\u0061me":"\ud83d"}"#, r#"{"name":"\ufffd"}"#),
            (
                r#"{"sub":"a\ud83d\ude00","address":{"formatted":["\ud83d"]},"x":null}"#,
                r#"{"sub":"a\ud83d\ude00","address":{"formatted":["\ufffd"]}}"#,
            ),
        ] {
            let object = parse_object(json.as_bytes()).map(Value::Object);
            assert_eq!(object, Ok(serde_json::from_str(expected).unwrap()), "{json}");
        }
    }

    /// Two users would become one.
    #[test]
    fn half_of_a_surrogate_pair_in_what_identifies() {
        for name in [
            "iss",
            "sub",
            "aud",
            "nonce",
            "sid",
            "jti",
            "azp",
            "client_id",
            "scope",
            "roles",
            "groups",
            "email",
            "preferred_username",
            "upn",
            "acr",
            "an app's own",
            "Name",
        ] {
            for value in [r#""a\ud83d""#, r#"["b","\ude00"]"#, r#"{"x":["\ud83d"]}"#] {
                let json = format!("{{\"a\":1,{name:?}:{value}, \"name\":\"\\ud83d\"}}");
                assert_eq!(
                    parse_object(json.as_bytes()),
                    Err(JsonError::UnpairedSurrogate { name: name.into() }),
                    "{json}"
                );
            }
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_in_the_name_of_a_member() {
        for (json, name) in [
            (r#"{"x\ud83d":1}"#, "x\u{fffd}"),
            (r#"{"x\ud83d" :1,"x\ud83e":2}"#, "x\u{fffd}"),
            (r#"{"name":{"\ud83d":1}}"#, "name.…"),
        ] {
            assert_eq!(
                parse_object(json.as_bytes()),
                Err(JsonError::UnpairedSurrogate { name: name.into() }),
                "{json}"
            );
        }
    }

    /// Values that differ before the replacement still differ after it.
    #[test]
    fn a_duplicate_with_half_of_a_surrogate_pair() {
        for json in [
            r#"{"name":"a\ud83d","name":"a\ud83e"}"#,
            r#"{"name":"a\ud83d","name":"a\ud83d"}"#,
            r#"{"name":"a\ud83d","name":"a\ufffd"}"#,
        ] {
            assert_eq!(parse_object(json.as_bytes()), duplicate("name"), "{json}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        let object = parse_object(b"\xef\xbb\xbf{\"a\":1}").map(Value::Object);
        assert_eq!(object, Ok(serde_json::json!({"a": 1})));
        let error = parse_object(b"\xef\xbb\xbf\xef\xbb\xbf{}").unwrap_err();
        assert!(matches!(error, JsonError::Syntax { .. }), "{error:?}");
    }

    #[test]
    fn nothing_is_tolerated_in_a_strict_object() {
        let object = parse_strict_object(br#"{"a":null}"#).map(Value::Object);
        assert_eq!(object, Ok(serde_json::json!({"a": null})));
        assert_eq!(parse_strict_object(br#"{"a":1,"a":1}"#), duplicate("a"));
        for json in [&b"\xef\xbb\xbf{}"[..], br#"{"name":"\ud83d"}"#] {
            let error = parse_strict_object(json).unwrap_err();
            assert!(matches!(error, JsonError::Syntax { .. }), "{error:?}");
        }
    }

    /// The fast path returns what the other one does, for texts that are one byte away from an object too.
    #[test]
    fn a_flat_object_is_parsed_as_any_other() {
        let mut parsed = 0;
        for json in [
            r#"{"alg":"ES256","kid":"a","typ":null}"#,
            r#" {"\u0061lg":"ES\u003256","a":[1,-2.5,"x"],"b":true} "#,
            r#"{"a":"x","b":"y","name":"\ud83d\ude00"}"#,
        ] {
            for place in 0..json.len() {
                for byte in *b"\"\\{}[],: nabkdE0\0\xff" {
                    let mut changed = json.as_bytes().to_vec();
                    changed[place] = byte;
                    if let Some(object) = parse_flat(&changed) {
                        parsed += 1;
                        let text = String::from_utf8_lossy(&changed);
                        let (_, duplicate) = Shape::parse(&changed).unwrap();
                        assert_eq!((Ok(object), None), (to_object(&changed), duplicate), "{text}");
                    }
                }
            }
        }
        assert!(parsed > 100, "{parsed}");
    }

    #[test]
    fn a_document_is_read_member_by_member() {
        let json = r#"{"a":"x","b":"","c":"\ud83d","d":"1","d":"2","e":7,"f":null,"g":{"h":1,"h":2}}"#;
        // Without the surrogate: a duplicate is detected first.
        let document = Document::parse(json.replace(r#","c":"\ud83d""#, "").as_bytes()).unwrap();
        let texts = ["a", "b", "d", "e", "f", "g", "x"].map(|name| document.text(name));
        assert_eq!(texts, [Some("x"), None, None, None, None, None, None]);
        assert_eq!(document.displayed("d"), Some("2"));
        let defects = ["a", "d", "g"].map(|name| document.defect(name).is_some());
        assert_eq!(defects, [false, true, true]);

        let document = Document::parse(br#"{"a":"x","c":"y\ud83d"}"#).unwrap();
        assert_eq!((document.text("a"), document.text("c")), (Some("x"), None));
        assert_eq!(document.displayed("c"), Some("y\u{fffd}"));
    }

    #[test]
    fn values_of_other_types_are_rejected() {
        for (json, actual) in [
            ("[]", "an array"),
            ("1", "a number"),
            ("\"x\"", "a string"),
            ("null", "null"),
            ("true", "a boolean"),
        ] {
            assert_eq!(parse_object(json.as_bytes()), Err(JsonError::NotAnObject { actual }));
        }
    }

    #[test]
    fn invalid_json_is_rejected_without_quoting_it() {
        for json in [
            &b""[..],
            b"{",
            b"{} {}",
            b"{\"a\":}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"{\"a\":NaN}",
            b"{\"exp\":1e999}",
            b"{\"a\":\"\xff\"}",
            b"{\"name\":\"\xed\xa0\xbd\"}",
            b"{\"name\":\"\\ud83d",
            b"{\"name\":\"\\ud83\"}",
            b"{\"name\":\"\\ud83d\"}}",
            b"{\"\xff\":1}",
        ] {
            let error = parse_object(json).unwrap_err();
            assert!(matches!(error, JsonError::Syntax { line: 0 | 1, .. }), "{error:?}");
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
