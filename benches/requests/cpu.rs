//! Server CPU per request, plain and guarded in turns.
//!
//! The server has one core, and a client that never sleeps has the other: no core waits for work, and neither
//! has to be woken, which on a virtual machine costs more than a guard and would be charged to whichever route
//! is slower. The turns are short, so that what the machine does beside lies on both. The plain request
//! carries the header of the guarded one, so that a guard is not charged for reading it from the network.

use std::{
    fmt::Display,
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rocket::{Build, Rocket, fairing::AdHoc};

use crate::{
    app::{Case, Server, callback, cases, cookies, with_store},
    client::BusyClient,
    issuer::Issuer,
};

/// Turns of each case, and how long one takes.
const TURNS: usize = 102;
const TURN: Duration = Duration::from_millis(50);

/// Serves one of the servers at this issuer; tells its port on standard output.
pub async fn serve(server: &str, issuer: &str) {
    serve_it(Server::ALL[server.parse::<usize>().unwrap()].rocket(issuer)).await;
}

/// Serves an app with this store.
pub async fn serve_with_store(url: &str, issuer: &str) {
    serve_it(with_store(url, issuer)).await;
}

async fn serve_it(rocket: Rocket<Build>) {
    let rocket = rocket.attach(AdHoc::on_liftoff("Port", |rocket| {
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
    port: u16,
    pub url: String,
}

impl Running {
    pub fn start(server: Server, issuer: &Issuer) -> Running {
        let index = Server::ALL.iter().position(|s| *s == server).unwrap();
        Running::run(["serve", &index.to_string(), &issuer.url])
    }

    /// An app with its sessions in this store.
    pub fn start_with_store(url: &str, issuer: &Issuer) -> Running {
        Running::run(["serve-with-store", url, &issuer.url])
    }

    fn run(arguments: [&str; 3]) -> Running {
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("`taskset` (util-linux) runs");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port: u16 = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse().ok())
            .expect("the server starts");
        Running {
            child,
            port,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Signs in with so many bytes of claims; answers the session's cookies.
    pub async fn sign_in(&self, http: &reqwest::Client, size: impl Display) -> String {
        let headers = |answer: &reqwest::Response| answer.headers().clone();
        let login = http.get(format!("{}/oidc/login?next=/me", self.url));
        let login = headers(&login.send().await.unwrap());
        let back = callback(login["location"].to_str().unwrap(), size);
        let set = |headers: &reqwest::header::HeaderMap| {
            let set = headers.get_all("set-cookie");
            cookies(set.iter().map(|value| value.to_str().unwrap()))
        };
        let answer = http.get(format!("{}{back}", self.url)).header("Cookie", set(&login));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 303);
        set(answer.headers())
    }

    /// CPU time so far, of all its threads.
    pub fn cpu_time(&self) -> Duration {
        time_on_cpu(self.child.id())
    }

    /// A client for this case, with these headers in turns.
    fn client(&self, case: &Case, headers: &[String]) -> BusyClient {
        let path = case.path;
        let request = |header| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let requests = headers.iter().map(|header| request(header).into());
        let address = ([127, 0, 0, 1], self.port).into();
        BusyClient::new(address, requests.collect(), case.status)
    }

    /// CPU microseconds a request.
    fn measure(&self, client: &mut BusyClient) -> f64 {
        let before = self.cpu_time();
        let answers = client.run(TURN);
        let spent = self.cpu_time() - before;
        spent.as_secs_f64() * 1e6 / answers as f64
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of all threads of a process so far; zero if it is gone.
pub fn time_on_cpu(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let nanoseconds = threads.into_iter().flatten().flatten().map(|thread| {
        let times = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let on_cpu = times.split_whitespace().next();
        on_cpu.map_or(0, |time| time.parse::<u64>().unwrap())
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Keeps this process off the server's core.
fn pin_to_core(core: u32) {
    let pinned = Command::new("taskset")
        .args(["-cp", &core.to_string(), &std::process::id().to_string()])
        .output();
    assert!(
        pinned.is_ok_and(|output| output.status.success()),
        "`taskset` (util-linux) runs, and there are two cores"
    );
}

/// A client that goes where it wants.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// Prints CPU time a request, and plain/guarded: the middle of all turns, and between what the middle half
/// of them lies. Of those cases whose name has this text.
pub async fn table(text: &str) {
    pin_to_core(1);
    let issuer: Arc<Issuer> = Issuer::start(0);
    let (mut cases, http) = (cases(&issuer), http());
    // Each proof serves one request, and the client has its requests in advance.
    cases.retain(|case| case.prover.is_none());
    let servers = Server::ALL.map(|server| Running::start(server, &issuer));
    let running = |case: &Case| {
        let index = Server::ALL.iter().position(|s| *s == case.server).unwrap();
        &servers[index]
    };
    let (plain, guarded) = cases.split_first().unwrap();
    println!(
        "\n{:32} {:>9} {:>9} {:>7}   half of them",
        "case", "plain µs", "µs", "ratio"
    );
    for case in guarded.iter().filter(|case| case.name.contains(text)) {
        let headers = match (&case.authorization, case.session) {
            (Some(value), _) => vec![format!("Authorization: {value}\r\n")],
            (None, Some(size)) => {
                let cookies = case.cookies(running(case).sign_in(&http, size).await, &issuer.url);
                let headers = cookies.iter().map(|cookies| format!("Cookie: {cookies}\r\n"));
                headers.collect()
            }
            (None, None) => vec![String::new()],
        };
        let (with_plain, with_case) = (running(plain), running(case));
        let mut client = with_plain.client(plain, &headers);
        let mut guarded_client = with_case.client(case, &headers);
        let turns = (0..TURNS).map(|_| (with_plain.measure(&mut client), with_case.measure(&mut guarded_client)));
        // The first warms up.
        let turns: Vec<(f64, f64)> = turns.skip(1).collect();
        let [_, plain, _] = quartiles(turns.iter().map(|turn| turn.0));
        let [_, guarded, _] = quartiles(turns.iter().map(|turn| turn.1));
        let [low, ratio, high] = quartiles(turns.iter().map(|turn| turn.0 / turn.1));
        println!(
            "{:32} {plain:9.1} {guarded:9.1} {ratio:7.2}   {low:.2} to {high:.2}",
            case.name
        );
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    quartiles(values)[1]
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}
