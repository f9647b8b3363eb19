//! `rocket-oidc`, the command-line tool: registers an app at a provider, diagnoses sign-in problems, explains how a
//! guard validates a token, and makes the client's keys. Not part of the public API.

mod app;
mod doctor;
mod keys;
mod register;
mod report;
mod terminal;
mod token;

use std::{
    io::{Read, stdin},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::terminal::Terminal;
use crate::fairing::LaunchError;

/// Set up and diagnose OpenID Connect in a Rocket app.
#[derive(Debug, Parser)]
#[command(name = "rocket-oidc", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Register(register::Arguments),
    Doctor(doctor::Arguments),
    Token(token::Arguments),
    Keys(keys::Arguments),
}

/// The error of a command: cause and remedy.
#[derive(Debug)]
struct Failure {
    cause: String,
    remedy: String,
}

impl Failure {
    fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure {
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }
}

impl<E: Into<LaunchError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        Failure::new(error.to_string(), error.remedy())
    }
}

/// Runs the tool with the arguments of this process. The exit code is 0 on success, 1 on failure, and 2 for invalid
/// arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let terminal = Terminal::new();
    let run = async {
        match arguments.command {
            Command::Register(arguments) => arguments.run(&terminal).await,
            Command::Doctor(arguments) => Ok(arguments.run(&terminal).await),
            Command::Token(arguments) => arguments.run(&terminal).await,
            Command::Keys(arguments) => arguments.run(&terminal),
        }
    };
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => Err(Failure::new(error.to_string(), "try again")),
    };
    outcome.unwrap_or_else(|failure| {
        terminal.fail(&failure);
        ExitCode::FAILURE
    })
}

/// Reads a token from standard input, in up to 64 KiB, which exceeds the size of any token.
fn read_token(remedy: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = stdin().take(64 * 1024).read_to_string(&mut text);
    if read.is_ok() && !text.trim().is_empty() {
        return Ok(text);
    }
    Err(Failure::new("standard input contains no token", remedy))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
