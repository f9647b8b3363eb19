//! `rocket-oidc keys`: generates the client's keys, and rolls them over.

mod generated_key;
mod key_file;
mod rotation;

use std::{path::PathBuf, process::ExitCode};

use serde_json::Value;
use time::OffsetDateTime;

use self::{
    generated_key::{KeyAlgorithm, generate},
    key_file::KeyFile,
    rotation::{Step, rotate},
};
use super::{Failure, terminal::Terminal};

/// Generate and roll over the client's keys
///
/// The setting `private_key_file` reads the file, a JWK Set: its first key that can sign is the active
/// one. The app publishes the public keys at {MOUNT}/jwks.json, which is the `jwks_uri` of the client.
#[derive(Debug, clap::Args)]
#[allow(rustdoc::bare_urls, reason = "the help shows these comments as they are")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a file with a new key, readable by its owner only; an existing file is never overwritten
    New {
        /// The algorithm of its signatures
        #[arg(long, default_value = "ES256")]
        alg: KeyAlgorithm,
        /// The file
        #[arg(long, short, value_name = "FILE", default_value = "client_keys.json")]
        output: PathBuf,
    },
    /// Make the next of three steps from one key to another
    ///
    /// First a new key is appended: it is published, and does not sign yet. Then it signs, and of the
    /// former one only the public part stays. Then the former key is removed. Restart the app after
    /// each step, and wait an hour before the next one: the provider reads the keys meanwhile.
    Rotate {
        /// The file
        file: PathBuf,
        /// The algorithm of a new key [default: that of the active key]
        #[arg(long)]
        alg: Option<KeyAlgorithm>,
        /// Make the step although the last one was less than an hour ago
        #[arg(long)]
        now: bool,
    },
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<ExitCode, Failure> {
        let now = OffsetDateTime::now_utc();
        match self.command {
            Command::New { alg, output } => {
                let key = generate(alg, now)?;
                let kid = key["kid"].as_str().unwrap_or_default().to_owned();
                key_file::create(&output, vec![Value::Object(key)])?;
                let shown = output.display();
                terminal.line(format!("wrote {shown} with the key {kid} ({})", alg.as_str()));
                terminal.line(format!(
                    "\nIt contains a private key: keep it out of version control. Set in Rocket.toml:\n\n\
                     private_key_file = {}\n\n\
                     Then register the client with `rocket-oidc register --client-keys {shown}`, or enter the URL of \
                     the public keys, {{base_url}}{{mount}}/jwks.json, as its `jwks_uri` at the provider.",
                    Value::from(shown.to_string())
                ));
            }
            Command::Rotate {
                file,
                alg,
                now: at_once,
            } => {
                let mut file = KeyFile::open(&file)?;
                let step = rotate(&mut file.keys, now, at_once, |active| {
                    generate(alg.unwrap_or(active), now)
                })?;
                file.write()?;
                print(&step, terminal);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(step: &Step, terminal: &Terminal) {
    let (done, next) = match step {
        Step::Published { new, active } => (
            format!("step 1 of 3: the key {new} is published; {active} still signs"),
            "Restart the app. When the provider has read the keys again, after an hour or more, run this command again: \
             then the new key signs.",
        ),
        Step::Activated { new, former } => (
            format!("step 2 of 3: the key {new} signs; of {former} only the public part is left"),
            "Restart the app, on all nodes. After an hour or more, when no node signs with the former key, run this \
             command again: then it is removed.",
        ),
        Step::Removed { former, active } => (
            format!("step 3 of 3: removed {}; {active} signs", former.join(", ")),
            "Restart the app. The roll-over is complete.",
        ),
    };
    terminal.line(done);
    terminal.line(format!("\n{next}"));
}
