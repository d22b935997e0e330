//! What is trusted and by what one is known on the way to a server of NATS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, ErrorKind};
use crate::sources::disk::read;

/// The files that TLS is set up with.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    pub(super) ca: Option<PathBuf>,
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    pub(super) fn any(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }

    /// Reads the files; without TLS being asked for, nobody is trusted. The provider is named, as a
    /// program may have several and no default.
    pub(super) fn config(&self, asked: bool) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None if !asked => {}
            Some(path) => {
                for certificate in certificates(path, "the file of the CA certificate")? {
                    roots.add(certificate).map_err(|fault| {
                        let detail = format!("the CA certificate cannot be used: {fault}");
                        Error::new(ErrorKind::Other, detail)
                    })?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| Error::new(ErrorKind::Other, format!("TLS: {fault}")))?
            .with_root_certificates(roots);
        let Some((chain, key)) = &self.client else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(chain, "the file of the client certificate")?;
        let what = "the file of the client certificate's key";
        let key = PrivateKeyDer::from_pem_slice(&bytes(key, what)?).map_err(|_| {
            Error::new(
                ErrorKind::Other,
                format!("{what} holds no private key in PEM"),
            )
        })?;
        builder.with_client_auth_cert(chain, key).map_err(|fault| {
            let detail = format!(
                "the client certificate and its key do not make a pair that can be used: {fault}"
            );
            Error::new(ErrorKind::Other, detail)
        })
    }
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = bytes(path, what)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Error::new(
            ErrorKind::Other,
            format!("{what} holds no certificate in PEM"),
        )),
        Err(_) => Err(Error::new(
            ErrorKind::Other,
            format!("{what} is not valid PEM"),
        )),
    }
}

/// The content of a small file.
pub(super) fn bytes(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    match read::read(path) {
        Ok(content) => Ok(content.bytes),
        Err(fault) => {
            let detail = format!("{what}, {}: {fault}", path.display());
            Err(Error::new(ErrorKind::Unavailable, detail))
        }
    }
}
