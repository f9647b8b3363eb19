//! The error of an invalid setting: its cause, origin and remedy.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile,
    error::{Actual, Kind},
    value::{Tag, Value},
};

use super::{mistake::Mistake, syntax::Syntax};

/// The name of the `OIDC_*` variables in figment's metadata.
pub(super) const ENVIRONMENT: &str = "OIDC_* environment variables";

/// An invalid setting, which aborts the launch.
///
/// Its `Display` is one line with the full key, the file or environment variable of the value, and the cause. It
/// never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {cause}")]
pub struct SettingsError {
    origin: Box<Origin>,
    cause: String,
    remedy: String,
    others: Vec<SettingsError>,
}

impl SettingsError {
    pub(super) fn new(origin: Origin, mistake: Mistake) -> SettingsError {
        SettingsError {
            origin: Box::new(origin),
            cause: mistake.cause,
            remedy: mistake.remedy,
            others: vec![],
        }
    }

    /// The full key, such as `default.oidc.scopes`; without the profile if the value is from the environment or
    /// absent.
    pub fn key(&self) -> &str {
        &self.origin.key
    }

    /// The file, environment variable or code from which the value came; `None` if there is no value.
    pub fn origin(&self) -> Option<&str> {
        self.origin.name.as_deref()
    }

    /// What is wrong, without key and origin.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// The remedy, as an imperative sentence.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Further invalid settings, found at the same time.
    pub fn others(&self) -> &[SettingsError] {
        &self.others
    }

    /// This error and the others, each as a separate error.
    pub(crate) fn each(&self) -> Vec<SettingsError> {
        let mut first = self.clone();
        let others = std::mem::take(&mut first.others);
        std::iter::once(first).chain(others).collect()
    }

    /// Combines all errors into one, the first with the others; `Ok` if there is none.
    pub(crate) fn all(errors: impl IntoIterator<Item = SettingsError>) -> Result<(), SettingsError> {
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else {
            return Ok(());
        };
        first.others.extend(errors);
        Err(first)
    }

    /// The error of an `oidc` that is not a table. The value may be a malformed table, so it is not shown.
    pub(super) fn not_a_table(figment: &Figment, value: &Value) -> SettingsError {
        let tag = value.tag();
        let profile = tag.profile().unwrap_or_else(|| figment.profile().clone());
        let origin = Origin::locate(figment.get_metadata(tag), &profile, &[]);
        let remedy = match &origin.variable {
            Some(name) => format!("write for example `{name}={{enabled=false}}`"),
            None => "write a table `[default.oidc]`".to_owned(),
        };
        SettingsError::new(origin, Mistake::new("expected a table, found another value", remedy))
    }

    /// The error of a source that figment cannot read. Only a parser's message is quoted; others may show a value.
    pub(super) fn from_figment(error: figment::Error) -> SettingsError {
        let profile = error.profile.clone().unwrap_or_default();
        let origin = Origin::locate(error.metadata.as_ref(), &profile, &error.path);
        let cause = match &error.kind {
            // From its second line on, the message of a file parser quotes the wrong line.
            Kind::Message(message) => message.lines().next().unwrap_or_default(),
            _ => "the value cannot be read",
        };
        let remedy = match origin.file {
            Some(_) => "correct the syntax of the file there",
            None => "correct the syntax there",
        };
        SettingsError::new(origin, Mistake::new(cause, remedy))
    }
}

/// Joins names to an enumeration; `None` if there are none.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>, conjunction: &str) -> Option<String> {
    let names = names.into_iter().map(|name| format!("`{name}`"));
    let names: Vec<String> = names.collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(name.clone()),
        [names @ .., last] => Some(format!("{} {conjunction} {last}", names.join(", "))),
    }
}

pub(super) fn describe(found: &Actual, hidden: bool) -> String {
    match found {
        Actual::Map => "a table".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Unit | Actual::Option => "nothing".to_owned(),
        Actual::Bool(_) if hidden => "`true` or `false`".to_owned(),
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) if hidden => "a number".to_owned(),
        _ if hidden => "another value".to_owned(),
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(value) => format!("the number `{value}`"),
        Actual::Signed(value) => format!("the number `{value}`"),
        Actual::Float(value) => format!("the number `{value}`"),
        Actual::Str(value) => format!("the string {value:?}"),
        other => other.to_string(),
    }
}

/// The origin of a value. Its `Display` is the full key and, if there is a value, its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    key: String,
    name: Option<String>,
    /// The environment variable, if the value is from one.
    variable: Option<String>,
    file: Option<PathBuf>,
}

impl Origin {
    /// The origin of a setting without a value.
    pub(super) fn absent(key: &str) -> Origin {
        let key = format!("oidc.{key}").trim_end_matches('.').to_owned();
        Origin {
            key,
            ..Origin::default()
        }
    }

    /// The origin in the environment variable `name`.
    pub(super) fn variable(key: &str, name: &str) -> Origin {
        Origin {
            name: Some(format!("environment variable {name}")),
            variable: Some(name.to_owned()),
            ..Origin::absent(key)
        }
    }

    fn locate(metadata: Option<&Metadata>, profile: &Profile, path: &[String]) -> Origin {
        let key = path.join(".");
        let Some(metadata) = metadata else {
            return Origin::absent(&key);
        };
        let name = metadata.name.as_ref();
        if name == ENVIRONMENT {
            return Origin::variable(&key, &metadata.interpolate(profile, path));
        }
        // The name in figment's own provider, such as the one that reads `ROCKET_OIDC`.
        let quoted = name.strip_prefix('`');
        if let Some(prefix) = quoted.and_then(|name| name.strip_suffix("` environment variable(s)")) {
            return Origin::variable(&key, &format!("{prefix}OIDC"));
        }
        let source = metadata.source.as_ref();
        let file = source.and_then(|source| source.file_path());
        Origin {
            key: format!("{profile}.{}", Origin::absent(&key).key),
            name: Some(match source {
                Some(source) if file.is_some() => source.to_string(),
                Some(source) => format!("{name} ({source})"),
                None => name.to_owned(),
            }),
            file: file.map(PathBuf::from),
            variable: None,
        }
    }

    /// A remedy that shows how to write a value in this origin.
    pub(super) fn example(&self, key: &str, syntax: &Syntax) -> String {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let example = syntax.example;
        match &self.variable {
            _ if name.parse::<usize>().is_ok() => format!("correct this element of `{table}`"),
            Some(variable) => {
                format!("write for example `{variable}={}`", example.trim_matches('"'))
            }
            None if self.file.is_some() => format!("write for example `{name} = {example}`"),
            None => format!("give {}", syntax.expectation),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{}` in {name}", self.key),
            None => write!(f, "`{}`", self.key),
        }
    }
}

/// The origins of all values of the settings.
#[derive(Clone, Default)]
pub(super) struct Origins {
    of: BTreeMap<String, Origin>,
    /// The key of the table that these are about, such as `providers.google.`; empty for `oidc` itself.
    table: String,
}

impl Origins {
    pub(super) fn of(figment: &Figment, table: &Value) -> Origins {
        let mut origins = Origins::default();
        origins.visit(table, &mut vec![], &|tag, path| {
            let profile = tag.profile().unwrap_or_else(|| figment.profile().clone());
            Origin::locate(figment.get_metadata(tag), &profile, path)
        });
        origins
    }

    /// The origins of values in a file of its own.
    pub(super) fn in_file(file: &Path, table: &Value) -> Origins {
        let mut origins = Origins::default();
        origins.visit(table, &mut vec![], &|_, path| Origin {
            key: path.join("."),
            name: Some(format!("`{}`", file.display())),
            ..Origin::default()
        });
        origins
    }

    fn visit(&mut self, value: &Value, path: &mut Vec<String>, locate: &dyn Fn(Tag, &[String]) -> Origin) {
        if !path.is_empty() {
            self.of.insert(path.join("."), locate(value.tag(), path));
        }
        let members = value.as_dict().into_iter().flatten();
        let members = members.map(|(name, value)| (name.clone(), value));
        let elements = value.as_array().into_iter().flatten().enumerate();
        let elements = elements.map(|(index, value)| (index.to_string(), value));
        for (name, value) in members.chain(elements) {
            path.push(name);
            self.visit(value, path, locate);
            path.pop();
        }
    }

    /// The origin of the value of `key`.
    pub(super) fn find(&self, key: &str) -> Origin {
        let absent = || Origin::absent(&format!("{}{key}", self.table));
        self.of.get(key).cloned().unwrap_or_else(absent)
    }

    /// The source of the value of `key`, or of a part of it; `None` if nothing has set it.
    pub(super) fn source(&self, key: &str) -> Option<String> {
        let inside = format!("{key}.");
        let mut of_key = self
            .of
            .iter()
            .filter(|(other, _)| *other == key || other.starts_with(&inside));
        of_key.find_map(|(_, origin)| origin.name.clone())
    }

    /// The origins of the settings of one of `providers`: in its own table, or in `oidc`.
    pub(super) fn of_provider(&self, name: &str) -> Origins {
        let table = format!("providers.{name}.");
        let mut of = self.of.clone();
        for (key, origin) in &self.of {
            if let Some(key) = key.strip_prefix(&table) {
                of.insert(key.to_owned(), origin.clone());
            }
        }
        Origins { of, table }
    }

    /// Resolves `path` relative to the file that names it, as Rocket does; for any other origin, relative to the
    /// working directory.
    pub(super) fn resolve(&self, key: &str, path: &Path) -> PathBuf {
        let file = self.of.get(key).and_then(|origin| origin.file.as_deref());
        match file.and_then(|file| file.parent()) {
            Some(directory) => directory.join(path),
            None => path.to_owned(),
        }
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
