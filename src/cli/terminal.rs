//! What the tool writes: colours only on a terminal, and a word about anything that takes over a second.

use std::{
    env,
    future::Future,
    io::{IsTerminal, Write, stderr, stdout},
    pin::pin,
    time::Duration,
};

use tokio::time::timeout;

/// Standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    has_colours: bool,
}

/// A colour of the eight that every terminal has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Terminal {
    /// Looks whether standard output is a terminal (<https://no-color.org> says who else is asked).
    pub(super) fn new() -> Terminal {
        let is_wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Terminal {
            has_colours: is_wanted && stdout().is_terminal(),
        }
    }

    /// The text in a colour, where there are any.
    pub(super) fn paint(&self, colour: Colour, text: &str) -> String {
        match self.has_colours {
            true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            false => text.to_owned(),
        }
    }

    /// Writes a line. A reader who has gone away is no error.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        let _ = writeln!(stdout(), "{}", text.as_ref());
    }

    /// Says what went wrong and what to do, on standard error.
    pub(super) fn fail(&self, cause: &str, remedy: &str) {
        let _ = writeln!(stderr(), "error: {cause}");
        let _ = writeln!(stderr(), "       → {remedy}");
    }

    /// Says something beside the output, on standard error.
    pub(super) fn warn(&self, text: &str) {
        let _ = writeln!(stderr(), "warning: {text}");
    }

    /// Tells a person what is expected of them, on standard error.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(stderr(), "{text}");
    }

    /// Waits for `work`. From the first second on, standard error says for what.
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
