//! Instructions per request, by `valgrind --tool=callgrind`: the same on any machine, so a test.

use std::{fs, process::Command};

use rocket::{
    http::{Cookie, Header},
    local::blocking::{Client, LocalRequest},
};

use crate::{
    app::{BASE_URL, Case, Server, callback, cases, cookies},
    issuer::Issuer,
};

/// Requests before the counted ones, which fill caches, and the counted ones.
const WARM_UP: usize = 50;
const COUNTED: usize = 200;

/// What callgrind counts in.
const COUNTED_FUNCTION: &str = "requests::instructions::counted_requests";

/// The most instructions that a case may take over a plain request.
const LIMITS: [(&str, u64); 8] = [
    ("unguarded, fairing attached", 1_800),
    ("token seen before", 14_400),
    ("RS256 first seen", 345_000),
    // A cached token, the signature alone, and 15 % of that.
    ("ES256 proof, token seen before", 855_000),
    ("EdDSA proof, token seen before", 573_000),
    ("session of 2 KB first seen", 148_000),
    ("session of 2 KB", 24_000),
    ("session of 2 KB in memory", 16_400),
];

/// Runs under callgrind, which counts inside `counted_requests` alone and dumps after each.
pub fn count() {
    let issuer = Issuer::start(0);
    let cases = cases(&issuer);
    let clients: Vec<Client> = Server::ALL
        .iter()
        .map(|server| Client::untracked(server.rocket(&issuer.url)).unwrap())
        .collect();
    for case in &cases {
        let index = Server::ALL.iter().position(|s| *s == case.server).unwrap();
        let client = &clients[index];
        let signed_in = case.session.map(|size| sign_in(client, size));
        let cookies = signed_in.map_or(vec![], |signed_in| case.cookies(signed_in, &issuer.url));
        let mut cookies = cookies.iter().cycle();
        let mut numbers = 0..;
        let mut request = || {
            let number = numbers.next().unwrap();
            request(client, case, cookies.next().map(String::as_str), number)
        };
        for _ in 0..WARM_UP {
            assert_eq!(request().dispatch().status().code, case.status);
        }
        let requests: Vec<_> = (0..COUNTED).map(|_| request()).collect();
        counted_requests(requests);
        println!("{}", case.name);
    }
}

/// The session's cookies.
fn sign_in(client: &Client, size: usize) -> String {
    let login = client.get("/oidc/login?next=/me").dispatch();
    let back = callback(login.headers().get_one("Location").unwrap(), size);
    let attempt = cookies(login.headers().get("Set-Cookie"));
    let answer = with_cookies(client.get(back), &attempt).dispatch();
    assert_eq!(answer.status().code, 303);
    cookies(answer.headers().get("Set-Cookie"))
}

fn request<'c>(client: &'c Client, case: &Case, cookies: Option<&str>, number: usize) -> LocalRequest<'c> {
    let mut request = client.get(case.path);
    if let Some(value) = &case.authorization {
        request.add_header(Header::new("Authorization", value.clone()));
        if let Some(prover) = &case.prover {
            let token = value.split_once(' ').unwrap().1;
            let proof = prover.proof(&format!("{BASE_URL}{}", case.path), token, number);
            request.add_header(Header::new("DPoP", proof));
        }
    }
    match cookies {
        Some(cookies) => with_cookies(request, cookies),
        None => request,
    }
}

fn with_cookies<'c>(request: LocalRequest<'c>, cookies: &str) -> LocalRequest<'c> {
    cookies.split("; ").fold(request, |request, pair| {
        request.cookie(Cookie::parse_encoded(pair.to_owned()).unwrap())
    })
}

#[inline(never)]
fn counted_requests(requests: Vec<LocalRequest<'_>>) {
    for request in requests {
        std::hint::black_box(request.dispatch());
    }
}

/// Prints the instructions of each case over a plain request; answers whether the limits hold.
pub fn table() -> bool {
    let folder = std::env::temp_dir().join(format!("callgrind-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={COUNTED_FUNCTION}"))
        .arg(format!("--dump-after={COUNTED_FUNCTION}"))
        .arg(format!("--callgrind-out-file={}/out", folder.display()))
        .arg(std::env::current_exe().unwrap())
        .arg("count")
        .output()
        .expect("`valgrind` runs");
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let counts: Vec<(String, u64)> = names
        .lines()
        .enumerate()
        .map(|(i, name)| {
            let path = folder.join(format!("out.{}", i + 1));
            let dump = fs::read_to_string(path).unwrap();
            let total = dump
                .lines()
                .find_map(|line| {
                    let line = line.strip_prefix("totals: ").or(line.strip_prefix("summary: "))?;
                    line.trim().parse::<u64>().ok()
                })
                .unwrap();
            (name.to_owned(), total / COUNTED as u64)
        })
        .collect();
    let _ = fs::remove_dir_all(&folder);

    let plain = counts[0].1;
    println!(
        "\n{:32} {:>12} {:>12} {:>8}",
        "case", "instructions", "over plain", "limit"
    );
    let mut is_good = true;
    for (name, count) in &counts {
        let over = count.saturating_sub(plain);
        let limit = LIMITS.iter().find(|(n, _)| n == name).map(|(_, limit)| *limit);
        let verdict = match limit {
            Some(limit) if over > limit => "exceeded",
            _ => "",
        };
        is_good &= verdict.is_empty();
        let limit = limit.map(|limit| limit.to_string()).unwrap_or_default();
        println!("{name:32} {count:12} {over:12} {limit:>8} {verdict}");
    }
    is_good
}
