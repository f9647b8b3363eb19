//! The setting `extra_authorization_parameters`: additional parameters of the authorization request.

use std::time::Duration;

use figment::value::Value;
use serde_json::{Map, Value as Json};

use super::{
    Settings,
    declaration::{Invalid, Parser, Setting, SettingType},
    mistake::{Mistake, rule},
    syntax::{self, Syntax},
    value::{Words, deserialized},
};

/// Parameters of an authorization request that the sign-in itself sets.
const RESERVED: [&str; 15] = [
    "client_id",
    "response_type",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "request",
    "request_uri",
    "response_mode",
    // The client's authentication when the request is pushed.
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// A table of parameters.
pub(super) struct Parameters;

impl SettingType for Parameters {
    type Value = Map<String, Json>;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        deserialized(value)
    }

    fn validate(parameters: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        for (name, value) in parameters {
            if let Err(mistake) = check(name, value) {
                parser.refuse::<Words>(name, mistake);
            }
        }
        Ok(())
    }

    fn member(_: &str) -> Option<Setting> {
        Some(Setting::of::<Words>())
    }
}

fn check(name: &str, value: &Json) -> Result<(), Mistake> {
    rule("", !is_reserved(name))
        .cause(format!("`{name}` is set by the sign-in itself"))
        .remedy(format!("remove `{name}`"))?;
    let text = parameter(value);
    rule("", text.is_some())
        .cause("expected a string, a number, a boolean or a list of strings")
        .remedy(format!("write `{name}` as one of these"))?;
    let text = text.unwrap_or_default();
    rule("", name != "max_age" || text.parse::<u32>().is_ok())
        .cause(format!("expected seconds as a whole number, found {text:?}"))
        .remedy("write for example `max_age = 3600`")
}

/// Whether the sign-in itself sets this parameter. Some providers normalise names: ASP.NET ignores case, and PHP
/// replaces dots by underscores.
pub(crate) fn is_reserved(name: &str) -> bool {
    let name = name.replace('.', "_");
    let mut reserved = RESERVED.iter();
    reserved.any(|reserved| name.eq_ignore_ascii_case(reserved))
}

/// A parameter's value as text.
fn parameter(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Array(list) => {
            let words: Option<Vec<&str>> = list.iter().map(Json::as_str).collect();
            Some(words?.join(" "))
        }
        Json::Null | Json::Object(_) => None,
    }
}

impl Settings {
    /// The parameters that `extra_authorization_parameters` adds to an authorization request.
    pub fn authorization_parameters(&self) -> Vec<(String, String)> {
        self.extra_authorization_parameters
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), parameter(value)?)))
            .collect()
    }

    /// The requested `max_age`: the maximum time since the user authenticated at the provider.
    pub fn max_age(&self) -> Option<Duration> {
        let value = self.extra_authorization_parameters.get("max_age")?;
        let seconds: u32 = parameter(value)?.parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// The requested `acr_values`, in order of preference.
    pub fn requested_acr_values(&self) -> Vec<String> {
        let value = self.extra_authorization_parameters.get("acr_values");
        let text = value.and_then(parameter).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }
}
