//! Terminal output: colours on a terminal only, and progress messages after a second.

use std::{
    env,
    future::Future,
    io::{IsTerminal, Write, stderr, stdout},
    pin::pin,
    time::Duration,
};

use tokio::time::timeout;

use super::Failure;

/// Standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    has_colours: bool,
}

impl Terminal {
    /// Detects colour support: standard output is a terminal, and `NO_COLOR` (<https://no-color.org>) or `TERM` does
    /// not disable it.
    pub(super) fn new() -> Terminal {
        let is_wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Terminal {
            has_colours: is_wanted && stdout().is_terminal(),
        }
    }

    /// The text in an ANSI colour, if colours are enabled.
    pub(super) fn paint(&self, colour: u8, text: &str) -> String {
        if self.has_colours {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Writes a line to standard output. A closed pipe is not an error.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        let _ = writeln!(stdout(), "{}", text.as_ref());
    }

    /// Writes an error and its remedy to standard error.
    pub(super) fn fail(&self, Failure { cause, remedy }: &Failure) {
        self.note(&format!("error: {cause}\n       → {remedy}"));
    }

    /// Writes a warning and its remedy to standard error.
    pub(super) fn warn(&self, cause: &str, remedy: Option<&str>) {
        let remedy = remedy.map(|remedy| format!("\n         → {remedy}"));
        self.note(&format!("warning: {cause}{}", remedy.unwrap_or_default()));
    }

    /// Writes a prompt or a hint to standard error.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(stderr(), "{text}");
    }

    /// Awaits `work`. After a second, writes to standard error what it waits for.
    pub(super) async fn wait<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        const SECOND: Duration = Duration::from_secs(1);

        let mut work = pin!(work);
        if let Ok(done) = timeout(SECOND, &mut work).await {
            return done;
        }
        if !stderr().is_terminal() {
            let _ = writeln!(stderr(), "{what} …");
            return work.await;
        }
        for seconds in 1.. {
            let _ = write!(stderr(), "\r{what} … {seconds} s");
            let _ = stderr().flush();
            if let Ok(done) = timeout(SECOND, &mut work).await {
                let _ = write!(stderr(), "\r\x1b[K");
                return done;
            }
        }
        work.await
    }
}
