//! Mutual TLS (RFC 8705) with npm `oidc-provider`: nginx ends TLS in front of the provider and of the app, which is the client
//! and the API.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    example::{Example, free_port},
    nginx::Nginx,
    node_provider::NodeProvider,
    patience,
    visitor::Visitor,
};

const RESOURCE: &str = "https://api.notes.test";
/// Thirty-two bytes that are no secret.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// An authority, a server of it, and clients: one of the authority, one that signs itself, and a stranger.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn make() -> Certificates {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{}", free_port()));
        fs::create_dir_all(&directory).unwrap();
        let own = Certificates { directory };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        own.openssl(&format!(
            "req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.pem"
        ));
        for (name, subject, extension) in [
            ("server", "/CN=localhost", "subjectAltName=DNS:localhost"),
            ("client", "/CN=rocket-app", "extendedKeyUsage=clientAuth"),
            ("another", "/CN=another", "extendedKeyUsage=clientAuth"),
        ] {
            let signed_by = "-CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE";
            own.openssl(&format!(
                "req -x509 {key} {signed_by} -subj {subject} -addext {extension} -keyout {name}.key -out {name}.pem"
            ));
        }
        for name in ["self", "stranger"] {
            own.openssl(&format!(
                "req -x509 {key} -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ));
        }
        own
    }

    fn openssl(&self, arguments: &str) {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.directory)
            .stderr(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "openssl {arguments}");
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// An nginx that asks for certificates, in front of these ports in turn.
    fn nginx(&self, port: u16, upstreams: &[u16]) -> Nginx {
        let location = |upstream: &u16| {
            format!(
                "proxy_pass http://127.0.0.1:{upstream};\n\
                 proxy_set_header Host $http_host;\n\
                 proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;\n\
                 proxy_set_header X-SSL-Client-Verify $ssl_client_verify;\n\
                 proxy_set_header X-SSL-Client-S-DN $ssl_client_s_dn;\n"
            )
        };
        let mut server = format!(
            "listen 127.0.0.1:{port} ssl;\nssl_certificate {};\nssl_certificate_key {};\n\
             ssl_client_certificate {};\nssl_verify_client optional_no_ca;\n",
            self.file("server.pem"),
            self.file("server.key"),
            self.file("ca.pem"),
        );
        for (index, upstream) in upstreams.iter().enumerate() {
            let path = if index == 0 {
                "/".to_owned()
            } else {
                format!("= /api/notes{index}")
            };
            let rewrite = if index == 0 {
                ""
            } else {
                "rewrite .* /api/notes break;\n"
            };
            server += &format!("location {path} {{\n{rewrite}{}}}\n", location(upstream));
        }
        Nginx::run(port, &server)
    }

    /// A client of the API, with this certificate.
    fn client(&self, name: Option<&str>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.read("ca.pem").as_bytes()).unwrap();
        let builder = patience::client_builder().tls_certs_only([root]).no_proxy();
        let builder = match name {
            Some(name) => {
                let pem = self.read(&format!("{name}.pem")) + &self.read(&format!("{name}.key"));
                builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
            }
            None => builder,
        };
        builder.build().unwrap()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The provider, and nginx in front of it.
struct Site {
    certificates: Certificates,
    provider: NodeProvider,
    token_endpoint: String,
    _nginx: Nginx,
}

impl Site {
    async fn open(app_port: u16) -> Site {
        let (certificates, port) = (Certificates::make(), free_port());
        let mtls = json!({
            "url": format!("https://localhost:{port}"),
            "self_signed": certificates.file("self.pem"),
            "subject": "CN=rocket-app",
        });
        let redirect_uri = format!("http://localhost:{app_port}/oidc/authorize");
        let environment = [("MTLS", &*mtls.to_string()), ("REDIRECT_URI", &redirect_uri)];
        let provider = NodeProvider::start(&environment).await;
        let upstream = provider.issuer().rsplit(':').next().unwrap().parse().unwrap();
        Site {
            _nginx: certificates.nginx(port, &[upstream]),
            token_endpoint: format!("https://localhost:{port}/token"),
            provider,
            certificates,
        }
    }

    /// A token for the API, which the client with this certificate gets for itself.
    async fn token(&self, client_id: &str, certificate: &str) -> Value {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", client_id)
            .append_pair("resource", RESOURCE)
            .append_pair("scope", "notes:read")
            .finish();
        let reply = self
            .certificates
            .client(Some(certificate))
            .post(&self.token_endpoint)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    }

    /// An app as the client with this id and certificate.
    fn app(&self, port: u16, client_id: &str, certificate: &str, others: &[(&str, &str)]) -> Example {
        let environment = [
            ("OIDC_ISSUER", self.provider.issuer()),
            ("OIDC_CLIENT_ID", client_id),
            ("OIDC_SCOPES", "openid email offline_access"),
            ("OIDC_EXTRA_AUTHORIZATION_PARAMETERS", "{prompt=\"consent\"}"),
            ("OIDC_AUDIENCE", RESOURCE),
            (
                "OIDC_TLS_CLIENT_CERTIFICATE",
                &self.certificates.file(&format!("{certificate}.pem")),
            ),
            (
                "OIDC_TLS_CLIENT_KEY",
                &self.certificates.file(&format!("{certificate}.key")),
            ),
            ("OIDC_CLIENT_CERTIFICATE__FORMAT", "nginx"),
            ("OIDC_CLIENT_CERTIFICATE__PROXIES", "127.0.0.1"),
            ("ROCKET_SECRET_KEY", KEY),
            // The authority of nginx.
            ("SSL_CERT_FILE", &self.certificates.file("ca.pem")),
        ];
        Example::start("notes", port, &[&environment[..], others].concat())
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and nginx: run scripts/interop"]
async fn a_client_with_a_certificate_signs_in() {
    for (client_id, certificate) in [
        ("mtls-self-signed", "self"),
        ("mtls-authority", "client"),
        ("mtls-public", "stranger"),
    ] {
        let port = free_port();
        let site = Site::open(port).await;
        let app = site.app(port, client_id, certificate, &[]);
        let mut visitor = Visitor::new();
        let page = visitor.sign_in(&app.at("localhost", ""), "/me", "alice").await;
        assert_eq!(page.status, 200, "{client_id}: {}", page.body);
        // From UserInfo, which takes the bound token with the certificate alone.
        assert!(page.body.contains("alice@example.com"), "{}", page.body);
        let refreshed = visitor.submit(&app.at("localhost", "/me/refresh")).await;
        assert_eq!(refreshed.status, 200, "{client_id}: {}", refreshed.body);
    }
}

/// An API that accepts the bound token over a connection with the certificate alone: the provider's own.
#[rocket::async_test]
#[ignore = "needs Node.js and nginx: run scripts/interop"]
async fn another_api_is_called_with_the_certificate() {
    let port = free_port();
    let site = Site::open(port).await;
    let accounts = site.token_endpoint.replace("/token", "/me");
    let app = site.app(port, "mtls-self-signed", "self", &[("NOTES_ACCOUNTS_URL", &accounts)]);
    let mut visitor = Visitor::new();
    let page = visitor.sign_in(&app.at("localhost", ""), "/accounts", "alice").await;
    assert_eq!(page.status, 200, "{}", page.body);
    let called: Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(called["status"], 200, "{called}");
    assert!(
        called["body"].as_str().unwrap().contains("alice@example.com"),
        "{called}"
    );
}

/// After a restart with a renewed certificate of the authority, the session goes on.
#[rocket::async_test]
#[ignore = "needs Node.js and nginx: run scripts/interop"]
async fn a_renewed_certificate_keeps_sessions() {
    let port = free_port();
    let site = Site::open(port).await;
    let app = site.app(port, "mtls-authority", "client", &[]);
    let mut visitor = Visitor::new();
    let origin = app.at("localhost", "");
    assert_eq!(visitor.sign_in(&origin, "/me", "alice").await.status, 200);
    app.stop();
    let own = &site.certificates;
    own.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -CA ca.pem -CAkey ca.key \
         -subj /CN=rocket-app -addext extendedKeyUsage=clientAuth -keyout client.key -out client.pem",
    );
    let app = site.app(port, "mtls-authority", "client", &[]);
    assert_eq!(visitor.visit(&app.at("localhost", "/me")).await.status, 200);
    let refreshed = visitor.submit(&app.at("localhost", "/me/refresh")).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
}

/// Rocket's own mutual TLS, by an authority.
#[rocket::async_test]
#[ignore = "needs Node.js and nginx: run scripts/interop"]
async fn rocket_itself_asks_for_certificates() {
    let port = free_port();
    let site = Site::open(port).await;
    let own = &site.certificates;
    let tls = format!(
        "{{certs={:?},key={:?},mutual={{ca_certs={:?}}}}}",
        own.file("server.pem"),
        own.file("server.key"),
        own.file("ca.pem"),
    );
    let environment = [
        ("ROCKET_TLS", &*tls),
        ("OIDC_ISSUER", site.provider.issuer()),
        ("OIDC_CLIENT_ID", "rocket-public"),
        ("OIDC_AUDIENCE", RESOURCE),
        ("OIDC_CLIENT_CERTIFICATE__TLS", "true"),
    ];
    let _app = Example::start("notes", port, &environment);
    let reply = site.token("mtls-authority", "client").await;
    let token = reply["access_token"].as_str().unwrap_or_else(|| panic!("{reply}"));
    let pem: String = url::form_urlencoded::byte_serialize(own.read("client.pem").as_bytes()).collect();
    for (certificate, expected) in [
        (Some("client"), 200),
        (None, 401),
        (Some("another"), 401),
        (Some("client"), 200),
    ] {
        let request = own
            .client(certificate)
            .get(format!("https://localhost:{port}/api/notes"))
            .header("Authorization", format!("Bearer {token}"))
            // Not configured, so not read.
            .header("X-SSL-Client-Cert", &pem);
        let status = request.send().await.unwrap().status().as_u16();
        assert_eq!(status, expected, "{certificate:?}");
    }
    // Rocket refuses what no authority has signed.
    let stranger = own.client(Some("self")).get(format!("https://localhost:{port}/"));
    assert!(stranger.send().await.is_err());
}

#[rocket::async_test]
#[ignore = "needs Node.js and nginx: run scripts/interop"]
async fn tokens_of_a_real_provider_need_their_certificate() {
    let [a, b, port] = [free_port(), free_port(), free_port()];
    let site = Site::open(a).await;
    let required = [("OIDC_REQUIRE_BOUND_TOKENS", "true")];
    let nodes = [a, b].map(|port| site.app(port, "mtls-self-signed", "self", &required));
    let _nginx = site.certificates.nginx(port, &[a, b]);
    for (client_id, certificate, other) in [
        ("mtls-self-signed", "self", "client"),
        ("mtls-authority", "client", "self"),
    ] {
        let reply = site.token(client_id, certificate).await;
        let token = reply["access_token"].as_str().unwrap_or_else(|| panic!("{reply}"));
        // Another client's certificate gets no token.
        assert_eq!(site.token(client_id, "stranger").await["error"], "invalid_client");
        for _ in 0..2 {
            // The two nodes.
            for path in ["/api/notes", "/api/notes1"] {
                let status = async |certificate: Option<&str>, forged: Option<&str>| {
                    let client = site.certificates.client(certificate);
                    let mut request = client
                        .get(format!("https://localhost:{port}{path}"))
                        .header("Authorization", format!("Bearer {token}"));
                    if let Some(value) = forged {
                        request = request.header("X-SSL-Client-Cert", value);
                    }
                    request.send().await.unwrap().status().as_u16()
                };
                let pem = site.certificates.read(&format!("{certificate}.pem"));
                let own: String = url::form_urlencoded::byte_serialize(pem.as_bytes()).collect();
                assert_eq!(status(Some(certificate), None).await, 200, "{path}");
                assert_eq!(status(None, None).await, 401);
                assert_eq!(status(Some(other), None).await, 401);
                // nginx replaces what the client sends.
                assert_eq!(status(None, Some(&own)).await, 401);
                assert_eq!(status(Some(other), Some(&own)).await, 401);
                assert_eq!(status(Some(certificate), Some("forged")).await, 200);
            }
        }
    }
    drop(nodes);
}
