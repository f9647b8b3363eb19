//! The certified npm `oidc-provider` of `tests/interop/provider`, as a test starts it.

#![allow(dead_code, reason = "a vocabulary for several tests: no one test uses all of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rocket::tokio::time::sleep;

use crate::{browser::Browser, patience};

/// The `client_id` of the usual client: a secret in `Authorization: Basic`, RS256 ID tokens.
pub const CLIENT_ID: &str = "rocket-app";
/// The secret of every client, unless the provider was started with another `CLIENT_SECRET`.
pub const CLIENT_SECRET: &str = "interop-secret-0123456789abcdef0123456789abcdef";

/// A provider on a free loopback port, with a memory of its own, gone when dropped.
pub struct NodeProvider {
    process: Child,
    issuer: String,
    /// The provider exits when this closes, so that a killed test leaves none behind.
    _stdin: ChildStdin,
}

impl NodeProvider {
    /// Starts the provider, with the environment variables that `tests/interop/provider/README.md` lists.
    pub async fn start(env: &[(&str, &str)]) -> Self {
        Self::run(&["server.mjs"], env)
    }

    /// Starts a script of that directory, which prints `READY` and something once it can be called.
    pub fn run(script: &[&str], env: &[(&str, &str)]) -> Self {
        patience::sign_of_life();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/provider");
        assert!(
            directory.join("node_modules").is_dir(),
            "oidc-provider is not installed: `scripts/interop` installs what these tests need"
        );
        let mut process = Command::new("node")
            .args(script)
            .current_dir(directory)
            .envs([("PORT", "0"), ("EXIT_WITH_STDIN", "1")])
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`node` is installed: `scripts/interop` says how");

        // A thread of a test writes where the test writes: shown when the test fails.
        let stderr = BufReader::new(process.stderr.take().expect("stderr is piped"));
        std::thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.for_each(|line| eprintln!("provider: {line}"));
        });
        let stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut lines = stdout.lines().map_while(Result::ok);
        let issuer = lines
            .find_map(|line| line.strip_prefix("READY ").map(String::from))
            .expect("the provider ended before it was ready");
        // It ends when it writes to a pipe that nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        let stdin = process.stdin.take().expect("stdin is piped");
        Self {
            process,
            issuer,
            _stdin: stdin,
        }
    }

    /// The issuer, byte for byte as the provider announces it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs `user` in at the provider's page that `browser` has open, and consents if asked, until the
    /// browser is back at the app.
    pub async fn sign_in(&self, browser: &Browser, user: &str) {
        browser.fill("[name=login]", user).await;
        browser.fill("[name=password]", &format!("{user}-password")).await;
        browser.click("#sign-in").await;

        let started = Instant::now();
        let mut has_consented = false;
        while browser.current_url().await.starts_with(&self.issuer) {
            if !has_consented && browser.has("#allow").await {
                browser.click("#allow").await;
                has_consented = true;
            } else if started.elapsed() > Duration::from_secs(20) {
                panic!("the provider keeps the browser:\n{}", browser.source().await);
            } else {
                sleep(Duration::from_millis(25)).await;
            }
        }
    }
}

impl Drop for NodeProvider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
