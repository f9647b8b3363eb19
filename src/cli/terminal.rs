//! What the tool writes, and a word about anything that takes over a second.

use std::{
    future::Future,
    io::{IsTerminal, Write, stderr, stdout},
    pin::pin,
    time::Duration,
};

use tokio::time::timeout;

/// Standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal;

impl Terminal {
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
