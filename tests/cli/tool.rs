//! `rocket-oidc` in a directory of its own, with an environment of its own.

#![allow(dead_code, reason = "a vocabulary for two test binaries: neither uses all of it")]

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

/// An app's directory and environment.
pub struct Tool {
    pub directory: PathBuf,
    environment: Vec<(String, String)>,
}

/// What the tool did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Tool {
    /// In an empty directory, with an empty environment. No directory above has a `Rocket.toml`, which
    /// would be read.
    pub fn new() -> Tool {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("rocket-oidc-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Tool {
            directory,
            environment: vec![],
        }
    }

    /// Sets a variable, in place of any of that name.
    pub fn env(&mut self, name: &str, value: impl Into<String>) -> &mut Tool {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) -> &mut Tool {
        self.environment.retain(|(other, _)| other != name);
        self
    }

    /// The path of a file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// The object `web` of a file.
    pub fn web(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.file(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["web"].clone()
    }

    /// The names of all files, hidden ones too.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs it with this standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().unwrap();
        // It may not read all of it, or anything.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it, with pipes to all sides.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_rocket-oidc"))
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs `doctor --json` or `token --json`.
    pub fn report(&self, arguments: &[&str]) -> Report {
        let ran = self.run(&[arguments, &["--json"]].concat());
        Report::of(&ran)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A report in JSON.
#[derive(Debug)]
pub struct Report {
    pub code: Option<i32>,
    pub checks: Vec<Value>,
    pub not_checked: Vec<String>,
}

impl Report {
    pub fn of(ran: &Ran) -> Report {
        let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        assert_eq!(json["ok"], ran.code == Some(0), "{ran:?}");
        Report {
            code: ran.code,
            checks: json["checks"].as_array().unwrap().clone(),
            not_checked: serde_json::from_value(json["not_checked"].clone()).unwrap(),
        }
    }

    /// The names of the checks with this verdict.
    pub fn with(&self, verdict: &str) -> Vec<&str> {
        let of = self.checks.iter().filter(|check| check["verdict"] == verdict);
        of.map(|check| check["check"].as_str().unwrap()).collect()
    }

    /// All checks of this name.
    pub fn all(&self, name: &str) -> Vec<&Value> {
        self.checks.iter().filter(|check| check["check"] == name).collect()
    }

    /// The check of this name, the first with another verdict than `ok` if there is one.
    pub fn check(&self, name: &str) -> &Value {
        let mut named = self.checks.iter().filter(|check| check["check"] == name);
        let other = named.clone().find(|check| check["verdict"] != "ok");
        other
            .or_else(|| named.next())
            .unwrap_or_else(|| panic!("no check {name} in {self:#?}"))
    }

    /// Asserts that exactly this check failed, and that the tool says so.
    #[track_caller]
    pub fn fails_at(&self, name: &str, finding: &str, remedy: &str) {
        assert_eq!(self.with("failure"), [name], "{self:#?}");
        let check = self.check(name);
        let found = (check["finding"].as_str(), check["remedy"].as_str());
        assert_eq!(found, (Some(finding), Some(remedy)));
        assert_eq!(self.code, Some(1));
    }
}
