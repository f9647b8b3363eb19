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
    app::{Case, Server, callback, cases, cookies},
    issuer::Issuer,
};

/// Rounds of each case, and how long one takes.
const ROUNDS: usize = 3;
const SECONDS: u64 = 2;

/// Serves one of the servers at this issuer; tells its port on standard output.
pub async fn serve(server: &str, issuer: &str) {
    let rocket = Server::ALL[server.parse::<usize>().unwrap()]
        .rocket(issuer)
        .attach(AdHoc::on_liftoff("Port", |rocket| {
            Box::pin(async move {
                println!("port {}", rocket.config().port);
                let _ = std::io::stdout().flush();
            })
        }));
    let _ = rocket.launch().await;
}

/// A server in a process of its own.
pub struct Running {
    child: Child,
    pub url: String,
}

impl Running {
    pub fn start(server: Server, issuer: &Issuer) -> Running {
        let index = Server::ALL.iter().position(|s| *s == server).unwrap();
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(["serve", &index.to_string(), &issuer.url])
            .stdout(Stdio::piped())
            .spawn()
            .expect("`taskset` (util-linux) runs");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ").map(str::to_owned))
            .expect("the server starts");
        Running {
            child,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Signs in with so many bytes of claims; answers the session's cookies.
    pub async fn sign_in(&self, http: &reqwest::Client, size: usize) -> String {
        let headers = |answer: &reqwest::Response| answer.headers().clone();
        let login = http.get(format!("{}/oidc/login?next=/me", self.url));
        let login = headers(&login.send().await.unwrap());
        let back = callback(login["location"].to_str().unwrap(), size);
        let set = |headers: &reqwest::header::HeaderMap| {
            let set = headers.get_all("set-cookie");
            cookies(set.iter().map(|value| value.to_str().unwrap()))
        };
        let answer = http
            .get(format!("{}{back}", self.url))
            .header("Cookie", set(&login));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 303);
        set(answer.headers())
    }

    /// User and system time so far, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// CPU microseconds a request.
    fn measure(&self, case: &Case, header: Option<&(&str, String)>) -> f64 {
        let mut wrk = Command::new("chrt");
        wrk.args(["-b", "0", "taskset", "-c", "0", "wrk", "-t1", "-c16"])
            .arg(format!("-d{SECONDS}s"));
        if let Some((name, value)) = header {
            wrk.arg("-H").arg(format!("{name}: {value}"));
        }
        wrk.arg(format!("{}{}", self.url, case.path));
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

/// A client that goes where it wants.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// Prints CPU time a request, and plain/guarded. The median of a few rounds.
pub async fn table() {
    let issuer: Arc<Issuer> = Issuer::start(0);
    let (cases, http) = (cases(&issuer), http());
    let servers = Server::ALL.map(|server| Running::start(server, &issuer));
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
        let header = match (&case.authorization, case.session) {
            (Some(value), _) => Some(("Authorization", value.clone())),
            (None, Some(size)) => Some(("Cookie", running(case).sign_in(&http, size).await)),
            (None, None) => None,
        };
        let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| {
                (
                    running(plain).measure(plain, header.as_ref()),
                    running(case).measure(case, header.as_ref()),
                )
            })
            .collect();
        rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let (plain, guarded) = rounds[ROUNDS / 2];
        let ratio = plain / guarded;
        println!("{:32} {plain:9.1} {guarded:9.1} {ratio:7.2}", case.name);
    }
}
