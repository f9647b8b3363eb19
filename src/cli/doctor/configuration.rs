//! The settings: whether they can be read, and what they relax.

use rocket::figment::{Figment, Source};

use super::Doctor;
use crate::{LaunchError, Settings, cli::app::App, fairing::secret_key, keys::SecretKey};

/// Settings that could be read.
pub(super) struct Configuration {
    pub app: App,
    pub key: SecretKey,
}

impl Doctor {
    /// Reads the settings and the key; `None` when either is wrong.
    pub(super) fn read(&mut self, figment: Figment) -> Option<Configuration> {
        let from = origins(&figment);
        let profile = figment.profile().to_string();
        let app = match App::read(figment) {
            Ok(app) => app,
            Err(error) => {
                self.report
                    .failure("settings", error.to_string(), error.remedy());
                return None;
            }
        };
        self.report.ok(
            "settings",
            format!("read for the profile `{profile}` from {from}"),
        );
        for line in &app.ignored {
            self.report
                .warning("settings", line, "correct its name, or unset it");
        }
        let key = self.secret_key(&app)?;
        Some(Configuration { app, key })
    }

    fn secret_key(&mut self, app: &App) -> Option<SecretKey> {
        const CHECK: &str = "secret_key";
        match secret_key(&app.figment) {
            Err(error) => {
                let (cause, remedy) = (error.to_string(), error.remedy());
                self.report.failure(CHECK, cause, remedy);
                None
            }
            Ok((key, None)) => {
                self.report.ok(CHECK, "sessions outlive a restart");
                Some(key)
            }
            Ok((key, _)) if app.surroundings.debug => {
                self.report
                    .ok(CHECK, "made anew at each launch, which ends all sessions");
                Some(key)
            }
            Ok((key, _)) if app.settings.resource_server_only => {
                self.report.ok(CHECK, "none, and an API needs none");
                Some(key)
            }
            Ok((key, _)) => {
                let error = LaunchError::NoSecretKey;
                self.report
                    .failure(CHECK, error.to_string(), error.remedy());
                Some(key)
            }
        }
    }

    /// What is told as warnings at liftoff.
    pub(super) fn relaxations(&mut self, settings: &Settings) {
        for line in settings.relaxations() {
            let remedy = "see that this is what you want; the app says so at each launch too";
            self.report.warning("relaxed", line, remedy);
        }
    }
}

/// Where settings come from.
fn origins(figment: &Figment) -> String {
    let files = figment.metadata().filter_map(|metadata| {
        let Some(Source::File(path)) = &metadata.source else {
            return None;
        };
        Some(format!("`{}`", path.display()))
    });
    let files: Vec<String> = files.collect();
    match files.is_empty() {
        true => "the environment alone; there is no Rocket.toml here".to_owned(),
        false => format!("{} and the environment", files.join(", ")),
    }
}
