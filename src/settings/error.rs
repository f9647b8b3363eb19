//! What is wrong with a setting, where it came from, and what to do about it.

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

use super::key::{Form, nearest};

/// A setting that cannot be used: the launch aborts with it.
///
/// Its `Display` is one line with the full key, the file or environment variable the value came from,
/// and the cause. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {cause}")]
pub struct SettingsError {
    origin: Box<Origin>,
    cause: String,
    remedy: String,
}

impl SettingsError {
    pub(super) fn new(
        origin: Origin,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> SettingsError {
        SettingsError {
            origin: Box::new(origin),
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }

    /// The full key, such as `default.oidc.scopes`; without the profile when the value is from the
    /// environment or absent.
    pub fn key(&self) -> &str {
        &self.origin.key
    }

    /// The file, environment variable or code that the value came from; `None` when there is no value.
    pub fn origin(&self) -> Option<&str> {
        self.origin.name.as_deref()
    }

    /// What is wrong, without key and origin.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to do about it, as an imperative sentence.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// The error of an `oidc` that is no table. The value may be a table that went wrong, so it is not shown.
    pub(super) fn not_a_table(figment: &Figment, value: &Value) -> SettingsError {
        let tag = value.tag();
        let profile = tag.profile().unwrap_or_else(|| figment.profile().clone());
        let origin = Origin::locate(figment.get_metadata(tag), &profile, &[]);
        let remedy = match &origin.variable {
            Some(name) => format!("write for example `{name}={{enabled=false}}`"),
            None => "write a table `[default.oidc]`".to_owned(),
        };
        SettingsError::new(origin, "expected a table, found another value", remedy)
    }

    /// Words an error of figment's. Its own words may show a found value: a secret's is left out.
    pub(super) fn from_figment(error: figment::Error) -> SettingsError {
        let key = error.path.join(".");
        let profile = error.profile.clone().unwrap_or_default();
        let origin = Origin::locate(error.metadata.as_ref(), &profile, &error.path);
        let form = Form::of(&key);
        let hidden = key.starts_with("client_secret") || key.starts_with("previous_secret_keys");
        let expected = |by_figment: &str| match form {
            Some(form) => form.expectation().to_owned(),
            None => by_figment.to_owned(),
        };
        let (cause, remedy) = match error.kind {
            Kind::UnknownField(found, known) => {
                // The path ends with the unknown key already.
                let remedy = match nearest(&found, known.iter().copied()) {
                    Some(name) => format!("write `{name}` instead, or remove `{found}`"),
                    None => format!("remove `{found}`"),
                };
                let table = match error.path.as_slice() {
                    [table @ .., _] if !table.is_empty() => format!("oidc.{}", table.join(".")),
                    _ => "oidc".to_owned(),
                };
                return SettingsError::new(
                    origin,
                    format!("there is no setting `{found}` in `{table}`"),
                    remedy,
                );
            }
            Kind::InvalidType(found, by_figment) | Kind::InvalidValue(found, by_figment) => {
                let cause = format!(
                    "expected {}, found {}",
                    expected(&by_figment),
                    describe(&found, hidden)
                );
                (cause, None)
            }
            Kind::Message(message) => match message.split_once(REMEDY) {
                Some((cause, remedy)) => (cause.to_owned(), Some(remedy.to_owned())),
                // A parser of files quotes the wrong line from its second line on.
                None => (message.lines().next().unwrap_or_default().to_owned(), None),
            },
            Kind::MissingField(name) => {
                let cause = format!("`{name}` is missing");
                (cause, Some(format!("add `{name}`")))
            }
            _ => (format!("expected {}", expected("another value")), None),
        };
        let remedy = remedy.unwrap_or_else(|| origin.example(&key, form.unwrap_or(Form::Any)));
        SettingsError::new(origin, cause, remedy)
    }
}

/// Divides cause and remedy in the message of a deserialiser.
pub(super) const REMEDY: &str = "\u{1f}";

/// Names as an enumeration; `None` of none.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(name.clone()),
        [names @ .., last] => Some(format!("{} and {last}", names.join(", "))),
    }
}

fn describe(found: &Actual, hidden: bool) -> String {
    match found {
        Actual::Map => "a table".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Unit | Actual::Option => "nothing".to_owned(),
        Actual::Bool(_) if hidden => "`true` or `false`".to_owned(),
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) if hidden => {
            "a number".to_owned()
        }
        _ if hidden => "another value".to_owned(),
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(value) => format!("the number `{value}`"),
        Actual::Signed(value) => format!("the number `{value}`"),
        Actual::Float(value) => format!("the number `{value}`"),
        Actual::Str(value) => format!("the string {value:?}"),
        other => other.to_string(),
    }
}

/// Where a value came from. Its `Display` is the full key and, if there is a value, its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    key: String,
    name: Option<String>,
    /// The variable of the environment, if it is from one.
    variable: Option<String>,
    file: Option<PathBuf>,
}

impl Origin {
    /// The place of a setting that has no value.
    pub(super) fn absent(key: &str) -> Origin {
        Origin {
            key: match key {
                "" => "oidc".to_owned(),
                key => format!("oidc.{key}"),
            },
            name: None,
            variable: None,
            file: None,
        }
    }

    /// The environment variable `name`.
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
        if name == super::environment::NAME {
            return Origin::variable(&key, &metadata.interpolate(profile, path));
        }
        // Named so by figment's own provider, such as the one that reads `ROCKET_OIDC`.
        if let Some(prefix) = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix("` environment variable(s)"))
        {
            return Origin::variable(&key, &format!("{prefix}OIDC"));
        }
        let mut origin = Origin::absent(&key);
        origin.key = format!("{profile}.{}", origin.key);
        origin.name = Some(match &metadata.source {
            Some(source) if source.file_path().is_some() => source.to_string(),
            Some(source) => format!("{name} ({source})"),
            None => name.to_owned(),
        });
        origin.file = metadata
            .source
            .as_ref()
            .and_then(|source| source.file_path())
            .map(PathBuf::from);
        origin
    }

    /// A remedy: how a value of this form is written there.
    fn example(&self, key: &str, form: Form) -> String {
        if let Some((list, index)) = key.rsplit_once('.')
            && index.parse::<usize>().is_ok()
        {
            return format!("correct this element of `{list}`");
        }
        let example = form.example();
        match &self.variable {
            Some(variable) => {
                let example = match form {
                    Form::Words | Form::Table => example,
                    _ => example.trim_matches('"'),
                };
                format!("write for example `{variable}={example}`")
            }
            None if self.file.is_some() && key.is_empty() => {
                "correct the syntax of the file there".to_owned()
            }
            None if self.file.is_some() => {
                let name = key.rsplit('.').next().unwrap_or(key);
                format!("write for example `{name} = {example}`")
            }
            None => format!("give {}", form.expectation()),
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

/// Where every value of the settings came from.
#[derive(Clone, Default)]
pub(super) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(super) fn of(figment: &Figment, table: &Value) -> Origins {
        let mut origins = Origins::default();
        origins.visit(figment, table, &mut Vec::new());
        origins
    }

    fn visit(&mut self, figment: &Figment, value: &Value, path: &mut Vec<String>) {
        if !path.is_empty() {
            let tag: Tag = value.tag();
            let profile = tag.profile().unwrap_or_else(|| figment.profile().clone());
            let origin = Origin::locate(figment.get_metadata(tag), &profile, path);
            self.0.insert(path.join("."), origin);
        }
        for (key, value) in value.as_dict().into_iter().flatten() {
            path.push(key.clone());
            self.visit(figment, value, path);
            path.pop();
        }
    }

    /// Where the value of `key` came from, or that of the table it is in.
    pub(super) fn find(&self, key: &str) -> Origin {
        self.0
            .get(key)
            .cloned()
            .unwrap_or_else(|| Origin::absent(key))
    }

    /// `path` relative to the file that names it, as Rocket has it; from anywhere else, to the
    /// working directory.
    pub(super) fn resolve(&self, key: &str, path: &Path) -> PathBuf {
        let file = self.0.get(key).and_then(|origin| origin.file.as_deref());
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
