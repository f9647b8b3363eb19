//! The app's settings, read by the same code as in the fairing.

use rocket::{
    Config,
    figment::{Figment, Profile},
};

use crate::settings::{RocketConfig, Settings, SettingsError};

/// The configuration that the fairing would read at launch in this directory and environment.
pub(super) struct App {
    pub figment: Figment,
    pub rocket_config: RocketConfig,
    pub settings: Settings,
    /// Warnings about environment variables that are not settings.
    pub ignored: Vec<String>,
}

impl App {
    /// Rocket's own figment: `Rocket.toml`, or the file that ROCKET_CONFIG names, and the environment.
    /// Without a profile and ROCKET_PROFILE it is the debug profile, that of `cargo run`.
    pub(super) fn figment(profile: Option<&str>) -> Figment {
        let profile = match profile {
            Some(profile) => Profile::new(profile),
            None => Profile::from_env_or("ROCKET_PROFILE", Config::DEBUG_PROFILE),
        };
        Config::figment().select(profile)
    }

    /// Reads the settings. Changes that an app makes in `Oidc::custom` are not included.
    pub(super) fn read(figment: Figment) -> Result<App, SettingsError> {
        let (settings, ignored) = Settings::read(&figment)?;
        Ok(App {
            rocket_config: RocketConfig::of(&figment),
            settings,
            ignored,
            figment,
        })
    }
}
