//! The setting `allowed_origins`: pages of other origins that may act for the users of the app.

use std::collections::BTreeMap;

use figment::value::Value;
use url::Url;

use super::{
    Settings,
    declaration::{Invalid, Parser, Setting, SettingType, refined},
    syntax::{self, Syntax},
    value::{MountPath, SomeWords, Text, is_https_or_loopback},
};

/// The table: from the paths at which an app mounts routes to origins.
pub(super) struct AllowedOrigins;

type Origins = BTreeMap<String, SomeWords<PageOrigin>>;

refined! {
    /// The origin of a page, as browsers send it in `Origin`.
    PageOrigin: Text,
        |text| Url::parse(text)
            .is_ok_and(|url| is_https_or_loopback(&url) && url.origin().ascii_serialization() == *text),
        format!("{text:?} is not the origin of a page"),
        "write scheme, host and, unless it is the default, the port, in lower case, such as `https://admin.example.com`";
}

impl SettingType for AllowedOrigins {
    type Value = BTreeMap<String, Vec<String>>;
    const SYNTAX: Syntax = syntax::TABLE;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        Origins::parse(value, parser)
    }

    fn validate(table: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        for path in table.keys() {
            if let Err(invalid) = MountPath::validate(path, parser) {
                parser.refuse::<MountPath>(path, invalid);
            }
        }
        Origins::validate(table, parser)
    }

    fn member(name: &str) -> Option<Setting> {
        Origins::member(name)
    }
}

impl Settings {
    /// Whether pages of this origin may act for users at this path of Rocket.
    pub(crate) fn allows_origin(&self, path: &str, origin: &str) -> bool {
        let is_below = |mount: &str| {
            let rest = path.strip_prefix(mount.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut mounts = self.allowed_origins.iter().filter(|(mount, _)| is_below(mount));
        mounts.any(|(_, origins)| origins.iter().any(|allowed| allowed == origin))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::declaration::parsed;

    #[test]
    fn an_origin_is_allowed_below_its_path() {
        let settings = Settings {
            allowed_origins: parsed::<AllowedOrigins>(json!({
                "/api": ["https://admin.example.com", "http://localhost:3000"],
                "/": "https://all.example.com",
            })),
            ..Settings::default()
        };
        for (path, origin, expected) in [
            ("/api", "https://admin.example.com", true),
            ("/api/", "https://admin.example.com", true),
            ("/api/notes", "https://admin.example.com", true),
            ("/api/notes", "http://localhost:3000", true),
            ("/api/notes", "http://localhost:3001", false),
            ("/api/notes", "https://admin.example.com.evil.example", false),
            ("/api/notes", "null", false),
            ("/apis", "https://admin.example.com", false),
            ("/API/notes", "https://admin.example.com", false),
            ("/%61pi/notes", "https://admin.example.com", false),
            ("/", "https://admin.example.com", false),
            ("/", "https://all.example.com", true),
            ("/anything", "https://all.example.com", true),
        ] {
            assert_eq!(settings.allows_origin(path, origin), expected, "{path} {origin}");
        }
        assert!(!Settings::default().allows_origin("/", "https://all.example.com"));
    }
}
