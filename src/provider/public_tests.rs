//! Providers that are registered at run time: no request of theirs reaches a private address.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use serde_json::{Value, json};

use super::*;
use crate::{secret::Secret, settings::Reach};

const REMEDY: &str = "have the registration of this provider corrected; if the host is in your own network, list it in `oidc.internal_provider_hosts`";

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

/// A listener on loopback to which nobody may connect.
struct Forbidden(TcpListener);

impl Forbidden {
    fn new() -> Forbidden {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Forbidden(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn is_untouched(&self) {
        let accepted = self.0.accept().map_err(|error| error.kind());
        assert_eq!(accepted.map(drop), Err(ErrorKind::WouldBlock));
    }
}

/// A provider on loopback, whose metadata has these members beside the usual ones. Returns its issuer.
fn provider_on_loopback(members: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let mut metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
    });
    let members = members.as_object().unwrap().clone();
    metadata.as_object_mut().unwrap().extend(members);
    let body = metadata.to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                line.clear();
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = reader.into_inner().write_all(format!("{head}{body}").as_bytes());
        }
    });
    issuer
}

fn settings(internal: &[&str]) -> Arc<Settings> {
    let mut settings = Settings::default();
    settings.internal_provider_hosts = internal.iter().map(|host| host.to_string()).collect();
    Arc::new(settings)
}

fn registration(issuer: &str) -> Registration {
    Registration::public(issuer, "app", Some(Secret::new("hush"))).unwrap()
}

fn redirect_uri() -> Option<Url> {
    Url::parse("https://app.example/oidc/authorize/a").ok()
}

fn provider(issuer: &str, http: &HttpClient) -> Arc<Provider> {
    let provider = Provider::with_http(registration(issuer), redirect_uri(), settings(&[]), http);
    Arc::new(provider.unwrap())
}

#[tokio::test]
async fn a_private_address_behind_a_name_is_not_called() {
    let inside = Forbidden::new();
    let address = inside.address();
    let http = HttpClient::with_lookup(&[], None, move |_| Ok(vec![address]));
    for endpoint in [
        Endpoint::Metadata,
        Endpoint::KeySet,
        Endpoint::Token,
        Endpoint::UserInfo,
    ] {
        let url = Url::parse(&format!("https://op.example:{}/x", address.port())).unwrap();
        let error = http.get(endpoint, &url).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the provider's {endpoint} is not reachable: `op.example` has no public address")
        );
        assert_eq!((error.reason(), error.remedy()), ("provider_unreachable", REMEDY));
    }
    inside.is_untouched();
}

/// The control of the test above: with the host in the setting, the same call connects.
#[tokio::test]
async fn a_private_address_of_an_internal_host_is_called() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || listener.accept().map(drop).is_ok());
    let http = HttpClient::with_lookup(&["sso.corp"], None, move |_| Ok(vec![address]));
    let url = Url::parse(&format!("https://sso.corp:{}/x", address.port())).unwrap();
    let error = http.get(Endpoint::Metadata, &url).await.unwrap_err();
    // It does not speak TLS.
    assert_eq!(error.reason(), "provider_unreachable");
    assert!(!error.to_string().contains("public address"), "{error}");
    assert!(server.join().unwrap());
}

/// A proxy and the connector ask no resolver for a literal address.
#[tokio::test]
async fn a_literal_address_is_not_called() {
    let inside = Forbidden::new();
    let port = inside.address().port();
    let http = HttpClient::with_lookup(&[], None, |name| panic!("{name} is looked up"));
    for url in [
        format!("https://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://0.0.0.0:{port}/"),
        format!("https://localhost:{port}/"),
        format!("http://localhost:{port}/"),
    ] {
        let url = Url::parse(&url).unwrap();
        let error = http.get(Endpoint::UserInfo, &url).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the provider's UserInfo endpoint is at `{url}`, which is not a public https URL")
        );
        assert_eq!((error.reason(), error.remedy()), ("provider_address", REMEDY));
        assert_eq!(error.status(), 502);
    }
    inside.is_untouched();
}

/// The connection to a proxy asks the resolver, and the proxy resolves the provider's name.
#[tokio::test]
async fn a_proxy_at_a_private_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut asked = vec![];
        for stream in listener.incoming().take(2) {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            asked.push(line);
        }
        asked
    });
    let proxy = format!("http://Proxy.corp:{}", address.port());
    let http = HttpClient::with_lookup(&[], Some(&proxy), move |name| {
        assert_eq!(name.to_ascii_lowercase(), "proxy.corp");
        Ok(vec![address])
    });
    for url in [
        "https://10.0.0.1/x".to_owned(),
        "https://localhost/x".to_owned(),
        format!("https://proxy.corp:{}/x", address.port()),
    ] {
        let error = http
            .get(Endpoint::Metadata, &Url::parse(&url).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "provider_address", "{url}");
    }
    let url = Url::parse("https://op.example/x").unwrap();
    let error = http.get(Endpoint::Metadata, &url).await.unwrap_err();
    assert_eq!(error.reason(), "provider_unreachable", "{error}");
    // Two attempts, since nothing was sent.
    let connect = "CONNECT op.example:443 HTTP/1.1\r\n";
    assert_eq!(server.join().unwrap(), [connect, connect]);
}

/// The name is public while the metadata is judged, and private when the refresh token would be sent.
#[tokio::test]
async fn a_token_endpoint_whose_name_changes_to_a_private_address() {
    let inside = Forbidden::new();
    let address = inside.address();
    let endpoint = format!("https://rebind.example:{}/token", address.port());
    let issuer = provider_on_loopback(json!({ "token_endpoint": endpoint }));
    let http = HttpClient::with_lookup(&["127.0.0.1"], None, move |_| Ok(vec![address]));
    let provider = provider(&issuer, &http);
    let metadata = provider.metadata(now()).await.unwrap();
    assert_eq!(metadata.token_endpoint().unwrap().as_str(), endpoint);
    let refreshed = provider.refresh(&metadata, &Secret::new("rt"), None, now()).await;
    assert_eq!(
        refreshed.unwrap_err().to_string(),
        "the provider's token endpoint is not reachable: `rebind.example` has no public address"
    );
    inside.is_untouched();
}

#[tokio::test]
async fn every_url_of_the_metadata_is_public() {
    let members = [
        ("authorization_endpoint", "authorization endpoint"),
        ("jwks_uri", "key set"),
        ("token_endpoint", "token endpoint"),
        ("introspection_endpoint", "introspection endpoint"),
        ("revocation_endpoint", "revocation endpoint"),
        (
            "pushed_authorization_request_endpoint",
            "pushed authorization request endpoint",
        ),
        ("end_session_endpoint", "end session endpoint"),
        ("userinfo_endpoint", "UserInfo endpoint"),
    ];
    let http = HttpClient::with_lookup(&["127.0.0.1"], None, |name| panic!("{name} is looked up"));
    for (member, named) in members {
        for url in [
            "https://169.254.169.254/latest/meta-data",
            "http://op.example/x",
            "https://localhost/x",
            "http://localhost/x",
            "https://user:password@op.example/x",
        ] {
            let provider = provider(&provider_on_loopback(json!({ member: url })), &http);
            assert_eq!(
                provider.metadata(now()).await.unwrap_err().to_string(),
                format!("the provider's {named} is at `{url}`, which is not a public https URL"),
                "{member}"
            );
        }
    }
}

#[tokio::test]
async fn a_provider_on_loopback_needs_the_setting() {
    let issuer = provider_on_loopback(json!({}));
    let new = |settings: Arc<Settings>| Provider::new(registration(&issuer), redirect_uri(), settings);
    let listed = Arc::new(new(settings(&["127.0.0.1"])).unwrap());
    let metadata = listed.metadata(now()).await.unwrap();
    assert_eq!(metadata.jwks_uri().unwrap().as_str(), format!("{issuer}/jwks"));
    let expected = format!("the provider's metadata is at `{issuer}/`, which is not a public https URL");
    assert_eq!(new(settings(&["localhost"])).unwrap_err().to_string(), expected);
    // The relaxation for the operator's providers does not apply.
    let mut insecure = Settings::default();
    insecure.insecure_http_hosts = vec!["127.0.0.1".to_owned()];
    assert_eq!(new(Arc::new(insecure)).unwrap_err().to_string(), expected);
}

/// Whichever client is passed in, a registration is judged by its own reach.
#[tokio::test]
async fn the_client_of_the_operators_providers_is_not_used() {
    let issuer = provider_on_loopback(json!({}));
    let operators = HttpClient::of(Reach::Operator, &Settings::default()).unwrap();
    let new = |registration| Provider::with_http(registration, redirect_uri(), settings(&[]), &operators);
    let expected = format!("the provider's metadata is at `{issuer}/`, which is not a public https URL");
    assert_eq!(new(registration(&issuer)).unwrap_err().to_string(), expected);
    let of_operator = new(Registration {
        reach: Reach::Operator,
        ..registration(&issuer)
    });
    assert!(Arc::new(of_operator.unwrap()).metadata(now()).await.is_ok());
    let provider = new(registration("https://op.example")).unwrap();
    assert_eq!(provider.http.reach(), Reach::Public);
}

/// An endpoint of one that is not found makes no other read its metadata again.
#[tokio::test]
async fn providers_share_a_client_and_not_its_state() {
    let shared = HttpClient::of(Reach::Public, &settings(&[])).unwrap();
    let [one, other] = ["https://a.example", "https://b.example"].map(|issuer| provider(issuer, &shared));
    let refused = Url::parse("https://10.0.0.1/x").unwrap();
    assert!(one.http.get(Endpoint::Token, &refused).await.is_err());
    assert!(!one.http.has_moved());
    let missing = HttpClient::with_lookup(&[], None, |_| Ok(vec![]));
    let [one, another] = ["https://a.example", "https://b.example"].map(|issuer| provider(issuer, &missing));
    let url = Url::parse("https://gone.example/x").unwrap();
    assert!(one.http.get(Endpoint::Token, &url).await.is_err());
    assert!(one.http.has_moved());
    assert!(!another.http.has_moved());
    assert!(!other.http.has_moved());
}
