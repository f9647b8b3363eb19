//! The file that holds a registration: readable by its owner only, and written atomically.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use url::Url;

use crate::{cli::Failure, provider::RegisteredClient, secret::Secret};

/// A reserved file. The draft is created before the registration, so that no registration is lost because the file
/// cannot be written.
#[derive(Debug)]
pub(super) struct SecretsFile {
    path: PathBuf,
    draft: PathBuf,
    file: File,
    replaces: bool,
    is_written: bool,
}

impl SecretsFile {
    /// Creates the draft. An existing file is an error, unless it is to be replaced.
    pub(super) fn reserve(path: &Path, replaces: bool) -> Result<SecretsFile, Failure> {
        if !replaces && path.symlink_metadata().is_ok() {
            return Err(Failure::new(
                format!("`{}` already exists", path.display()),
                "update that registration with `--update`, choose another `--output`, or overwrite the file with \
                 `--force`, which leaves its client at the provider",
            ));
        }
        let Some(name) = path.file_name() else {
            let cause = format!("`{}` is not a file name", path.display());
            return Err(Failure::new(cause, "correct `--output`"));
        };
        let draft = format!(".{}.{}.draft", name.to_string_lossy(), std::process::id());
        let draft = path.with_file_name(draft);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&draft).map_err(|error| {
            Failure::new(
                format!("`{}` cannot be written: {error}", draft.display()),
                "make its directory writable, or choose another `--output`",
            )
        })?;
        Ok(SecretsFile {
            path: path.to_owned(),
            draft,
            file,
            replaces,
            is_written: false,
        })
    }

    /// Writes `web` atomically: a reader sees all of it or nothing. If `check` rejects the draft, it stays under its own
    /// name, so that the registration is not lost.
    pub(super) fn write(
        mut self,
        web: &Map<String, Value>,
        check: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let text = format!("{:#}\n", json!({ "web": web }));
        let written = self.file.write_all(text.as_bytes());
        self.is_written = true;
        let written = written.and_then(|()| self.file.sync_all());
        if written.is_ok()
            && let Err(refused) = check(&self.draft)
        {
            let draft = self.draft.display();
            return Err(Failure::new(
                format!("the app would reject the registration: {}", refused.cause),
                format!(
                    "delete the client in the provider's console, or with `rocket-oidc register --delete --output \
                     {draft}`"
                ),
            ));
        }
        let placed = written.and_then(|()| self.place());
        placed.map_err(|error| {
            let draft = self.draft.display();
            match error.kind() {
                ErrorKind::AlreadyExists => Failure::new(
                    format!(
                        "`{}` was created meanwhile, and is not overwritten",
                        self.path.display()
                    ),
                    format!("move the registration from `{draft}` to another file"),
                ),
                _ => Failure::new(
                    format!("`{}` cannot be written: {error}", self.path.display()),
                    format!("look for the registration in `{draft}`"),
                ),
            }
        })
    }

    fn place(&self) -> std::io::Result<()> {
        if self.replaces {
            return fs::rename(&self.draft, &self.path);
        }
        // A hard link fails if the file exists, even if it was just created; a rename would replace it.
        match fs::hard_link(&self.draft, &self.path) {
            Ok(()) => fs::remove_file(&self.draft),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            // A file system without hard links.
            Err(_) if self.path.symlink_metadata().is_err() => fs::rename(&self.draft, &self.path),
            Err(error) => Err(error),
        }
    }
}

impl Drop for SecretsFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// Reads the object `web` of the file.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let shown = path.display();
    let remedy = "pass the file that `rocket-oidc register` wrote with `--output`";
    let text =
        fs::read_to_string(path).map_err(|error| Failure::new(format!("`{shown}` cannot be read: {error}"), remedy))?;
    let document: Option<Value> = serde_json::from_str(&text).ok();
    match document.and_then(|mut document| document.get_mut("web").map(Value::take)) {
        Some(Value::Object(web)) => Ok(web),
        _ => {
            let cause = format!("`{shown}` is not JSON with an object `web`");
            Err(Failure::new(cause, remedy))
        }
    }
}

/// The URL and the token that manage a registration.
pub(super) fn management(web: &Map<String, Value>, path: &Path) -> Result<(Url, Secret), Failure> {
    let text = |member: &str| web.get(member).and_then(Value::as_str);
    let uri = text("registration_client_uri").and_then(|uri| Url::parse(uri).ok());
    match (uri, text("registration_access_token")) {
        (Some(uri), Some(token)) => Ok((uri, Secret::new(token))),
        _ => Err(Failure::new(
            format!(
                "`{}` lacks `registration_client_uri` or `registration_access_token`",
                path.display()
            ),
            "change or delete the client in the provider's console",
        )),
    }
}

/// Members of a response that must not be sent back (RFC 7592 §2.2).
pub(super) const RESPONSE_ONLY: [&str; 2] = ["client_secret_expires_at", "client_id_issued_at"];

/// Merges a response into `web`. Members that it lacks stay, and redirect URIs default to those `asked` for.
pub(super) fn merge_response(web: &mut Map<String, Value>, client: &RegisteredClient, requested: &[Url]) {
    // With a secret, the app would authenticate although it is registered as a public client.
    let is_public = client.metadata.get("token_endpoint_auth_method") == Some(&json!("none"));
    if is_public {
        web.remove("client_secret");
    }
    let mut put = |member: &str, value: Value| web.insert(member.to_owned(), value);
    put("client_id", json!(client.client_id));
    if let Some(secret) = client.client_secret.as_ref().filter(|_| !is_public) {
        put("client_secret", json!(secret.expose()));
    }
    if let Some(token) = &client.registration_access_token {
        put("registration_access_token", json!(token.expose()));
    }
    if let Some(uri) = &client.registration_client_uri {
        put("registration_client_uri", json!(uri));
    }
    for member in RESPONSE_ONLY.iter().chain(&["token_endpoint_auth_method"]) {
        if let Some(value) = client.metadata.get(*member) {
            put(member, value.clone());
        }
    }
    let uris = redirect_uris(client, requested);
    if !uris.is_empty() {
        put("redirect_uris", json!(uris));
    }
}

/// The registered redirect URIs that an app can use, requested ones first: the app sends the first.
fn redirect_uris(client: &RegisteredClient, requested: &[Url]) -> Vec<String> {
    let registered = client.metadata.get("redirect_uris").and_then(Value::as_array);
    let is_usable = |uri: &&str| Url::parse(uri).is_ok_and(|url| url.has_host()) && !uri.contains('@');
    let registered = registered.into_iter().flatten().filter_map(Value::as_str);
    let mut uris: Vec<&str> = registered.filter(is_usable).collect();
    let requested: Vec<&str> = requested.iter().map(Url::as_str).collect();
    if uris.is_empty() {
        uris = requested;
    } else {
        uris.sort_by_key(|uri| {
            requested
                .iter()
                .position(|requested| requested == uri)
                .unwrap_or(usize::MAX)
        });
        uris.dedup();
    }
    uris.into_iter().map(str::to_owned).collect()
}
