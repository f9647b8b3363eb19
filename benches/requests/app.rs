//! The app whose requests are counted, and the requests.

use std::{fmt::Display, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::{Build, Config, Rocket, figment::Figment, get, routes};
use rocket_openidconnect::{__private::SessionCookies, Bearer, LoggedIn, Oidc, scopes};
use serde_json::{Value, json};

use crate::{
    floor,
    issuer::{AUDIENCE, Issuer, now},
    proof::Prover,
};

/// So many times a session is encrypted, for a server that has not seen what a request carries.
const SEALED: usize = 500;
/// The public URL of the app.
pub const BASE_URL: &str = "http://localhost:8000";
const SECRET_KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

scopes! { NotesRead = "notes:read"; }

#[get("/plain")]
fn plain() -> &'static str {
    "hello"
}

#[get("/api")]
fn api(token: Bearer<NotesRead>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

/// Which server answers a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Without the fairing.
    Bare,
    /// Without it, and with what no guard can do without.
    Floor,
    /// With it, and with a token cache of so many entries.
    Attached { token_cache: u32 },
    /// With it, a token cache, and proofs of possession.
    Bound,
    /// With it, and with sessions in cookies that it remembers one of.
    Forgetful,
    /// With it, and with sessions in memory.
    Memory,
}

impl Server {
    pub const ALL: [Server; 7] = [
        Server::Bare,
        Server::Floor,
        Server::Attached { token_cache: 10_000 },
        Server::Attached { token_cache: 0 },
        Server::Bound,
        Server::Forgetful,
        Server::Memory,
    ];

    /// At the issuer with this address.
    pub fn rocket(self, issuer: &str) -> Rocket<Build> {
        let (token_cache, store, sessions) = match self {
            Server::Bare => return rocket::custom(figment()).mount("/", routes![plain]),
            Server::Floor => return floor::routes(rocket::custom(figment())),
            Server::Attached { token_cache } => (token_cache, "cookie", 10_000),
            Server::Bound => (10_000, "cookie", 10_000),
            Server::Forgetful => (0, "cookie", 1),
            Server::Memory => (0, "memory", 10_000),
        };
        let session = json!({ "store": store, "cache": sessions, "max_sessions": 2_000_000 });
        let dpop_tokens = if self == Server::Bound { "accepted" } else { "off" };
        attached(issuer, token_cache, dpop_tokens, &session)
    }
}

/// An app with the fairing, and with sessions in the store at this URL.
pub fn with_store(url: &str, issuer: &str) -> Rocket<Build> {
    let store = if url.starts_with("postgres") { "sql" } else { "redis" };
    attached(issuer, 0, "off", &json!({ "store": store, "store_url": url }))
}

fn attached(issuer: &str, token_cache: u32, dpop_tokens: &str, session: &Value) -> Rocket<Build> {
    let settings = json!({
        "issuer": issuer,
        "client_id": "client",
        "base_url": BASE_URL,
        "dpop_tokens": dpop_tokens,
        "audience": AUDIENCE,
        "token_cache": token_cache,
        "session": session,
        "http": { "max_body": 1024 * 1024 },
    });
    rocket::custom(figment().merge(("oidc", settings)))
        .attach(Oidc::fairing())
        .mount("/", routes![plain, api, me])
}

fn figment() -> Figment {
    Figment::from(Config::release_default())
        .merge(("log_level", "off"))
        .merge(("workers", 1))
        .merge(("port", 0))
        .merge(("secret_key", SECRET_KEY))
        .merge(("shutdown.ctrlc", false))
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub server: Server,
    pub path: &'static str,
    pub authorization: Option<String>,
    /// Each request has a proof by this key.
    pub prover: Option<Arc<Prover>>,
    /// The request of somebody who is signed in, with so many bytes of claims.
    pub session: Option<usize>,
    pub status: u16,
}

impl Case {
    /// What its requests carry in turns, somebody with these cookies having signed in.
    pub fn cookies(&self, signed_in: String, issuer: &str) -> Vec<String> {
        match self.server {
            Server::Forgetful => (0..SEALED).map(|_| encrypted_anew(&signed_in, issuer)).collect(),
            _ => vec![signed_in],
        }
    }
}

/// All of them; the first is what the others are compared with.
pub fn cases(issuer: &Issuer) -> Vec<Case> {
    let [bare, floor, cached, uncached, bound, forgetful, in_memory] = Server::ALL;
    let case = |name, server, path, authorization, status| Case {
        name,
        server,
        path,
        authorization,
        prover: None,
        session: None,
        status,
    };
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let claims = issuer.claims(0);
    let (rs256, es256, eddsa) = (issuer.rs256(&claims), issuer.es256(&claims), issuer.eddsa(&claims));
    let mut old = claims.clone();
    old["exp"] = json!(now() - 3600);
    let expired = issuer.rs256(&old);
    let forged = format!("{}AAAA", &rs256[..rs256.len() - 4]);

    let mut cases = vec![
        case("plain", bare, "/plain", None, 200),
        case("unguarded, fairing attached", cached, "/plain", None, 200),
        case("token seen before", cached, "/api", bearer(rs256.clone()), 200),
        case("RS256 first seen", uncached, "/api", bearer(rs256), 200),
        case("ES256 first seen", uncached, "/api", bearer(es256), 200),
        case("EdDSA first seen", uncached, "/api", bearer(eddsa), 200),
        case("RS256 signature alone", floor, "/signed/rs256", None, 200),
        case("ES256 signature alone", floor, "/signed/es256", None, 200),
        case("EdDSA signature alone", floor, "/signed/eddsa", None, 200),
        case("refusal alone", floor, "/refused", None, 401),
        case("refusal with a challenge alone", floor, "/challenged", None, 401),
        case("no token", cached, "/api", None, 401),
        case("malformed", cached, "/api", bearer("a.b".into()), 401),
        case("expired", cached, "/api", bearer(expired), 401),
        case("bad signature", cached, "/api", bearer(forged), 401),
    ];
    for (name, prover) in [
        ("ES256 proof, token seen before", Prover::es256()),
        ("EdDSA proof, token seen before", Prover::eddsa()),
    ] {
        let mut claims = claims.clone();
        claims["cnf"] = prover.confirmation();
        cases.push(Case {
            prover: Some(Arc::new(prover)),
            ..case(
                name,
                bound,
                "/api",
                Some(format!("DPoP {}", issuer.rs256(&claims))),
                200,
            )
        });
    }
    for (name, server, size) in [
        ("session of 0.5 KB first seen", forgetful, 100),
        ("session of 2 KB first seen", forgetful, 1_600),
        ("session of 3.5 KB first seen", forgetful, 3_100),
        ("session of 0.5 KB", cached, 100),
        ("session of 2 KB", cached, 1_600),
        ("session of 3.5 KB", cached, 3_100),
        ("session of 0.5 KB in memory", in_memory, 100),
        ("session of 2 KB in memory", in_memory, 1_600),
    ] {
        cases.push(Case {
            session: Some(size),
            ..case(name, server, "/me", None, 200)
        });
    }
    cases
}

/// Where the provider sends a browser that came to it by this address: to a sign-in with so many bytes of
/// claims, and after a dot, with access tokens that live for so many seconds, and after another, of this user.
pub fn callback(location: &str, size: impl Display) -> String {
    let request = url::Url::parse(location).unwrap();
    let parameter = |name: &str| {
        let mut pairs = request.query_pairs();
        pairs.find(|(n, _)| n == name).unwrap().1.into_owned()
    };
    let (state, nonce) = (parameter("state"), parameter("nonce"));
    format!("/oidc/authorize?code={nonce}.{size}&state={state}")
}

/// The same cookies, encrypted once more: another text, and the same session.
fn encrypted_anew(cookies: &str, issuer: &str) -> String {
    let keys = SessionCookies::new(&STANDARD.encode(SECRET_KEY), issuer, "client").unwrap();
    let pairs = cookies.split("; ").map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        if !name.starts_with("oidc_session") {
            return pair.to_owned();
        }
        let value = keys.encrypt_anew(value);
        format!("{name}={}", value.expect("a session in one cookie"))
    });
    pairs.collect::<Vec<_>>().join("; ")
}

/// The `Cookie` header of a browser that was sent these `Set-Cookie` headers.
pub fn cookies<'a>(set: impl IntoIterator<Item = &'a str>) -> String {
    let pairs = set.into_iter().filter_map(|cookie| cookie.split(';').next());
    let pairs: Vec<&str> = pairs.filter(|pair| !pair.ends_with('=')).collect();
    pairs.join("; ")
}
