//! The values of settings as files and variables write them, parsed into their final types while they are read.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Error, SeqAccess, Visitor},
};
use url::{Host, Url};

use super::{
    IntrospectionAuthMethod, KnownProvider, ResponseMode, StoreKind, TokenEndpointAuthMethod,
    TokenValidation,
    error::REMEDY,
    key::Form,
    stray_characters::{has_control, trimmed},
};
use crate::{
    secret::Secret,
    token::{Accepts, AudienceClaim},
};

/// What is wrong with a text that has one in it, and what to do.
pub(super) const CONTROL_CHARACTER: &str =
    "a line break or another invisible character is in the value";
pub(super) const WRITE_ON_ONE_LINE: &str =
    "write it on one line, without copying what is around it";

/// Far beyond any sensible value, and far from where dates overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads `Option<T>` by way of its wrapper `W`.
pub(super) fn optional<'de, D, W, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    W: Deserialize<'de> + Into<T>,
{
    Ok(Option::<W>::deserialize(deserializer)?.map(Into::into))
}

/// Reads `T` by way of its wrapper `W`.
pub(super) fn via<'de, D, W, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    W: Deserialize<'de> + Into<T>,
{
    W::deserialize(deserializer).map(Into::into)
}

fn refuse<E: de::Error>(cause: impl fmt::Display, remedy: impl fmt::Display) -> E {
    E::custom(format_args!("{cause}{REMEDY}{remedy}"))
}

/// Parses a string of a setting.
trait FromText: Sized {
    const FORM: Form;

    fn from_text<E: de::Error>(text: &str) -> Result<Self, E>;
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::FORM.expectation())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(trimmed(text))
    }
}

macro_rules! from_text {
    ($($wrapper:ty => $inner:ty),*) => {$(
        impl<'de> Deserialize<'de> for $wrapper {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor::<$wrapper>(PhantomData))
            }
        }

        impl From<$wrapper> for $inner {
            fn from(wrapper: $wrapper) -> $inner {
                wrapper.0
            }
        }
    )*};
}

from_text!(
    Text => String, Credential => String, Address => Url, ExactAddress => Url, Method => TokenEndpointAuthMethod,
    ResponseModeName => ResponseMode,
    IntrospectionMethod => IntrospectionAuthMethod, Validation => TokenValidation,
    StoreName => StoreKind, PresetName => KnownProvider, CookieName => String,
    AcceptsName => Accepts, AudienceClaimName => AudienceClaim
);

/// A string with something in it, without what is around it.
pub(super) struct Text(String);

impl FromText for Text {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<Text, E> {
        if text.is_empty() {
            let remedy = "give it a value, or remove it";
            return Err(refuse("the value is empty", remedy));
        }
        Ok(Text(text.to_owned()))
    }
}

/// A text that is compared letter by letter at the provider.
pub(super) struct Credential(String);

impl FromText for Credential {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<Credential, E> {
        let Text(text) = Text::from_text(text)?;
        // It may be a secret, so it is not shown.
        match has_control(&text) {
            true => Err(refuse(CONTROL_CHARACTER, WRITE_ON_ONE_LINE)),
            false => Ok(Credential(text)),
        }
    }
}

/// The name of a cookie, without a prefix.
pub(super) struct CookieName(String);

impl FromText for CookieName {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<CookieName, E> {
        // RFC 6265 §4.1.1 allows more, and some proxies take less.
        let is_named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(is_named) && !text.starts_with("__") {
            Ok(CookieName(text.to_owned()))
        } else {
            Err(refuse(
                format_args!("{text:?} is not the name of a cookie"),
                "write up to 64 letters, digits, `-`, `_` and `.`, without a prefix such as `__Host-`",
            ))
        }
    }
}

/// An absolute URL.
pub(super) struct Address(Url);

impl FromText for Address {
    const FORM: Form = Form::Url;

    fn from_text<E: de::Error>(text: &str) -> Result<Address, E> {
        // Before an `@` may stand a password, so such a text is not shown.
        if text.contains('@') {
            let remedy = "remove what stands before the host, up to the `@`";
            return Err(refuse("a URL with an `@` is not accepted", remedy));
        }
        match Url::parse(text) {
            Ok(url) if url.has_host() => Ok(Address(url)),
            _ => Err(refuse(
                format_args!("{text:?} is not an absolute URL"),
                "write the whole address, as in `https://app.example.com`",
            )),
        }
    }
}

/// An absolute URL that is sent exactly as it was written.
pub(super) struct ExactAddress(Url);

impl FromText for ExactAddress {
    const FORM: Form = Form::Url;

    fn from_text<E: de::Error>(text: &str) -> Result<ExactAddress, E> {
        let Address(url) = Address::from_text(text)?;
        if url.as_str() != text {
            return Err(refuse(
                format_args!("{text:?} would be sent as `{url}`"),
                format_args!("write `{url}`, here and where it is registered at the provider"),
            ));
        }
        Ok(ExactAddress(url))
    }
}

/// The name of a way to authenticate at the token endpoint.
pub(super) struct Method(TokenEndpointAuthMethod);

impl FromText for Method {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<Method, E> {
        match text {
            "client_secret_basic" => Ok(Method(TokenEndpointAuthMethod::ClientSecretBasic)),
            "client_secret_post" => Ok(Method(TokenEndpointAuthMethod::ClientSecretPost)),
            "private_key_jwt" => Ok(Method(TokenEndpointAuthMethod::PrivateKeyJwt)),
            "none" => Ok(Method(TokenEndpointAuthMethod::None)),
            _ => Err(refuse(
                format_args!("there is no method {text:?}"),
                "write `client_secret_basic`, `client_secret_post`, `private_key_jwt` or `none`",
            )),
        }
    }
}

/// The name of a response mode.
pub(super) struct ResponseModeName(ResponseMode);

impl FromText for ResponseModeName {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<ResponseModeName, E> {
        match text {
            "query" => Ok(ResponseModeName(ResponseMode::Query)),
            "form_post" => Ok(ResponseModeName(ResponseMode::FormPost)),
            _ => Err(refuse(
                format_args!("the response mode {text:?} is not known"),
                "write `query` or `form_post`",
            )),
        }
    }
}

/// The name of a way to authenticate at the introspection endpoint.
pub(super) struct IntrospectionMethod(IntrospectionAuthMethod);

impl FromText for IntrospectionMethod {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<IntrospectionMethod, E> {
        Ok(IntrospectionMethod(match text {
            "client_secret_post" => IntrospectionAuthMethod::ClientSecretPost,
            "client_secret_basic" => IntrospectionAuthMethod::ClientSecretBasic,
            "bearer" => IntrospectionAuthMethod::Bearer,
            _ => {
                return Err(refuse(
                    format_args!("there is no method {text:?}"),
                    "write `client_secret_post`, `client_secret_basic` or `bearer`",
                ));
            }
        }))
    }
}

/// The name of a way to check access tokens.
pub(super) struct Validation(TokenValidation);

impl FromText for Validation {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<Validation, E> {
        Ok(Validation(match text {
            "auto" => TokenValidation::Auto,
            "jwt" => TokenValidation::Jwt,
            "introspection" => TokenValidation::Introspection,
            _ => {
                return Err(refuse(
                    format_args!("tokens cannot be checked by {text:?}"),
                    "write `auto`, `jwt` or `introspection`",
                ));
            }
        }))
    }
}

/// What the tokens of an issuer are.
pub(super) struct AcceptsName(Accepts);

impl FromText for AcceptsName {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<AcceptsName, E> {
        let all = [
            Accepts::AccessTokens,
            Accepts::IdentityTokens,
            Accepts::UntypedTokens,
        ];
        let named = all.into_iter().find(|accepts| accepts.as_str() == text);
        named.map(AcceptsName).ok_or_else(|| {
            refuse(
                format_args!("there are no tokens of the kind {text:?}"),
                "write `access_tokens`, `identity_tokens` or `untyped_tokens`",
            )
        })
    }
}

/// The name of a claim with the audience.
pub(super) struct AudienceClaimName(AudienceClaim);

impl FromText for AudienceClaimName {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<AudienceClaimName, E> {
        match text {
            "aud" => Ok(AudienceClaimName(AudienceClaim::Aud)),
            "client_id" => Ok(AudienceClaimName(AudienceClaim::ClientId)),
            _ => Err(refuse(
                format_args!("{text:?} is no claim that names an audience"),
                "write `aud` or `client_id`",
            )),
        }
    }
}

/// The name of a place for sessions.
pub(super) struct StoreName(StoreKind);

impl FromText for StoreName {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<StoreName, E> {
        Ok(StoreName(match text {
            "cookie" => StoreKind::Cookie,
            "memory" => StoreKind::Memory,
            "redis" => StoreKind::Redis,
            "sql" => StoreKind::Sql,
            _ => {
                return Err(refuse(
                    format_args!("sessions cannot be kept in {text:?}"),
                    "write `cookie`, `memory`, `redis` or `sql`",
                ));
            }
        }))
    }
}

/// The name of a provider that has a preset.
pub(super) struct PresetName(KnownProvider);

impl FromText for PresetName {
    const FORM: Form = Form::Text;

    fn from_text<E: de::Error>(text: &str) -> Result<PresetName, E> {
        Ok(PresetName(match text {
            "google" => KnownProvider::Google,
            "microsoft" => KnownProvider::Microsoft,
            "auth0" => KnownProvider::Auth0,
            "keycloak" => KnownProvider::Keycloak,
            _ => {
                return Err(refuse(
                    format_args!("there is no preset {text:?}"),
                    "write `google`, `microsoft`, `auth0` or `keycloak`, or set `issuer`",
                ));
            }
        }))
    }
}

/// A secret's text: no error of its shows what was found instead.
pub(super) struct SecretText(Secret);

impl From<SecretText> for Secret {
    fn from(text: SecretText) -> Secret {
        text.0
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
        struct SecretVisitor;

        fn not_a_string<E: de::Error>() -> E {
            refuse(
                "expected a string, found another type",
                "put the value in quotes",
            )
        }

        impl Visitor<'_> for SecretVisitor {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Form::Text.expectation())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
                let Credential(text) = Credential::from_text(trimmed(text))?;
                Ok(SecretText(Secret::new(text)))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<SecretText, E> {
                Err(not_a_string())
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<SecretText, E> {
                Err(not_a_string())
            }

            fn visit_i128<E: Error>(self, _: i128) -> Result<SecretText, E> {
                Err(not_a_string())
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<SecretText, E> {
                Err(not_a_string())
            }

            fn visit_u128<E: Error>(self, _: u128) -> Result<SecretText, E> {
                Err(not_a_string())
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<SecretText, E> {
                Err(not_a_string())
            }
        }

        deserializer.deserialize_any(SecretVisitor)
    }
}

/// A list of secrets, or secrets in one string that is divided at spaces.
pub(super) struct SecretWords(Vec<Secret>);

impl From<SecretWords> for Vec<Secret> {
    fn from(secrets: SecretWords) -> Vec<Secret> {
        secrets.0
    }
}

impl<'de> Deserialize<'de> for SecretWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretWords, D::Error> {
        struct SecretsVisitor;

        impl<'de> Visitor<'de> for SecretsVisitor {
            type Value = SecretWords;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Form::Words.expectation())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretWords, E> {
                let words = trimmed(text).split_whitespace();
                Ok(SecretWords(words.map(Secret::new).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SecretWords, A::Error> {
                let mut secrets = Vec::new();
                while let Some(SecretText(secret)) = list.next_element()? {
                    secrets.push(secret);
                }
                Ok(SecretWords(secrets))
            }
        }

        deserializer.deserialize_any(SecretsVisitor)
    }
}

/// Words in one string, or a list of strings.
pub(super) struct Words(Vec<String>);

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Vec<String> {
        words.0
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        struct WordsVisitor;

        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Form::Words.expectation())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Words, E> {
                let words = trimmed(text).split_whitespace();
                Ok(Words(words.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(Text(word)) = list.next_element()? {
                    if word.contains(char::is_whitespace) {
                        return Err(refuse(
                            format_args!("{word:?} has a space in it"),
                            "write each word as an element of its own",
                        ));
                    }
                    words.push(word);
                }
                Ok(Words(words))
            }
        }

        deserializer.deserialize_any(WordsVisitor)
    }
}

/// Reads seconds as a number, or a text such as `10m`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;

    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(Form::Duration.expectation())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).map_err(|cause| {
                refuse(
                    cause,
                    "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this \
                     order, as in `90`, `10m` or `1h30m`",
                )
            })
        }

        fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
            self.visit_str(&seconds.to_string())
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
            self.visit_str(&seconds.to_string())
        }
    }

    deserializer.deserialize_any(DurationVisitor)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let malformed = || format!("{text:?} is not a duration");
    let too_long = || format!("{text:?} is longer than a hundred years");

    let mut rest = text.trim();
    if rest.starts_with('-') {
        return Err(format!("{text:?} is negative"));
    }
    let mut total = Duration::ZERO;
    let mut units = UNITS.as_slice();
    while {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, after) = after.split_at(letters);
        // A bare number is seconds, if there is nothing else.
        let unit = match unit {
            "" if number.len() == text.trim().len() => "s",
            unit => unit,
        };
        let position = units.iter().position(|(name, _)| *name == unit);
        let position = position.ok_or_else(malformed)?;
        if number.is_empty() {
            return Err(malformed());
        }
        let milliseconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(units[position].1))
            .ok_or_else(too_long)?;
        total = total.saturating_add(Duration::from_millis(milliseconds));
        units = &units[position + 1..];
        rest = after;
        !rest.is_empty()
    } {}
    match total > LONGEST {
        true => Err(too_long()),
        false => Ok(total),
    }
}

/// Whether a URL's host is this machine by its name: `localhost`, `*.localhost`, `127.0.0.0/8`, `[::1]`.
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
    fn durations_in_every_form() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("0", 0),
            ("45s", 45_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("500ms", 500),
            ("1m500ms", 60_500),
            (" 5s ", 5_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_refused() {
        for text in [
            "", "m", "10x", "1.5h", "10 m", "30m1h", "1h30", "1m1m", "+5", "١s",
        ] {
            assert_eq!(
                parse_duration(text),
                Err(format!("{text:?} is not a duration"))
            );
        }
        assert_eq!(parse_duration("-5"), Err("\"-5\" is negative".to_owned()));
        for text in ["99999999999999999999s", "18446744073709551615d", "36501d"] {
            let cause = format!("{text:?} is longer than a hundred years");
            assert_eq!(parse_duration(text), Err(cause));
        }
    }

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
