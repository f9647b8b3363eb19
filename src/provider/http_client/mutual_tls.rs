//! The client's certificate on real connections: which endpoints see it.

#![cfg(feature = "redis")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
    client::danger::HandshakeSignatureValid,
    crypto::{aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{tests::*, *};
use crate::token::Certificate;

/// Accepts any certificate whose key the client has, and clients without one.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &default_provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Responds to each request with the thumbprint of the client's certificate, or `none`.
fn server() -> u16 {
    let der = |text| STANDARD.decode(text).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_single_cert(
            vec![der(CERTIFICATE).into()],
            PrivatePkcs8KeyDer::from(der(CERTIFICATE_KEY)).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut reader = BufReader::new(&mut stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let chain = stream.conn.peer_certificates().unwrap_or_default();
            let seen = chain
                .first()
                .map(|der| Certificate::of_der(der).unwrap().thumbprint().to_owned());
            let seen = seen.as_deref().unwrap_or("none");
            let length = seen.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{seen}"
            );
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

fn pem(label: &str, base64: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

#[tokio::test]
async fn the_endpoints_that_know_the_client_see_its_certificate() {
    let url = Url::parse(&format!("https://localhost:{}/", server())).unwrap();
    let certificate = pem("CERTIFICATE", CERTIFICATE);
    let identity = ClientIdentity::of_pem(&format!("{certificate}{}", pem("PRIVATE KEY", CERTIFICATE_KEY)));
    let plain = HttpClient::new(&HttpSettings::default(), InsecureHttpHosts::default()).unwrap();
    let http = plain.clone().with_identity(&identity).unwrap();
    // The server's certificate is not that of an authority.
    let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    for connections in [&http.connections, http.mutual.as_ref().unwrap()] {
        let builder = client_builder(&http.settings, &http.hosts).tls_certs_merge([root.clone()]);
        connections.direct.set(connections.direct(builder).unwrap()).unwrap();
    }
    let own = identity.certificate.thumbprint();
    for (endpoint, expected) in [
        (Endpoint::Token, own),
        (Endpoint::UserInfo, own),
        (Endpoint::Introspection, own),
        (Endpoint::Revocation, own),
        (Endpoint::PushedAuthorizationRequest, own),
        (Endpoint::Metadata, "none"),
        (Endpoint::KeySet, "none"),
        (Endpoint::Registration, "none"),
        (Endpoint::UserApi, "none"),
    ] {
        let reply = http.get(endpoint, &url).await.unwrap();
        assert_eq!(String::from_utf8_lossy(reply.body()), expected, "{endpoint}");
    }
}
