//! The parts of Rocket's own configuration that matter here.

use figment::Figment;
use rocket::Config;

/// The parts of Rocket's own configuration that matter here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RocketConfig {
    /// Whether the selected profile is Rocket's debug profile.
    pub debug: bool,
    pub port: u16,
    /// Whether Rocket itself terminates TLS.
    pub tls: bool,
}

impl RocketConfig {
    pub(crate) fn of(figment: &Figment) -> RocketConfig {
        RocketConfig {
            debug: *figment.profile() == Config::DEBUG_PROFILE,
            port: figment.extract_inner("port").unwrap_or(8000),
            tls: figment.find_value("tls").is_ok(),
        }
    }
}
