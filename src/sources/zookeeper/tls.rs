//! TLS to a server of ZooKeeper: who is trusted, and who one is.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::error::{Error, ErrorKind};
use crate::sources::disk::read;

/// A connection that is encrypted.
pub(super) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// Whether TLS is wanted, and the files that it is set up with.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    pub(super) wanted: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// TLS, set up.
#[derive(Clone)]
pub(super) struct Ready(Arc<ClientConfig>);

impl Tls {
    /// Reads the files, which may have been replaced since.
    pub(super) fn read(&self) -> Result<Ready, Error> {
        // Named, not looked for: a program may have compiled several.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| unusable("TLS", &fault.to_string()))?
            .with_root_certificates(self.roots()?);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain, "the file of the client certificate")?;
                let what = "the file of the client certificate's key";
                let key = PrivateKeyDer::from_pem_slice(&pem(key, what)?)
                    .map_err(|_| unusable(what, "holds no private key in PEM"))?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|fault| unusable("the client certificate", &fault.to_string()))?
            }
        };
        Ok(Ready(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let what = "the file of the CA certificate";
                for certificate in certificates(path, what)? {
                    roots
                        .add(certificate)
                        .map_err(|fault| unusable(what, &fault.to_string()))?;
                }
            }
        }
        Ok(roots)
    }
}

impl Ready {
    /// Begins to speak TLS; the handshake is done with the first bytes that are written.
    pub(super) fn begin(&self, host: &str, stream: TcpStream) -> Result<Encrypted, Error> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unusable("the host", "is no name that a certificate can be for"))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name)
            .map_err(|fault| unusable("TLS", &fault.to_string()))?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn unusable(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Other, format!("{what}: {why}"))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(path, what)?).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(what, "holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(_) => Err(unusable(what, "is not valid PEM")),
    }
}

/// The text of a small file.
pub(super) fn pem(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    match read::read(path) {
        Ok(content) => Ok(content.bytes),
        Err(fault) => {
            let detail = format!("{what}, {}: {fault}", path.display());
            Err(Error::new(ErrorKind::Unavailable, detail))
        }
    }
}
