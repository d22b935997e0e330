//! A connection to a server of ZooKeeper that is encrypted.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::error::{Error, ErrorKind};
use crate::sources::shared::tls::Files;

/// A connection that is encrypted.
pub(super) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// TLS, set up.
#[derive(Clone)]
pub(super) struct Ready(Arc<ClientConfig>);

impl Ready {
    /// Reads the files; Mozilla's roots are trusted where no certificate was given.
    pub(super) fn of(files: &Files) -> Result<Self, Error> {
        let usual = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        let config = files.read()?.config(|roots| roots.extend(usual))?;
        Ok(Self(Arc::new(config)))
    }

    /// Begins to speak TLS; the handshake is done with the first bytes that are written.
    pub(super) fn begin(&self, host: &str, stream: TcpStream) -> Result<Encrypted, Error> {
        let unusable = |why: String| Error::new(ErrorKind::InvalidConfig, why);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unusable("the host is no name that a certificate can be for".into()))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name)
            .map_err(|fault| unusable(format!("TLS cannot be set up: {fault}")))?;
        Ok(StreamOwned::new(connection, stream))
    }
}
