//! An API that accepts bound tokens, and a client that proves its key.

use rocket::{
    Build, Rocket, get,
    http::{Header, Method},
    local::asynchronous::{Client, LocalRequest},
    post, routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, BoundBearer, Caller, Clock, Oidc};

use crate::{
    bearer::app::NotesRead,
    common::{App, Log, NOW},
    support::{
        JwtParts, SigningKey, TestProvider, TestStore,
        keys::{random, sha256_base64url},
    },
};

pub const BASE_URL: &str = "https://api.example.com";
pub const ALGS: &str = "algs=\"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519\"";
pub const METADATA: &str = "resource_metadata=\"https://api.example.com/.well-known/oauth-protected-resource\"";

/// An API at `https://api.example.com`.
pub struct Api {
    pub client: Client,
    pub provider: TestProvider,
    pub clock: Clock,
    pub log: Log,
}

/// What a caller sees.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub challenges: Vec<String>,
    pub nonce: Option<String>,
    pub retry_after: Option<String>,
    pub exposed: Vec<String>,
    pub cache_control: Option<String>,
    pub body: String,
}

impl Answer {
    pub async fn to(request: LocalRequest<'_>) -> Answer {
        let response = request.dispatch().await;
        let all = |name: &str| response.headers().get(name).map(str::to_owned).collect::<Vec<_>>();
        Answer {
            status: response.status().code,
            challenges: all("WWW-Authenticate"),
            nonce: all("DPoP-Nonce").pop(),
            retry_after: all("Retry-After").pop(),
            exposed: all("Access-Control-Expose-Headers"),
            cache_control: all("Cache-Control").pop(),
            body: response.into_string().await.unwrap_or_default(),
        }
    }

    /// Asserts a refusal of the scheme `DPoP`, with `Bearer` offered beside it.
    #[track_caller]
    pub fn is_refused(&self, error: &str, description: &str) {
        let expected = [
            format!("DPoP realm=\"api\", error=\"{error}\", error_description=\"{description}\", {METADATA}, {ALGS}"),
            format!("Bearer realm=\"api\", {METADATA}"),
        ];
        assert_eq!((self.status, &self.challenges[..]), (401, &expected[..]));
    }

    #[track_caller]
    pub fn is_accepted(&self) {
        assert_eq!((self.status, &*self.body), (200, "alice"), "{self:#?}");
        assert_eq!(self.challenges, [""; 0]);
    }
}

impl Api {
    /// Accepts tokens for [`TestProvider::API`], bound or not.
    pub async fn open() -> Api {
        Api::with(json!({})).await
    }

    /// With further settings.
    pub async fn with(settings: Value) -> Api {
        Api::launch(TestProvider::start().await, settings, None).await
    }

    pub async fn launch(provider: TestProvider, settings: Value, store: Option<&TestStore>) -> Api {
        let clock = Clock::fixed_at(NOW);
        let log = Log::listen();
        let client = Client::untracked(rocket(&provider, settings, &clock, store)).await;
        Api {
            client: client.expect("the API launches"),
            provider,
            clock,
            log,
        }
    }

    /// A token that is bound to the client's key.
    pub fn token(&self) -> String {
        bound_token(&self.provider, &SigningKey::Ec)
    }

    /// Sends a token of this scheme, with these proofs.
    pub async fn send(&self, method: Method, path: &str, authorization: &str, proofs: &[&str]) -> Answer {
        let mut request = self.client.req(method, path.to_owned());
        request.add_header(Header::new("Authorization", authorization.to_owned()));
        for proof in proofs {
            request.add_header(Header::new("DPoP", (*proof).to_owned()));
        }
        Answer::to(request).await
    }

    /// Sends a bound token with a proof for `GET {path}`, changed in one way.
    pub async fn prove(&self, path: &str, token: &str, change: impl FnOnce(&mut JwtParts)) -> Answer {
        let mut parts = proof(&format!("{BASE_URL}{path}"), token);
        change(&mut parts);
        let dpop = format!("DPoP {token}");
        self.send(Method::Get, path, &dpop, &[&parts.compact()]).await
    }

    /// Asserts that no line of the log has one of these texts, or a part of one.
    #[track_caller]
    pub fn logs_none_of(&self, secrets: &[&str]) {
        for line in self.log.all_lines() {
            for part in secrets.iter().flat_map(|secret| secret.split('.')) {
                assert!(part.len() < 8 || !line.contains(part), "{line}");
            }
        }
    }
}

/// The RFC 7638 thumbprint of a key.
pub fn thumbprint(key: &SigningKey) -> String {
    let jwk = key.jwk();
    let text = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
    let members = match &*text("kty") {
        "EC" => format!(
            r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
            text("crv"),
            text("x"),
            text("y")
        ),
        "OKP" => format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, text("crv"), text("x")),
        _ => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text("e"), text("n")),
    };
    sha256_base64url(&members)
}

/// A token of alice that is bound to this key.
pub fn bound_token(provider: &TestProvider, key: &SigningKey) -> String {
    provider.access_token("notes:read", |token| {
        token.set("sub", "alice");
        token.set("cnf", json!({ "jkt": thumbprint(key) }));
    })
}

/// A good proof for `GET` of this URL with this token, by the client's key.
pub fn proof(url: &str, token: &str) -> JwtParts {
    proof_by(SigningKey::Ec, url, token)
}

pub fn proof_by(key: SigningKey, url: &str, token: &str) -> JwtParts {
    let claims = json!({
        "jti": random("proof-"), "htm": "GET", "htu": url, "iat": NOW, "ath": sha256_base64url(token),
    });
    let mut parts = JwtParts::new(claims, key.clone());
    parts.remove_header("kid");
    parts.set_header("typ", "dpop+jwt");
    parts.set_header("jwk", key.jwk());
    parts
}

/// The API, to be launched; with a store, a node of several.
pub fn rocket(provider: &TestProvider, settings: Value, clock: &Clock, store: Option<&TestStore>) -> Rocket<Build> {
    provider.set_time(NOW);
    let app = App::client(provider)
        .with("oidc.audience", TestProvider::API)
        .with("oidc.base_url", BASE_URL)
        .with("oidc.dpop_tokens", "accepted");
    let fairing = Oidc::fairing().clock(clock.clone());
    let fairing = match store {
        Some(store) => fairing.session_store(store.clone()),
        None => fairing,
    };
    rocket::custom(app.with_all(settings).figment()).attach(fairing).mount(
        "/",
        routes![notes, write, bound, either, twice, optional, scoped, plain],
    )
}

fn subject<C>(token: &Bearer<NotesRead, C>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/notes")]
fn notes(token: Bearer<NotesRead>) -> String {
    subject(&token)
}

#[post("/notes")]
fn write(token: Bearer<NotesRead>) -> String {
    subject(&token)
}

#[get("/bound")]
fn bound(token: BoundBearer<NotesRead>) -> String {
    subject(&token)
}

#[get("/either")]
fn either(caller: Caller<NotesRead>) -> String {
    caller.subject().unwrap_or_default().to_owned()
}

#[get("/twice")]
fn twice(first: Option<BoundBearer>, second: Bearer<NotesRead>) -> String {
    assert!(first.is_some_and(|first| first.subject().is_some()));
    subject(&second)
}

#[get("/optional")]
fn optional(token: Option<Bearer>) -> String {
    token.map_or_else(
        || "nobody".to_owned(),
        |token| token.subject().unwrap_or_default().to_owned(),
    )
}

rocket_openidconnect::scopes! { NotesAdmin = "notes:admin"; }

#[get("/scoped")]
fn scoped(token: Bearer<NotesAdmin>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/plain")]
fn plain() -> &'static str {
    "plain"
}
