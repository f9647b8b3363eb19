//! The examples as processes, with environment variables alone.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::slow_node;

/// An example that runs on a port of its own.
pub struct Example {
    process: Child,
    port: u16,
}

impl Example {
    pub fn start(name: &str, port: u16, environment: &[(&str, &str)]) -> Example {
        Example::run(Command::new(example_path(name)), name, port, environment)
    }

    /// A node whose clock is wrong, as its environment says.
    pub fn slow_node(port: u16, environment: &[(&str, &str)]) -> Example {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args([slow_node::TEST, "--exact", "--ignored", "--nocapture"]);
        Example::run(test, "slow node", port, environment)
    }

    fn run(mut command: Command, name: &str, port: u16, environment: &[(&str, &str)]) -> Example {
        let mut process = command
            .env("ROCKET_PROFILE", "debug")
            .env("ROCKET_PORT", port.to_string())
            .env("ROCKET_CLI_COLORS", "false")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo test builds the examples");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let launched =
            lines.any(|line| line.is_ok_and(|line| line.contains("Rocket has launched")));
        assert!(launched, "{name} did not launch");
        // A thread of a test writes where the test writes: shown when the test fails.
        let name = format!("{name} at {port}");
        let lines = lines.map_while(Result::ok);
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{name}: {line}")));
        Example { process, port }
    }

    pub fn at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Examples stand beside the directory of this test.
fn example_path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
