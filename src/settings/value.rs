//! The setting types: how values are written, parsed and validated.

use std::{collections::BTreeMap, marker::PhantomData, path::PathBuf};

use figment::value::Value;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use url::{Host, Position, Url};

use super::{
    declaration::{Field, Invalid, Parser, Refined, Setting, SettingType, named, refined},
    mistake::{Mistake, rule},
    stray_characters::{has_control, trimmed},
    syntax::{self, Syntax},
};
use crate::{
    keys::{SecretKey, SecretKeyError},
    secret::Secret,
    token::{Accepts, AudienceClaim, ClaimPath, SigningAlgorithm, UnknownAlgorithm},
};

fn other_type<T>(value: &Value) -> Result<T, Invalid> {
    Err(Invalid::Type(value.to_actual()))
}

/// Deserializes a value with serde.
pub(super) fn deserialized<T: DeserializeOwned>(value: &Value) -> Result<T, Invalid> {
    value.deserialize().or_else(|_| other_type(value))
}

impl<T: SettingType> SettingType for Option<T> {
    type Value = Option<T::Value>;
    const SYNTAX: Syntax = T::SYNTAX;
    const IS_SECRET: bool = T::IS_SECRET;
    const FIELDS: &'static [Field] = T::FIELDS;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        match value {
            Value::Empty(..) => Ok(None),
            value => T::parse(value, parser).map(Some),
        }
    }

    fn validate(value: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        let value = value.as_ref();
        value.map_or(Ok(()), |value| T::validate(value, parser))
    }

    fn member(name: &str) -> Option<Setting> {
        T::member(name)
    }
}

/// A table with arbitrary names.
impl<T: SettingType> SettingType for BTreeMap<String, T> {
    type Value = BTreeMap<String, T::Value>;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        let table = value.as_dict().ok_or_else(|| Invalid::Type(value.to_actual()))?;
        let member = |(name, value): (&String, &Value)| Some((name.clone(), parser.value::<T>(name, value)?));
        // Parse all members first, to collect all errors.
        let members: Vec<_> = table.iter().map(member).collect();
        members.into_iter().collect::<Option<_>>().ok_or(Invalid::Reported)
    }

    fn validate(table: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        for (name, value) in table {
            parser.validate::<T>(name, value);
        }
        Ok(())
    }

    fn member(_: &str) -> Option<Setting> {
        Some(Setting::of::<T>())
    }
}

/// Implements [`SettingType`] for types that serde deserializes directly.
macro_rules! plain {
    ($($type:ty: $syntax:expr),*) => {$(
        impl SettingType for $type {
            type Value = $type;
            const SYNTAX: Syntax = $syntax;

            fn parse(value: &Value, _: &mut Parser<'_>) -> Result<$type, Invalid> {
                deserialized(value)
            }
        }
    )*};
}

plain!(bool: syntax::FLAG, usize: syntax::COUNT, u16: syntax::PORT);

/// A number from `MIN` to `MAX`.
pub(super) struct Between<const MIN: usize, const MAX: usize>;

pub(super) type AtLeastOne = Between<1, { usize::MAX }>;

impl<const MIN: usize, const MAX: usize> Refined for Between<MIN, MAX> {
    type Base = usize;

    fn check(number: &usize) -> Result<(), Mistake> {
        let range = match MAX {
            usize::MAX => format!("{MIN} or more"),
            _ => format!("{MIN} to {MAX}"),
        };
        rule("", (MIN..=MAX).contains(number))
            .cause(format!("expected {range}, found {number}"))
            .remedy(format!("write {range}"))
    }
}

named!(Accepts, AudienceClaim);

impl SettingType for SigningAlgorithm {
    type Value = SigningAlgorithm;
    const SYNTAX: Syntax = syntax::TEXT;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<SigningAlgorithm, Invalid> {
        let algorithm = parser.text(value)?.parse();
        algorithm.map_err(|error: UnknownAlgorithm| Invalid::new(error.to_string(), error.remedy()))
    }
}

/// A string that is trimmed and not empty.
pub(super) struct Text;

/// An issuer. Whether it is a URL is checked where it must be one.
pub(super) struct Issuer;

/// Implements [`SettingType`] for strings that a method of the parser parses.
macro_rules! strings {
    ($($type:ty: $method:ident),*) => {$(
        impl SettingType for $type {
            type Value = String;
            const SYNTAX: Syntax = syntax::TEXT;

            fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<String, Invalid> {
                parser.$method(value)
            }
        }
    )*};
}

strings!(Text: text, Issuer: exact_text);

impl SettingType for Secret {
    type Value = Secret;
    const SYNTAX: Syntax = syntax::TEXT;
    const IS_SECRET: bool = true;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Secret, Invalid> {
        match value {
            Value::Num(..) | Value::Bool(..) => Err(Invalid::new(
                "expected a string, found another type",
                "put the value in quotes",
            )),
            value => parser.exact_text(value).map(Secret::new),
        }
    }

    fn validate(secret: &Secret, _: &mut Parser<'_>) -> Result<(), Invalid> {
        Ok(Credential::check(&secret.expose().to_owned())?)
    }
}

/// A list of strings, or words in one string.
pub(super) struct Words<T = Text>(PhantomData<T>);

impl<T: SettingType> SettingType for Words<T> {
    type Value = Vec<T::Value>;
    const SYNTAX: Syntax = syntax::WORDS;
    const IS_SECRET: bool = T::IS_SECRET;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        let Some(list) = value.as_array() else {
            let Some(text) = value.as_str() else {
                return other_type(value);
            };
            let words = trimmed(text).split_whitespace();
            return words.map(|word| T::parse(&word.into(), parser)).collect();
        };
        let mut words = vec![];
        for (index, element) in list.iter().enumerate() {
            let word = element.as_str().map(trimmed).unwrap_or_default();
            rule("", !word.contains(char::is_whitespace) || T::IS_SECRET)
                .cause(format!("{word:?} contains a space"))
                .remedy("write each word as a separate element")?;
            match T::parse(element, parser) {
                Err(Invalid::Type(found)) => {
                    parser.refuse::<T>(&index.to_string(), Invalid::Type(found));
                    return Err(Invalid::Reported);
                }
                word => words.push(word?),
            }
        }
        Ok(words)
    }

    fn validate(words: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        words.iter().try_for_each(|word| T::validate(word, parser))
    }
}

/// A list of at least one word.
pub(super) struct SomeWords<T = Text>(PhantomData<T>);

impl<T: SettingType> Refined for SomeWords<T> {
    type Base = Words<T>;

    fn check(words: &Vec<T::Value>) -> Result<(), Mistake> {
        rule("", !words.is_empty())
            .cause("the list is empty")
            .remedy("list at least one, or remove it")
    }
}

refined! {
    /// A text that the provider compares exactly. It may be a secret, so errors do not show it.
    Credential: Issuer,
        |text| trimmed(text) == text && !has_control(text),
        "the value contains or is surrounded by a line break or another invisible character",
        "write the value alone, on one line";

    /// A previous value of Rocket's `secret_key`.
    FormerKey: Secret,
        |key| SecretKey::parse(key.expose()).is_ok(),
        SecretKey::parse(key.expose()).err().map_or("", SecretKeyError::cause),
        "list former values of `secret_key`, each as it was set";

    /// A scope: `1*( %x21 / %x23-5B / %x5D-7E )` (RFC 6749 §3.3).
    Scope: Text,
        |scope| scope.chars().all(|c| matches!(c, '!' | '#'..='[' | ']'..='~')),
        format!("{scope:?} is not a scope"),
        "write scopes in printable ASCII, without quotes and backslashes";

    /// An algorithm that an access token may be signed with.
    AccessTokenAlgorithm: SigningAlgorithm,
        |algorithm| !algorithm.is_symmetric(),
        format!("{:?} is not an algorithm that access tokens may be signed with", algorithm.as_str()),
        "list algorithms with a public key, or remove it";

    /// The path to a claim whose values count as scopes.
    RolesClaim: Text,
        |path| ClaimPath::parse(path).is_some(),
        format!("{path:?} is not a JSON Pointer"),
        "write `~0` for `~` and `~1` for `/` in a name (RFC 6901)";

    /// The name of a cookie, without a prefix. RFC 6265 §4.1.1 allows more, but some proxies accept less.
    CookieName: Text,
        |name| (1..=64).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !name.starts_with("__"),
        format!("{name:?} is not the name of a cookie"),
        "write up to 64 letters, digits, `-`, `_` and `.`, without a prefix such as `__Host-`";

    /// The path at which the routes are mounted.
    MountPath: Text,
        |path| path == "/" || path.strip_prefix('/').is_some_and(|rest| {
            is_plain_path(rest) && rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
        }),
        format!("{path:?} is not a path to mount at"),
        "write a path such as `/oidc`: it starts with `/`, does not end with one, and is made of letters, digits \
         and `.`, `_`, `~`, `-`";

    /// The characters that a quoted string can contain without escapes (RFC 9110 §5.6.4).
    Realm: Text,
        |realm| !realm.is_empty()
            && realm.chars().all(|c| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~')),
        format!("{realm:?} is not allowed in a challenge"),
        "write it in printable ASCII, without quotes and backslashes";

    /// A local path or an absolute URL.
    PathOrUrl: Text,
        |text| !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\')
            && (text.starts_with('/') && !text.starts_with("//")
                || Url::parse(text).is_ok_and(|url| is_https_or_loopback(&url))),
        format!("{text:?} is neither a local path nor an https URL"),
        "write a path such as `/goodbye`, or an absolute URL with `https`";
}

/// Whether a path is the same in a route of this app and in a URL.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~-/".contains(c);
    path.chars().all(is_plain) && !path.contains("//")
}

/// An absolute URL.
impl SettingType for Url {
    type Value = Url;
    const SYNTAX: Syntax = syntax::URL;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Url, Invalid> {
        let text = parser.exact_text(value)?;
        // A password may precede an `@`, so such a text is not shown.
        rule("", !text.contains('@'))
            .cause("a URL with an `@` is not accepted")
            .remedy("remove the user name and password, up to the `@`")?;
        let url = Url::parse(&text).ok().filter(Url::has_host);
        url.ok_or_else(|| {
            let cause = format!("{text:?} is not an absolute URL");
            Invalid::new(cause, "write the whole URL, as in `https://app.example.com`")
        })
    }
}

/// An absolute URL that is sent exactly as written.
pub(super) struct ExactUrl;

impl SettingType for ExactUrl {
    type Value = Url;
    const SYNTAX: Syntax = syntax::URL;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Url, Invalid> {
        let (url, text) = (<Url as SettingType>::parse(value, parser)?, parser.text(value)?);
        rule("", url.as_str() == text)
            .cause(format!("{text:?} would be sent as `{url}`"))
            .remedy(format!("write `{url}`, here and in the registration at the provider"))?;
        Ok(url)
    }
}

/// The identifier of an API (RFC 9728 §1.2).
pub(super) struct Resource;

impl Refined for Resource {
    type Base = Url;

    fn check(resource: &Url) -> Result<(), Mistake> {
        rule("", resource.fragment().is_none() && resource.query().is_none())
            .cause(format!("`{resource}` has a query or a fragment"))
            .remedy("write scheme, host and path of the API (RFC 9728 §1.2)")?;
        let path = resource.path();
        rule("", is_plain_path(path))
            .cause(format!("no metadata can be served for the path `{path}`"))
            .remedy("write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/v1`")
    }
}

/// The public URL of the app.
pub(super) struct BaseUrl;

impl Refined for BaseUrl {
    type Base = Url;

    fn check(url: &Url) -> Result<(), Mistake> {
        rule("", url.username().is_empty() && url.password().is_none())
            .cause("a user name or password is not accepted")
            .remedy("remove the user name and the password")?;
        let without = &url[..Position::AfterPath];
        rule("", url.has_host() && url.query().is_none() && url.fragment().is_none())
            .cause(format!("`{url}` has more than scheme, host, port and path"))
            .remedy(format!("write `{without}`"))?;
        let path = url.path();
        rule("", is_plain_path(path))
            .cause(format!("no app can be at the path `{path}`"))
            .remedy("write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/team`")
    }
}

/// The path of a file with a secret, relative to the file that names it.
impl SettingType for PathBuf {
    type Value = PathBuf;
    const SYNTAX: Syntax = syntax::PATH;
    const IS_SECRET: bool = true;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<PathBuf, Invalid> {
        let path = parser.text(value)?;
        Ok(parser.resolve(&path))
    }
}

/// A value in a table with arbitrary names.
struct Anything;

impl SettingType for Anything {
    type Value = Json;
    const SYNTAX: Syntax = syntax::ANY;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<Json, Invalid> {
        deserialized(value)
    }

    fn member(_: &str) -> Option<Setting> {
        Some(Setting::of::<Anything>())
    }
}

/// A table with arbitrary names and values.
pub(super) struct Table;

impl SettingType for Table {
    type Value = Map<String, Json>;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        deserialized(value)
    }

    fn member(_: &str) -> Option<Setting> {
        Some(Setting::of::<Anything>())
    }
}

/// The claims of a user; empty if there is no user.
pub(super) struct Claims;

impl SettingType for Claims {
    type Value = Map<String, Json>;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        deserialized(value)
    }

    fn validate(claims: &Self::Value, _: &mut Parser<'_>) -> Result<(), Invalid> {
        rule("", claims.is_empty() || subject(claims).is_some())
            .cause("`sub` is missing, empty or not a string")
            .remedy("add `sub`, for example `testing_profile = { sub = \"alice\" }`")?;
        Ok(())
    }

    fn member(name: &str) -> Option<Setting> {
        match name {
            "sub" => Some(Setting::of::<Text>()),
            _ => Some(Setting::of::<Anything>()),
        }
    }
}

/// The `sub` of a user's claims, if it is not empty.
pub(super) fn subject(claims: &Map<String, Json>) -> Option<&str> {
    let subject = claims.get("sub").and_then(Json::as_str);
    subject.filter(|subject| !subject.is_empty())
}

/// Whether a URL's host is a loopback host: `localhost`, `*.localhost`, `127.0.0.0/8`, `[::1]`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether a URL is `https`, or `http` on loopback.
pub(crate) fn is_https_or_loopback(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names() {
        for (text, expected) in [
            ("http://localhost:8000", true),
            ("http://app.localhost", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:80", true),
            ("http://localhost.example.com", false),
            ("http://notlocalhost", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }
}
