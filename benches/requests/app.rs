//! The app whose requests are counted, and the requests.

use std::sync::Arc;

use rocket::{
    Build, Config, Request, Rocket,
    figment::Figment,
    get,
    http::Status,
    local::asynchronous::Client,
    request::{FromRequest, Outcome},
    routes,
};
use rocket_openidconnect::{Bearer, LoggedIn, Oidc, scopes};
use serde_json::json;

use crate::issuer::{AUDIENCE, Issuer, now};

scopes! { NotesRead = "notes:read"; }

#[get("/plain")]
fn plain() -> &'static str {
    "hello"
}

#[get("/api")]
fn api(token: Bearer<NotesRead>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

/// What a guard costs that only refuses: the least that any refusal can.
#[derive(Debug)]
struct Refused;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Refused {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Refused, ()> {
        Outcome::Error((Status::Unauthorized, ()))
    }
}

#[get("/refused")]
fn refused(_refused: Refused) {}

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

/// Which server answers a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Without the fairing.
    Bare,
    /// With it, and with a token cache of so many entries.
    Attached { token_cache: u32 },
}

impl Server {
    pub const ALL: [Server; 3] = [
        Server::Bare,
        Server::Attached {
            token_cache: 10_000,
        },
        Server::Attached { token_cache: 0 },
    ];

    pub fn rocket(self, issuer: &Issuer) -> Rocket<Build> {
        let figment = Figment::from(Config::release_default())
            .merge(("log_level", "off"))
            .merge(("workers", 1))
            .merge(("port", 0))
            .merge(("secret_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
            .merge(("shutdown.ctrlc", false));
        match self {
            Server::Bare => rocket::custom(figment).mount("/", routes![plain, refused]),
            Server::Attached { token_cache } => {
                let settings = json!({
                    "issuer": issuer.url,
                    "client_id": "client",
                    "base_url": "http://localhost:8000",
                    "audience": AUDIENCE,
                    "token_cache": token_cache,
                    "http": { "max_body": 1024 * 1024 },
                });
                rocket::custom(figment.merge(("oidc", settings)))
                    .attach(Oidc::fairing())
                    .mount("/", routes![plain, api, me])
            }
        }
    }
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub server: Server,
    pub path: &'static str,
    pub header: Option<(&'static str, String)>,
    pub status: u16,
}

/// All of them; the first is what the others are compared with.
pub async fn cases(issuer: &Arc<Issuer>) -> Vec<Case> {
    let [bare, cached, uncached] = Server::ALL;
    let case = |name, server, path, header, status| Case {
        name,
        server,
        path,
        header,
        status,
    };
    let bearer = |token: String| Some(("Authorization", format!("Bearer {token}")));
    let claims = issuer.claims(0);
    let (rs256, es256, eddsa) = (
        issuer.rs256(&claims),
        issuer.es256(&claims),
        issuer.eddsa(&claims),
    );
    let mut old = claims.clone();
    old["exp"] = json!(now() - 3600);
    let expired = issuer.rs256(&old);
    let forged = format!("{}AAAA", &rs256[..rs256.len() - 4]);

    let mut cases = vec![
        case("plain", bare, "/plain", None, 200),
        case("unguarded, fairing attached", cached, "/plain", None, 200),
        case(
            "token seen before",
            cached,
            "/api",
            bearer(rs256.clone()),
            200,
        ),
        case("RS256 first seen", uncached, "/api", bearer(rs256), 200),
        case("ES256 first seen", uncached, "/api", bearer(es256), 200),
        case("EdDSA first seen", uncached, "/api", bearer(eddsa), 200),
        case("refused without a reason", bare, "/refused", None, 401),
        case("no token", cached, "/api", None, 401),
        case("malformed", cached, "/api", bearer("a.b".into()), 401),
        case("expired", cached, "/api", bearer(expired), 401),
        case("bad signature", cached, "/api", bearer(forged), 401),
    ];
    for (name, size) in [
        ("session of 0.5 KB", 100),
        ("session of 2 KB", 1_600),
        ("session of 3.5 KB", 3_100),
    ] {
        let cookies = session(issuer, size).await;
        cases.push(case(name, cached, "/me", Some(("Cookie", cookies)), 200));
    }
    cases
}

/// Signs in with claims of this size, and answers the session's cookies.
async fn session(issuer: &Issuer, size: usize) -> String {
    let rocket = Server::Attached { token_cache: 0 }.rocket(issuer);
    let client = Client::tracked(rocket).await.unwrap();
    let login = client.get("/oidc/login?next=/me").dispatch().await;
    let location = login.headers().get_one("Location").unwrap().to_owned();
    let request = url::Url::parse(&location).unwrap();
    let parameter = |name: &str| {
        let mut pairs = request.query_pairs();
        pairs.find(|(n, _)| n == name).unwrap().1.into_owned()
    };
    let (state, nonce) = (parameter("state"), parameter("nonce"));
    let callback = format!("/oidc/authorize?code={nonce}.{size}&state={state}");
    let answer = client.get(callback).dispatch().await;
    assert_eq!(answer.status().code, 303);
    let jar = client.cookies();
    let pairs: Vec<String> = jar
        .iter()
        .filter(|cookie| cookie.name().contains("oidc_session"))
        .map(|cookie| format!("{}={}", cookie.name(), cookie.value()))
        .collect();
    pairs.join("; ")
}
