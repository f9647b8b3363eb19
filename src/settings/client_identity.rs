//! The certificate and the private key with which the client connects to its provider: mutual TLS (RFC 8705).

use std::path::Path;

use reqwest::Identity;

use super::{
    Settings,
    client_secrets::read_text,
    mistake::{Mistake, rule},
};
use crate::{secret::Secret, token::Certificate};

const CERTIFICATE: &str = "tls_client_certificate";
const KEY: &str = "tls_client_key";

/// The client's certificate, with its chain, and the private key.
#[derive(Clone, Debug)]
pub(crate) struct ClientIdentity {
    pub(crate) certificate: Certificate,
    /// Both files, one after the other.
    pem: Secret,
}

impl ClientIdentity {
    #[cfg(test)]
    pub(crate) fn of_pem(pem: &str) -> ClientIdentity {
        ClientIdentity {
            certificate: Certificate::first_of_file(pem).unwrap(),
            pem: Secret::new(pem),
        }
    }

    /// For connections.
    pub(crate) fn identity(&self) -> Result<Identity, reqwest::Error> {
        Identity::from_pem(self.pem.expose().as_bytes())
    }
}

impl Settings {
    /// The client's certificate and key, if they are set.
    pub(super) fn client_identity(&self) -> Result<Option<ClientIdentity>, Mistake> {
        let (certificate_file, key_file) = match (&self.tls_client_certificate, &self.tls_client_key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                let cause = "the private key of `tls_client_certificate` is missing";
                return Err(Mistake::new(cause, "set `tls_client_key` to its file").at(KEY));
            }
            (None, Some(_)) => {
                let cause = "the certificate of `tls_client_key` is missing";
                return Err(Mistake::new(cause, "set `tls_client_certificate` to its file").at(CERTIFICATE));
            }
        };
        let chain = read_text(certificate_file).map_err(|mistake| mistake.at(CERTIFICATE))?;
        let key = read_text(key_file).map_err(|mistake| mistake.at(KEY))?;
        let certificate = Certificate::first_of_file(&chain).map_err(|cause| {
            let cause = format!("`{}` is not a certificate: {cause}", certificate_file.display());
            Mistake::new(
                cause,
                "write the certificate in PEM into it, and those of its authorities after it",
            )
            .at(CERTIFICATE)
        })?;
        rule(CERTIFICATE, !chain.contains("PRIVATE"))
            .cause(format!("`{}` has a private key too", certificate_file.display()))
            .remedy("move the key into the file of `tls_client_key`")?;
        check_key(key_file, &key)?;
        let identity = ClientIdentity {
            certificate,
            pem: Secret::new(format!("{chain}\n{key}")),
        };
        // Building a client compares the key with the certificate.
        let built = identity
            .identity()
            .and_then(|it| reqwest::Client::builder().identity(it).build());
        rule(KEY, built.is_ok())
            .cause(format!(
                "`{}` is not the private key of the certificate in `{}`",
                key_file.display(),
                certificate_file.display()
            ))
            .remedy("set it to the key that the certificate was made for: RSA, P-256, P-384 or Ed25519")?;
        Ok(Some(identity))
    }

    /// Whether other users of this machine can read the private key.
    pub(super) fn tls_client_key_is_readable_by_all(&self) -> bool {
        self.tls_client_key.as_deref().is_some_and(is_readable_by_all)
    }
}

fn check_key(path: &Path, key: &str) -> Result<(), Mistake> {
    let shown = path.display();
    rule(KEY, !key.contains("ENCRYPTED"))
        .cause(format!("the private key in `{shown}` is encrypted"))
        .remedy("decrypt it with `openssl pkey -in FILE -out FILE`, in a file that only this app can read")?;
    rule(KEY, key.contains("PRIVATE"))
        .cause(format!("`{shown}` has no private key in PEM"))
        .remedy("write the private key of the client's certificate into it")
}

#[cfg(unix)]
fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_all(_: &Path) -> bool {
    false
}
