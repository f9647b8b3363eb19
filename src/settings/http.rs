//! The table `oidc.http`: bounds on what we ask of the provider.

use std::time::Duration;

use super::{declaration::settings, duration::AboveZero, value::AtLeastOne};

settings! {
    /// The settings of the table `oidc.http`: requests to the provider.
    pub struct HttpSettings {
        /// How long connecting may take; seconds or a duration such as `"500ms"`.
        ///
        /// _Default:_ `2s`
        pub connect_timeout: Duration as AboveZero = Duration::from_secs(2),
        /// How long a whole request may take, connecting included; seconds or a duration.
        ///
        /// _Default:_ `5s`
        pub timeout: Duration as AboveZero = Duration::from_secs(5),
        /// The largest reply that is read, in bytes; a key set may have four times as many.
        ///
        /// _Default:_ `262144`
        pub max_body: usize as AtLeastOne = 256 * 1024,
    }
    internal {
        // Who answers in the place of the network.
        #[cfg(feature = "testing")]
        pub(crate) in_process: Option<super::InProcess>,
    }
}
