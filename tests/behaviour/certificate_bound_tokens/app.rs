//! An API that accepts tokens that are bound to a certificate, and a client that has it.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::{
    Build, Rocket, get,
    http::Header,
    local::asynchronous::{Client, LocalRequest},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, BearerError, BoundBearer, Clock, Oidc};

use crate::{
    bearer::app::NotesRead,
    common::{App, Log, NOW},
    support::{TestProvider, keys::base64url},
};

pub const CLIENT: &str = include_str!("client.pem");
pub const OTHER: &str = include_str!("other.pem");
pub const PROXY: &str = "10.0.0.5";
pub const FORMATS: [&str; 3] = ["rfc9440", "nginx", "envoy"];

/// An API behind a proxy at [`PROXY`].
pub struct Api {
    pub client: Client,
    pub provider: TestProvider,
    pub log: Log,
    pub header: &'static str,
}

/// What a caller sees, and the reason code of a refusal.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub challenges: Vec<String>,
    pub reason: Option<String>,
}

impl Api {
    pub async fn open(format: &str) -> Api {
        Api::with(format, json!({})).await
    }

    pub async fn with(format: &str, settings: Value) -> Api {
        let provider = TestProvider::start().await;
        let log = Log::listen();
        let mut own = json!({ "client_certificate": { "format": format, "proxies": ["10.0.0.0/24", "::1"] } });
        for (name, value) in settings.as_object().unwrap() {
            own[name] = value.clone();
        }
        let client = Client::untracked(rocket(&provider, own)).await;
        Api {
            client: client.expect("the API launches"),
            provider,
            log,
            header: match format {
                "rfc9440" => "Client-Cert",
                "nginx" => "X-SSL-Client-Cert",
                _ => "X-Forwarded-Client-Cert",
            },
        }
    }

    /// A token of alice with this `cnf`.
    pub fn token(&self, cnf: Value) -> String {
        self.provider.access_token("notes:read", |token| {
            token.set("sub", "alice");
            if !cnf.is_null() {
                token.set("cnf", cnf);
            }
        })
    }

    /// A token that is bound to the certificate of the client.
    pub fn bound_token(&self) -> String {
        self.token(json!({ "x5t#S256": thumbprint(CLIENT) }))
    }

    /// Sends a token to `/notes` through the proxy, with these values of the header.
    pub async fn send(&self, token: &str, values: &[&str]) -> Answer {
        self.send_from(PROXY, "/notes", token, values).await
    }

    pub async fn send_from(&self, peer: &str, path: &str, token: &str, values: &[&str]) -> Answer {
        let mut request = self.client.get(path.to_owned());
        if let Ok(peer) = peer.parse::<IpAddr>() {
            request = request.remote(SocketAddr::new(peer, 40_000));
        }
        request.add_header(Header::new("Authorization", format!("Bearer {token}")));
        for value in values {
            request.add_header(Header::new(self.header, (*value).to_owned()));
        }
        Answer::to(request).await
    }
}

impl Answer {
    pub async fn to(request: LocalRequest<'_>) -> Answer {
        let response = request.dispatch().await;
        let challenges = response.headers().get("WWW-Authenticate").map(str::to_owned).collect();
        let reason = response.headers().get_one("X-Reason").map(str::to_owned);
        Answer {
            status: response.status().code,
            challenges,
            reason,
        }
    }

    #[track_caller]
    pub fn is_accepted(&self) {
        assert_eq!((self.status, self.reason.as_deref()), (200, None), "{self:?}");
    }

    #[track_caller]
    pub fn is_refused(&self, status: u16, reason: &str, why: &str) {
        assert_eq!(
            (self.status, self.reason.as_deref()),
            (status, Some(reason)),
            "{why}: {self:?}"
        );
        let code = if status == 400 {
            "invalid_request"
        } else {
            "invalid_token"
        };
        let expected = format!("error=\"{code}\"");
        assert!(
            self.challenges.iter().any(|it| it.contains(&expected)),
            "{why}: {self:?}"
        );
    }
}

/// The header of a proxy in this format.
pub fn header(format: &str, pem: &str) -> String {
    match format {
        "rfc9440" => format!(":{}:", base64(pem)),
        "nginx" => url_encoded(pem),
        _ => format!(
            "Hash={};Cert=\"{}\";Subject=\"CN=client\";URI=",
            hash(pem),
            url_encoded(pem)
        ),
    }
}

/// The base64 of a certificate, on one line.
pub fn base64(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

pub fn url_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn digest_of(pem: &str) -> Vec<u8> {
    let der = STANDARD.decode(base64(pem)).expect("a certificate in PEM");
    digest::digest(&digest::SHA256, &der).as_ref().to_vec()
}

pub fn hash(pem: &str) -> String {
    digest_of(pem).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn thumbprint(pem: &str) -> String {
    base64url(digest_of(pem))
}

pub fn rocket(provider: &TestProvider, settings: Value) -> Rocket<Build> {
    provider.set_time(NOW);
    let app = App::client(provider)
        .with("oidc.audience", TestProvider::API)
        .with("oidc.base_url", "https://api.example.com");
    let mut settings = settings;
    let has_tls = settings
        .as_object_mut()
        .and_then(|it| it.remove("rocket_tls"))
        .is_some();
    let mut figment = app.with_all(settings).figment();
    if has_tls {
        // No file is read: a local client has no socket.
        figment = figment.merge((
            "tls",
            json!({ "certs": "a", "key": "b", "mutual": { "ca_certs": "c" } }),
        ));
    }
    rocket::custom(figment)
        .attach(Oidc::fairing().clock(Clock::fixed_at(NOW)))
        .attach(reasons())
        .mount("/", routes![notes, bound, optional])
}

/// Reports the reason code of a refusal in a header.
pub fn reasons() -> rocket::fairing::AdHoc {
    rocket::fairing::AdHoc::on_response("reasons", |request, response| {
        Box::pin(async move {
            if let Some(error) = BearerError::of(request) {
                response.set_raw_header("X-Reason", error.reason());
            }
        })
    })
}

#[get("/notes")]
pub fn notes(token: Bearer<NotesRead>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/bound")]
fn bound(token: BoundBearer<NotesRead>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/optional")]
fn optional(token: Option<Bearer>) -> String {
    token.map_or_else(|| "nobody".to_owned(), |it| it.subject().unwrap_or_default().to_owned())
}
