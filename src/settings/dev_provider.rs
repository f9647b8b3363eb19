//! The setting `oidc.dev_provider`: a development provider, and its users.

use std::collections::HashSet;

use figment::value::Value;
use serde_json::{Map, Value as Json, json};

use super::{
    declaration::{Field, Invalid, Parser, SettingType, settings},
    mistake::rule,
    syntax::{self, Syntax},
    value::{Text, Words, deserialized, subject},
};

settings! {
    /// The table `oidc.dev_provider`; `true` stands for its defaults, `false` for no development provider.
    pub struct DevProviderSettings {
        /// The loopback port on which it listens; 0 selects a free one. A fixed port keeps the issuer, and so the
        /// sessions, over a restart. Of several development providers with the same port, one keeps it, and the others,
        /// in the order of their names, get the next numbers that no other one has.
        ///
        /// _Default:_ `9400`
        pub port: u16 = 9400,
        /// The users who can sign in: the claims of each, with `sub`.
        ///
        /// _Default:_ alice in the groups `users` and `admin`, bob in `users`
        pub users: Vec<Map<String, Json>> as Users = default_users(),
        /// Claims that are sent although no granted scope has them, as some providers send `groups`. The others go by
        /// scope: `profile`, `email`, `address` and `phone` have those of
        /// [OpenID Connect Core §5.4](https://openid.net/specs/openid-connect-core-1_0.html#ScopeClaims), `groups` has the
        /// claim of that name, and a claim that belongs to no scope is always sent.
        ///
        /// _Default:_ `[]`
        pub unscoped_claims: Vec<String> as Words<Text> = vec![],
    }
}

fn default_users() -> Vec<Map<String, Json>> {
    let alice = json!({
        "sub": "alice", "name": "Alice Liddell", "email": "alice@example.com", "email_verified": true,
        "groups": ["users", "admin"],
    });
    let bob = json!({
        "sub": "bob", "name": "Bob", "email": "bob@example.com", "email_verified": true, "groups": ["users"],
    });
    [alice, bob].iter().filter_map(Json::as_object).cloned().collect()
}

#[cfg(feature = "dev-provider")]
impl super::Settings {
    /// Gives each development provider of the table `providers` a port of its own.
    pub(crate) fn separate_dev_provider_ports(&mut self) {
        let dev_providers = || self.providers.values().filter_map(|own| own.dev_provider.as_ref());
        let wanted: HashSet<u16> = dev_providers().map(|own| own.port).collect();
        let mut taken = HashSet::new();
        for own in self.providers.values_mut().filter_map(|own| own.dev_provider.as_mut()) {
            let is_taken = own.port != 0 && !taken.insert(own.port);
            if is_taken {
                let mut next = own.port..=u16::MAX;
                // 0 selects a free one.
                let free = next.find(|port| !wanted.contains(port) && !taken.contains(port));
                own.port = free.unwrap_or_default();
                taken.insert(own.port);
            }
        }
    }
}

/// `true`, `false` or a table.
pub(super) struct DevProvider;

impl SettingType for DevProvider {
    type Value = Option<DevProviderSettings>;
    const SYNTAX: Syntax = syntax::FLAG_OR_TABLE;
    const FIELDS: &'static [Field] = DevProviderSettings::FIELDS;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        match value.to_bool() {
            Some(is_wanted) => Ok(is_wanted.then(DevProviderSettings::default)),
            None => DevProviderSettings::parse(value, parser).map(Some),
        }
    }

    fn validate(value: &Self::Value, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        Option::<DevProviderSettings>::validate(value, parser)
    }
}

/// The claims of each user, with a unique `sub`.
struct Users;

impl SettingType for Users {
    type Value = Vec<Map<String, Json>>;
    const SYNTAX: Syntax = syntax::LIST_OF_TABLES;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<Self::Value, Invalid> {
        deserialized(value)
    }

    fn validate(users: &Self::Value, _: &mut Parser<'_>) -> Result<(), Invalid> {
        let mut subjects = HashSet::new();
        for (index, user) in users.iter().enumerate() {
            let cause = match subject(user) {
                None => format!("user {} has no `sub`", index + 1),
                Some(sub) if !subjects.insert(sub) => format!("two users have `sub` {sub:?}"),
                Some(_) => continue,
            };
            let remedy = "give each user a unique `sub`, a string";
            return Err(Invalid::new(cause, remedy));
        }
        rule("", !users.is_empty())
            .cause("there is no user")
            .remedy("add a user, for example `{ sub = \"alice\" }`, or remove `users`")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn each_of_several_dev_providers_has_a_port_of_its_own() {
        let ports = |given: &[u16]| {
            let mut settings = Settings::default();
            for (index, port) in given.iter().enumerate() {
                let dev_provider = DevProviderSettings {
                    port: *port,
                    ..DevProviderSettings::default()
                };
                let own = Settings {
                    dev_provider: Some(dev_provider),
                    ..Settings::default()
                };
                settings.providers.insert(format!("p{index}"), own);
            }
            settings.providers.insert("real".to_owned(), Settings::default());
            settings.separate_dev_provider_ports();
            let own = settings.providers.into_values().filter_map(|own| own.dev_provider);
            own.map(|own| own.port).collect::<Vec<_>>()
        };
        for (given, expected) in [
            (&[9400][..], &[9400][..]),
            (&[9400, 9400, 9400], &[9400, 9401, 9402]),
            // One that was set is not taken by another.
            (&[9400, 9400, 9401], &[9400, 9402, 9401]),
            (&[0, 0, 9400], &[0, 0, 9400]),
            (&[65535, 65535, 65535], &[65535, 0, 0]),
        ] {
            assert_eq!(ports(given), expected, "{given:?}");
        }
    }
}
