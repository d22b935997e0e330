//! What is trusted and by what one is known: certificates in files of PEM.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::{Error, ErrorKind};
use crate::sources::disk::read;

/// The files that TLS is set up with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Pems, Error> {
        let mut pems = Pems::default();
        if let Some(path) = &self.ca {
            pems.ca = Some(pem(path, "the file of the CA certificate")?);
        }
        if let Some((chain, key)) = &self.client {
            let chain = pem(chain, "the file of the client certificate")?;
            let key = pem(key, "the file of the client certificate's key")?;
            pems.client = Some((chain, key));
        }
        Ok(pems)
    }
}

/// The text of the files that TLS is set up with.
#[derive(Default, Hash)]
pub(crate) struct Pems {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Pems {
    pub(crate) fn config(&self) -> Result<TlsConfig, Error> {
        let mut tls = TlsConfig::builder();
        if let Some(ca) = &self.ca {
            let certificates = certificates(ca, "CA")?;
            let owned = certificates
                .iter()
                .map(|it| Certificate::from_der(it).to_owned());
            tls = tls.root_certs(RootCerts::from(owned));
        }
        if let Some((chain, key)) = &self.client {
            tls = tls.client_cert(Some(client_certificate(chain, key)?));
        }
        Ok(tls.build())
    }
}

fn unusable(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Other, format!("{what} {why}"))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let what = format!("the file of the {what} certificate");
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(&what, "holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(_) => Err(unusable(&what, "is not valid PEM")),
    }
}

fn client_certificate(chain: &[u8], key: &[u8]) -> Result<ClientCert, Error> {
    let what = "the file of the client certificate's key";
    let chain = certificates(chain, "client")?;
    let (Ok(der), Ok(own)) = (
        PrivateKeyDer::from_pem_slice(key),
        PrivateKey::from_pem(key),
    ) else {
        return Err(unusable(what, "holds no private key in PEM"));
    };
    // The client would panic at a pair that does not match.
    let provider = rustls::crypto::ring::default_provider();
    if let Err(fault) = rustls::sign::CertifiedKey::from_der(chain.clone(), der, &provider) {
        let why = format!("and its key do not make a pair that can be used: {fault}");
        return Err(unusable("the client certificate", &why));
    }
    let chain: Vec<_> = chain
        .iter()
        .map(|it| Certificate::from_der(it).to_owned())
        .collect();
    Ok(ClientCert::new_with_certs(&chain, own))
}

/// The text of a small file.
pub(crate) fn pem(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    match read::read(path) {
        Ok(content) => Ok(content.bytes),
        Err(fault) => {
            let detail = format!("{what}, {}: {fault}", path.display());
            Err(Error::new(ErrorKind::Unavailable, detail))
        }
    }
}
