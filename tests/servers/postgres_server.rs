//! A real PostgreSQL of a test's own, which can be stopped and started again.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{Server, free_port, is_on_path};

/// The account `nobody`: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// A cluster in a temporary folder, on a port of its own; gone when dropped.
pub struct PostgresServer {
    directory: TempDir,
    port: u16,
    programs: PathBuf,
    with_tls: bool,
    with_fsync: bool,
}

/// Whether its programs are.
pub fn is_installed() -> bool {
    programs().join("initdb").exists() || is_on_path("initdb")
}

impl PostgresServer {
    pub fn start() -> PostgresServer {
        PostgresServer::new(false, false)
    }

    /// One whose commits survive a power failure, as by default.
    pub fn start_with_fsync() -> PostgresServer {
        PostgresServer::new(false, true)
    }

    /// One with a certificate for `localhost` that nobody trusts.
    pub fn start_with_tls() -> PostgresServer {
        PostgresServer::new(true, false)
    }

    fn new(with_tls: bool, with_fsync: bool) -> PostgresServer {
        let directory = TempDir::new().unwrap();
        if is_root() {
            let path = directory.path();
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let server = PostgresServer {
            directory,
            port: free_port(),
            programs: programs(),
            with_tls,
            with_fsync,
        };
        let data = server.data();
        server.run("initdb", &["-D", &data, "-U", "app", "-A", "trust", "--no-sync"]);
        if with_tls {
            server.make_certificate();
        }
        server.start_it();
        server.run(
            "createdb",
            &["-h", &server.folder(), "-p", &server.port(), "-U", "app", "app"],
        );
        server
    }

    /// What it answers to SQL, as text.
    pub fn ask(&self, sql: &str) -> String {
        let (folder, port) = (self.folder(), self.port());
        let options = ["-h", &folder, "-p", &port, "-U", "app", "-d", "app"];
        self.run("psql", &[&options[..], &["-Atqc", sql]].concat())
    }

    /// The id of its first process.
    pub fn id(&self) -> u32 {
        let file = fs::read_to_string(Path::new(&self.data()).join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    /// With another account.
    pub fn url_of(&self, user: &str) -> String {
        format!("postgres://{user}@localhost:{}/app?", self.port)
    }

    fn start_it(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync={}",
            self.port,
            self.folder(),
            if self.with_fsync { "on" } else { "off" }
        );
        let options = if self.with_tls {
            format!(
                "{options} -c ssl=on -c ssl_cert_file={} -c ssl_key_file={}/key.pem",
                self.certificate(),
                self.folder()
            )
        } else {
            options
        };
        let log = format!("{}/log", self.folder());
        self.run(
            "pg_ctl",
            &["start", "-w", "-s", "-D", &self.data(), "-l", &log, "-o", &options],
        );
    }

    /// The file of the certificate, for those who are to trust it.
    pub fn certificate(&self) -> String {
        format!("{}/certificate.pem", self.folder())
    }

    fn make_certificate(&self) {
        let arguments = "req -x509 -newkey ec -nodes -days 2 -pkeyopt ec_paramgen_curve:prime256v1 \
             -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out certificate.pem";
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        self.run("openssl", &arguments);
    }

    fn folder(&self) -> String {
        self.directory.path().to_str().unwrap().to_owned()
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder())
    }

    fn port(&self) -> String {
        self.port.to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let path = match program {
            "openssl" => program.into(),
            _ => self.programs.join(program),
        };
        let mut command = Command::new(&path);
        command.args(arguments).current_dir(self.directory.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        // A server that goes on would hold a pipe open.
        if program == "pg_ctl" {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let done = command
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}: run scripts/interop", path.display()));
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program}: {errors}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Server for PostgresServer {
    fn url(&self) -> String {
        self.url_of("app")
    }

    fn stop(&mut self) {
        // Killed: what it has committed, it has written.
        self.run("pg_ctl", &["stop", "-w", "-s", "-m", "immediate", "-D", &self.data()]);
    }

    fn restart(&mut self) {
        self.start_it();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.run("pg_ctl", &["stop", "-w", "-s", "-m", "immediate", "-D", &self.data()]);
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Debian has them in a folder for each version, beside the `PATH`.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    let with_server = folders.filter(|folder| folder.join("initdb").exists());
    with_server.max().unwrap_or_default()
}
