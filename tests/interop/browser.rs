//! A real browser for the tests: what cookies, `SameSite`, `Path` and redirects do is only proved there.
//!
//! Speaks the few commands of [WebDriver](https://www.w3.org/TR/webdriver2/) that the tests need to a
//! `chromedriver` of its own. Elements are waited for, so a test says what a person would do, and no
//! more. Whatever goes wrong panics with the page that was open.

#![allow(dead_code, reason = "a vocabulary for several tests: no one test uses all of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use rocket::tokio::time::sleep;
use serde::Deserialize;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(25);
/// The key under which WebDriver puts an element's reference (§12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Without the flags against background traffic, Chromium asks for hosts of its maker at every start.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// Headless Chromium with an empty profile, gone when dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: PathBuf,
    http: reqwest::Client,
}

/// A tab of the browser, by its window handle (WebDriver §11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tab(String);

/// A cookie as the browser keeps it, whatever page is open.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub domain: String,
    pub path: String,
    pub secure: bool,
    pub http_only: bool,
    /// `Lax`, `Strict` or `None`; absent if the server did not say.
    pub same_site: Option<String>,
    /// Seconds since 1970, -1 for a cookie that ends with the browser.
    pub expires: f64,
}

impl Browser {
    /// Starts `chromedriver` on a free port, and Chromium by it.
    pub async fn start() -> Self {
        // A killed test drops nothing, but the pipe that it held closes: the shell then ends the whole
        // process group, Chromium included.
        let mut driver = Command::new("sh")
            .args(["-c", "chromedriver --port=0 </dev/null & cat >/dev/null; kill -KILL 0"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`sh` starts");
        let port = announced_port(driver.stdout.take().expect("stdout is piped"));

        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chromium-{}-{number}", std::process::id()));
        let http = crate::patience::client_builder()
            .no_proxy()
            .build()
            .expect("a client without special settings");
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            profile,
            http,
        };

        let mut flags: Vec<String> = FLAGS.map(String::from).to_vec();
        flags.push(format!("--user-data-dir={}", browser.profile.display()));
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            // Of a proxy that a test starts.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": flags },
        } } });
        let session = browser.call(Method::POST, "/session", capabilities).await;
        let id = session["sessionId"].as_str().expect("a new session has an id");
        browser.session = format!("/session/{id}");
        browser
    }

    /// Opens `url`, following redirects, until the page is loaded.
    pub async fn goto(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// The address in the address bar.
    pub async fn current_url(&self) -> String {
        string(self.get("/url").await)
    }

    /// The page as it is now, as HTML.
    pub async fn source(&self) -> String {
        string(self.get("/source").await)
    }

    /// Clicks the first element that matches, and waits for the page that this may open.
    pub async fn click(&self, css: &str) {
        self.on_element(css, Method::POST, "click", json!({})).await;
    }

    /// Replaces what is written in a field.
    pub async fn fill(&self, css: &str, text: &str) {
        self.on_element(css, Method::POST, "clear", json!({})).await;
        self.on_element(css, Method::POST, "value", json!({ "text": text }))
            .await;
    }

    /// The text a person sees in the first element that matches.
    pub async fn text(&self, css: &str) -> String {
        string(self.on_element(css, Method::GET, "text", Value::Null).await)
    }

    /// Whether the page has such an element now.
    pub async fn has(&self, css: &str) -> bool {
        self.find(css).await.is_ok()
    }

    /// Runs the body of a JavaScript function in the page; a promise is awaited.
    pub async fn execute(&self, js: &str) -> Value {
        self.post("/execute/sync", json!({ "script": js, "args": [] })).await
    }

    /// The same, while another page may be loading; fails if there is none.
    pub async fn try_execute(&self, js: &str) -> Result<Value, Value> {
        let path = format!("{}/execute/sync", self.session);
        let body = json!({ "script": js, "args": [] });
        self.try_call(Method::POST, &path, body).await
    }

    /// Opens these addresses at once, each in a new tab, and returns the tabs once all are there.
    pub async fn open_tabs(&self, urls: &[String]) -> Vec<Tab> {
        let before = self.tabs().await;
        let urls = json!(urls);
        self.execute(&format!("for (const url of {urls}) window.open(url);"))
            .await;
        let started = Instant::now();
        loop {
            let mut tabs = self.tabs().await;
            tabs.retain(|tab| !before.contains(tab));
            if tabs.len() == urls.as_array().map_or(0, Vec::len) {
                return tabs;
            }
            assert!(started.elapsed() < DEADLINE, "only {} tabs", tabs.len());
            sleep(POLL).await;
        }
    }

    /// The tab in which all happens.
    pub async fn current_tab(&self) -> Tab {
        Tab(string(self.get("/window").await))
    }

    /// The one other tab or window, once the page has opened it.
    pub async fn new_tab(&self, page: &Tab) -> Tab {
        let started = Instant::now();
        loop {
            let mut tabs = self.tabs().await;
            tabs.retain(|tab| tab != page);
            if let [tab] = &tabs[..] {
                return tab.clone();
            }
            assert!(started.elapsed() < DEADLINE, "{} other tabs", tabs.len());
            sleep(POLL).await;
        }
    }

    async fn tabs(&self) -> Vec<Tab> {
        let handles = self.get("/window/handles").await;
        let handles: Vec<String> = serde_json::from_value(handles).expect("handles are strings");
        handles.into_iter().map(Tab).collect()
    }

    /// Has all that follows happen in this tab.
    pub async fn switch_to(&self, tab: &Tab) {
        self.post("/window", json!({ "handle": tab.0 })).await;
    }

    /// Goes back in the history, as the button does.
    pub async fn back(&self) {
        self.post("/back", json!({})).await;
    }

    /// A command of the Chrome DevTools Protocol.
    pub async fn cdp(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": params }))
            .await
    }

    /// Every cookie the browser keeps, also those that this page cannot see.
    pub async fn cookies(&self) -> Vec<Cookie> {
        let command = json!({ "cmd": "Storage.getCookies", "params": {} });
        let mut reply = self.post("/goog/cdp/execute", command).await;
        serde_json::from_value(reply["cookies"].take()).expect("cookies as the browser describes them")
    }

    /// Removes the cookies of this host whose names contain `kind`.
    pub async fn forget_cookies(&self, host: &str, kind: &str) {
        let cookies = self.cookies().await.into_iter();
        for cookie in cookies.filter(|cookie| cookie.domain == host && cookie.name.contains(kind)) {
            let params = json!({ "name": cookie.name, "domain": host, "path": cookie.path });
            let command = json!({ "cmd": "Network.deleteCookies", "params": params });
            self.post("/goog/cdp/execute", command).await;
        }
    }

    /// Shows pages as a device of this width does, in a dark or a light scheme.
    pub async fn becomes(&self, width: u32, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (name, params) in [
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setEmulatedMedia", media),
        ] {
            let command = json!({ "cmd": name, "params": params });
            self.post("/goog/cdp/execute", command).await;
        }
    }

    /// Saves a picture of the page as `target/screenshots/<name>.png`.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        use base64::prelude::{BASE64_STANDARD, Engine};

        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("it is target/tmp");
        let path = target.join("screenshots").join(name).with_extension("png");
        let png = BASE64_STANDARD
            .decode(string(self.get("/screenshot").await))
            .expect("base64");
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("a writable target");
        fs::write(&path, png).expect("a writable target");
        path
    }

    /// Waits until the address is one that `expected` accepts, and returns it.
    pub async fn wait_for_url(&self, expected: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let url = self.current_url().await;
            if expected(&url) {
                return url;
            }
            if started.elapsed() > DEADLINE {
                panic!("still at {url}:\n{}", self.source().await);
            }
            sleep(POLL).await;
        }
    }

    /// One command on the first element that matches, found anew for as long as the page changes.
    async fn on_element(&self, css: &str, method: Method, command: &str, body: Value) -> Value {
        let started = Instant::now();
        loop {
            let error = match self.find(css).await {
                Ok(id) => {
                    let path = format!("{}/element/{id}/{command}", self.session);
                    match self.try_call(method.clone(), &path, body.clone()).await {
                        Ok(value) => return value,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if started.elapsed() > DEADLINE {
                let (url, source) = (self.current_url().await, self.source().await);
                panic!("cannot {command} `{css}` at {url}: {error}\n{source}");
            }
            sleep(POLL).await;
        }
    }

    async fn find(&self, css: &str) -> Result<String, Value> {
        let query = json!({ "using": "css selector", "value": css });
        let path = format!("{}/element", self.session);
        let mut found = self.try_call(Method::POST, &path, query).await?;
        Ok(string(found[ELEMENT].take()))
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, &format!("{}{path}", self.session), Value::Null)
            .await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, &format!("{}{path}", self.session), body).await
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let reply = self.try_call(method, path, body).await;
        reply.unwrap_or_else(|error| panic!("the browser refused {path}: {error}"))
    }

    /// One WebDriver command: its value, or the error that the driver describes (§6.6).
    async fn try_call(&self, method: Method, path: &str, body: Value) -> Result<Value, Value> {
        let mut request = self
            .http
            .request(method, format!("http://127.0.0.1:{}{path}", self.port));
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let reply = request.send().await.expect("chromedriver answers");
        let succeeded = reply.status().is_success();
        let body = reply.bytes().await.expect("chromedriver answers");
        let mut body: Value = serde_json::from_slice(&body).expect("chromedriver answers JSON");
        if succeeded {
            Ok(body["value"].take())
        } else {
            Err(body["value"]["message"].take())
        }
    }
}

impl Drop for Browser {
    /// Lets Chromium quit by itself, which leaves nothing behind; what still runs then is killed.
    fn drop(&mut self) {
        if let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = driver.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = write!(
                driver,
                "DELETE {} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = driver.read(&mut [0; 64]);
        }
        drop(self.driver.stdin.take());
        let _ = self.driver.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// Reads where `chromedriver` listens, and goes on reading, so that its pipe never fills up.
fn announced_port(stdout: ChildStdout) -> u16 {
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port = lines
        .find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        })
        .expect("chromedriver did not start: `scripts/interop` installs what these tests need");
    std::thread::spawn(move || lines.for_each(drop));
    port
}

fn string(value: Value) -> String {
    match value {
        Value::String(string) => string,
        other => panic!("a string was expected from the browser, not {other}"),
    }
}
