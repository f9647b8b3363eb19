//! The declaration of settings: the name, type, default and documentation of each, declared once with `settings!`.
//!
//! The declarations generate the structs, their defaults, the known names, how environment variables are read, and
//! how values are parsed and validated, with all errors at once.

use figment::{
    error::{Actual, Kind},
    value::Value,
};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::{
    Settings, SettingsError,
    error::{Origins, describe, list},
    mistake::{Mistake, rule},
    stray_characters::{note, trimmed},
    syntax::{Syntax, edit_distance, nearest, renamed},
};

/// A setting type: the syntax, parser and validator of its values.
pub(super) trait SettingType {
    /// The type of the field.
    type Value;
    const SYNTAX: Syntax;
    /// Whether errors hide the actual values.
    const IS_SECRET: bool = false;
    /// The settings in it, if it is a table of settings.
    const FIELDS: &'static [Field] = &[];

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid>;

    /// Validates a value that was parsed, or that the app has set in its code.
    fn validate(_value: &Self::Value, _parser: &mut Parser<'_>) -> Result<(), Invalid> {
        Ok(())
    }

    /// The setting `name` in it.
    fn member(name: &str) -> Option<Setting> {
        let field = Self::FIELDS.iter().find(|field| field.name == name)?;
        Some((field.setting)())
    }
}

/// A setting type that adds a check to another one.
pub(super) trait Refined {
    type Base: SettingType;

    fn check(value: &<Self::Base as SettingType>::Value) -> Result<(), Mistake>;
}

impl<T: Refined> SettingType for T {
    type Value = <T::Base as SettingType>::Value;
    const SYNTAX: Syntax = T::Base::SYNTAX;
    const IS_SECRET: bool = T::Base::IS_SECRET;
    const FIELDS: &'static [Field] = T::Base::FIELDS;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        T::Base::parse(value, parser)
    }

    fn validate(value: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        T::Base::validate(value, parser)?;
        Ok(T::check(value)?)
    }

    fn member(name: &str) -> Option<Setting> {
        T::Base::member(name)
    }
}

/// Declares setting types that add a check to another one: base, check, cause and remedy.
macro_rules! refined {
    ($(
        $(#[$doc:meta])*
        $name:ident: $base:ty, |$value:ident| $is_valid:expr, $cause:expr, $remedy:expr;
    )*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl $crate::settings::declaration::Refined for $name {
            type Base = $base;

            fn check(
                $value: &<$base as $crate::settings::declaration::SettingType>::Value,
            ) -> Result<(), $crate::settings::mistake::Mistake> {
                $crate::settings::mistake::rule("", $is_valid).cause($cause).remedy($remedy)
            }
        }
    )*};
}

pub(super) use refined;

/// A declared setting: a [`SettingType`] as a value.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub syntax: Syntax,
    fields: &'static [Field],
    member: fn(&str) -> Option<Setting>,
}

/// A setting in its table.
pub(super) struct Field {
    pub name: &'static str,
    /// 30 KB in all, which no app reads.
    #[cfg(any(test, feature = "__internals"))]
    pub doc: &'static str,
    pub setting: fn() -> Setting,
}

impl Setting {
    pub(super) fn of<T: SettingType>() -> Setting {
        Setting {
            syntax: T::SYNTAX,
            fields: T::FIELDS,
            member: T::member,
        }
    }

    /// Finds the setting with this key under `oidc`; a dot separates a table and its member.
    pub(super) fn find(key: &str) -> Option<Setting> {
        let mut names = key.split('.');
        names.try_fold(Setting::of::<Settings>(), |table, name| (table.member)(name))
    }
}

/// The settings in a table, and in its nested tables, with their keys.
pub(super) fn declared(prefix: &str, fields: &'static [Field]) -> Vec<(String, &'static Field)> {
    let mut found = vec![];
    for field in fields {
        let key = format!("{prefix}{}", field.name);
        let inner = declared(&format!("{key}."), (field.setting)().fields);
        found.push((key, field));
        found.extend(inner);
    }
    found
}

/// Why a value is rejected.
#[derive(Debug)]
pub(super) enum Invalid {
    /// It has the wrong type.
    Type(Actual),
    /// It breaks a rule.
    Mistake(Mistake),
    /// A nested value is rejected, and was reported.
    Reported,
}

impl Invalid {
    pub(super) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Invalid {
        Invalid::Mistake(Mistake::new(cause, remedy))
    }
}

impl From<Mistake> for Invalid {
    fn from(mistake: Mistake) -> Invalid {
        Invalid::Mistake(mistake)
    }
}

/// Parses and validates values, and collects their errors.
pub(super) struct Parser<'a> {
    origins: &'a Origins,
    path: Vec<String>,
    is_secret: bool,
    errors: Vec<SettingsError>,
    stray_characters: Vec<String>,
}

impl<'a> Parser<'a> {
    /// Parses a table; also returns notes about stray characters around its credentials and URLs.
    pub(super) fn parse<T: SettingType>(
        value: &Value,
        origins: &'a Origins,
    ) -> Result<(T::Value, Vec<String>), SettingsError> {
        let mut parser = Parser::new(origins);
        let parsed = parser.value::<T>("", value);
        match (parsed, SettingsError::all(parser.errors)) {
            (_, Err(error)) => Err(error),
            (Some(parsed), Ok(())) => Ok((parsed, parser.stray_characters)),
            (None, Ok(())) => unreachable!("what is not parsed is reported"),
        }
    }

    /// The errors of values that are already parsed.
    pub(super) fn errors_of<T: SettingType>(value: &T::Value, origins: &'a Origins) -> Vec<SettingsError> {
        let mut parser = Parser::new(origins);
        parser.validate::<T>("", value);
        parser.errors
    }

    fn new(origins: &'a Origins) -> Parser<'a> {
        Parser {
            origins,
            path: vec![],
            is_secret: false,
            errors: vec![],
            stray_characters: vec![],
        }
    }

    fn at<R>(&mut self, name: &str, step: impl FnOnce(&mut Self) -> R) -> R {
        if !name.is_empty() {
            self.path.push(name.to_owned());
        }
        let result = step(self);
        if !name.is_empty() {
            self.path.pop();
        }
        result
    }

    /// Parses and validates the value of the setting `name`. `None` if an error was reported.
    pub(super) fn value<T: SettingType>(&mut self, name: &str, value: &Value) -> Option<T::Value> {
        self.at(name, |parser| {
            let is_in_secret = parser.is_secret;
            parser.is_secret |= T::IS_SECRET;
            let result = T::parse(value, parser).and_then(|parsed| {
                T::validate(&parsed, parser)?;
                Ok(parsed)
            });
            let parsed = result.map_err(|invalid| parser.report::<T>(invalid)).ok();
            parser.is_secret = is_in_secret;
            parsed
        })
    }

    /// Validates the value of the setting `name`.
    pub(super) fn validate<T: SettingType>(&mut self, name: &str, value: &T::Value) {
        self.at(name, |parser| {
            if let Err(invalid) = T::validate(value, parser) {
                parser.report::<T>(invalid);
            }
        });
    }

    /// Reports an error of the setting `name`.
    pub(super) fn refuse<T: SettingType>(&mut self, name: &str, invalid: impl Into<Invalid>) {
        self.at(name, |parser| parser.report::<T>(invalid.into()));
    }

    fn report<T: SettingType>(&mut self, invalid: Invalid) {
        let key = self.path.join(".");
        let origin = self.origins.find(&key);
        let mistake = match invalid {
            Invalid::Reported => return,
            Invalid::Mistake(mistake) => mistake,
            Invalid::Type(found) => {
                let found = describe(&found, self.is_secret);
                let cause = format!("expected {}, found {found}", T::SYNTAX.expectation);
                Mistake::new(cause, origin.example(&key, &T::SYNTAX))
            }
        };
        self.errors.push(SettingsError::new(origin, mistake));
    }

    pub(super) fn count_of_errors(&self) -> usize {
        self.errors.len()
    }

    /// Reports that the setting `name` of this table is missing.
    pub(super) fn refuse_missing<T: SettingType>(&mut self, name: &str) {
        self.report::<T>(Invalid::new(format!("`{name}` is missing"), format!("add `{name}`")));
    }

    /// Reports `name` if this table has no such setting.
    pub(super) fn check_name<T: SettingType>(&mut self, name: &str, ignores_others: bool) {
        let known = || T::FIELDS.iter().map(|field| field.name);
        if known().any(|known| known == name) {
            return;
        }
        let table = self.path.join(".");
        let (cause, nearest) = if ignores_others {
            let nearest = known().find(|known| edit_distance(name, known) <= 2);
            (format!("there is no member `{name}`"), nearest)
        } else {
            let renamed = renamed(&format!("{table}.{name}")).and_then(|key| key.rsplit('.').next());
            let table = format!("oidc.{table}");
            let table = table.trim_end_matches('.');
            let cause = format!("there is no setting `{name}` in `{table}`");
            (cause, renamed.or_else(|| nearest(name, known())))
        };
        let remedy = match nearest {
            Some(known) => format!("write `{known}` instead, or remove `{name}`"),
            None if ignores_others => return,
            None => format!("remove `{name}`"),
        };
        self.refuse::<T>(name, Invalid::new(cause, remedy));
    }

    /// Parses a string, trimmed and not empty.
    pub(super) fn text(&mut self, value: &Value) -> Result<String, Invalid> {
        let text = match value {
            Value::String(_, text) => trimmed(text).to_owned(),
            Value::Char(_, letter) => trimmed(&letter.to_string()).to_owned(),
            _ => return Err(Invalid::Type(value.to_actual())),
        };
        rule("", !text.is_empty())
            .cause("the value is empty")
            .remedy("set a value, or remove it")?;
        Ok(text)
    }

    /// Parses a string that is compared exactly: stray characters around it are noted.
    pub(super) fn exact_text(&mut self, value: &Value) -> Result<String, Invalid> {
        if let Some(around) = value.as_str().and_then(note) {
            let origin = self.origins.find(&self.path.join("."));
            let line = [&*origin.to_string(), around].join(" ");
            self.stray_characters.push(line);
        }
        self.text(value)
    }

    /// Parses the enum variant with this name.
    pub(super) fn variant<T: DeserializeOwned>(&mut self, value: &Value) -> Result<T, Invalid> {
        let text = self.text(value)?;
        T::deserialize(text.as_str().into_deserializer()).map_err(|error: figment::Error| {
            let known = match error.kind {
                Kind::UnknownVariant(_, known) => known,
                _ => &[],
            };
            let known = list(known.iter().copied(), "or").unwrap_or_default();
            Invalid::new(format!("unknown value {text:?}"), format!("write {known}"))
        })
    }

    /// Resolves `path` relative to the file that names it.
    pub(super) fn resolve(&self, path: &str) -> std::path::PathBuf {
        self.origins.resolve(&self.path.join("."), path.as_ref())
    }
}

/// Implements [`SettingType`] for enums that serde deserializes by the names of their variants.
macro_rules! named {
    ($($type:ty),*) => {$(
        impl $crate::settings::declaration::SettingType for $type {
            type Value = $type;
            const SYNTAX: $crate::settings::syntax::Syntax = $crate::settings::syntax::TEXT;

            fn parse(
                value: &figment::value::Value,
                parser: &mut $crate::settings::declaration::Parser<'_>,
            ) -> Result<$type, $crate::settings::declaration::Invalid> {
                parser.variant(value)
            }
        }
    )*};
}

pub(super) use named;

/// Declares a table of settings: each with its documentation, name, type and default. A setting without a default is
/// required. After `as` comes the [`SettingType`] that parses and validates it, unless the field's type does.
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                pub $field:ident: $type:ty $(as $setting:ty)? $(= $default:expr)?,
            )*
        }
        // Unknown names are ignored, unless they look misspelt.
        $(others: $others:ident)?
        $(internal {
            $( $(#[$hidden_attribute:meta])* $visibility:vis $hidden:ident: $hidden_type:ty, )*
        })?
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
            $($( $(#[$hidden_attribute])* $visibility $hidden: $hidden_type, )*)?
        }

        impl $name {
            /// The values as `Debug` shows them, with their names.
            #[allow(dead_code, reason = "of the tables that are shown by their settings")]
            pub(in crate::settings) fn values(&self) -> Vec<(&'static str, String)> {
                vec![$( (stringify!($field), format!("{:?}", self.$field)), )*]
            }
        }

        impl $crate::settings::declaration::SettingType for $name {
            type Value = $name;
            const SYNTAX: $crate::settings::syntax::Syntax = $crate::settings::syntax::TABLE;
            const FIELDS: &'static [$crate::settings::declaration::Field] = &[$(
                $crate::settings::declaration::Field {
                    name: stringify!($field),
                    #[cfg(any(test, feature = "__internals"))]
                    doc: concat!($($doc, "\n"),*),
                    setting: $crate::settings::declaration::Setting::of::<
                        settings!(@type $type $(as $setting)?)
                    >,
                },
            )*];

            fn parse(
                value: &figment::value::Value,
                parser: &mut $crate::settings::declaration::Parser<'_>,
            ) -> Result<$name, $crate::settings::declaration::Invalid> {
                use $crate::settings::declaration::Invalid;

                let table = value.as_dict().ok_or_else(|| Invalid::Type(value.to_actual()))?;
                let before = parser.count_of_errors();
                for name in table.keys() {
                    parser.check_name::<Self>(name, settings!(@is_given $($others)?));
                }
                $(
                    let $field = match table.get(stringify!($field)) {
                        Some(value) => parser
                            .value::<settings!(@type $type $(as $setting)?)>(stringify!($field), value),
                        None => settings!(@absent parser, $field $(= $default)?),
                    };
                )*
                if parser.count_of_errors() > before {
                    return Err(Invalid::Reported);
                }
                Ok($name {
                    $( $field: $field.ok_or(Invalid::Reported)?, )*
                    $($( $(#[$hidden_attribute])* $hidden: Default::default(), )*)?
                })
            }

            fn validate(
                value: &$name,
                parser: &mut $crate::settings::declaration::Parser<'_>,
            ) -> Result<(), $crate::settings::declaration::Invalid> {
                $(
                    parser.validate::<settings!(@type $type $(as $setting)?)>(
                        stringify!($field),
                        &value.$field,
                    );
                )*
                Ok(())
            }
        }

        settings!(@default $name
            { $( $field ($($default)?) )* }
            { $($( $(#[$hidden_attribute])* $hidden )*)? });
    };

    (@is_given) => { false };
    (@is_given $given:ident) => { true };

    (@type $type:ty as $setting:ty) => { $setting };
    (@type $type:ty) => { $type };

    (@absent $parser:ident, $field:ident = $default:expr) => { Some($default) };
    (@absent $parser:ident, $field:ident) => {{
        $parser.refuse_missing::<Self>(stringify!($field));
        None
    }};

    (@default $name:ident
        { $( $field:ident ($default:expr) )* }
        { $( $(#[$hidden_attribute:meta])* $hidden:ident )* }
    ) => {
        impl Default for $name {
            fn default() -> $name {
                $name {
                    $( $field: $default, )*
                    $( $(#[$hidden_attribute])* $hidden: Default::default(), )*
                }
            }
        }
    };
    // A table with a required setting has no default.
    (@default $name:ident $($other:tt)*) => {};
}

pub(super) use settings;

/// Parses JSON as a setting of this type.
#[cfg(test)]
pub(super) fn parsed<T: SettingType>(json: serde_json::Value) -> T::Value {
    let value = Value::serialize(json).expect("JSON is a value");
    let origins = Origins::default();
    let (parsed, _) = Parser::parse::<T>(&value, &origins).expect("it is valid");
    parsed
}

#[cfg(test)]
mod tests;
