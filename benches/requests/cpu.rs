//! Server CPU per request, plain and guarded in turns, driven by `wrk`.
//!
//! Both run on one core, and `wrk` as a batch process. On another core it would sleep between the answers
//! of a slow route and be woken for each, which the server pays for, and dearly on a virtual machine: the
//! fast route would look faster than it is. The plain request carries the header of the guarded one, so
//! that a guard is not charged for reading it from the network.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rocket::fairing::AdHoc;

use crate::{
    app::{Case, Server, cases},
    issuer::Issuer,
};

/// Rounds of each case, and how long one takes.
const ROUNDS: usize = 3;
const SECONDS: u64 = 2;

/// Serves one of the servers; tells its port and the cases' headers on standard output.
pub async fn serve(server: &str) {
    let issuer = Issuer::start(0);
    let server = Server::ALL[server.parse::<usize>().unwrap()];
    for case in cases(&issuer).await {
        let (name, value) = case.header.unwrap_or(("X", String::new()));
        println!("{}\t{name}\t{value}", case.name);
    }
    let rocket = server
        .rocket(&issuer)
        .attach(AdHoc::on_liftoff("Port", |rocket| {
            Box::pin(async move {
                println!("port\t{}\t", rocket.config().port);
                let _ = std::io::stdout().flush();
            })
        }));
    let _ = rocket.launch().await;
}

struct Running {
    child: Child,
    port: u16,
    headers: Vec<(String, String, String)>,
}

impl Running {
    fn start(index: usize) -> Running {
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(["serve", &index.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("`taskset` (util-linux) runs");
        let mut running = Running {
            child,
            port: 0,
            headers: vec![],
        };
        let output = running.child.stdout.take().unwrap();
        for line in BufReader::new(output).lines() {
            let line = line.unwrap();
            let parts: Vec<&str> = line.split('\t').collect();
            if parts[0] == "port" {
                running.port = parts[1].parse().unwrap();
                return running;
            }
            let header = (parts[0].into(), parts[1].into(), parts[2].into());
            running.headers.push(header);
        }
        panic!("the server did not start");
    }

    /// User and system time so far, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// CPU microseconds a request.
    fn measure(&self, case: &Case, header_of: &Case) -> f64 {
        let mut wrk = Command::new("chrt");
        wrk.args(["-b", "0", "taskset", "-c", "0", "wrk", "-t1", "-c16"])
            .arg(format!("-d{SECONDS}s"));
        let header = self
            .headers
            .iter()
            .find(|(name, ..)| name == header_of.name);
        if let Some((_, name, value)) = header.filter(|(.., value)| !value.is_empty()) {
            wrk.arg("-H").arg(format!("{name}: {value}"));
        }
        wrk.arg(format!("http://127.0.0.1:{}{}", self.port, case.path));
        let before = self.ticks();
        let output = wrk.output().expect("`wrk` (Debian's package wrk) runs");
        let ticks = self.ticks() - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let requests: f64 = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in")?.0.parse().ok())
            .unwrap_or_else(|| panic!("{text}"));
        let refused = text.contains("Non-2xx or 3xx responses");
        assert_eq!(refused, case.status >= 400, "{}: {text}", case.name);
        ticks as f64 * 10_000.0 / requests
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints CPU time a request, and plain/guarded. The median of a few rounds.
pub async fn table() {
    let issuer: Arc<Issuer> = Issuer::start(0);
    let cases = cases(&issuer).await;
    let servers: Vec<Running> = (0..Server::ALL.len()).map(Running::start).collect();
    let running = |case: &Case| {
        let index = Server::ALL.iter().position(|s| *s == case.server).unwrap();
        &servers[index]
    };
    let (plain, guarded) = cases.split_first().unwrap();
    println!(
        "\n{:32} {:>9} {:>9} {:>7}",
        "case", "plain µs", "µs", "ratio"
    );
    for case in guarded {
        let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| {
                (
                    running(plain).measure(plain, case),
                    running(case).measure(case, case),
                )
            })
            .collect();
        rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let (plain, guarded) = rounds[ROUNDS / 2];
        let ratio = plain / guarded;
        println!("{:32} {plain:9.1} {guarded:9.1} {ratio:7.2}", case.name);
    }
}
