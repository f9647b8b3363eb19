//! The table `oidc.session`: how long someone stays signed in, and how large that may be.

use std::time::Duration;

use serde::Deserialize;

use super::value;

/// The settings of the table `oidc.session`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionSettings {
    /// How long a session lives without a request; seconds or a duration such as `"30m"`, at most
    /// `lifetime`.
    ///
    /// _Default:_ `1h`
    #[serde(deserialize_with = "value::duration")]
    pub idle: Duration,
    /// How long a session lives in all; seconds or a duration such as `"7d"`.
    ///
    /// _Default:_ `12h`
    #[serde(deserialize_with = "value::duration")]
    pub lifetime: Duration,
    /// Over how many cookies a large session may be divided, from 1 to 5. Browsers take 4 KB each, and
    /// proxies limit the length of all headers.
    ///
    /// _Default:_ `2`
    pub max_cookies: usize,
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            idle: Duration::from_secs(60 * 60),
            lifetime: Duration::from_secs(12 * 60 * 60),
            max_cookies: 2,
        }
    }
}
