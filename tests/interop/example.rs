//! The examples as processes, with environment variables alone.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{patience, servers, slow_node};

/// An example that runs on a port of its own.
pub struct Example {
    process: Child,
    port: u16,
    log: Arc<Mutex<String>>,
}

impl Example {
    pub fn start(name: &str, port: u16, environment: &[(&str, &str)]) -> Example {
        Example::run(Command::new(example_path(name)), name, port, environment)
    }

    /// A node whose clock is wrong, as its environment says.
    pub fn slow_node(port: u16, environment: &[(&str, &str)]) -> Example {
        Example::of_test(slow_node::TEST, port, environment)
    }

    /// An app that a test of this binary is, if its environment says so.
    pub fn of_test(test: &str, port: u16, environment: &[(&str, &str)]) -> Example {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args([test, "--exact", "--ignored", "--nocapture"]);
        // Beside it is the project's own Rocket.toml.
        process.env("OIDC_DEV_PROVIDER", "false");
        Example::run(process, test, port, environment)
    }

    fn run(mut command: Command, name: &str, port: u16, environment: &[(&str, &str)]) -> Example {
        let mut process = command
            .env("ROCKET_PROFILE", "debug")
            .env("ROCKET_PORT", port.to_string())
            .env("ROCKET_CLI_COLORS", "false")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo test builds the examples");
        let log = Arc::new(Mutex::new(String::new()));
        let name = format!("{name} at {port}");
        keep(lines_of(process.stderr.take()), &name, &log);
        let mut lines = lines_of(process.stdout.take());
        let mut before = String::new();
        let launched = lines.any(|line| {
            before += &format!("{line}\n");
            line.contains("Rocket has launched")
        });
        assert!(launched, "{name} did not launch:\n{before}");
        keep(lines, &name, &log);
        Example { process, port, log }
    }

    /// Tells it to stop, as a machine that shuts down does, and waits until it has.
    pub fn stop(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let begun = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    /// Whether it has logged this, or does so soon: its lines come by a pipe.
    pub fn has_logged(&self, text: &str) -> bool {
        self.has_logged_since(0, text)
    }

    /// The same, after so many bytes of its log.
    pub fn has_logged_since(&self, bytes: usize, text: &str) -> bool {
        let begun = Instant::now();
        loop {
            if self.log.lock().unwrap()[bytes..].contains(text) {
                return true;
            }
            if begun.elapsed() > Duration::from_secs(5) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged since its launch, and all of its errors.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines_of<R: Read>(pipe: Option<R>) -> impl Iterator<Item = String> + use<R> {
    let pipe = pipe.expect("it is piped");
    BufReader::new(pipe).lines().map_while(Result::ok)
}

/// Keeps these lines, and writes them where the test writes, as its threads do: shown when the test fails.
fn keep(lines: impl Iterator<Item = String> + Send + 'static, name: &str, log: &Arc<Mutex<String>>) {
    let (name, log) = (name.to_owned(), log.clone());
    std::thread::spawn(move || {
        for line in lines {
            eprintln!("{name}: {line}");
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// Examples stand beside the directory of this test.
fn example_path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}

/// A loopback port that nothing listens on, given once in this process.
pub fn free_port() -> u16 {
    patience::sign_of_life();
    servers::free_port()
}
