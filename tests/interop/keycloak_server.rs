//! A real Keycloak, one for all tests of a run, in which each test has a realm of its own.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Method, Response};
use rocket::tokio::{sync::OnceCell, time::sleep};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    example::{Example, free_port},
    tool::Tool,
};

/// The clients of `keycloak/realm.json`, each with its secret.
pub const APP: [&str; 2] = ["app", "app-secret"];
pub const APP_WITH_KEY: &str = "app-with-key";
pub const ROBOT: [&str; 2] = ["robot", "robot-secret"];
pub const NOTES_API: [&str; 2] = ["notes-api", "notes-api-secret"];

const REALM: &str = include_str!("keycloak/realm.json");
const ADMINISTRATOR: &str = "administrator";

/// The server, which ends with this process.
struct Keycloak {
    port: u16,
    /// Its process group ends when its standard input closes, so that a killed test leaves none behind.
    _process: Child,
}

impl Keycloak {
    /// The one of this process, started when it is first asked for: that takes longer than all that follows.
    async fn get() -> &'static Keycloak {
        static KEYCLOAK: OnceCell<Keycloak> = OnceCell::const_new();
        KEYCLOAK.get_or_init(Keycloak::start).await
    }

    async fn start() -> Keycloak {
        let begun = Instant::now();
        let port = free_port();
        let mut process = Command::new("sh")
            .args([
                "-c",
                "sh bin/kc.sh start-dev </dev/null & exec >/dev/null; cat; kill -KILL 0",
            ])
            .current_dir(installed())
            .process_group(0)
            .envs([
                ("KC_HTTP_HOST", "127.0.0.1"),
                ("KC_HTTP_PORT", &*port.to_string()),
                ("KC_DB", "dev-mem"),
                ("KC_CACHE", "local"),
                ("KC_BOOTSTRAP_ADMIN_USERNAME", ADMINISTRATOR),
                ("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMINISTRATOR),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`sh` starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let mut log = String::new();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| {
            log.push_str(&line);
            log.push('\n');
            line.contains("Listening on: http://")
        });
        assert!(is_ready, "Keycloak did not start:\n{log}");
        println!("Keycloak started in {} s", begun.elapsed().as_secs());
        std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            lines.for_each(|line| eprintln!("keycloak: {line}"));
        });
        Keycloak {
            port,
            _process: process,
        }
    }
}

/// Where `scripts/interop` has put it.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let directory = target.expect("it is target/tmp").join("keycloak/server");
    assert!(
        directory.is_dir(),
        "Keycloak is not installed: `scripts/interop` installs what these tests need"
    );
    directory
}

/// A realm as `keycloak/realm.json` describes it, for an app on a port of its own.
pub struct Realm {
    issuer: String,
    admin: String,
    server: String,
    app_port: u16,
}

impl Realm {
    pub async fn new(name: &str) -> Realm {
        Realm::changed(name, |_| {}).await
    }

    /// One that differs from the file.
    pub async fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Realm {
        let server = format!("http://127.0.0.1:{}", Keycloak::get().await.port);
        let realm = Realm {
            issuer: format!("{server}/realms/{name}"),
            admin: format!("{server}/admin/realms"),
            server,
            app_port: free_port(),
        };
        let text = REALM
            .replace("http://localhost:8000", &realm.app_url())
            .replace("interop", name);
        let mut document = serde_json::from_str(&text).expect("it is JSON");
        change(&mut document);
        realm.admin(Method::POST, "", document).await;
        Realm {
            admin: format!("{}/{name}", realm.admin),
            ..realm
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn app_port(&self) -> u16 {
        self.app_port
    }

    /// Where the clients of the realm have the app.
    pub fn app_url(&self) -> String {
        format!("http://localhost:{}", self.app_port)
    }

    /// An example at that address, as this client.
    pub fn start(&self, example: &str, client: [&str; 2], more: &[(&str, &str)]) -> Example {
        let [client_id, client_secret] = client;
        let environment = [
            ("OIDC_ISSUER", self.issuer()),
            ("OIDC_CLIENT_ID", client_id),
            ("OIDC_CLIENT_SECRET", client_secret),
            ("OIDC_SCOPES", "openid profile email"),
        ];
        let environment = [&environment[..], more].concat();
        Example::start(example, self.app_port, &environment)
    }

    /// The command-line tool with the settings of an app that is this client.
    pub fn tool(&self, client: [&str; 2]) -> Tool {
        let [client_id, client_secret] = client;
        let mut tool = Tool::new();
        tool.env("ROCKET_PORT", self.app_port.to_string())
            .env("OIDC_ISSUER", self.issuer())
            .env("OIDC_CLIENT_ID", client_id)
            .env("OIDC_CLIENT_SECRET", client_secret);
        tool
    }

    /// A call of the administrator's: the JSON of the answer.
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        self.call(method, path, body).await.1
    }

    /// Another one: the id of what it made, and the answer.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> (Value, Value) {
        let token = self.administrators_token().await;
        let url = format!("{}{path}", self.admin);
        let request = crate::patience::client()
            .request(method.clone(), &url)
            .bearer_auth(token);
        let request = match body {
            Value::Null => request,
            body => request
                .header("Content-Type", "application/json")
                .body(body.to_string()),
        };
        let answer = request.send().await.expect("Keycloak answers");
        let (status, made) = (answer.status(), id_of_location(&answer));
        let text = answer.text().await.expect("Keycloak answers");
        assert!(status.is_success(), "{method} {url}: {status} {text}");
        (
            made.unwrap_or_default(),
            serde_json::from_str(&text).unwrap_or_default(),
        )
    }

    async fn administrators_token(&self) -> String {
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.server);
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMINISTRATOR),
            ("password", ADMINISTRATOR),
        ];
        let reply = post(&url, &form).await;
        reply["access_token"].as_str().expect("a token").to_owned()
    }

    /// The token endpoint's answer to this client.
    pub async fn token(&self, client: [&str; 2], form: &[(&str, &str)]) -> Value {
        let [client_id, client_secret] = client;
        let client = [("client_id", client_id), ("client_secret", client_secret)];
        let url = format!("{}/protocol/openid-connect/token", self.issuer);
        post(&url, &[&client[..], form].concat()).await
    }

    /// Tokens of alice for the app, without a browser.
    pub async fn tokens_of_alice(&self, scope: &str) -> Value {
        let form = [
            ("grant_type", "password"),
            ("username", "alice"),
            ("password", "alice-password"),
            ("scope", scope),
        ];
        self.token(APP, &form).await
    }

    /// A client of the realm, or `null`.
    pub async fn client(&self, client_id: &str) -> Value {
        let path = format!("/clients?clientId={client_id}");
        let found = self.admin(Method::GET, &path, Value::Null).await;
        found.get(0).cloned().unwrap_or_default()
    }

    pub async fn change_client(&self, client_id: &str, change: impl FnOnce(&mut Value)) {
        let mut client = self.client(client_id).await;
        let path = format!("/clients/{}", text(&client["id"]));
        change(&mut client);
        self.admin(Method::PUT, &path, client).await;
    }

    /// A scope that these clients may ask for, with an audience in the access token.
    pub async fn add_scope(&self, name: &str, audience: Value, clients: &[&str]) {
        let mut config = json!({ "access.token.claim": "true", "introspection.token.claim": "true" });
        let members = audience.as_object().expect("it is an object").clone();
        config.as_object_mut().expect("it is one").extend(members);
        let scope = json!({
            "name": name,
            "protocol": "openid-connect",
            "attributes": { "include.in.token.scope": "true" },
            "protocolMappers": [{
                "name": "audience",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": config,
            }],
        });
        let (id, _) = self.call(Method::POST, "/client-scopes", scope).await;
        for client in clients {
            let client = self.client(client).await;
            let (client, scope) = (text(&client["id"]), text(&id));
            let path = format!("/clients/{client}/optional-client-scopes/{scope}");
            self.admin(Method::PUT, &path, json!({})).await;
        }
    }

    /// A further key, which signs from now on.
    pub async fn rotate_key(&self, priority: u32) {
        let realm = self.admin(Method::GET, "", Value::Null).await;
        let provider = json!({
            "name": format!("key-{priority}"),
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": { "priority": [priority.to_string()], "algorithm": ["RS256"] },
        });
        self.admin(Method::POST, "/components", provider).await;
    }

    pub async fn user(&self, name: &str) -> Value {
        let path = format!("/users?exact=true&username={name}");
        self.admin(Method::GET, &path, Value::Null).await[0].take()
    }

    /// How many sessions somebody has at Keycloak.
    pub async fn sessions(&self, name: &str) -> usize {
        let path = format!("/users/{}/sessions", text(&self.user(name).await["id"]));
        let sessions = self.admin(Method::GET, &path, Value::Null).await;
        sessions.as_array().expect("they are a list").len()
    }

    /// Waits until it is so many.
    pub async fn has_sessions(&self, name: &str, expected: usize) {
        let begun = Instant::now();
        loop {
            let sessions = self.sessions(name).await;
            if sessions == expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{sessions} sessions");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fills in the page that `browser` has open.
    pub async fn fill_in(&self, browser: &Browser, user: &str) {
        let is_asked = |url: &str| url.starts_with(&self.issuer);
        browser.wait_for_url(is_asked).await;
        browser.fill("#username", user).await;
        browser.fill("#password", &format!("{user}-password")).await;
        browser.click("#kc-login").await;
    }
}

/// The last part of where a thing is that was made.
fn id_of_location(answer: &Response) -> Option<Value> {
    let location = answer.headers().get("Location")?.to_str().ok()?;
    location.rsplit('/').next().map(Value::from)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

async fn post(url: &str, form: &[(&str, &str)]) -> Value {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let answer = crate::patience::client()
        .post(url)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .expect("Keycloak answers");
    let text = answer.text().await.expect("Keycloak answers");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
