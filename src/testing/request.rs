//! `TestRequest`: a local request with a session or an access token.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rocket::{
    Request,
    http::{Cookie, Header},
    local::{asynchronous, blocking},
};
use serde_json::Value;

use super::{
    TestProvider,
    app::{relying_party_at, relying_party_of, test_provider},
    client::sealed::Sealed,
    client_certificate, dpop_key,
    provider::path_and_query,
    runtime::block_on,
};
use crate::{
    code_flow::{AuthorizationResponse, BrowserId, ResponseError, SignInAttempt},
    dev_provider::AuthorizationRejected,
    relying_party::{NotBegun, RelyingParty, SignInError},
    resource_server::ResourceServer,
    session::EarlierEnds,
};

/// Adds a signed-in user or an access token to a local request.
pub trait TestRequest: Sealed + Sized {
    /// Signs in a user with these claims, of which `sub` is required. Everything is real: the user signs in at the
    /// [`TestProvider`] by the code flow, `after_authorize` of the app's [`Events`](crate::Events) is called, the
    /// session begins, `session_changed` is called, and the request carries the session's encrypted cookies. It
    /// replaces a session that the client already has. It applies to this request only, unless the response sets the
    /// cookies of a tracked client. To stay signed in see [`TestClient::sign_in`](super::TestClient::sign_in).
    ///
    /// Scripted failures of the provider do not affect this. Create a new request for each user: Rocket caches what
    /// guards found for a request, also for its clones.
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{Authorized, Oidc, Policy, User};
    /// # struct Admin;
    /// # impl Policy for Admin {
    /// #     async fn permits(user: &User, _: &rocket::Request<'_>) -> bool {
    /// #         user.groups().contains(&"admin")
    /// #     }
    /// # }
    /// # #[get("/admin")]
    /// # fn admin(user: Authorized<Admin>) -> String { user.subject().to_owned() }
    /// # fn rocket() -> Rocket<Build> {
    /// #     rocket::build().attach(Oidc::fairing()).mount("/", routes![admin])
    /// # }
    /// use rocket::{http::Status, local::blocking::Client};
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    /// use serde_json::json;
    ///
    /// let provider = TestProvider::new();
    /// provider.send_unscoped(&["groups"]); // unless `scopes` has `groups`
    /// let client = Client::untracked(provider.register(rocket())).unwrap();
    /// let admin = || client.get("/admin");
    /// let alice = json!({ "sub": "alice", "groups": ["admin"] });
    /// assert_eq!(admin().signed_in_as(alice).dispatch().status(), Status::Ok);
    /// let bob = json!({ "sub": "bob" });
    /// assert_eq!(admin().signed_in_as(bob).dispatch().status(), Status::Forbidden);
    /// assert_eq!(admin().dispatch().status(), Status::Unauthorized);
    /// ```
    ///
    /// # Panics
    ///
    /// If the app is not registered at a [`TestProvider`], is `resource_server_only`, or rejects the sign-in.
    #[track_caller]
    fn signed_in_as(self, claims: Value) -> Self;

    /// As [`signed_in_as`](Self::signed_in_as), at the provider with this name. Without a name, the user signs in at the
    /// first one that a user can choose, or in an app with [`provider_for`](crate::Oidc::provider_for) at that of the
    /// request's tenant.
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{LoggedIn, Oidc};
    /// # use serde_json::json;
    /// # #[get("/key")]
    /// # fn key(user: LoggedIn) -> String { user.key().to_string() }
    /// # fn rocket() -> Rocket<Build> {
    /// #     let providers = json!({
    /// #         "google": { "provider": "google", "client_id": "app", "client_secret": "hush" },
    /// #         "acme": { "issuer": "https://login.acme.example", "client_id": "app", "client_secret": "hush" },
    /// #     });
    /// #     let figment = rocket::figment::Figment::from(rocket::Config::debug_default());
    /// #     let figment = figment.merge(("oidc.providers", providers));
    /// #     rocket::custom(figment).attach(Oidc::fairing()).mount("/", routes![key])
    /// # }
    /// use rocket::local::blocking::Client;
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    ///
    /// let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
    /// let key = client.get("/key").signed_in_at("google", json!({ "sub": "alice" }));
    /// let expected = format!("google {}/google alice", TestProvider::ISSUER);
    /// assert_eq!(key.dispatch().into_string().unwrap(), expected);
    /// ```
    ///
    /// # Panics
    ///
    /// As `signed_in_as`, and if the app has no provider of this name.
    #[track_caller]
    fn signed_in_at(self, provider: &str, claims: Value) -> Self;

    /// Sends an access token with these claims, which override or extend the default ones; see
    /// [`TestProvider::access_token`].
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{Bearer, Oidc, scopes};
    /// # scopes! { pub NotesRead = "notes:read"; }
    /// # #[get("/notes")]
    /// # fn notes(token: Bearer<NotesRead>) -> String { token.scopes().join(" ") }
    /// # fn rocket() -> Rocket<Build> {
    /// #     rocket::build().attach(Oidc::fairing()).mount("/", routes![notes])
    /// # }
    /// use rocket::{http::Status, local::blocking::Client};
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    /// use serde_json::json;
    ///
    /// let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
    /// let notes = || client.get("/notes");
    /// let reader = json!({ "sub": "alice", "scope": "notes:read" });
    /// assert_eq!(notes().bearer(reader).dispatch().status(), Status::Ok);
    /// let elsewhere = json!({ "sub": "alice", "scope": "notes:read", "aud": "another API" });
    /// assert_eq!(notes().bearer(elsewhere).dispatch().status(), Status::Unauthorized);
    /// ```
    ///
    /// # Panics
    ///
    /// If the app is not registered at a [`TestProvider`].
    #[track_caller]
    fn bearer(self, claims: Value) -> Self;

    /// As [`bearer`](Self::bearer), with a token of the provider with this name. Without a name, the token is of the
    /// provider at which [`signed_in_as`](Self::signed_in_as) signs in.
    ///
    /// # Panics
    ///
    /// As `bearer`, and if the app has no provider of this name.
    #[track_caller]
    fn bearer_at(self, provider: &str, claims: Value) -> Self;

    /// As [`bearer`](Self::bearer), with a token for an API of the setting `apis`; see
    /// [`TestProvider::access_token_for`].
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{Bearer, Oidc, scopes};
    /// # use serde_json::json;
    /// # scopes! { pub Orders for "orders"; }
    /// # #[get("/orders")]
    /// # fn orders(token: Bearer<Orders>) -> String { token.scopes().join(" ") }
    /// # fn rocket() -> Rocket<Build> {
    /// #     let apis = json!({ "orders": { "resource": "https://api.example.com/orders" } });
    /// #     let figment = rocket::Config::figment().merge(("oidc.apis", apis));
    /// #     rocket::custom(figment).attach(Oidc::fairing()).mount("/", routes![orders])
    /// # }
    /// use rocket::{http::Status, local::blocking::Client};
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    ///
    /// let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
    /// let orders = || client.get("/orders");
    /// let alice = || json!({ "sub": "alice", "scope": "orders:read" });
    /// assert_eq!(orders().bearer_for("orders", alice()).dispatch().status(), Status::Ok);
    /// assert_eq!(orders().bearer(alice()).dispatch().status(), Status::Unauthorized);
    /// ```
    ///
    /// # Panics
    ///
    /// If the app is not registered at a [`TestProvider`], or has no API of this name.
    #[track_caller]
    fn bearer_for(self, api: &str, claims: Value) -> Self;

    /// As [`bearer`](Self::bearer), with a token that is bound to the key of the test's client (DPoP), and a proof of that
    /// key for this request: its method, its public URL by the settings, and a nonce if the app demands one. A proof
    /// serves one request. A `cnf` among the claims is kept, such as that of another key.
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{BoundBearer, Oidc, scopes};
    /// # scopes! { pub NotesRead = "notes:read"; }
    /// # #[get("/notes")]
    /// # fn notes(token: BoundBearer<NotesRead>) -> String { token.scopes().join(" ") }
    /// # fn rocket() -> Rocket<Build> {
    /// #     let figment = rocket::Config::figment().merge(("oidc.dpop_tokens", "accepted"));
    /// #     rocket::custom(figment).attach(Oidc::fairing()).mount("/", routes![notes])
    /// # }
    /// use rocket::{http::Status, local::blocking::Client};
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    /// use serde_json::json;
    ///
    /// let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
    /// let notes = || client.get("/notes");
    /// let reader = || json!({ "sub": "alice", "scope": "notes:read" });
    /// assert_eq!(notes().dpop(reader()).dispatch().status(), Status::Ok);
    /// assert_eq!(notes().bearer(reader()).dispatch().status(), Status::Unauthorized);
    /// ```
    ///
    /// # Panics
    ///
    /// As `bearer`, and if the app accepts no bound tokens (`dpop_tokens`).
    #[track_caller]
    fn dpop(self, claims: Value) -> Self;

    /// As [`bearer`](Self::bearer), with a token that is bound to the certificate of the test's client (mutual TLS), and that
    /// certificate, as the table `client_certificate` of the settings says: in the header of a proxy, from the address of
    /// the first one in `proxies`, or of Rocket's own TLS. A `cnf` among the claims is kept, such as that of another
    /// certificate.
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{BoundBearer, Oidc, scopes};
    /// # scopes! { pub NotesRead = "notes:read"; }
    /// # #[get("/notes")]
    /// # fn notes(token: BoundBearer<NotesRead>) -> String { token.scopes().join(" ") }
    /// # fn rocket() -> Rocket<Build> {
    /// #     let figment = rocket::Config::figment()
    /// #         .merge(("oidc.client_certificate.format", "nginx"))
    /// #         .merge(("oidc.client_certificate.proxies", "127.0.0.1"));
    /// #     rocket::custom(figment).attach(Oidc::fairing()).mount("/", routes![notes])
    /// # }
    /// use rocket::{http::Status, local::blocking::Client};
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    /// use serde_json::json;
    ///
    /// let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
    /// let notes = || client.get("/notes");
    /// let reader = || json!({ "sub": "alice", "scope": "notes:read" });
    /// assert_eq!(notes().client_certificate(reader()).dispatch().status(), Status::Ok);
    /// assert_eq!(notes().bearer(reader()).dispatch().status(), Status::Unauthorized);
    /// ```
    ///
    /// # Panics
    ///
    /// As `bearer`, and if the app accepts no client certificates (`client_certificate`).
    #[track_caller]
    fn client_certificate(self, claims: Value) -> Self;
}

macro_rules! test_request {
    ($request:ty) => {
        impl TestRequest for $request {
            fn signed_in_as(self, claims: Value) -> Self {
                let cookies = session_cookies(self.inner(), None, &claims);
                self.cookies(cookies)
            }

            fn signed_in_at(self, provider: &str, claims: Value) -> Self {
                let cookies = session_cookies(self.inner(), Some(provider), &claims);
                self.cookies(cookies)
            }

            fn bearer(self, claims: Value) -> Self {
                let token = provider_of(self.inner(), None).access_token(claims);
                self.header(authorization(&token))
            }

            fn bearer_at(self, provider: &str, claims: Value) -> Self {
                let token = provider_of(self.inner(), Some(provider)).access_token(claims);
                self.header(authorization(&token))
            }

            fn bearer_for(self, api: &str, claims: Value) -> Self {
                let token = provider_of(self.inner(), None).access_token_for(api, claims);
                self.header(authorization(&token))
            }

            fn dpop(self, claims: Value) -> Self {
                let token = provider_of(self.inner(), None).access_token(dpop_key::bind(claims));
                let proof = proof(self.inner(), &token);
                self.header(Header::new("Authorization", format!("DPoP {token}")))
                    .header(Header::new("DPoP", proof))
            }

            fn client_certificate(self, claims: Value) -> Self {
                let token = provider_of(self.inner(), None).access_token(client_certificate::bind(claims));
                let reported = reported_certificate(self.inner());
                let request = self.header(authorization(&token));
                match reported {
                    Some((name, value, proxy)) => request
                        .header(Header::new(name, value))
                        .remote(SocketAddr::new(proxy, 443)),
                    #[cfg(feature = "mtls")]
                    None => request.identity(client_certificate::PEM.as_bytes()),
                    #[cfg(not(feature = "mtls"))]
                    None => request,
                }
            }
        }
    };
}

test_request!(asynchronous::LocalRequest<'_>);
test_request!(blocking::LocalRequest<'_>);

/// The provider with this name, or that of the request.
#[track_caller]
fn provider_of(request: &Request<'_>, name: Option<&str>) -> TestProvider {
    let all = test_provider(request.rocket());
    let has_several = |app: &RelyingParty| app.providers().is_some();
    if name.is_none() && !request.rocket().state::<RelyingParty>().is_some_and(has_several) {
        // Also that of an app without sign-in.
        return all.clone();
    }
    all.at(relying_party_for(request, name).provider_name())
}

/// A proof for a request with this token.
#[track_caller]
fn proof(request: &Request<'_>, token: &str) -> String {
    let expected = with_server(request, |server| {
        server?.expected_proof(request).map(|it| (it.0.to_owned(), it.1, it.2))
    });
    let Some((method, target, nonce)) = expected else {
        panic!("the app accepts no tokens that are bound to a key: set `oidc.dpop_tokens = \"accepted\"`");
    };
    let now = test_provider(request.rocket()).clock().now();
    dpop_key::proof(&method, &target, token, nonce, now)
}

/// The header in which a proxy reports the certificate of the client, and the proxy; `None` if Rocket's own TLS does.
#[track_caller]
fn reported_certificate(request: &Request<'_>) -> Option<(String, String, IpAddr)> {
    let (is_accepted, header) = with_server(request, |server| {
        let header = server.and_then(ResourceServer::certificate_header);
        let header = header.map(|(name, format, proxy)| (name.to_owned(), format, proxy));
        (server.is_some_and(ResourceServer::accepts_certificates), header)
    });
    if !is_accepted {
        panic!("the app accepts no client certificates: set the table `oidc.client_certificate`");
    }
    let (name, format, proxy) = header?;
    Some((name, client_certificate::header_value(format), proxy?))
}

/// The resource server that judges a request.
#[track_caller]
fn with_server<T>(request: &Request<'_>, read: impl FnOnce(Option<&ResourceServer>) -> T) -> T {
    let rocket = request.rocket();
    let has_tenants = rocket.state::<RelyingParty>().is_some_and(RelyingParty::has_tenants);
    let of_tenant = has_tenants.then(|| relying_party_of(request));
    read(match &of_tenant {
        Some(rp) => rp.resource_server.as_deref(),
        None => rocket.state::<ResourceServer>(),
    })
}

/// The relying party at the provider with this name, or the one that serves the request.
#[track_caller]
fn relying_party_for(request: &Request<'_>, name: Option<&str>) -> Arc<RelyingParty> {
    match name {
        Some(name) => relying_party_at(request.rocket(), name),
        None => relying_party_of(request),
    }
}

fn authorization(token: &str) -> Header<'static> {
    Header::new("Authorization", format!("Bearer {token}"))
}

/// The cookies of a new session.
#[track_caller]
fn session_cookies(request: &Request<'_>, name: Option<&str>, claims: &Value) -> Vec<Cookie<'static>> {
    let provider = test_provider(request.rocket());
    let rp = relying_party_for(request, name);
    let signed_in = provider.without_failures(sign_in(request, &rp, provider, claims));
    let set_cookies = match block_on(signed_in) {
        Ok(set_cookies) => set_cookies,
        Err(cause) => panic!("the sign-in with these claims failed: {cause}"),
    };
    let cookies = set_cookies
        .into_iter()
        .filter_map(|text| Cookie::parse_encoded(text).ok());
    cookies.filter(|cookie| !cookie.value().is_empty()).collect()
}

/// Signs in without a browser. Returns the `Set-Cookie` headers.
async fn sign_in(
    request: &Request<'_>,
    rp: &RelyingParty,
    at: &TestProvider,
    claims: &Value,
) -> Result<Vec<String>, String> {
    // A browser retries once if the user's sessions have just been ended.
    let none = EarlierEnds::default();
    let begun = match sign_in_after(request, rp, at, claims, none).await? {
        Err(NotBegun::Ended(ends)) => sign_in_after(request, rp, at, claims, ends).await?,
        begun => begun,
    };
    begun.map_err(|error| error.to_string())
}

/// One attempt to sign in, after these earlier session ends.
async fn sign_in_after(
    request: &Request<'_>,
    rp: &RelyingParty,
    at: &TestProvider,
    claims: &Value,
    ends: EarlierEnds,
) -> Result<Result<Vec<String>, NotBegun>, String> {
    let failed = |error: SignInError| error.to_string();
    let Some(client) = rp.client() else {
        return Err("the app uses a testing profile".to_owned());
    };
    let (browser, now) = (BrowserId::random(), rp.clock.now());
    let attempt = SignInAttempt::new(&browser, rp.home(), false, now).after_ends(ends);
    let begun = client.begin_sign_in(&browser, attempt, None, now);
    let begun = begun.await.map_err(failed)?;
    let callback = at.authorize_at(&begun.url, claims);
    let callback = callback.map_err(|AuthorizationRejected(text)| text)?;

    let query = path_and_query(&callback);
    let query = query.split_once('?').map_or("", |(_, query)| query);
    let response = AuthorizationResponse::parse(query).map_err(|error| failed(error.into()))?;
    if response.state.as_ref() != Some(&begun.secrets.state) {
        return Err(failed(ResponseError::StateMismatch.into()));
    }
    let accepted = client.accept_response(response, now).await;
    let code = accepted.map_err(failed)?.code;
    let exchanged = client.exchange(&begun.attempt, &begun.secrets, &code, None, rp.clock.now());
    Ok(match exchanged.await {
        Ok((session, tokens)) => client.begin_session_for_test(request, session, tokens).await,
        Err(error) => Err(error),
    })
}
