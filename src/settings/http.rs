//! The table `oidc.http`: bounds on what we ask of the provider.

use std::time::Duration;

use serde::Deserialize;

use super::value;

/// The settings of the table `oidc.http`: requests to the provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpSettings {
    /// How long connecting may take; seconds or a duration such as `"500ms"`.
    ///
    /// _Default:_ `2s`
    #[serde(deserialize_with = "value::duration")]
    pub connect_timeout: Duration,
    /// How long a whole request may take, connecting included; seconds or a duration.
    ///
    /// _Default:_ `5s`
    #[serde(deserialize_with = "value::duration")]
    pub timeout: Duration,
    /// The largest reply that is read, in bytes; a key set may have four times as many.
    ///
    /// _Default:_ `262144` (256 KiB)
    pub max_body: usize,
    /// Who answers in the place of the network.
    #[cfg(feature = "testing")]
    #[serde(skip)]
    pub(crate) in_process: Option<super::InProcess>,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            max_body: 256 * 1024,
            #[cfg(feature = "testing")]
            in_process: None,
        }
    }
}
