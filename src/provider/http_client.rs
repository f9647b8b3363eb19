//! The HTTP client for every request to the provider, with timeouts and size limits.

use std::{
    error::Error,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use openidconnect::{HttpRequest, HttpResponse, http};
use tracing::Instrument;
use url::Url;

use super::{
    Endpoint, ProviderError,
    address_policy::may_be_called,
    addresses::is_this_machine,
    outage::is_missing,
    public_resolver::PublicResolver,
    public_urls::{ProxyNames, PublicUrls},
};
#[cfg(feature = "testing")]
use crate::settings::{InProcess, NoAnswer};
use crate::{
    observing::{self, ObservedProvider},
    printable::printable,
    settings::{ClientIdentity, HttpSettings, InsecureHttpHosts, InternalProviderHosts, Reach, Settings},
};

/// The idle timeout of a pooled connection. It is shorter than that of any server, so that no refresh token, which is
/// valid for one use, is sent over a connection that is being closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// The HTTP client for provider calls: `https` only (or loopback, or a host of `insecure_http_hosts`), no redirects,
/// with a timeout and a maximum response size. For providers that are registered at run time: public hosts only.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    connections: Connections,
    /// With the certificate of the client, for the endpoints at which it authenticates or sends an access token.
    mutual: Option<Connections>,
    settings: HttpSettings,
    /// Whether an endpoint of the metadata was unreachable or not found.
    has_moved: Arc<AtomicBool>,
    hosts: Hosts,
    /// The provider that it calls.
    pub(crate) provider: ObservedProvider,
}

/// Connections of one kind: all without a client certificate, or all with the same one.
#[derive(Clone, Debug)]
struct Connections {
    /// Uses the proxies of the environment.
    client: reqwest::Client,
    /// Uses no proxy. Built on first use: most apps never need it.
    direct: Arc<OnceLock<reqwest::Client>>,
    identity: Option<reqwest::Identity>,
}

/// The hosts that a client may call.
#[derive(Clone, Debug)]
enum Hosts {
    /// Those of the operator's settings.
    Operator(InsecureHttpHosts),
    /// Public ones, and those of `internal_provider_hosts`.
    Public { urls: PublicUrls, resolver: PublicResolver },
}

impl HttpClient {
    /// The client for providers with this reach.
    pub(crate) fn of(reach: Reach, settings: &Settings) -> Result<HttpClient, ProviderError> {
        match reach {
            Reach::Operator => HttpClient::new(&settings.http, settings.insecure_hosts()),
            Reach::Public => HttpClient::public(&settings.http, settings.internal_hosts()),
        }
    }

    pub(crate) fn new(
        settings: &HttpSettings,
        insecure_http_hosts: InsecureHttpHosts,
    ) -> Result<HttpClient, ProviderError> {
        HttpClient::to(Hosts::Operator(insecure_http_hosts), settings)
    }

    fn public(settings: &HttpSettings, internal_hosts: InternalProviderHosts) -> Result<HttpClient, ProviderError> {
        let proxies = ProxyNames::of_environment();
        let resolver = PublicResolver::new(internal_hosts.clone(), proxies.clone());
        let urls = PublicUrls::new(internal_hosts, proxies);
        HttpClient::to(Hosts::Public { urls, resolver }, settings)
    }

    fn to(hosts: Hosts, settings: &HttpSettings) -> Result<HttpClient, ProviderError> {
        Ok(HttpClient {
            connections: Connections::new(settings, &hosts, None)?,
            mutual: None,
            settings: settings.clone(),
            has_moved: Arc::default(),
            hosts,
            provider: ObservedProvider::default(),
        })
    }

    /// A client for providers that are not the operator's, by whose lookup every name is resolved.
    #[cfg(test)]
    pub(super) fn with_lookup(
        internal_hosts: &[&str],
        proxy: Option<&str>,
        lookup: impl Fn(&str) -> std::io::Result<Vec<std::net::SocketAddr>> + Send + Sync + 'static,
    ) -> HttpClient {
        let internal_hosts: Vec<String> = internal_hosts.iter().map(|host| host.to_string()).collect();
        let internal_hosts = InternalProviderHosts::new(&internal_hosts);
        let proxies = ProxyNames::of(|_| proxy.map(str::to_owned));
        let hosts = Hosts::Public {
            resolver: PublicResolver::with_lookup(internal_hosts.clone(), proxies.clone(), lookup),
            urls: PublicUrls::new(internal_hosts, proxies),
        };
        let settings = HttpSettings::default();
        let mut builder = client_builder(&settings, &hosts).no_proxy();
        if let Some(proxy) = proxy {
            builder = builder.proxy(reqwest::Proxy::https(proxy).unwrap());
        }
        let mut http = HttpClient::to(hosts, &settings).unwrap();
        http.connections.client = build(builder).unwrap();
        http
    }

    /// The same client, with its connections, for another provider.
    pub(crate) fn for_another_provider(&self) -> HttpClient {
        HttpClient {
            has_moved: Arc::default(),
            ..self.clone()
        }
    }

    /// The providers that this client may be used for.
    pub(crate) fn reach(&self) -> Reach {
        match self.hosts {
            Hosts::Operator(_) => Reach::Operator,
            Hosts::Public { .. } => Reach::Public,
        }
    }

    /// The hosts for which plain http is accepted.
    pub(super) fn insecure_http_hosts(&self) -> InsecureHttpHosts {
        match &self.hosts {
            Hosts::Operator(insecure) => insecure.clone(),
            Hosts::Public { .. } => InsecureHttpHosts::default(),
        }
    }

    /// The URLs of providers that are not the operator's.
    pub(super) fn public_urls(&self) -> Option<&PublicUrls> {
        match &self.hosts {
            Hosts::Operator(_) => None,
            Hosts::Public { urls, .. } => Some(urls),
        }
    }

    /// With the certificate of the client, on connections of its own.
    pub(super) fn with_identity(mut self, identity: &ClientIdentity) -> Result<HttpClient, ProviderError> {
        let identity = identity.identity().map_err(|error| ProviderError::HttpClient {
            cause: innermost(&error),
        })?;
        self.mutual = Some(Connections::new(&self.settings, &self.hosts, Some(identity))?);
        Ok(self)
    }

    /// For calls to one of several providers.
    pub(super) fn of_provider(mut self, provider: ObservedProvider) -> HttpClient {
        self.provider = provider;
        self
    }

    /// The client for a URL. Plain http goes directly to the host, never through a proxy.
    fn client(&self, endpoint: Endpoint, url: &Url) -> Result<&reqwest::Client, ProviderError> {
        let connections = match &self.mutual {
            Some(mutual) if endpoint.knows_the_client() => mutual,
            _ => &self.connections,
        };
        let is_plain = url.scheme() == "http";
        let is_here = url.host().is_some_and(|host| is_this_machine(&host));
        if !is_plain && !is_here {
            return Ok(&connections.client);
        }
        if let Some(direct) = connections.direct.get() {
            return Ok(direct);
        }
        let direct = connections.direct(client_builder(&self.settings, &self.hosts))?;
        Ok(connections.direct.get_or_init(|| direct))
    }

    /// Sends a `GET` for a document. Retries once if the connection failed, which is safe for a `GET`.
    pub(crate) async fn get(&self, endpoint: Endpoint, url: &Url) -> Result<HttpResponse, ProviderError> {
        let request = || {
            http::Request::get(url.as_str())
                .header(http::header::ACCEPT, "application/json")
                .body(Vec::new())
                .map_err(|_| ProviderError::Address { endpoint })
        };

        match self.call(endpoint, request()?).await {
            Err(ProviderError::Unreachable { .. }) => self.call(endpoint, request()?).await,
            answer => answer,
        }
    }

    /// Sends one request, with the timeouts and limits of the settings.
    pub(crate) async fn call(&self, endpoint: Endpoint, request: HttpRequest) -> Result<HttpResponse, ProviderError> {
        let span = tracing::debug_span!("provider_call", endpoint = endpoint.code());
        let begun = Instant::now();
        let answer = self.send(endpoint, request).instrument(span.clone()).await;
        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        let status = status.map_err(ProviderError::reason);
        span.in_scope(|| observing::provider_called(endpoint.code(), status, begun.elapsed(), &self.provider));
        let has_moved = match &answer {
            Ok(answer) => is_missing(answer.status().as_u16()),
            Err(error) => error.may_have_moved(),
        };
        if has_moved && ![Endpoint::Metadata, Endpoint::Registration].contains(&endpoint) {
            self.has_moved.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Whether an endpoint of the metadata was unreachable or not found since the metadata was read.
    pub(crate) fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Relaxed)
    }

    /// Resets [`has_moved`](Self::has_moved), because the metadata is read now.
    pub(crate) fn forget_moved_endpoints(&self) {
        self.has_moved.store(false, Ordering::Relaxed);
    }

    async fn send(&self, endpoint: Endpoint, request: HttpRequest) -> Result<HttpResponse, ProviderError> {
        let request = reqwest::Request::try_from(request).map_err(|_| ProviderError::Address { endpoint })?;
        self.check(endpoint, request.url())?;

        #[cfg(feature = "testing")]
        if let Some(in_process) = &self.settings.in_process {
            return self.ask(in_process, endpoint, &request).await;
        }

        let failed = |error: reqwest::Error| {
            if error.is_timeout() {
                ProviderError::Timeout {
                    endpoint,
                    after: if error.is_connect() {
                        self.settings.connect_timeout
                    } else {
                        self.settings.timeout
                    },
                }
            } else {
                ProviderError::Unreachable {
                    endpoint,
                    cause: innermost(&error),
                }
            }
        };

        let limit = self.limit(endpoint);
        let client = self.client(endpoint, request.url())?;
        let mut response = client.execute(request).await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > limit {
                return Err(ProviderError::TooLarge { endpoint, limit });
            }
            body.extend_from_slice(&chunk);
        }

        let mut answer = http::Response::new(body);
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }

    /// The last check of a URL, independent of those of the settings and the metadata. Behind a proxy and for a literal
    /// address, the resolver is not asked.
    fn check(&self, endpoint: Endpoint, url: &Url) -> Result<(), ProviderError> {
        match &self.hosts {
            Hosts::Operator(insecure) if may_be_called(url, insecure) => Ok(()),
            Hosts::Operator(_) => Err(ProviderError::NotHttps {
                endpoint,
                url: url.to_string(),
            }),
            Hosts::Public { urls, .. } => urls.check(endpoint, url),
        }
    }

    /// The maximum response size of an endpoint, in bytes.
    fn limit(&self, endpoint: Endpoint) -> usize {
        match endpoint {
            // A set of a thousand keys is larger than any other response.
            Endpoint::KeySet => self.settings.max_body.saturating_mul(4),
            _ => self.settings.max_body,
        }
    }

    /// Sends a request to a provider in this process, with the same limits.
    #[cfg(feature = "testing")]
    async fn ask(
        &self,
        in_process: &InProcess,
        endpoint: Endpoint,
        request: &reqwest::Request,
    ) -> Result<HttpResponse, ProviderError> {
        let (limit, after) = (self.limit(endpoint), self.settings.timeout);
        match in_process.0.answer(request, after).await {
            Ok(answer) if answer.body().len() > limit => Err(ProviderError::TooLarge { endpoint, limit }),
            Ok(answer) => Ok(answer),
            Err(NoAnswer::Timeout) => Err(ProviderError::Timeout { endpoint, after }),
            Err(NoAnswer::Unreachable) => Err(ProviderError::Unreachable {
                endpoint,
                cause: "no server listens there in this test".to_owned(),
            }),
        }
    }
}

impl Connections {
    fn new(
        settings: &HttpSettings,
        hosts: &Hosts,
        identity: Option<reqwest::Identity>,
    ) -> Result<Connections, ProviderError> {
        let builder = with_identity(identity.as_ref(), client_builder(settings, hosts));
        Ok(Connections {
            client: build(builder)?,
            direct: Arc::default(),
            identity,
        })
    }

    /// Builds the client that uses no proxy.
    fn direct(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::Client, ProviderError> {
        build(with_identity(self.identity.as_ref(), builder.no_proxy()))
    }
}

fn with_identity(identity: Option<&reqwest::Identity>, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    match identity {
        Some(identity) => builder.identity(identity.clone()),
        None => builder,
    }
}

fn client_builder(settings: &HttpSettings, hosts: &Hosts) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(concat!("rocket_openidconnect/", env!("CARGO_PKG_VERSION")));
    match hosts {
        Hosts::Operator(_) => builder,
        Hosts::Public { resolver, .. } => builder.dns_resolver(Arc::new(resolver.clone())),
    }
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, ProviderError> {
    builder.build().map_err(|error| ProviderError::HttpClient {
        cause: innermost(&error),
    })
}

/// The root cause of an HTTP error. It names URLs, system errors and the names of a certificate, never a header or a
/// body.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    printable(&error.to_string())
}

#[cfg(test)]
mod mutual_tls;

#[cfg(test)]
mod tests {
    use super::*;

    /// The last check, independent of those of the metadata and the settings.
    #[tokio::test]
    async fn nothing_is_sent_without_tls() {
        let http = HttpClient::new(&HttpSettings::default(), InsecureHttpHosts::default()).unwrap();
        let url = Url::parse("http://op.invalid/token").unwrap();
        let error = http.get(Endpoint::Token, &url).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the provider's token endpoint is at `http://op.invalid/token`, which is neither https nor loopback"
        );
    }

    /// A self-signed certificate for `localhost`, and its key.
    #[cfg(feature = "redis")]
    pub(super) const CERTIFICATE: &str = "\
        MIIBszCCAVigAwIBAgIUeOhakwyPlRhoahU3UxhdyOfUcqcwCgYIKoZIzj0EAwIwJDEiMCAGA1UEAwwZcm9ja2V0\
        X29wZW5pZGNvbm5lY3QgdGVzdDAgFw0yNjExMjkxNTAzMzNaGA8yMTI2MTEwNTE1MDMzM1owJDEiMCAGA1UEAwwZ\
        cm9ja2V0X29wZW5pZGNvbm5lY3QgdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFB8zS3ygR89ZEHeKdtQ\
        8Z/WJyvlIkV8+eDtmsP0tznuk+uH7zorpvYhk4fnNw9sSCsaleuDTvHzxNspVLnCeYCjZjBkMB0GA1UdDgQWBBTL\
        VkIgcVXIJy5S6XuC7ocSKFasYDAfBgNVHSMEGDAWgBTLVkIgcVXIJy5S6XuC7ocSKFasYDAUBgNVHREEDTALggls\
        b2NhbGhvc3QwDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNJADBGAiEA7KXH9yPeYk4HxnpKwtEXmtRU+yzyqZd8\
        L4LKaGlD+akCIQDZjWulYn4RXq9dHR9evCJQJlE7wu+1bNbEq53On5Eukg==";
    #[cfg(feature = "redis")]
    pub(super) const CERTIFICATE_KEY: &str = "\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgq1+0UGXitrpRMVezo78ab8eV3tj6fwOeSF2R1FlD\
        ENihRANCAARQfM0t8oEfPWRB3inbUPGf1icr5SJFfPng7ZrD9Lc57pPrh+86K6b2IZOH5zcPbEgrGpXrg07x88Tb\
        KVS5wnmA";

    /// A server on which every TLS handshake fails.
    #[cfg(feature = "redis")]
    fn tls_server() -> u16 {
        use base64::{Engine, engine::general_purpose::STANDARD};
        use rustls::{ServerConfig, ServerConnection, crypto::aws_lc_rs::default_provider};

        let der = |text| STANDARD.decode(text).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![der(CERTIFICATE).into()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(der(CERTIFICATE_KEY)).into(),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = stream.unwrap();
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
            }
        });
        port
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn an_unknown_authority_is_named_with_its_remedy() {
        let settings = HttpSettings::default();
        let http = HttpClient::new(&settings, InsecureHttpHosts::default()).unwrap();
        let url = Url::parse(&format!("https://localhost:{}/", tls_server())).unwrap();
        let error = http.get(Endpoint::Metadata, &url).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the provider's metadata is not reachable: invalid peer certificate: UnknownIssuer"
        );
        assert_eq!(
            error.remedy(),
            "trust the authority that signed the provider's certificate: add it to this machine's certificate store or, on Linux, set SSL_CERT_FILE to a file with all trusted authorities; then restart the app"
        );
        // The remedy is the same during the back-off.
        let later = crate::provider::back_off::unavailable(Duration::from_secs(1), Some(&error));
        assert_eq!(later.remedy(), error.remedy());
    }
}
