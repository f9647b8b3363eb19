//! `client_secrets.json`: the client registration as providers issue it, as a file or a table.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use figment::value::Value;
use url::Url;

use super::{
    Settings,
    declaration::{Field, Invalid, Parser, Setting, SettingType, settings},
    error::Origins,
    mistake::{Mistake, rule},
    stray_characters::{note, trimmed},
    syntax::{self, Syntax},
    value::{Credential, Issuer, Words},
};
use crate::secret::Secret;

/// The maximum size of a `client_secrets.json` or a secret file, in bytes.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// A client's registration, in the form of a `client_secrets.json`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientSecrets {
    /// The path of the file.
    File(PathBuf),
    /// Its content.
    Table(Box<ClientSecretsTable>),
}

settings! {
    /// The `web` object of a `client_secrets.json`.
    ///
    /// Settings that are set directly, such as `issuer`, take precedence. If `auth_uri`, `token_uri` and `jwks_uri`
    /// are all present, for the issuer in use, there is no discovery; otherwise all endpoints are discovered and
    /// those in here are not used. Other member names are ignored, unless they look like a misspelt one.
    pub struct ClientSecretsTable {
        /// The client's identifier at the provider.
        pub client_id: Option<String> as Option<Credential> = None,
        /// The client's secret; absent for a public client.
        pub client_secret: Option<Secret> = None,
        /// The issuer, exactly as in the provider's metadata.
        pub issuer: Option<String> as Option<Issuer> = None,
        /// The registered redirect URIs. Without `base_url` and `overwrite_redirect_uri` the first one is sent; in
        /// the debug profile, the first on loopback if there is one.
        ///
        /// _Default:_ `[]`
        pub redirect_uris: Vec<Url> as Words<Url> = vec![],
        /// The authorization endpoint.
        pub auth_uri: Option<Url> = None,
        /// The token endpoint.
        pub token_uri: Option<Url> = None,
        /// The UserInfo endpoint.
        pub userinfo_uri: Option<Url> = None,
        /// The provider's JSON Web Key Set.
        pub jwks_uri: Option<Url> = None,
        /// The introspection endpoint.
        pub token_introspection_uri: Option<Url> = None,
    }
    others: ignored
}

impl ClientSecretsTable {
    /// Whether its endpoints are those of this issuer. Endpoints belong to the issuer in the same table.
    pub(super) fn is_of(&self, issuer: &str) -> bool {
        self.issuer.as_deref().is_none_or(|other| other == issuer)
    }

    /// The name of the issuer or of an endpoint in it, if there is one.
    pub(super) fn first_endpoint(&self) -> Option<&'static str> {
        let members = [
            ("issuer", self.issuer.is_some()),
            ("auth_uri", self.auth_uri.is_some()),
            ("token_uri", self.token_uri.is_some()),
            ("userinfo_uri", self.userinfo_uri.is_some()),
            ("jwks_uri", self.jwks_uri.is_some()),
            ("token_introspection_uri", self.token_introspection_uri.is_some()),
        ];
        members.into_iter().find_map(|(name, is_set)| is_set.then_some(name))
    }

    /// Reads the `web` object of the file, and notes about stray characters.
    pub(super) fn read(path: &Path) -> Result<(ClientSecretsTable, Vec<String>), Mistake> {
        let shown = path.display();
        let text = read_text(path)?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            // The message of the error may quote the file.
            let (line, column) = (error.line(), error.column());
            let cause = format!("`{shown}` is not valid JSON (line {line}, column {column})");
            Mistake::new(cause, format!("correct `{shown}`"))
        })?;
        let document = Value::serialize(json).ok();
        let document = document.filter(|it| it.find_ref("web").and_then(Value::as_dict).is_some());
        let document = document.ok_or_else(|| {
            let remedy = format!("write `{shown}` as {{\"web\": {{\"client_id\": \"…\", …}}}}");
            Mistake::new(format!("`{shown}` has no object `web`"), remedy)
        })?;
        let origins = Origins::in_file(path, &document);
        match Parser::parse::<ClientSecrets>(&document, &origins) {
            Ok((ClientSecrets::Table(table), stray_characters)) => Ok((*table, stray_characters)),
            Ok((ClientSecrets::File(_), _)) => unreachable!("a table is not a path"),
            Err(error) => Err(Mistake::new(error.to_string(), error.remedy())),
        }
    }
}

/// The path of a file, or its content as a table.
impl SettingType for ClientSecrets {
    type Value = ClientSecrets;
    const SYNTAX: Syntax = syntax::PATH_OR_TABLE;
    const IS_SECRET: bool = true;
    const FIELDS: &'static [Field] = ClientSecretsTable::FIELDS;

    fn parse(value: &Value, parser: &mut Parser<'_>) -> Result<ClientSecrets, Invalid> {
        if let Some(table) = value.as_dict() {
            // Objects other than `web` are for other kinds of client.
            let table = match table.get("web") {
                Some(web) => parser.value::<ClientSecretsTable>("web", web).ok_or(Invalid::Reported),
                None => ClientSecretsTable::parse(value, parser),
            };
            return Ok(ClientSecrets::Table(Box::new(table?)));
        }
        let Some(path) = value.as_str().map(trimmed) else {
            return Err(Invalid::Type(value.to_actual()));
        };
        // A malformed table would be shown as a path.
        rule("", !path.starts_with('{') && !path.is_empty())
            .cause("the value is neither a path nor a table")
            .remedy("write the path of a client_secrets.json, or its content as a table")?;
        Ok(ClientSecrets::File(parser.resolve(path)))
    }

    fn validate(value: &ClientSecrets, parser: &mut Parser<'_>) -> Result<(), Invalid> {
        match value {
            ClientSecrets::File(_) => Ok(()),
            ClientSecrets::Table(table) => ClientSecretsTable::validate(table, parser),
        }
    }

    fn member(name: &str) -> Option<Setting> {
        match name {
            "web" => Some(Setting::of::<ClientSecretsTable>()),
            name => ClientSecretsTable::member(name),
        }
    }
}

/// Reads a text file of bounded size, without a byte-order mark.
pub(super) fn read_text(path: &Path) -> Result<String, Mistake> {
    let remedy = || format!("make `{}` readable, or correct the path", path.display());
    let text = read_raw(path).map_err(|cause| Mistake::new(cause, remedy()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text.to_owned())
}

/// Like [`read_text`], with every character of the file.
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
    if text.len() as u64 > MAX_FILE_SIZE {
        Err(format!("`{shown}` is larger than {MAX_FILE_SIZE} bytes"))
    } else {
        Ok(text)
    }
}

impl Settings {
    /// Stray characters around credentials and URLs, in settings and in the files that they name: one sentence each,
    /// logged as warnings at liftoff.
    pub(crate) fn stray_characters(&self) -> Vec<String> {
        let mut lines = self.stray_characters.clone();
        if let Some(path) = &self.client_secret_file
            && let Ok(text) = read_raw(path)
        {
            // Files usually end with a line break.
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if let Some(what) = note(line) {
                lines.push(format!("the client secret in `{}` {what}", path.display()));
            }
        }
        if let Some(ClientSecrets::File(path)) = &self.client_secrets
            && let Ok((_, notes)) = ClientSecretsTable::read(path)
        {
            lines.extend(notes);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::declaration::parsed;

    #[test]
    fn a_table_with_and_without_web() {
        for json in [
            json!({"client_id": "app", "project_id": "p", "javascript_origins": []}),
            json!({"web": {"client_id": "app"}, "installed": {"client_id": "other"}}),
        ] {
            let ClientSecrets::Table(table) = parsed::<ClientSecrets>(json.clone()) else {
                panic!("{json}");
            };
            assert_eq!(table.client_id.as_deref(), Some("app"), "{json}");
        }
    }
}
