//! The table `oidc.client_certificate`: how the app learns of the certificate of an API client (RFC 8705).

use serde::Deserialize;

use super::{
    DpopTokens, Settings, SettingsError,
    declaration::{named, refined, settings},
    mistake::{Mistake, rule},
    rocket_config::RocketConfig,
    trusted_proxies::ProxyAddress,
    value::{Text, Words},
};

settings! {
    /// The settings of the table `oidc.client_certificate`: where the certificate of a client comes from, to which access
    /// tokens may be bound ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)). Without `format` and `tls`,
    /// a token that is bound to a certificate is rejected.
    pub struct ClientCertificateSettings {
        /// The proxies that verify the certificates of clients and report them in a header, as addresses or CIDR prefixes
        /// such as `10.0.0.0/8`: of the connection, whatever other headers say. The header is refused from any other
        /// peer. List a proxy only if it sets that header itself, or removes it, in every request.
        ///
        /// _Default:_ `[]`
        pub proxies: Vec<String> as Words<ProxyAddress> = vec![],
        /// The format of that header: `rfc9440` ([RFC 9440](https://www.rfc-editor.org/rfc/rfc9440)), `nginx` (the
        /// variable `$ssl_client_escaped_cert`) or `envoy` (`X-Forwarded-Client-Cert`).
        ///
        /// _Default:_ none
        pub format: Option<CertificateFormat> = None,
        /// The name of that header.
        ///
        /// _Default:_ `Client-Cert`, `X-SSL-Client-Cert` or `X-Forwarded-Client-Cert`, by the format
        pub header: Option<String> as Option<HeaderName> = None,
        /// Whether clients connect to Rocket itself with mutual TLS: needs the cargo feature `mtls`, and Rocket's
        /// `tls.mutual`, whose certificate authorities verify the certificates.
        ///
        /// _Default:_ `false`
        pub tls: bool = false,
    }
}

/// The format in which a proxy reports the certificate of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CertificateFormat {
    /// The DER in base64, between colons ([RFC 9440 §2.2](https://www.rfc-editor.org/rfc/rfc9440#section-2.2)).
    Rfc9440,
    /// The PEM, URL-encoded, as `$ssl_client_escaped_cert` of nginx.
    Nginx,
    /// The element `Cert` of
    /// [`X-Forwarded-Client-Cert`](https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert).
    Envoy,
}

named!(CertificateFormat);

refined! {
    /// The name of a header: `1*tchar` (RFC 9110 §5.1).
    HeaderName: Text,
        |name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)),
        format!("{name:?} is not the name of a header"),
        "write a name such as `X-SSL-Client-Cert`";
}

impl ClientCertificateSettings {
    /// Whether a request can have a certificate.
    pub(crate) fn is_set(&self) -> bool {
        self.tls || self.format.is_some()
    }

    /// The name of the header.
    pub(crate) fn header(&self) -> &str {
        match (&self.header, self.format) {
            (Some(header), _) => header,
            (None, Some(CertificateFormat::Nginx)) => "X-SSL-Client-Cert",
            (None, Some(CertificateFormat::Envoy)) => "X-Forwarded-Client-Cert",
            (None, Some(CertificateFormat::Rfc9440) | None) => "Client-Cert",
        }
    }
}

impl Settings {
    /// Checks what belongs together in the table `client_certificate`.
    pub(super) fn check_client_certificate(&self) -> Result<(), Mistake> {
        let own = &self.client_certificate;
        rule(
            "client_certificate.proxies",
            own.format.is_none() || !own.proxies.is_empty(),
        )
        .cause("`format` is set, and no proxy is trusted to send the header")
        .remedy("list the addresses of the proxies, such as `proxies = [\"10.0.0.5\"]`, or remove `format`")?;
        for (name, is_set) in [("proxies", !own.proxies.is_empty()), ("header", own.header.is_some())] {
            rule(format!("client_certificate.{name}"), !is_set || own.format.is_some())
                .cause(format!("`{name}` is set, and the format of the header is not"))
                .remedy(format!(
                    "set `format` to `rfc9440`, `nginx` or `envoy`, or remove `{name}`"
                ))?;
        }
        let is_known = own.header.as_deref().is_none_or(|header| {
            let known = ["Authorization", "DPoP", "Cookie", "Host"];
            !known.iter().any(|name| name.eq_ignore_ascii_case(header))
        });
        rule("client_certificate.header", is_known)
            .cause("this header has another meaning")
            .remedy("name the header that the proxy fills with the certificate of the client")?;
        rule(
            "require_bound_tokens",
            !self.require_bound_tokens || own.is_set() || self.dpop_tokens != DpopTokens::Off,
        )
        .cause("no token would be accepted: neither proofs nor client certificates are")
        .remedy("set `dpop_tokens = \"accepted\"` or the table `client_certificate`, or remove `require_bound_tokens`")
    }

    /// Checks that Rocket asks for client certificates, if the settings rely on that.
    pub(super) fn check_mutual_tls(&self, rocket_config: &RocketConfig) -> Result<(), Mistake> {
        rule(
            "client_certificate.tls",
            !self.client_certificate.tls || rocket_config.mutual_tls,
        )
        .cause("Rocket does not ask clients for certificates: its `tls.mutual` is not set")
        .remedy("set `tls.mutual.ca_certs` in Rocket's configuration, beside `tls.certs` and `tls.key`, or remove it")
    }

    /// Checks that the code for these settings is compiled in, which only the app itself knows.
    pub(crate) fn check_features(&self) -> Result<(), SettingsError> {
        rule(
            "client_certificate.tls",
            !self.client_certificate.tls || cfg!(feature = "mtls"),
        )
        .cause("mutual TLS is not compiled in")
        .remedy("enable the feature `mtls` of `rocket_openidconnect` in Cargo.toml, or remove it")
        .map_err(|mistake| self.error(mistake))
    }
}
