//! Whether a request costs more when there is more of everything: keys, and tokens in the cache.

use std::time::{Duration, Instant};

use rocket::{http::Header, local::blocking::Client};

use crate::{app::Server, issuer::Issuer};

const REQUESTS: usize = 20_000;

/// Prints the time of a request with 1 to 1,000 keys, and with 1 to 1,000,000 tokens in the cache.
pub fn table() {
    println!("\n{:32} {:>10}", "keys beside the three", "µs");
    for keys in [0, 10, 100, 1_000] {
        let issuer = Issuer::start(keys);
        let client = Client::untracked(Server::Attached { token_cache: 0 }.rocket(&issuer.url)).unwrap();
        let tokens = vec![bearer(issuer.eddsa(&issuer.claims(0)))];
        println!("{keys:32} {:10.2}", microseconds(&client, "/api", &tokens));
    }

    println!("\n{:32} {:>10} {:>10}", "distinct tokens", "µs", "over plain");
    for count in [1, 1_000, 10_000, 100_000, 1_000_000] {
        let issuer = Issuer::start(0);
        let server = Server::Attached { token_cache: 1_200_000 };
        let client = Client::untracked(server.rocket(&issuer.url)).unwrap();
        let tokens: Vec<_> = (0..count).map(|i| bearer(issuer.eddsa(&issuer.claims(i)))).collect();
        for token in &tokens {
            let request = client.get("/api").header(token.clone());
            assert_eq!(request.dispatch().status().code, 200);
        }
        let plain = microseconds(&client, "/plain", &tokens);
        let seen = microseconds(&client, "/api", &tokens);
        println!("{count:32} {seen:10.2} {:10.2}", seen - plain);
    }
}

fn bearer(token: String) -> Header<'static> {
    Header::new("Authorization", format!("Bearer {token}"))
}

/// The time of a request, without that of making it; the tokens are used in an order that no cache of a
/// processor foresees.
fn microseconds(client: &Client, path: &str, tokens: &[Header<'static>]) -> f64 {
    let mut at = 0;
    let mut passed = Duration::ZERO;
    for _ in 0..REQUESTS {
        at = (at + 7_368_787) % tokens.len();
        let request = client.get(path.to_owned()).header(tokens[at].clone());
        let begin = Instant::now();
        std::hint::black_box(request.dispatch());
        passed += begin.elapsed();
    }
    passed.as_secs_f64() * 1e6 / REQUESTS as f64
}
