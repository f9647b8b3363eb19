//! Checks of the settings: whether they are valid, and which are insecure.

use rocket::figment::{Figment, Source};
use url::Url;

use super::Doctor;
use crate::{
    cli::app::App,
    fairing::{LaunchError, secret_key},
    keys::SecretKey,
    printable::printable,
    settings::InsecureSetting,
};

impl Doctor {
    /// Reads the settings and the key; `None` if either is invalid.
    pub(super) fn read(&mut self, figment: Figment) -> Option<(App, SecretKey)> {
        let from = origins(&figment);
        let profile = figment.profile().to_string();
        let app = match App::read(figment) {
            Ok(app) => app,
            Err(error) => {
                for error in std::iter::once(&error).chain(error.others()) {
                    self.report.failure("settings", error.to_string(), error.remedy());
                }
                return None;
            }
        };
        self.report
            .ok("settings", format!("read for the profile `{profile}` from {from}"));
        for line in &app.ignored {
            self.report
                .warning("settings", line, "correct the variable's name, or unset it");
        }
        for line in app.settings.stray_characters() {
            self.report
                .warning("credentials", line, "remove these characters from the value");
        }
        if let Some(unused) = app.settings.unused_endpoints() {
            self.report.warning("settings", unused.to_string(), unused.remedy());
        }
        let key = self.secret_key(&app)?;
        Some((app, key))
    }

    fn secret_key(&mut self, app: &App) -> Option<SecretKey> {
        const CHECK: &str = "secret_key";
        let (key, generated) = match secret_key(&app.figment) {
            Ok(found) => found,
            Err(error) => {
                self.report.error(CHECK, error);
                return None;
            }
        };
        if generated.is_none() {
            self.report.ok(CHECK, "sessions survive a restart");
        } else if app.rocket_config.debug {
            let finding = "generated at each launch, which ends all sessions";
            self.report.ok(CHECK, finding);
        } else if app.settings.resource_server_only {
            self.report.ok(CHECK, "not set; an API does not need one");
        } else {
            self.report.error(CHECK, LaunchError::NoSecretKey);
        }
        Some(key)
    }

    /// Reports the environment variables that configure a proxy.
    pub(super) fn proxies(&mut self) {
        const CHECK: &str = "proxy";
        let mut set = vec![];
        for name in PROXY_VARIABLES {
            for name in [name.to_owned(), name.to_ascii_lowercase()] {
                let value = std::env::var_os(&name).filter(|value| !value.is_empty());
                let Some(value) = value else { continue };
                let value = value.to_string_lossy();
                if name.eq_ignore_ascii_case("NO_PROXY") {
                    set.push(format!("{name} excludes {}", printable(&value)));
                } else if let Some(host) = proxy_host(&value) {
                    set.push(format!("{name} is {host}"));
                } else {
                    let finding = format!("{name} is not the URL of a proxy");
                    let remedy = format!("set {name} to a URL such as `http://proxy:3128`, or unset it");
                    self.report.warning(CHECK, finding, remedy);
                }
            }
        }
        if !set.is_empty() {
            self.report.ok(CHECK, set.join("; "));
        }
    }

    /// Reports the insecure settings, of which the app warns at liftoff.
    pub(super) fn insecure_settings(&mut self, found: Vec<InsecureSetting>) {
        for insecure in found {
            let remedy = "check that this is intended; the app logs it at each launch too";
            self.report.warning("insecure", insecure.to_string(), remedy);
        }
    }
}

/// The variables that the HTTP client reads, in upper and lower case.
const PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// The host and port of a proxy, without user and password.
fn proxy_host(address: &str) -> Option<String> {
    let scheme = if address.contains("://") { "" } else { "http://" };
    let url = Url::parse(&format!("{scheme}{address}")).ok()?;
    let host = url.host_str()?;
    let port = url.port_or_known_default().map(|port| format!(":{port}"));
    Some(format!("{host}{}", port.unwrap_or_default()))
}

/// The sources of the settings.
fn origins(figment: &Figment) -> String {
    let files = figment.metadata().filter_map(|metadata| match &metadata.source {
        Some(Source::File(path)) => Some(format!("`{}`", path.display())),
        _ => None,
    });
    let files: Vec<String> = files.collect();
    if files.is_empty() {
        "the environment only; there is no Rocket.toml in this directory".to_owned()
    } else {
        format!("{} and the environment", files.join(", "))
    }
}
