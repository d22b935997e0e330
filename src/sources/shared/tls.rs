//! Certificates and secrets for a connection to a server: PEM files, and secrets that are given as text or
//! as a file. Files are read for each connection.

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
