//! `examples/two_nodes` as its README has it: two processes, a real Redis, the first one's development provider, and
//! a real browser.

use crate::{
    browser::Browser,
    example::{Example, free_port},
    servers::redis_server::RedisServer,
};

/// Thirty-two bytes that are no secret.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

struct Nodes {
    a: Example,
    b: Example,
}

impl Nodes {
    fn start(redis: &RedisServer) -> Nodes {
        let (port_a, port_b, port) = (free_port(), free_port(), free_port());
        let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/two_nodes/Rocket.toml");
        let both = [
            ("ROCKET_CONFIG", settings),
            ("ROCKET_SECRET_KEY", KEY),
            ("OIDC_SESSION__STORE_URL", &redis.url()),
            ("OIDC_BASE_URL", &format!("http://localhost:{port_a}")),
        ];
        let provider = format!("{{port={port}}}");
        let issuer = format!("http://localhost:{port}");
        let of_a = [("OIDC_DEV_PROVIDER", &*provider)];
        let of_b = [("OIDC_DEV_PROVIDER", "false"), ("OIDC_ISSUER", &issuer)];
        Nodes {
            a: Example::start("two_nodes", port_a, &[&both[..], &of_a].concat()),
            b: Example::start("two_nodes", port_b, &[&both[..], &of_b].concat()),
        }
    }

    fn at_a(&self) -> String {
        self.a.at("localhost", "/")
    }

    fn at_b(&self) -> String {
        self.b.at("localhost", "/")
    }
}

/// Which port a page says that it is of, and whom it greets.
async fn seen(browser: &Browser, address: &str) -> String {
    browser.goto(address).await;
    let port = address.rsplit(':').next().unwrap().trim_matches('/');
    assert_eq!(browser.text("#node").await, format!("Node {port} answers."));
    browser.text("#who").await
}

/// What a node says to whoever has copied a browser's cookies.
async fn said_to(cookies: &str, address: &str) -> String {
    let request = crate::patience::client().get(address);
    let answer = request.header("Cookie", cookies).send().await.unwrap();
    answer.text().await.unwrap()
}

#[rocket::async_test]
#[ignore = "needs Chromium and redis-server: run scripts/interop"]
async fn two_nodes_know_the_same_people() {
    let redis = RedisServer::start();
    let nodes = Nodes::start(&redis);
    let (a, b) = (nodes.at_a(), nodes.at_b());
    let browser = Browser::start().await;

    // Signed in at A, with a sign-in that began there or at B.
    for begins_at in [&a, &b] {
        assert_eq!(seen(&browser, begins_at).await, "Hello, stranger");
        browser.click("#sign-in").await;
        browser.click("button[value=alice]").await;
        browser.wait_for_url(|url| url == a).await;
        for node in [&a, &b] {
            assert_eq!(seen(&browser, node).await, "Hello, Alice Liddell");
        }
        browser.screenshot("two_nodes-signed-in").await;

        // Signed out at B: at A not even the cookies of before are worth anything.
        let cookies = browser.cookies().await;
        let cookies = cookies.iter().map(|it| format!("{}={}", it.name, it.value));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        for node in [&a, &b] {
            assert!(said_to(&cookies, node).await.contains("Alice Liddell"));
        }
        browser.click("#sign-out").await;
        browser.wait_for_url(|url| url == a).await;
        for node in [&a, &b] {
            assert_eq!(seen(&browser, node).await, "Hello, stranger");
            assert!(said_to(&cookies, node).await.contains("Hello, stranger"));
        }
    }
}
