//! The table `oidc.http`: limits on requests to the provider.

use std::time::Duration;

use super::{declaration::settings, duration::AboveZero, value::AtLeastOne};

settings! {
    /// The settings of the table `oidc.http`: requests to the provider.
    pub struct HttpSettings {
        /// The timeout of a connection attempt; seconds or a duration such as `"500ms"`.
        ///
        /// _Default:_ `2s`
        pub connect_timeout: Duration as AboveZero = Duration::from_secs(2),
        /// The timeout of a whole request, including the connection; seconds or a duration.
        ///
        /// _Default:_ `5s`
        pub timeout: Duration as AboveZero = Duration::from_secs(5),
        /// The maximum size of a response, in bytes; four times as much for a key set.
        ///
        /// _Default:_ `262144`
        pub max_body: usize as AtLeastOne = 256 * 1024,
    }
    internal {
        // Responds to requests instead of the network.
        #[cfg(feature = "testing")]
        pub(crate) in_process: Option<super::InProcess>,
    }
}
