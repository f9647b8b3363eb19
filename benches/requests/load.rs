//! The example `notes` under load, while its provider goes away and comes back: nobody may notice who does
//! not sign in at that moment.
//!
//! Needs `cargo build --release --example notes`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use rocket::futures::{StreamExt, stream};

use crate::{
    app::{callback, cookies},
    cpu::http,
    issuer::Issuer,
};

const SIGN_INS: usize = 10_000;
const REQUESTS: u64 = 1_000_000;
/// The provider is up so long, and down so long, in turns.
const UP: Duration = Duration::from_secs(4);
const DOWN: Duration = Duration::from_secs(2);

/// What became of all that was tried.
#[derive(Default)]
struct Outcomes {
    signed_in: AtomicUsize,
    /// 502, 503 or 504, and tried again.
    provider_down: AtomicUsize,
    other: AtomicUsize,
}

pub async fn run() -> bool {
    let issuer = Issuer::start(0);
    let over = Arc::new(AtomicBool::new(false));
    let turns = thread::spawn({
        let (issuer, over) = (issuer.clone(), over.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(UP);
                issuer.set_down(true);
                thread::sleep(DOWN);
                issuer.set_down(false);
            }
        }
    });
    let app = Notes::start(&issuer);
    let http = http();

    let (outcomes, begin) = (Outcomes::default(), Instant::now());
    let sessions: Vec<String> = stream::iter(0..SIGN_INS)
        .map(|_| app.sign_in(&http, &outcomes))
        .buffer_unordered(16)
        .collect()
        .await;
    let seconds = begin.elapsed().as_secs_f64();
    println!("sign-ins                        {:>10} in {seconds:.0} s", SIGN_INS);
    println!(
        "  refused while it was down     {:>10}",
        outcomes.provider_down.into_inner()
    );
    println!(
        "  refused otherwise             {:>10}",
        outcomes.other.load(Ordering::Relaxed)
    );

    let memory = app.memory();
    println!("memory                          {memory:>10} KB");
    let (requests, refused, seconds) = app.guarded_requests(&sessions);
    println!("guarded requests                {requests:>10} in {seconds:.0} s");
    println!("  not answered with 200         {refused:>10}");

    let mut lost = 0;
    for cookies in &sessions {
        lost += usize::from(!app.is_signed_in(&http, cookies).await);
    }
    println!("sessions lost                   {lost:>10}");
    println!("refreshes                       {:>10}", issuer.refreshes());
    over.store(true, Ordering::Relaxed);
    let _ = turns.join();
    outcomes.other.into_inner() == 0 && refused == 0 && lost == 0
}

/// The example as a process, with sessions in its memory.
struct Notes {
    child: Child,
    url: String,
}

impl Notes {
    fn start(issuer: &Issuer) -> Notes {
        let example: PathBuf = std::env::current_exe().unwrap();
        let example = example.ancestors().nth(2).unwrap().join("examples/notes");
        let mut child = Command::new(example)
            .env("ROCKET_PROFILE", "debug")
            .env("ROCKET_PORT", "0")
            .env("ROCKET_LOG_LEVEL", "critical")
            .env("ROCKET_CLI_COLORS", "false")
            .env("OIDC_ISSUER", &issuer.url)
            .env("OIDC_CLIENT_ID", "client")
            .env("OIDC_BASE_URL", "http://localhost:8000")
            .env("OIDC_SESSION", "{store=\"memory\"}")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`cargo build --release --example notes` has made it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, address) = line.split_once("launched from http://")?;
                address.rsplit_once(':').map(|(_, port)| port.trim().to_owned())
            })
            .expect("it launches");
        thread::spawn(move || lines.for_each(drop));
        Notes {
            child,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Signs in, however often it takes; answers the session's cookies.
    async fn sign_in(&self, http: &reqwest::Client, outcomes: &Outcomes) -> String {
        loop {
            match self.try_to_sign_in(http).await {
                Ok(cookies) => {
                    outcomes.signed_in.fetch_add(1, Ordering::Relaxed);
                    return cookies;
                }
                Err(502..=504) => outcomes.provider_down.fetch_add(1, Ordering::Relaxed),
                Err(_) => outcomes.other.fetch_add(1, Ordering::Relaxed),
            };
            rocket::tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_to_sign_in(&self, http: &reqwest::Client) -> Result<String, u16> {
        let set = |answer: &reqwest::Response| {
            let set = answer.headers().get_all("set-cookie");
            cookies(set.iter().map(|value| value.to_str().unwrap()))
        };
        let login = http.get(format!("{}/oidc/login?next=/me", self.url));
        // A development app leads to its base URL first; the host says that this is it.
        let login = login.header("Host", "localhost:8000").send().await.unwrap();
        if login.status() != StatusCode::SEE_OTHER {
            return Err(login.status().as_u16());
        }
        let back = callback(login.headers()["location"].to_str().unwrap(), "100.20");
        let answer = http
            .get(format!("{}{back}", self.url))
            .header("Host", "localhost:8000")
            .header("Cookie", set(&login));
        let answer = answer.send().await.unwrap();
        match answer.status() {
            StatusCode::SEE_OTHER => Ok(set(&answer)),
            status => Err(status.as_u16()),
        }
    }

    async fn is_signed_in(&self, http: &reqwest::Client, cookies: &str) -> bool {
        let request = http.get(format!("{}/me", self.url)).header("Cookie", cookies);
        request.send().await.unwrap().status() == StatusCode::OK
    }

    /// Requests by all sessions in turns: how many, how many were refused, and how long it took.
    fn guarded_requests(&self, sessions: &[String]) -> (u64, u64, f64) {
        let folder = std::env::temp_dir().join(format!("load-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (list, script) = (folder.join("cookies"), folder.join("wrk.lua"));
        let mut file = fs::File::create(&list).unwrap();
        for cookies in sessions {
            writeln!(file, "{cookies}").unwrap();
        }
        let lua = format!(
            "local cookies, i = {{}}, 0
            for line in io.lines('{}') do cookies[#cookies + 1] = line end
            function request()
                i = i % #cookies + 1
                return wrk.format('GET', '/me', {{ ['Cookie'] = cookies[i] }})
            end",
            list.display()
        );
        fs::write(&script, lua).unwrap();

        let (mut requests, mut refused, begin) = (0, 0, Instant::now());
        while requests < REQUESTS {
            let output = Command::new("wrk")
                .args(["-t1", "-c32", "-d10s", "-s"])
                .arg(&script)
                .arg(&self.url)
                .output()
                .expect("`wrk` (Debian's package wrk) runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let number = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
            requests += text
                .lines()
                .find_map(|line| line.trim().split_once(" requests in")?.0.parse::<u64>().ok())
                .unwrap_or_else(|| panic!("{text}"));
            let non_2xx = text.lines().find(|line| line.contains("Non-2xx"));
            refused += non_2xx.and_then(number).unwrap_or(0);
            println!("  after {requests:>10}, memory   {:>10} KB", self.memory());
        }
        let _ = fs::remove_dir_all(&folder);
        (requests, refused, begin.elapsed().as_secs_f64())
    }

    /// What it has in memory, in KB.
    fn memory(&self) -> i64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
