//! `examples/notes` behind a real nginx: as it is when it was installed, and with the lines of the manual. The
//! provider is one of the tests' own that issues tokens as large as Keycloak's.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rocket::serde::json::{Value, json};

use crate::{
    example::{Example, free_port},
    keycloak_shape::{self, Lengths, Person},
    support::TestProvider,
    visitor::{Answer, Visitor},
};

const DEPLOYMENT: &str = include_str!("../../docs/manual/deployment.md");

/// Thirty-two bytes that are no secret.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Where browsers see the app.
const ORIGIN: &str = "https://app.example.com";

/// The lines that the manual gives for nginx.
fn lines_of_the_manual() -> &'static str {
    let (_, rest) = DEPLOYMENT
        .split_once("```nginx\n")
        .expect("the manual has lines for nginx");
    let (lines, _) = rest.split_once("```").expect("they end");
    lines
}

/// An nginx on a port of its own, before an app; gone when dropped.
pub struct Nginx {
    process: Child,
    directory: PathBuf,
}

impl Nginx {
    /// With these lines in its `server`, and nothing else that is not needed to run it.
    fn start(port: u16, app_port: u16, lines: &str) -> Nginx {
        let server =
            format!("listen 127.0.0.1:{port};\n{lines}\nlocation / {{ proxy_pass http://127.0.0.1:{app_port}; }}");
        Nginx::run(port, &server)
    }

    /// With TLS, a certificate that nobody trusts, and these lines in its `server`.
    pub fn start_with_tls(port: u16, lines: &str) -> Nginx {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{port}"));
        fs::create_dir_all(&directory).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-keyout", "key.pem", "-out", "certificate.pem"])
            .current_dir(&directory)
            .stderr(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "no certificate");
        let server = format!(
            "listen 127.0.0.1:{port} ssl;\nssl_certificate certificate.pem;\nssl_certificate_key key.pem;\n{lines}"
        );
        Nginx::run(port, &server)
    }

    pub fn run(port: u16, server: &str) -> Nginx {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{port}"));
        fs::create_dir_all(&directory).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};"))
            .join(" ");
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{}}\n\
             http {{\n access_log off; {temporary}\n\
             server {{\n{server}\n}}\n}}\n"
        );
        fs::write(directory.join("nginx.conf"), configuration).unwrap();
        // Debian has it where only the administrator looks.
        let path = std::env::var("PATH").unwrap_or_default();
        let process = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin"))
            .arg("-p")
            .arg(&directory)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdout(Stdio::null())
            .spawn()
            .expect("`nginx` is installed: `scripts/interop` installs it");
        let mut nginx = Nginx { process, directory };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = nginx.process.try_wait().unwrap().is_some();
            assert!(!has_ended, "nginx did not start: {}", nginx.log());
            assert!(begun.elapsed() < Duration::from_secs(10), "no nginx");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// What it complained of.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The app with its default settings, nginx before it, and the provider. What ends TLS is left out.
struct Site {
    provider: TestProvider,
    lengths: Lengths,
    port: u16,
    nginx: Nginx,
    _app: Example,
}

impl Site {
    async fn open(person: &Person, lines: &str) -> Site {
        let provider = TestProvider::start().await;
        let lengths = keycloak_shape::answer(&provider, person);
        let (port, app_port) = (free_port(), free_port());
        let environment = [
            ("ROCKET_PROFILE", "release"),
            ("ROCKET_SECRET_KEY", KEY),
            ("OIDC_ISSUER", &*provider.issuer()),
            ("OIDC_CLIENT_ID", "app"),
            ("OIDC_CLIENT_SECRET", "hush"),
            ("OIDC_BASE_URL", ORIGIN),
        ];
        Site {
            _app: Example::start("notes", app_port, &environment),
            nginx: Nginx::start(port, app_port, lines),
            provider,
            lengths,
            port,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From a page of the app to the answer of its callback.
    async fn callback(&self, visitor: &Visitor) -> Answer {
        let page = visitor.visit(&self.at("/me")).await;
        let login = page.location.expect("the way to sign-in");
        let login = visitor.visit(&self.at(&login)).await;
        let request = login.location.expect("the way to the provider");
        let callback = self.provider.authorize(&request);
        visitor.visit(&self.at(&callback.path_and_query())).await
    }

    /// Signs in, and answers how large the headers of the callback's answer were.
    async fn sign_in(&self, visitor: &Visitor) -> usize {
        let answer = self.callback(visitor).await;
        let log = self.nginx.log();
        assert_eq!(answer.status, 303, "{answer:?}\n{log}");
        assert_eq!(answer.location.as_deref(), Some("/me"));
        answer.header_bytes
    }

    async fn me(&self, visitor: &Visitor) -> Value {
        let answer = visitor.visit(&self.at("/me")).await;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.nginx.log());
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Signs out here and at the provider, and comes back.
    async fn sign_out(&self, visitor: &Visitor) {
        let answer = visitor.submit(&self.at("/oidc/logout")).await;
        let log = self.nginx.log();
        assert_eq!(answer.status, 303, "{answer:?}\n{log}");
        let location = answer.location.expect("the way to the provider");
        assert!(self.provider.is_end_session(&location), "{location}");
        let back = self.provider.end_session(&location).expect("a way back");
        let back = back.strip_prefix(ORIGIN).expect("an address of the app");
        let back = visitor.visit(&self.at(back)).await;
        assert_eq!(back.status, 303, "{back:?}");
        let answer = visitor.visit(&self.at("/me")).await;
        assert_eq!(answer.status, 303, "{answer:?}");
    }
}

#[rocket::async_test]
#[ignore = "needs nginx: run scripts/interop"]
async fn an_ordinary_user_signs_in_and_out_behind_an_untouched_nginx() {
    let site = Site::open(&Person::default(), "").await;
    let lengths = site.lengths;
    for (length, expected) in [
        (lengths.access_token, 1500),
        (lengths.refresh_token, 800),
        (lengths.id_token, 1050),
    ] {
        assert!(length.abs_diff(expected) <= 100, "{lengths:?}");
    }
    let visitor = Visitor::new();
    // A second time over a session that is there.
    for _ in 0..2 {
        let size = site.sign_in(&visitor).await;
        println!("an ordinary user: {lengths:?}, {size} bytes of headers");
        assert!(size < 4096, "{size} bytes of headers");
        assert_eq!(site.me(&visitor).await["email"], "alice@example.com");
        site.sign_out(&visitor).await;
    }
}

/// The refresh sets all cookies anew.
#[rocket::async_test]
#[ignore = "needs nginx: run scripts/interop"]
async fn an_ordinary_user_is_refreshed_behind_an_untouched_nginx_without_expires_in() {
    let site = Site::open(&Person::default(), "").await;
    site.provider.on_refresh_response(|reply| reply.remove("expires_in"));
    let visitor = Visitor::new();
    // Tokens of one second are the same there.
    let now = site.provider.now();
    site.provider.set_time(now - 2);
    site.sign_in(&visitor).await;
    site.provider.set_time(now);
    let before = visitor.session();
    let answer = visitor.submit(&site.at("/me/refresh")).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", site.nginx.log());
    assert!(answer.header_bytes < 4096, "{answer:?}");
    let changes: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(changes["new_access_token"], true);
    assert_ne!(visitor.session(), before);
    site.me(&visitor).await;
    assert_eq!(site.provider.count("/token"), 2);
}

fn large_people() -> [Person; 3] {
    [
        Person {
            groups: keycloak_shape::groups(600),
            roles: keycloak_shape::random_roles(300),
        },
        Person {
            groups: keycloak_shape::groups(600),
            ..Person::default()
        },
        Person {
            roles: keycloak_shape::random_roles(300),
            ..Person::default()
        },
    ]
}

#[rocket::async_test]
#[ignore = "needs nginx: run scripts/interop"]
async fn a_large_user_signs_in_behind_an_nginx_with_the_lines_of_the_manual() {
    for person in large_people() {
        let site = Site::open(&person, lines_of_the_manual()).await;
        let lengths = site.lengths;
        if !person.roles.is_empty() {
            assert!((11_000..13_000).contains(&lengths.access_token), "{lengths:?}");
        }
        if !person.groups.is_empty() {
            let size = json!(person.groups).to_string().len();
            assert!((12_000..12_300).contains(&size), "{size} bytes of groups");
        }
        let visitor = Visitor::new();
        for _ in 0..2 {
            let size = site.sign_in(&visitor).await;
            println!("a large user: {lengths:?}, {size} bytes of headers");
            let me = site.me(&visitor).await;
            if !person.groups.is_empty() {
                assert_eq!(me["claims"]["groups"], json!(person.groups));
            }
            site.sign_out(&visitor).await;
        }
    }
}

/// That the lines are needed: nginx is as strict as the manual says.
#[rocket::async_test]
#[ignore = "needs nginx: run scripts/interop"]
async fn a_large_user_does_not_sign_in_behind_an_untouched_nginx() {
    for person in large_people() {
        let site = Site::open(&person, "").await;
        let answer = site.callback(&Visitor::new()).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        let log = site.nginx.log();
        assert!(log.contains("upstream sent too big header"), "{log}");
    }
}
