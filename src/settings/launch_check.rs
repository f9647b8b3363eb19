//! All errors of the settings at once, those too that a launch meets later.

use super::{RocketConfig, Settings, SettingsError};
use crate::secret::Secret;

impl Settings {
    /// Every error of settings that were read, `found` before among them: each launch would otherwise stop at the first.
    ///
    /// With `has_source`, the app finds providers at run time.
    pub(crate) fn check_launch(
        &self,
        found: Vec<SettingsError>,
        rocket_config: &RocketConfig,
        has_source: bool,
    ) -> Result<(), SettingsError> {
        let mut errors = found;
        // What the app has set since.
        add(&mut errors, self.check());
        add(&mut errors, self.check_features());
        add(&mut errors, self.check_dev_providers(rocket_config));
        // Also for one that cannot start: its issuer and client are not missing then, as it is the error.
        let as_launched = self.with_stand_in();
        let mode = if has_source && self.enabled {
            as_launched.several_providers_of_checked(rocket_config)
        } else {
            as_launched.mode_of_checked(rocket_config)
        };
        add(&mut errors, mode.map(|_| ()));
        SettingsError::all(errors)
    }

    /// These settings as they are when the development providers run, which have an issuer and a client each.
    fn with_stand_in(&self) -> Settings {
        let mut settings = self.clone();
        let enabled = settings.enabled;
        let of_providers = settings.providers.values_mut();
        let mut own: Vec<&mut Settings> = of_providers.collect();
        for own in &mut own {
            own.stand_in(enabled);
        }
        settings.stand_in(enabled);
        settings
    }

    fn stand_in(&mut self, is_enabled: bool) {
        if let Some(dev_provider) = self.dev_provider.as_ref().filter(|_| is_enabled) {
            self.issuer = Some(format!("http://localhost:{}", dev_provider.port));
            self.client_id.get_or_insert_with(|| "dev-client".to_owned());
            self.client_secret.get_or_insert_with(Secret::random);
            self.client_secret_issuer = None;
        }
    }

    #[cfg(feature = "dev-provider")]
    fn check_dev_providers(&self, rocket_config: &RocketConfig) -> Result<(), SettingsError> {
        let of_providers = self.of_providers();
        let own = std::iter::once(self).chain(&of_providers);
        let checked = own.filter_map(|own| own.check_dev_provider_alone(rocket_config).err());
        SettingsError::all(checked.flat_map(|error| error.each()))
    }

    #[cfg(not(feature = "dev-provider"))]
    fn check_dev_providers(&self, _: &RocketConfig) -> Result<(), SettingsError> {
        Ok(())
    }
}

/// Adds further errors, but of no setting that has one already: it is often the consequence. What is wrong with a setting
/// of the app is not wrong with each of its providers.
pub(super) fn add(errors: &mut Vec<SettingsError>, checked: Result<(), SettingsError>) -> bool {
    let Err(error) = checked else { return true };
    for error in error.each() {
        let of_app = key_of_the_app(error.key());
        let is_known = |found: &SettingsError| found.key() == error.key() || Some(found.key()) == of_app.as_deref();
        if !errors.iter().any(is_known) {
            errors.push(error);
        }
    }
    false
}

/// The key that a setting of one of several providers has at the top.
fn key_of_the_app(key: &str) -> Option<String> {
    let (before, rest) = key.split_once("oidc.providers.")?;
    let (_, setting) = rest.split_once('.')?;
    Some(format!("{before}oidc.{setting}"))
}
