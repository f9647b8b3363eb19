//! The `OIDC_*` environment variables as a figment provider, which keeps the raw text for text settings.

use std::{collections::BTreeMap, ffi::OsString};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{
    Settings, SettingsError,
    declaration::{Setting, SettingType, declared},
    error::{ENVIRONMENT, Origin},
    mistake::Mistake,
    syntax::{Syntax, Variable, nearest, renamed},
};

const PREFIX: &str = "OIDC_";

/// The settings in the environment, for every profile. `__` separates a table and its member.
#[derive(Debug, Default)]
pub(super) struct Environment {
    values: Dict,
    /// The variable that set each key.
    names: BTreeMap<String, String>,
    /// A warning for each variable with the prefix `OIDC_` that is not a setting.
    pub(super) ignored: Vec<String>,
    /// The variables that cannot be read.
    pub(super) errors: Vec<SettingsError>,
}

impl Environment {
    /// Reads the variables whose names start with `OIDC_`, in any case.
    pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
        let mut found: Vec<(String, String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                let (start, rest) = name.split_at_checked(PREFIX.len())?;
                let key = rest.to_lowercase().replace("__", ".");
                start.eq_ignore_ascii_case(PREFIX).then_some((key, name, value))
            })
            .collect();
        // Sort a table before its members.
        found.sort();

        let mut environment = Environment::default();
        for (key, name, value) in found {
            let Some(setting) = Setting::find(&key) else {
                environment.ignored.push(ignored(&key, &name));
                continue;
            };
            match parse(&setting.syntax, &name, value) {
                Ok(value) => {
                    insert(&mut environment.values, &key, value);
                    environment.names.insert(key, name);
                }
                Err(mistake) => {
                    let origin = Origin::variable(&key, &name);
                    environment.errors.push(SettingsError::new(origin, mistake));
                }
            }
        }
        environment
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        let names = self.names.clone();
        Metadata::named(ENVIRONMENT).interpolater(move |_, keys| {
            // The key may be from a variable that set a whole table.
            (1..=keys.len())
                .rev()
                .find_map(|length| names.get(&keys[..length].join(".")))
                .cloned()
                .unwrap_or_else(|| format!("{PREFIX}{}", keys.join("__").to_uppercase()))
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        // Global: otherwise `[debug.oidc]` in a file would take precedence over the environment.
        Ok(Profile::Global.collect(self.values.clone()))
    }
}

/// Parses the value of the variable `name`.
fn parse(syntax: &Syntax, name: &str, value: OsString) -> Result<Value, Mistake> {
    let text = value.into_string().map_err(|_| {
        let remedy = format!("set {name} to a text in UTF-8, or unset it");
        Mistake::new("the value is not valid UTF-8", remedy)
    })?;
    let trimmed = text.trim();
    if trimmed.starts_with(|first| syntax.brackets.contains(first)) {
        return structure(&text).ok_or_else(|| {
            let cause = "the value starts like a table or list, but is neither";
            Mistake::new(
                cause,
                format!("correct the value of {name}, in JSON or as `{{key=\"value\"}}`"),
            )
        });
    }
    let is = |flag: &str| syntax.variable == Variable::Flag && trimmed.eq_ignore_ascii_case(flag);
    Ok(match syntax.variable {
        Variable::Raw => Value::from(text),
        _ if is("true") => Value::from(true),
        _ if is("false") => Value::from(false),
        Variable::Flag | Variable::Parsed => text.parse().unwrap_or(Value::from(text)),
    })
}

/// Parses a table or list, in JSON or in figment's syntax.
fn structure(text: &str) -> Option<Value> {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        return Value::serialize(json).ok();
    }
    let value: Value = text.parse().ok()?;
    (value.as_dict().is_some() || value.as_array().is_some()).then_some(value)
}

fn insert(table: &mut Dict, key: &str, value: Value) {
    let Some((head, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let inner = table.entry(head.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if inner.to_bool() == Some(true) {
        *inner = Value::from(Dict::new());
    }
    // If another variable disabled the table, or set a text, its members are dropped.
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

fn ignored(key: &str, name: &str) -> String {
    let known = declared("", Settings::FIELDS);
    let text = format!("environment variable {name} is ignored: there is no setting `oidc.{key}`");
    let known = known.iter().map(|(known, _)| known.as_str());
    match renamed(key).or_else(|| nearest(key, known)) {
        Some(nearest) => {
            let nearest = nearest.to_uppercase().replace('.', "__");
            format!("{text}; the nearest is {PREFIX}{nearest}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(variables.iter().map(|(k, v)| (k.into(), v.into())))
    }

    #[test]
    fn texts_stay_raw() {
        for text in ["12345", "true", "0123", "1e5", "\"quoted\"", " spaced ", "{a=1}", "'c'"] {
            let environment = read(&[("OIDC_CLIENT_SECRET", text)]);
            assert_eq!(environment.values["client_secret"].as_str(), Some(text));
        }
    }

    #[test]
    fn tables_are_json_or_figments_syntax() {
        for text in [r#"{"sub":"alice","groups":["a"]}"#, r#"{sub="alice",groups=["a"]}"#] {
            let environment = read(&[("OIDC_TESTING_PROFILE", text)]);
            let profile = &environment.values["testing_profile"];
            assert_eq!(profile.find_ref("sub").unwrap().as_str(), Some("alice"));
            assert_eq!(profile.find_ref("groups").unwrap().as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn members_follow_their_table() {
        let environment = read(&[
            ("OIDC_TESTING_PROFILE__SUB", "007"),
            ("OIDC_TESTING_PROFILE", "{sub=\"alice\",name=\"Alice\"}"),
            ("OIDC_DEV_PROVIDER__PORT", "0"),
            ("oidc_dev_provider", "True"),
        ]);
        let find = |key| Value::from(environment.values.clone()).find(key).unwrap();
        assert_eq!(find("testing_profile.sub").as_str(), Some("007"));
        assert_eq!(find("testing_profile.name").as_str(), Some("Alice"));
        assert_eq!(find("dev_provider.port").to_u128(), Some(0));
    }

    #[test]
    fn unknown_variables_are_ignored_with_a_warning() {
        let environment = read(&[("OIDC_CLIENTID", "x"), ("OIDC_ZEBRA", "y"), ("OIDCISH", "z")]);
        assert!(environment.values.is_empty());
        assert_eq!(
            environment.ignored,
            [
                "environment variable OIDC_CLIENTID is ignored: there is no setting \
                 `oidc.clientid`; the nearest is OIDC_CLIENT_ID",
                "environment variable OIDC_ZEBRA is ignored: there is no setting `oidc.zebra`",
            ]
        );
    }

    #[test]
    fn malformed_table_is_named_without_its_text() {
        let variables = [("OIDC_CLIENT_SECRETS".into(), "{web={client_secret=hush".into())];
        let errors = Environment::read(variables).errors;
        assert_eq!(
            errors[0].to_string(),
            "`oidc.client_secrets` in environment variable OIDC_CLIENT_SECRETS: the value starts like a table or list, but is neither"
        );
    }
}
