//! The file with the client's keys: readable by its owner only, and replaced atomically.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    cli::Failure,
    token::{ClientKeys, parse_strict_object},
};

/// A file that is open for a change. Its draft keeps another process from changing it too.
pub(super) struct KeyFile {
    pub keys: Vec<Value>,
    /// Other members of the JWK Set.
    others: Map<String, Value>,
    path: PathBuf,
    draft: Draft,
}

/// A new file beside another one, removed unless it takes its place.
struct Draft {
    path: PathBuf,
    file: File,
    is_placed: bool,
}

/// Writes a new file with these keys.
pub(super) fn create(path: &Path, keys: Vec<Value>) -> Result<(), Failure> {
    let shown = path.display();
    let exists = || {
        Failure::new(
            format!("`{shown}` already exists, and is never overwritten"),
            "choose another `--output`, or roll over its key with `rocket-oidc keys rotate`",
        )
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let mut draft = Draft::beside(path)?;
    let written = draft.write(&Map::new(), keys).and_then(|()| {
        // A hard link fails if the file was created meanwhile; a rename would replace it.
        fs::hard_link(&draft.path, path)
    });
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(),
        _ => Failure::new(
            format!("`{shown}` cannot be written: {error}"),
            "choose another directory with `--output`",
        ),
    })
}

impl KeyFile {
    /// Opens a JWK Set with keys that the app accepts.
    pub(super) fn open(path: &Path) -> Result<KeyFile, Failure> {
        const REMEDY: &str = "pass the file that `rocket-oidc keys new` wrote";
        let shown = path.display();
        let unreadable = |error: std::io::Error| Failure::new(format!("`{shown}` cannot be read: {error}"), REMEDY);
        // Of a symbolic link, the file is replaced, not the link.
        let path = path.canonicalize().map_err(unreadable)?;
        let draft = Draft::beside(&path)?;
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let mut others = parse_strict_object(text.as_bytes()).unwrap_or_default();
        let Some(Value::Array(keys)) = others.remove("keys") else {
            return Err(Failure::new(
                format!("`{shown}` is not a JWK Set, and a single key cannot be rolled over without an interruption"),
                REMEDY,
            ));
        };
        ClientKeys::parse(&text)
            .map_err(|error| Failure::new(format!("`{shown}` is not usable: {error}"), error.remedy()))?;
        Ok(KeyFile {
            keys,
            others,
            path,
            draft,
        })
    }

    /// Replaces the file, with the owner and the permissions of the former one. A reader sees all of it or nothing.
    pub(super) fn write(mut self) -> Result<(), Failure> {
        let replace = || {
            let former = fs::metadata(&self.path)?;
            self.draft.write(&self.others, std::mem::take(&mut self.keys))?;
            keep_owner(&self.draft.path, &former)?;
            fs::set_permissions(&self.draft.path, former.permissions())?;
            fs::rename(&self.draft.path, &self.path)
        };
        let replaced: std::io::Result<()> = { replace }();
        replaced.map_err(|error| {
            Failure::new(
                format!("`{}` cannot be replaced: {error}", self.path.display()),
                "run this command as the owner of the file",
            )
        })?;
        self.draft.is_placed = true;
        // The rename itself, where directories can be synchronised.
        if let Some(directory) = self.path.parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

impl Draft {
    fn beside(path: &Path) -> Result<Draft, Failure> {
        let Some(name) = path.file_name() else {
            let cause = format!("`{}` is not a file name", path.display());
            return Err(Failure::new(cause, "pass the path of a file"));
        };
        let draft = path.with_file_name(format!(".{}.draft", name.to_string_lossy()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let shown = draft.display().to_string();
        let file = options.open(&draft).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::new(
                format!("`{shown}` exists: another `rocket-oidc keys` is running, or one was interrupted"),
                format!("wait for it; if none is running, remove `{shown}`"),
            ),
            _ => Failure::new(
                format!("`{shown}` cannot be written: {error}"),
                "make its directory writable, or run this command as its owner",
            ),
        })?;
        Ok(Draft {
            path: draft,
            file,
            is_placed: false,
        })
    }

    fn write(&mut self, others: &Map<String, Value>, keys: Vec<Value>) -> std::io::Result<()> {
        let mut document = others.clone();
        document.insert("keys".to_owned(), keys.into());
        self.file.write_all(format!("{:#}\n", json!(document)).as_bytes())?;
        self.file.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives the draft the owner of the former file: the app reads it as that user.
#[cfg(unix)]
fn keep_owner(draft: &Path, former: &fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};

    let own = fs::metadata(draft)?;
    if (own.uid(), own.gid()) == (former.uid(), former.gid()) {
        return Ok(());
    }
    chown(draft, Some(former.uid()), Some(former.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &fs::Metadata) -> std::io::Result<()> {
    Ok(())
}
