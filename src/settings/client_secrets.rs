//! `client_secrets.json`: the registration as providers hand it out, as a file or as a table.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use url::Url;

use super::{
    error::REMEDY,
    key::{Form, edit_distance},
    stray_characters::trimmed,
    value::{self, Address, Credential, SecretText, Text},
};
use crate::secret::Secret;

/// A client's registration, in the form of a `client_secrets.json`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientSecrets {
    /// The path of the file.
    File(PathBuf),
    /// Its content.
    Table(Box<ClientSecretsTable>),
}

/// The `web` object of a `client_secrets.json`.
///
/// What is set directly, such as `issuer`, goes before what is in here. When `auth_uri`, `token_uri` and
/// `jwks_uri` are all there, for the issuer in use, nothing is discovered; otherwise discovery gives all
/// endpoints and those in here are not used. Members with other names are ignored, unless they look like
/// one of these misspelt.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientSecretsTable {
    /// The client's identifier at the provider.
    pub client_id: Option<String>,
    /// The client's secret; absent for a public client.
    pub client_secret: Option<Secret>,
    /// The issuer, exactly as the provider writes it.
    pub issuer: Option<String>,
    /// The registered redirect URIs. Without `base_url` and `overwrite_redirect_uri` the first is sent;
    /// in the debug profile, the first on loopback if there is one.
    pub redirect_uris: Vec<Url>,
    /// The authorization endpoint.
    pub auth_uri: Option<Url>,
    /// The token endpoint.
    pub token_uri: Option<Url>,
    /// The UserInfo endpoint.
    pub userinfo_uri: Option<Url>,
    /// The provider's JSON Web Key Set.
    pub jwks_uri: Option<Url>,
    /// The introspection endpoint.
    pub token_introspection_uri: Option<Url>,
}

/// More than any `client_secrets.json` or secret has.
const MAX_FILE_SIZE: u64 = 64 * 1024;

pub(super) const MEMBERS: [&str; 9] = [
    "client_id",
    "client_secret",
    "issuer",
    "redirect_uris",
    "auth_uri",
    "token_uri",
    "userinfo_uri",
    "jwks_uri",
    "token_introspection_uri",
];

impl ClientSecretsTable {
    /// Reads the `web` object of the file at `path`. The error is a cause and a remedy.
    pub(super) fn read(path: &Path) -> Result<ClientSecretsTable, (String, String)> {
        let shown = path.display();
        let text = read_text(path).map_err(|cause| {
            (
                cause,
                format!("make `{shown}` readable, or correct the path"),
            )
        })?;
        let mut json: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            // Its own words may quote the file.
            let (line, column) = (error.line(), error.column());
            let cause = format!("`{shown}` is not valid JSON (line {line}, column {column})");
            (cause, format!("correct `{shown}`"))
        })?;
        let web = json.get_mut("web").map(serde_json::Value::take);
        let web = web.filter(serde_json::Value::is_object).ok_or_else(|| {
            (
                format!("`{shown}` has no object `web`"),
                format!("write `{shown}` as {{\"web\": {{\"client_id\": \"…\", …}}}}"),
            )
        })?;
        serde_json::from_value(web).map_err(|error: serde_json::Error| {
            let error = error.to_string();
            let (cause, remedy) = error.split_once(REMEDY).unwrap_or((
                "a member of `web` has the wrong type",
                "write every member as a string, and `redirect_uris` as a list of strings",
            ));
            (format!("{cause}, in `{shown}`"), remedy.to_owned())
        })
    }

    /// Reads one member. The error of a wrong type names the member and no value.
    fn accept<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "client_id" => self.client_id = map.next_value::<Option<Credential>>()?.map(Into::into),
            "client_secret" => {
                self.client_secret = map.next_value::<Option<SecretText>>()?.map(Into::into);
            }
            "issuer" => self.issuer = map.next_value::<Option<Text>>()?.map(Into::into),
            "redirect_uris" => {
                let addresses: Vec<Address> = map.next_value()?;
                self.redirect_uris = addresses.into_iter().map(Into::into).collect();
            }
            "auth_uri" => self.auth_uri = address(map)?,
            "token_uri" => self.token_uri = address(map)?,
            "userinfo_uri" => self.userinfo_uri = address(map)?,
            "jwks_uri" => self.jwks_uri = address(map)?,
            "token_introspection_uri" => self.token_introspection_uri = address(map)?,
            other => {
                // A misspelt `client_secret` would silently make a public client.
                if let Some(member) = MEMBERS.iter().find(|m| edit_distance(other, m) <= 2) {
                    return Err(A::Error::custom(format_args!(
                        "client secrets have no member `{other}`{REMEDY}write `{member}` instead, \
                         or remove `{other}`"
                    )));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

fn address<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Url>, A::Error> {
    Ok(map.next_value::<Option<Address>>()?.map(Into::into))
}

impl<'de> Deserialize<'de> for ClientSecretsTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor;

        impl<'de> Visitor<'de> for TableVisitor {
            type Value = ClientSecretsTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Form::Table.expectation())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut table = ClientSecretsTable::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "web" => return map.next_value().and_then(|web| sole(web, &mut map)),
                        name => table.accept(name, &mut map)?,
                    }
                }
                Ok(table)
            }
        }

        /// What stands beside `web` belongs to other kinds of client.
        fn sole<'de, A: MapAccess<'de>>(
            web: ClientSecretsTable,
            map: &mut A,
        ) -> Result<ClientSecretsTable, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(web)
        }

        deserializer.deserialize_map(TableVisitor)
    }
}

impl<'de> Deserialize<'de> for ClientSecrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClientSecretsVisitor;

        impl<'de> Visitor<'de> for ClientSecretsVisitor {
            type Value = ClientSecrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Form::PathOrTable.expectation())
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<ClientSecrets, E> {
                let path = trimmed(path);
                // A table that went wrong would be shown as a path.
                match path.starts_with('{') || path.is_empty() {
                    true => Err(E::custom(format_args!(
                        "the value is neither a path nor a table{REMEDY}write the path of a \
                         client_secrets.json, or its content as a table"
                    ))),
                    false => Ok(ClientSecrets::File(path.into())),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClientSecrets, A::Error> {
                ClientSecretsTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| ClientSecrets::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(ClientSecretsVisitor)
    }
}

/// Reads the path of a file with a secret.
pub(super) fn optional_path<'de, D>(deserializer: D) -> Result<Option<PathBuf>, D::Error>
where
    D: Deserializer<'de>,
{
    let text: Option<String> = value::optional::<_, Text, _>(deserializer)?;
    Ok(text.map(PathBuf::from))
}

/// Reads a text file of bounded size, without a byte-order mark. The error is a cause that names the file.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let mut text = read_raw(path)?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// As [`read_text`], with every character of the file.
pub(super) fn read_raw(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file `{shown}`"),
        io::ErrorKind::InvalidData => format!("`{shown}` is not valid UTF-8"),
        _ => format!("`{shown}` cannot be read: {error}"),
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    match text.len() as u64 > MAX_FILE_SIZE {
        true => Err(format!("`{shown}` is larger than {MAX_FILE_SIZE} bytes")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: &str) -> Result<ClientSecretsTable, String> {
        serde_json::from_str(json).map_err(|error| error.to_string().replace(REMEDY, " | "))
    }

    #[test]
    fn a_table_with_and_without_web() {
        for json in [
            r#"{"client_id": "app", "project_id": "p", "javascript_origins": []}"#,
            r#"{"web": {"client_id": "app"}, "installed": {"client_id": "other"}}"#,
            r#"{"installed": {"client_id": "other"}, "web": {"client_id": "app"}}"#,
        ] {
            assert_eq!(
                table(json).unwrap().client_id.as_deref(),
                Some("app"),
                "{json}"
            );
        }
    }

    #[test]
    fn a_misspelt_member_is_refused() {
        assert_eq!(
            table(r#"{"client_secert": "hush"}"#).unwrap_err(),
            "client secrets have no member `client_secert` | write `client_secret` instead, or \
             remove `client_secert` at line 1 column 16"
        );
    }
}
