//! TLS as the client of HTTP takes it.

use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::{Error, ErrorKind};
#[cfg(any(feature = "consul", feature = "etcd"))]
use crate::sources::shared::http_client::url::Url;
#[cfg(any(feature = "consul", feature = "etcd"))]
use crate::sources::shared::tls::Files;
use crate::sources::shared::tls::Pems;

/// TLS, set up; Mozilla's roots are trusted where no certificate was given.
pub(crate) fn config(pems: &Pems) -> Result<TlsConfig, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(roots) = pems.roots()? {
        let owned = roots.iter().map(|it| Certificate::from_der(it).to_owned());
        tls = tls.root_certs(RootCerts::from(owned));
    }
    if let Some(((chain, _), pem)) = pems.identity()?.zip(pems.key()) {
        let key = PrivateKey::from_pem(pem).map_err(|_| {
            let detail = "the client certificate's key is of no kind that can be used";
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

/// The address of a store's server, which speaks TLS where certificates were given: they would be of no
/// use without, and what is secret would be sent as it is. `api` is the version of the HTTP interface whose
/// paths the source adds: an address that goes into it finds no keys.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn server(address: &str, files: &Files, api: &str) -> Result<Url, Error> {
    let refuse = |why: &str| {
        let detail = format!("the address is not valid: {why}");
        Error::new(ErrorKind::InvalidConfig, detail)
    };
    let url = Url::parse(address).map_err(refuse)?;
    if url.enters_api(api) {
        let why = format!("the source adds the path itself; end the address before `/{api}`");
        return Err(refuse(&why));
    }
    if files.any() && !url.is_secure() {
        return Err(refuse(
            "it begins with `http`, and a certificate was given, which wants `https`",
        ));
    }
    Ok(url)
}

/// A client of a store, which keeps one connection.
#[cfg(any(feature = "consul", feature = "etcd"))]
pub(crate) fn agent(files: &Files) -> Result<ureq::Agent, Error> {
    Ok(super::agent(config(&files.read()?)?, 1))
}
