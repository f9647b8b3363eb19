//! A small API behind `Bearer`, and a client that calls it.

use rocket::{
    Build, Rocket, catch, catchers, get,
    http::{Header, Status},
    local::asynchronous::{Client, LocalRequest},
    post, routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{AnyScope, Bearer, Caller, Clock, Oidc, scopes};
use serde::Deserialize;

use crate::{
    common::{App, Log, NOW},
    support::{JwtParts, TestProvider, case},
};

scopes! {
    pub NotesRead = "notes:read";
    NotesAdmin = "notes:read" & "notes:write" | "admin";
}

/// An API before a provider, with a client.
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
    pub challenge: Option<String>,
    pub retry_after: Option<String>,
    pub body: String,
}

impl Answer {
    pub async fn to(request: LocalRequest<'_>) -> Answer {
        let response = request.dispatch().await;
        let header = |name| {
            let mut values = response.headers().get(name);
            let value = values.next().map(str::to_owned);
            assert_eq!(values.next(), None, "{name} twice");
            value
        };
        Answer {
            status: response.status().code,
            challenge: header("WWW-Authenticate"),
            retry_after: header("Retry-After"),
            body: response.into_string().await.unwrap_or_default(),
        }
    }
}

impl Api {
    /// Accepts tokens for [`TestProvider::API`], like the provider makes them.
    pub async fn open() -> Api {
        Api::with(json!({})).await
    }

    /// With further settings; `null` takes one of the usual ones away.
    pub async fn with(settings: Value) -> Api {
        Api::at(TestProvider::start().await, settings).await
    }

    pub async fn at(provider: TestProvider, settings: Value) -> Api {
        provider.set_time(NOW);
        let clock = Clock::fixed_at(NOW);
        let log = Log::listen();
        let rocket = rocket(&provider, settings, &clock);
        let client = Client::untracked(rocket).await.expect("the API launches");
        Api {
            client,
            provider,
            clock,
            log,
        }
    }

    /// Calls with these `Authorization` headers.
    pub async fn call_with(&self, path: &str, authorization: &[&str]) -> Answer {
        let mut request = self.client.get(path.to_owned());
        for value in authorization {
            request.add_header(Header::new("Authorization", value.to_string()));
        }
        Answer::to(request).await
    }

    /// Calls with this token.
    pub async fn call(&self, path: &str, token: &str) -> Answer {
        self.call_with(path, &[&format!("Bearer {token}")]).await
    }

    /// Calls `/whoami` with a token that the provider issued, changed in one way.
    pub async fn whoami(&self, change: impl FnOnce(&mut JwtParts)) -> Answer {
        let token = self.provider.access_token("notes:read", change);
        self.call("/whoami", &token).await
    }

    /// Asserts that a token changed in one way is refused: with this description for the caller, and
    /// this line in the log. The same token without the change is accepted.
    pub async fn refuses(&self, change: impl FnOnce(&mut JwtParts), description: &str, logged: &str) {
        case(logged);
        let accepted = self.whoami(|_| ()).await;
        assert_eq!(accepted.status, 200, "the token without the change");
        let answer = self.whoami(change).await;
        assert_eq!(answer, refused(description), "{logged}");
        let line = format!("DEBUG: the access token is rejected: {logged}");
        let lines = self.log.debug_lines();
        assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
    }
}

/// 401 `invalid_token`, and the app's own catcher.
pub fn refused(description: &str) -> Answer {
    Answer {
        status: 401,
        challenge: Some(format!(
            "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"{description}\", {METADATA}"
        )),
        retry_after: None,
        body: "no".to_owned(),
    }
}

/// The end of every challenge.
pub const METADATA: &str = "resource_metadata=\"http://localhost:8000/.well-known/oauth-protected-resource\"";

/// The API, to be launched.
pub fn rocket(provider: &TestProvider, settings: Value, clock: &Clock) -> Rocket<Build> {
    let app = App::client(provider).with("oidc.audience", TestProvider::API);
    rocket::custom(app.with_all(settings).figment())
        .attach(Oidc::fairing().clock(clock.clone()))
        .mount(
            "/",
            routes![whoami, notes, write, admin, either, staff, optional, person],
        )
        .register("/", catchers![no])
}

#[catch(default)]
fn no(status: Status, _: &rocket::Request<'_>) -> &'static str {
    match status.code {
        401 => "no",
        403 => "not this",
        _ => "wrong",
    }
}

#[get("/whoami")]
fn whoami(token: Bearer) -> Json<Value> {
    Json(json!({
        "sub": token.subject(),
        "client_id": token.client_id(),
        "iss": token.issuer(),
        "scopes": token.scopes(),
        "exp": token.expires_at().map(|at| at.unix_timestamp()),
    }))
}

#[get("/notes")]
fn notes(token: Bearer<NotesRead>) -> String {
    format!("notes of {:?}", token.subject())
}

#[post("/notes", data = "<note>")]
fn write(_token: Bearer<NotesRead>, note: String) -> String {
    note
}

#[get("/admin")]
fn admin(_token: Bearer<NotesAdmin>) -> &'static str {
    "admin"
}

#[get("/either")]
fn either(caller: Caller<NotesRead>) -> String {
    match &caller {
        Caller::Bearer(token) => format!("client {:?}", token.client_id()),
        Caller::User(user) => format!("person {}", user.subject()),
    }
}

/// Claims that not every token has.
#[derive(Deserialize)]
pub struct Staff {
    desk: u8,
}

#[get("/staff")]
fn staff(token: Bearer<AnyScope, Staff>) -> String {
    format!("desk {}", token.claims().desk)
}

#[get("/optional")]
fn optional(token: Option<Bearer>) -> String {
    format!("{:?}", token.map(|token| token.subject().map(str::to_owned)))
}

#[get("/person")]
async fn person(token: Bearer) -> Result<String, String> {
    match token.userinfo().await {
        Ok(claims) => Ok(claims.get("name").unwrap_or_default()),
        Err(error) => Err(error.to_string()),
    }
}
