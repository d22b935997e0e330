//! TLS of HTTP clients.

use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::{Error, ErrorKind};
#[cfg(any(feature = "consul", feature = "etcd"))]
use crate::sources::shared::http_client::url::Url;
#[cfg(any(feature = "consul", feature = "etcd"))]
use crate::sources::shared::tls::Files;
use crate::sources::shared::tls::Pems;

/// Sets up TLS; trusts Mozilla's roots where no certificate was given.
pub(crate) fn config(pems: &Pems) -> Result<TlsConfig, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(roots) = pems.roots()? {
        let owned = roots.iter().map(|it| Certificate::from_der(it).to_owned());
        tls = tls.root_certs(RootCerts::from(owned));
    }
    if let Some(((chain, _), pem)) = pems.identity()?.zip(pems.key()) {
        let key = PrivateKey::from_pem(pem).map_err(|_| {
            let detail = "the client certificate's key is of an unsupported kind";
            Error::new(ErrorKind::InvalidConfig, detail)
        })?;
        let chain: Vec<_> = chain
            .iter()
            .map(|it| Certificate::from_der(it).to_owned())
            .collect();
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(tls.build())
}

/// Parses the address of a store's server. Certificates require `https`: without it, secrets would be sent in
/// the clear. The source adds the paths of the HTTP interface with the version `api`, so the address must end
/// before them.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn server(address: &str, files: &Files, api: &str) -> Result<Url, Error> {
    let reject = |why: &str| {
        let detail = format!("invalid address: {why}");
        Error::new(ErrorKind::InvalidConfig, detail)
    };
    let url = Url::parse(address).map_err(reject)?;
    if url.enters_api(api) {
        let why = format!("the source adds the path itself; end the address before `/{api}`");
        return Err(reject(&why));
    }
    if files.any() && !url.is_secure() {
        return Err(reject(
            "it begins with `http`, but a certificate was given, which requires `https`",
        ));
    }
    Ok(url)
}

/// Creates the client of a store, which keeps one connection.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn agent(files: &Files) -> Result<ureq::Agent, Error> {
    Ok(super::agent(config(&files.read()?)?, 1))
}
