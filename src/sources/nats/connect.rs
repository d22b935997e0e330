//! Establishes a connection: TCP, TLS, the login, and the state of the bucket.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{Error, ErrorKind};
use crate::source::Source;
use crate::sources::nats::Nats;
use crate::sources::nats::address::{Address, without_login};
use crate::sources::nats::bucket::Bucket;
use crate::sources::nats::client::{Connection, Stream, exchange};
use crate::sources::nats::errors::{cut, timed_out, unavailable};
use crate::sources::nats::jetstream::JetStream;
use crate::sources::nats::login::Login;
use crate::sources::nats::protocol::{Inbox, Op, malformed};
use crate::sources::shared::kv::endpoints::named;
use crate::sources::shared::tls::failure;

/// How long it may take to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// A connection, the state of the bucket, and the server's name for messages.
pub(super) struct Connected {
    pub(super) jetstream: JetStream,
    /// None where the bucket does not exist.
    pub(super) bucket: Option<Bucket>,
    pub(super) server: String,
}

impl Nats {
    /// Connects to the first server that answers.
    pub(super) async fn connect_any(&self) -> Result<Connected, Error> {
        let mut outcome = self.connect().await;
        for _ in 1..self.options.endpoints.count() {
            if outcome.is_ok() {
                break;
            }
            outcome = self.connect().await;
        }
        let connected = outcome?;
        let abandoned = std::mem::take(&mut *self.abandoned.lock());
        connected.jetstream.delete_consumers(abandoned).await;
        Ok(connected)
    }

    /// Connects to the current server.
    async fn connect(&self) -> Result<Connected, Error> {
        let endpoint = self.options.endpoints.current()?;
        let server = endpoint.name(without_login);
        let connect = async {
            let (address, login) = Address::parse(&endpoint.address)?;
            let config = self.options.login.as_ref();
            let configured = config.map(|config| config.read(&self.options.credentials));
            let login = configured.transpose()?.or(login).unwrap_or_default();
            let requires_tls = self.options.tls.any() || address.tls;
            // A server may ask for TLS where the address does not, and then has to be trusted too.
            let tls = Arc::new(self.tls_config(requires_tls)?);
            let connection = open(&address, &login, &tls, requires_tls).await?;
            let jetstream = JetStream::new(connection, self.options.domain.as_deref());
            let bucket = jetstream.bucket(&self.options.bucket).await?;
            Ok((jetstream, bucket))
        };
        let (jetstream, bucket) = connect
            .await
            .map_err(|error| named(error, &self.origin(), &server))
            .inspect_err(|_| self.options.endpoints.next())?;
        Ok(Connected {
            jetstream,
            bucket,
            server,
        })
    }

    fn tls_config(&self, with_system_roots: bool) -> Result<ClientConfig, Error> {
        self.options.tls.read()?.config(|roots| {
            if with_system_roots {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        })
    }
}

/// Connects to a server by one of its addresses, and logs in.
async fn open(
    address: &Address,
    login: &Login,
    tls: &Arc<ClientConfig>,
    requires_tls: bool,
) -> Result<Connection, Error> {
    let all = async {
        let found = lookup_host((address.host.as_str(), address.port)).await;
        let found = found.map_err(|_| unavailable("the host name has no address"))?;
        let mut outcome = Err(unavailable("the host name has no address"));
        for socket in found {
            let one = async {
                let stream = TcpStream::connect(socket).await;
                let stream = stream
                    .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
                    .map_err(|fault| unavailable(format!("cannot connect: {fault}")))?;
                greet(stream, address, login, tls, requires_tls).await
            };
            outcome = match timeout(CONNECT_TIMEOUT, one).await {
                Ok(outcome) => outcome,
                Err(_) => Err(timed_out("connecting", CONNECT_TIMEOUT)),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    };
    // The lookup of a name has no deadline of its own.
    let limit = CONNECT_TIMEOUT + CONNECT_TIMEOUT / 3;
    match timeout(limit, all).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out("connecting", limit)),
    }
}

/// Reads the server's `INFO`, encrypts the connection where either side requires it, and logs in.
async fn greet(
    mut stream: TcpStream,
    address: &Address,
    login: &Login,
    tls: &Arc<ClientConfig>,
    requires_tls: bool,
) -> Result<Connection, Error> {
    let mut inbox = Inbox::default();
    let info = exchange(&mut stream, &mut inbox, b"", |op| match op {
        Op::Info(info) => Ok(Some(info)),
        Op::Error(error) => Err(rejected(&error)),
        _ => Err(malformed("no INFO comes first")),
    })
    .await?;
    let encrypted = requires_tls || info.needs_tls;
    let mut stream: Box<dyn Stream> = if !encrypted {
        Box::new(stream)
    } else if inbox.is_empty() {
        Box::new(encrypt(stream, &address.host, tls, requires_tls).await?)
    } else {
        // Anybody on the way could have added bytes before the handshake.
        return Err(malformed("more than an INFO comes before TLS"));
    };
    let connect = login.connect(&info.nonce, encrypted)?;
    exchange(&mut *stream, &mut inbox, &connect, |op| match op {
        Op::Pong => Ok(Some(())),
        Op::Error(error) => Err(rejected(&error)),
        _ => Ok(None),
    })
    .await?;
    Ok(Connection::run(stream, inbox))
}

async fn encrypt(
    stream: TcpStream,
    host: &str,
    tls: &Arc<ClientConfig>,
    requires_tls: bool,
) -> Result<impl Stream + use<>, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        let detail = "the host is not a name that a certificate can have";
        Error::new(ErrorKind::InvalidConfig, detail)
    })?;
    let encrypted = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    encrypted.await.map_err(|fault| {
        let why = cut(&fault.to_string());
        if !requires_tls {
            let hint = "the server asks for it: trust it by `tls://` or a CA certificate";
            return unavailable(format!("TLS failed: {why}; {hint}"));
        }
        let failed = || unavailable(format!("TLS failed: {why}"));
        failure(&fault).unwrap_or_else(failed)
    })
}

/// The error of a server that rejects the connection.
fn rejected(error: &str) -> Error {
    let lower = error.to_ascii_lowercase();
    if lower.contains("authoriz") || lower.contains("authentic") {
        unavailable("the server rejects the login: check the credentials")
    } else {
        unavailable(format!("the server rejects the connection: {}", cut(error)))
    }
}
