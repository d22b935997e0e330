//! Encrypted connections to a server.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::error::{Error, ErrorKind};
use crate::sources::shared::tls::Files;

/// An encrypted connection.
pub(super) type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// Encrypts connections with the certificates of the program.
#[derive(Clone)]
pub(super) struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Reads the files; trusts Mozilla's roots where no certificate was given.
    pub(super) fn of(files: &Files) -> Result<Self, Error> {
        let default = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        let config = files.read()?.config(|roots| roots.extend(default))?;
        Ok(Self(Arc::new(config)))
    }

    /// Starts TLS; the first write performs the handshake.
    pub(super) fn connect(&self, host: &str, stream: TcpStream) -> Result<Encrypted, Error> {
        let unusable = |why: String| Error::new(ErrorKind::InvalidConfig, why);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unusable("the host is not a name that a certificate can have".into()))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name)
            .map_err(|fault| unusable(format!("TLS cannot be set up: {fault}")))?;
        Ok(StreamOwned::new(connection, stream))
    }
}
