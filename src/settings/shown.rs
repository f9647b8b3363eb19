//! The settings as a table for people: the value of each, where it comes from, and its default.

use super::{HttpSettings, SessionSettings, Settings};

/// One setting, without secrets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShownSetting {
    /// The full key.
    pub(crate) key: String,
    pub(crate) value: String,
    /// The file, the environment variable, the preset or the code that has set it; `None` for its default.
    pub(crate) origin: Option<String>,
    pub(crate) default: String,
}

impl Settings {
    /// All settings, in the order of their declaration, the tables that have many last.
    pub(crate) fn shown(&self) -> Vec<ShownSetting> {
        let default = Settings::default();
        let mut rows = self.rows("", self.values(), default.values());
        rows.retain(|row| !["session", "http"].iter().any(|table| row.key == self.key(table)));
        let of_session = (self.session.values(), SessionSettings::default().values());
        let of_http = (self.http.values(), HttpSettings::default().values());
        rows.extend(self.rows("session.", of_session.0, of_session.1));
        rows.extend(self.rows("http.", of_http.0, of_http.1));
        if let Some(providers) = rows.iter_mut().find(|row| row.key == self.key("providers")) {
            let names: Vec<_> = self.providers.keys().map(String::as_str).collect();
            providers.value = names.join(", ");
        }
        for provider in self.of_providers() {
            let own = provider.rows("", provider.values(), default.values());
            let is_own = |row: &ShownSetting| {
                let key = row.key.strip_prefix("oidc.").unwrap_or_default();
                self.origins.source(key).is_some()
            };
            rows.extend(own.into_iter().filter(is_own));
        }
        rows
    }

    fn rows(&self, table: &str, values: Vec<Named>, defaults: Vec<Named>) -> Vec<ShownSetting> {
        let rows = values.into_iter().zip(defaults);
        let rows = rows.map(|((name, value), (_, default))| {
            let key = format!("{table}{name}");
            let (value, default) = (plain(&value), plain(&default));
            let read = self.origins.source(&key);
            let changed = (value != default).then(|| "code of the app or of this crate".to_owned());
            ShownSetting {
                key: self.key(&key),
                origin: read.or(changed),
                value,
                default,
            }
        });
        rows.collect()
    }
}

/// The name of a setting in its table, and its value as `Debug` shows it.
type Named = (&'static str, String);

/// A value as it is written in a file, mostly.
fn plain(debug: &str) -> String {
    let inner = debug.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')'));
    match inner.unwrap_or(debug) {
        "None" => "none".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;

    use super::*;
    use crate::secret::Secret;

    fn row(settings: &Settings, key: &str) -> (String, Option<String>, String) {
        let rows = settings.shown();
        let row = rows.into_iter().find(|row| row.key == key).unwrap();
        (row.value, row.origin, row.default)
    }

    #[test]
    fn each_setting_has_its_origin_and_default() {
        let figment = Figment::new()
            .merge(("oidc.issuer", "https://op.example"))
            .merge(("oidc.client_secret", "hush"))
            .merge(("oidc.session.idle_timeout", "20m"));
        let mut settings = Settings::extract(&figment).unwrap();
        settings.mount = "/auth".into();
        settings.client_secret = Some(Secret::new("hush hush".to_owned()));
        let read = |origin: Option<String>| origin.is_some_and(|origin| origin.contains("&str"));
        let (value, origin, default) = row(&settings, "oidc.issuer");
        assert_eq!((&*value, &*default), ("\"https://op.example\"", "none"));
        assert!(read(origin));
        let (value, origin, default) = row(&settings, "oidc.session.idle_timeout");
        assert_eq!((&*value, &*default), ("1200s", "3600s"));
        assert!(read(origin));
        let (value, origin, _) = row(&settings, "oidc.mount");
        assert_eq!(
            (&*value, origin.as_deref()),
            ("\"/auth\"", Some("code of the app or of this crate"))
        );
        let (_, origin, default) = row(&settings, "oidc.http.timeout");
        assert_eq!((origin, &*default), (None, "5s"));
        let all = format!("{:?}", settings.shown());
        assert!(!all.contains("hush"), "{all}");
    }

    /// Of several providers, each has rows of what its own table sets.
    #[test]
    fn a_provider_has_rows_of_its_own() {
        let figment = Figment::new()
            .merge(("oidc.providers.one.issuer", "https://one.example"))
            .merge(("oidc.providers.one.client_id", "app"))
            .merge(("oidc.providers.two.issuer", "https://two.example"))
            .merge(("oidc.providers.two.client_id", "app"));
        let settings = Settings::extract(&figment).unwrap();
        assert_eq!(row(&settings, "oidc.providers").0, "one, two");
        let keys: Vec<_> = settings.shown().into_iter().map(|row| row.key).collect();
        let own: Vec<_> = keys.iter().filter(|key| key.starts_with("oidc.providers.")).collect();
        assert_eq!(own.len(), 4, "{own:?}");
        assert_eq!(row(&settings, "oidc.providers.two.issuer").0, "\"https://two.example\"");
    }
}
