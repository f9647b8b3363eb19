//! A real `redis-server` of a test's own, which can be stopped and started again.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Server, free_port, redis_program};

/// More than any answer takes on a slow machine.
const MAX_ANSWER: Duration = Duration::from_secs(60);

/// A Redis on a port of its own that keeps its data over a restart; gone when dropped.
pub struct RedisServer {
    process: Option<Child>,
    port: u16,
    with_tls: bool,
    directory: PathBuf,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::new(false)
    }

    /// One that speaks TLS alone, with a certificate for `localhost` that nobody trusts.
    pub fn start_with_tls() -> RedisServer {
        RedisServer::new(true)
    }

    fn new(with_tls: bool) -> RedisServer {
        let port = free_port();
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{port}"));
        std::fs::create_dir_all(&directory).unwrap();
        let mut server = RedisServer {
            process: None,
            port,
            with_tls,
            directory,
        };
        if with_tls {
            server.make_certificate();
        }
        server.restart();
        server
    }

    pub fn url(&self) -> String {
        if !self.with_tls {
            format!("redis://127.0.0.1:{}", self.port)
        } else {
            format!("rediss://localhost:{}", self.port)
        }
    }

    /// The path of its socket.
    pub fn socket(&self) -> String {
        self.file("socket")
    }

    /// The file of the certificate, for those who are to trust it.
    pub fn certificate(&self) -> String {
        self.file("certificate.pem")
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn make_certificate(&self) {
        make_certificate(&self.directory, "DNS:localhost");
    }

    /// Ends the server; its data stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again, and waits until it answers.
    pub fn restart(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new(redis_program());
        if !self.with_tls {
            command.args(["--port", &port])
        } else {
            command
                .args(["--port", "0", "--tls-port", &port])
                .args(["--tls-auth-clients", "no"])
                .args(["--tls-key-file", &self.file("key.pem")])
                .args(["--tls-cert-file", &self.certificate()])
                .args(["--tls-ca-cert-file", &self.certificate()])
        };
        let process = command
            .args(["--bind", "127.0.0.1"])
            .args(["--unixsocket", &self.socket()])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(&self.directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("`redis-server` is installed: `scripts/interop` installs it");
        self.process = Some(process);
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < Duration::from_secs(10), "no Redis");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Closes all connections; the server stays.
    pub fn hang_up(&self) {
        self.ask("CLIENT KILL TYPE normal").unwrap();
    }

    /// How often it was asked for this, in small letters.
    pub fn count(&self, command: &str) -> usize {
        let counts = self.ask("INFO commandstats").unwrap();
        let (_, count) = counts
            .split_once(&format!("cmdstat_{command}:calls="))
            .unwrap_or(("", "0,"));
        count.split(',').next().unwrap().parse().unwrap()
    }

    fn answers(&self) -> bool {
        if self.with_tls {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        } else {
            self.ask("PING").is_ok_and(|answer| answer.starts_with("+PONG"))
        }
    }

    /// What it answers to a command, before it says goodbye.
    pub fn ask(&self, command: &str) -> std::io::Result<String> {
        use std::io::{Read, Write};

        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(MAX_ANSWER))?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// All that a reader of this Redis sees: keys, and values of every kind.
    pub fn dump(&self) -> String {
        let appended = self.directory.join("appendonlydir");
        let files = std::fs::read_dir(appended).unwrap();
        let texts = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        texts
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }
}

impl Server for RedisServer {
    fn url(&self) -> String {
        RedisServer::url(self)
    }

    fn stop(&mut self) {
        RedisServer::stop(self);
    }

    fn restart(&mut self) {
        RedisServer::restart(self);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Writes a certificate that nobody trusts, for this name or address, and its key.
pub fn make_certificate(directory: &Path, name: &str) {
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=Redis of a test"])
        .args(["-addext", &format!("subjectAltName={name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &file("key.pem")])
        .args(["-out", &file("certificate.pem")])
        .stderr(Stdio::null())
        .status();
    assert!(made.is_ok_and(|status| status.success()), "no certificate");
}
