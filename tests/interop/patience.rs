//! Every wait of these tests ends: a request after a minute, and a run in which nothing begins for five.

use std::{
    io::Write,
    process::Command,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use reqwest::{Client, ClientBuilder, Response};

/// More than any answer takes on a slow machine.
pub const MAX_ANSWER: Duration = Duration::from_secs(60);
/// More than any test takes between two programs or pages that it opens.
const MAX_SILENCE: Duration = Duration::from_secs(300);

static LAST_SIGN: LazyLock<Mutex<Instant>> = LazyLock::new(|| {
    std::thread::spawn(watch);
    Mutex::new(Instant::now())
});

/// A client whose requests fail after a minute.
pub fn client_builder() -> ClientBuilder {
    sign_of_life();
    Client::builder().timeout(MAX_ANSWER)
}

pub fn client() -> Client {
    client_builder().build().unwrap()
}

pub async fn get(url: impl reqwest::IntoUrl) -> reqwest::Result<Response> {
    client().get(url).send().await
}

/// The tests go on: they open something.
pub fn sign_of_life() {
    *LAST_SIGN.lock().unwrap() = Instant::now();
}

/// Ends the process once nothing has begun for long, with what it may wait for. libtest has printed the name of the test.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(5));
        if LAST_SIGN.lock().unwrap().elapsed() > MAX_SILENCE {
            break;
        }
    }
    // Not `eprintln!`, which is shown when a test ends.
    let mut stderr = std::io::stderr();
    let _ = writeln!(
        stderr,
        "\nno test has begun anything for {MAX_SILENCE:?}; these programs and sockets are open:"
    );
    for (program, arguments) in [("ps", ["-ef", "--forest"]), ("ss", ["-tanp", "--no-header"])] {
        let output = Command::new(program).args(arguments).output();
        let _ = stderr.write_all(&output.map(|output| output.stdout).unwrap_or_default());
    }
    std::process::abort();
}
