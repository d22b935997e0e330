//! Certificates and secrets for a connection to a server: PEM files, and secrets that are given as text or
//! as a file. Files are read for each connection.

use std::io;
use std::path::{Path, PathBuf};
#[cfg(any(feature = "nats", feature = "zookeeper"))]
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
#[cfg(any(feature = "nats", feature = "zookeeper"))]
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, ErrorKind};
use crate::sources::fs::watch::read;
use crate::value::secret::Secret;

const CA: &str = "the file of the CA certificate";
const CHAIN: &str = "the file of the client certificate";
const KEY: &str = "the file of the client certificate's key";

/// The PEM files of the program.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct Files {
    pub(in crate::sources) ca: Option<PathBuf>,
    pub(in crate::sources) client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Whether any file is set.
    #[cfg(any(
        feature = "consul",
        feature = "etcd",
        feature = "nats",
        feature = "zookeeper"
    ))]
    pub(in crate::sources) fn any(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }

    /// Reads the files.
    pub(in crate::sources) fn read(&self) -> Result<Pems, Error> {
        let mut pems = Pems::default();
        if let Some(path) = &self.ca {
            pems.ca = Some(read_required(path, CA)?);
        }
        if let Some((chain, key)) = &self.client {
            pems.client = Some((read_required(chain, CHAIN)?, read_required(key, KEY)?));
        }
        Ok(pems)
    }
}

/// The contents of the PEM files.
#[derive(Default, Hash)]
pub(in crate::sources) struct Pems {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A certificate with its chain, and the key that belongs to it.
pub(in crate::sources) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pems {
    /// The certificates to trust instead of the default ones.
    pub(in crate::sources) fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Error> {
        let pem = self.ca.as_deref();
        pem.map(|pem| certificates(pem, CA)).transpose()
    }

    /// The PEM of the key of the client certificate.
    #[cfg(any(feature = "consul", feature = "etcd", feature = "http"))]
    pub(in crate::sources) fn key(&self) -> Option<&[u8]> {
        self.client.as_ref().map(|(_, key)| key.as_slice())
    }

    /// The client certificate and its key. Checks that they match, because a client may panic if they do not.
    pub(in crate::sources) fn identity(&self) -> Result<Option<Identity>, Error> {
        let Some((chain, pem)) = &self.client else {
            return Ok(None);
        };
        let chain = certificates(chain, CHAIN)?;
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| unusable(KEY, "holds no private key in PEM"))?;
        let (copy, key_copy) = (chain.clone(), key.clone_key());
        rustls::sign::CertifiedKey::from_der(copy, key_copy, &provider()).map_err(|fault| {
            let why = format!("and its key do not make a pair that can be used: {fault}");
            unusable("the client certificate", &why)
        })?;
        Ok(Some((chain, key)))
    }

    /// The configuration of a TLS client; `add_default` adds the roots where no certificate was given.
    #[cfg(any(feature = "nats", feature = "zookeeper"))]
    pub(in crate::sources) fn config(
        &self,
        add_default: impl FnOnce(&mut RootCertStore),
    ) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        match self.roots()? {
            None => add_default(&mut roots),
            Some(own) => {
                for certificate in own {
                    roots
                        .add(certificate)
                        .map_err(|fault| unusable(CA, &format!("cannot be used: {fault}")))?;
                }
            }
        }
        let tls = |fault: rustls::Error| unusable("TLS", &format!("cannot be set up: {fault}"));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots);
        match self.identity()? {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(tls),
        }
    }
}

/// The error of a failed exchange, if TLS is what failed.
pub(in crate::sources) fn failure(fault: &io::Error) -> Option<Error> {
    let tls = fault.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(failed(tls))
}

/// The error of TLS, and what may help.
pub(in crate::sources) fn failed(fault: &rustls::Error) -> Error {
    let remedy = remedy(fault).map_or_else(String::new, |remedy| format!("; {remedy}"));
    let detail = format!("TLS failed: {fault}{remedy}");
    Error::new(ErrorKind::Unavailable, detail)
}

fn remedy(fault: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, InvalidMessage};
    match fault {
        rustls::Error::InvalidCertificate(fault) => match fault {
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                Some("set the certificate of the server's authority with `ca`")
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                Some("renew the certificate of the server, or check the clock")
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                Some("check the clock")
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                Some("use a name of the server that its certificate has")
            }
            Certificate::Other(fault) if fault.to_string().contains("CaUsedAsEndEntity") => {
                Some("the server needs a certificate that is no certificate of an authority")
            }
            _ => None,
        },
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::AccessDenied
            | Alert::HandshakeFailure,
        ) => Some("set a certificate that the server trusts with `client_certificate`"),
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            Some("renew the certificate that `client_certificate` names")
        }
        rustls::Error::AlertReceived(Alert::ProtocolVersion)
        | rustls::Error::PeerIncompatible(_) => Some("the server needs TLS 1.2 or 1.3"),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the server may not use TLS at this port; check the address")
        }
        _ => None,
    }
}

/// The explicit provider: a program may have several compiled in, and no default.
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn unusable(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("{what} {why}"))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(what, "holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(_) => Err(unusable(what, "is not valid PEM")),
    }
}

/// Reads a file that has to exist.
fn read_required(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    match read::read(path) {
        Ok(content) => Ok(content.bytes),
        Err(fault) => {
            let detail = format!("{what}, {}: {fault}", path.display());
            Err(Error::new(ErrorKind::Unavailable, detail))
        }
    }
}

/// A secret of the program, or of a file.
#[derive(Clone)]
pub(in crate::sources) enum Credential {
    Given(Secret<String>),
    File(PathBuf),
}

impl Credential {
    /// Reads the secret; white space at the end of a file does not count.
    pub(in crate::sources) fn read(&self, what: &str) -> Result<String, Error> {
        match self {
            Self::Given(secret) => Ok(secret.expose().clone()),
            Self::File(path) => {
                let bytes = read_required(path, what)?;
                Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

    #[test]
    fn a_failure_of_tls_has_the_remedy_of_its_cause() {
        let certificate = rustls::Error::InvalidCertificate;
        let alert = rustls::Error::AlertReceived;
        let end_entity = OtherError(std::sync::Arc::new(io::Error::other("CaUsedAsEndEntity")));
        for (fault, remedy) in [
            (certificate(CertificateError::UnknownIssuer), "with `ca`"),
            (certificate(CertificateError::BadSignature), "with `ca`"),
            (certificate(CertificateError::Expired), "renew"),
            (certificate(CertificateError::NotValidYet), "clock"),
            (certificate(CertificateError::NotValidForName), "a name of"),
            (
                certificate(CertificateError::Other(end_entity)),
                "no certificate of an authority",
            ),
            (
                alert(AlertDescription::CertificateRequired),
                "with `client_certificate`",
            ),
            (
                alert(AlertDescription::UnknownCA),
                "with `client_certificate`",
            ),
            (
                alert(AlertDescription::CertificateExpired),
                "`client_certificate`",
            ),
            (alert(AlertDescription::ProtocolVersion), "TLS 1.2"),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "may not use TLS",
            ),
        ] {
            let shown = failed(&fault).to_string();
            assert!(shown.starts_with("TLS failed: "), "{shown}");
            assert!(shown.contains(remedy), "{shown}");
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, fault);
            let within = failure(&wrapped).map(|error| error.to_string());
            assert_eq!(within.as_deref(), Some(&*shown));
        }
        assert!(failure(&io::Error::other("no TLS")).is_none());
    }
}
