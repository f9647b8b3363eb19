//! The setting `oidc.dev_provider`: a provider for development, and who can sign in there.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value, json};

use super::key::Form;

/// The table `oidc.dev_provider`; `true` stands for its defaults, `false` for no development provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DevProviderSettings {
    /// The loopback port it listens on; 0 takes a free one. A fixed port keeps the issuer, and so the
    /// sessions, over a restart.
    ///
    /// _Default:_ `9400`
    pub port: u16,
    /// Who can sign in: the claims of each user, with `sub`.
    ///
    /// _Default:_ `alice`, in the groups `users` and `admin`, and `bob`, in the group `users`
    pub users: Vec<Map<String, Value>>,
}

impl Default for DevProviderSettings {
    fn default() -> DevProviderSettings {
        let users = [
            json!({
                "sub": "alice",
                "name": "Alice Liddell",
                "email": "alice@example.com",
                "email_verified": true,
                "groups": ["users", "admin"],
            }),
            json!({
                "sub": "bob",
                "name": "Bob",
                "email": "bob@example.com",
                "email_verified": true,
                "groups": ["users"],
            }),
        ];
        let users = users.iter().filter_map(Value::as_object).cloned();
        DevProviderSettings {
            port: 9400,
            users: users.collect(),
        }
    }
}

/// Reads `true`, `false` or a table.
pub(super) fn flag_or_table<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DevProviderSettings>, D::Error> {
    struct DevProviderVisitor;

    impl<'de> Visitor<'de> for DevProviderVisitor {
        type Value = Option<DevProviderSettings>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(Form::FlagOrTable.expectation())
        }

        fn visit_bool<E: Error>(self, wanted: bool) -> Result<Self::Value, E> {
            Ok(wanted.then(DevProviderSettings::default))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            DevProviderSettings::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(DevProviderVisitor)
}
