//! The parameters of one sign-in: what its authorization request asks for beside the settings.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{requirement::RequiredAuthentication, settings::is_reserved};

/// Additional scopes, and the parameters that replace those of the settings. The app or a guard sets them.
///
/// An attempt carries them in encrypted form, so that its ID token and token response are checked against what was
/// asked, and so that an attempt that is restarted asks for the same.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignInParameters {
    /// In the order in which they were set; each name once.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pairs: Vec<(String, String)>,
    /// The first name that the app set and may not set.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// The name of the user whose session the sign-in steps up; another user does not reach the page.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The session whose user links the account that signs in: its name. Then `user` is that user, and no session begins.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(crate) links_to: Option<String>,
}

/// The maximum length of [`SignInParameters::to_text`], in bytes: an encrypted cookie has room for it.
pub(crate) const MAX_PARAMETERS_LEN: usize = 1_200;
/// The additional scopes, which are sent together with those of the settings.
const SCOPE: &str = "scope";
const MAX_AGE: &str = "max_age";

impl SignInParameters {
    /// Sets a parameter on behalf of the app. A name that the sign-in itself sets, or that is not a name, makes
    /// [`check`](Self::check) fail.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        if is_settable(name) {
            self.replace(name, value.into());
        } else {
            self.refused.get_or_insert_with(|| name.to_owned());
        }
    }

    /// Asks for scopes in addition to those of the settings; several are separated by spaces.
    pub(crate) fn add_scopes(&mut self, scopes: &str) {
        let mut all: Vec<&str> = self.scopes().collect();
        for scope in scopes.split_ascii_whitespace() {
            if !all.contains(&scope) {
                all.push(scope);
            }
        }
        if !all.is_empty() {
            let all = all.join(" ");
            self.replace(SCOPE, all);
        }
    }

    fn replace(&mut self, name: &str, value: String) {
        self.pairs.retain(|(other, _)| other != name);
        self.pairs.push((name.to_owned(), value));
    }

    /// Fails with the first name that the app set and may not set, or with `max_age` if it is not a number.
    pub(crate) fn check(&self) -> Result<(), &str> {
        match &self.refused {
            Some(name) => Err(name),
            None if self.get(MAX_AGE).is_some() && self.max_age().is_none() => Err(MAX_AGE),
            None => Ok(()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == SignInParameters::default()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(other, _)| other == name);
        pair.map(|(_, value)| &**value)
    }

    /// The parameters to send, without the additional [`scopes`](Self::scopes). A request for a new authentication
    /// has a `max_age`: without it the ID token may lack `auth_time`
    /// ([Core §2](https://openid.net/specs/openid-connect-core-1_0.html#IDToken)).
    pub(crate) fn to_send(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.pairs.iter().filter(|(name, _)| name != SCOPE);
        let max_age = self.demands_authentication() && self.get(MAX_AGE).is_none();
        let pairs = pairs.map(|(name, value)| (&**name, &**value));
        pairs.chain(max_age.then_some((MAX_AGE, "0")))
    }

    /// The scopes to ask for in addition to those of the settings.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        self.get(SCOPE).unwrap_or_default().split_ascii_whitespace()
    }

    /// The maximum age of the user's authentication.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        let seconds: u32 = self.get(MAX_AGE)?.parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// The accepted values of `acr`; `None` if this sign-in asks for none of its own.
    pub(crate) fn acr_values(&self) -> Option<Vec<String>> {
        let values = self.get("acr_values")?;
        Some(values.split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// Whether the user must authenticate again, even if they are signed in at the provider: `prompt=login`, which
    /// is equivalent to `max_age=0`
    /// ([Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)).
    pub(crate) fn demands_authentication(&self) -> bool {
        let mut prompts = self.get("prompt").unwrap_or_default().split_ascii_whitespace();
        prompts.any(|prompt| prompt == "login") || self.max_age() == Some(Duration::ZERO)
    }

    /// The additional scopes that a token response does not list. A response without `scope` grants what was asked
    /// ([RFC 6749 §5.1](https://www.rfc-editor.org/rfc/rfc6749#section-5.1)).
    ///
    /// The scopes of OpenID Connect are not compared: providers list them under other names or leave them out. A
    /// scope counts as listed with and without the address of its API (`https://graph.example/User.Read`).
    pub(crate) fn missing_scopes(&self, granted: Option<&[String]>) -> Vec<String> {
        let Some(granted) = granted else {
            return vec![];
        };
        let is_granted = |asked: &str| {
            granted.iter().any(|scope| {
                let scope: &str = scope;
                let (long, short) = if scope.len() > asked.len() {
                    (scope, asked)
                } else {
                    (asked, scope)
                };
                let rest = long.strip_suffix(short);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            })
        };
        let is_compared = |scope: &&str| !OPENID_SCOPES.contains(scope);
        let missing = self.scopes().filter(is_compared).filter(|scope| !is_granted(scope));
        missing.map(str::to_owned).collect()
    }

    /// Adds what a guard demands of the user's authentication.
    pub(crate) fn require(&mut self, required: &RequiredAuthentication) {
        if let Some(max_age) = required.max_age() {
            self.replace(MAX_AGE, max_age.as_secs().to_string());
        }
        if let Some(acr_values) = required.acr_values() {
            self.replace("acr_values", acr_values.join(" "));
        }
    }

    /// The parameters as one text, for an encrypted value; empty if there are none.
    pub(crate) fn to_text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        serde_json::to_string(self).expect("strings always serialize")
    }

    /// Parses a text that [`to_text`](Self::to_text) made.
    pub(crate) fn parse(text: &str) -> Option<SignInParameters> {
        if text.is_empty() {
            return Some(SignInParameters::default());
        }
        serde_json::from_str(text).ok()
    }
}

/// The scopes of OpenID Connect Core 1.0 §3.1.2.1, §5.4 and §11: their effect is in the claims and tokens.
const OPENID_SCOPES: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

/// Whether an app may set a parameter of this name.
fn is_settable(name: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !name.is_empty() && name.chars().all(is_name_char) && !is_reserved(name) && !is_misspelt(name)
}

/// Whether it is another spelling of a parameter that is checked: some providers ignore case, or read dots as
/// underscores.
fn is_misspelt(name: &str) -> bool {
    let normal = name.replace('.', "_").to_ascii_lowercase();
    normal != name && [MAX_AGE, "acr_values", "prompt"].contains(&&*normal)
}

/// Omits the values, which may be tokens.
impl fmt::Debug for SignInParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}
