//! How a connection to a server of NATS begins: its address, TLS, and who one is.
//!
//! A password stands in nothing but the `CONNECT` that is sent: an [`Address`] is without it, and so
//! is every error.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{Error, ErrorKind};
use crate::sources::nats::client::{Connection, Stream, exchange};
use crate::sources::nats::link::{cut, late, unavailable};
use crate::sources::nats::wire::{Inbox, Op, malformed};

/// The port of a server by default.
const PORT: u16 = 4222;
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_millis(1500);

/// Where a server is.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// Whether it is to speak TLS.
    pub(super) tls: bool,
    host: String,
    port: u16,
}

/// Who one is.
#[derive(Default)]
pub(super) struct Login {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    jwt: Option<String>,
    key: Option<KeyPair>,
}

impl Address {
    /// Parses an address; what stands before an `@` is who one is.
    ///
    /// # Errors
    ///
    /// If it is none. Nothing of it is quoted but a scheme, because it may hold a password.
    pub(super) fn parse(text: &str) -> Result<(Self, Option<Login>), Error> {
        let bad = |why: &str| {
            let detail = format!("the address is not valid{why}");
            Error::new(ErrorKind::InvalidConfig, detail)
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "nats" | "http" => false,
            "tls" | "https" => true,
            other if !other.is_empty() && other.chars().all(|c| c.is_ascii_alphanumeric()) => {
                return Err(bad(&format!(
                    ": its scheme is `{scheme}`, not `nats` or `tls`"
                )));
            }
            _ => return Err(bad("")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (who, place) = match rest[..end].rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, &rest[..end]),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|six| six.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let plain = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(bad(": a host is missing, or is none"));
        }
        let port = match port.filter(|port| !port.is_empty()) {
            None => PORT,
            Some(port) => match port.parse() {
                Ok(port @ 1..) => port,
                _ => return Err(bad(": a port is 1 to 65535")),
            },
        };
        let host = host.to_owned();
        let login = match who.filter(|who| !who.is_empty()) {
            None => None,
            Some(who) => {
                Some(Login::of_address(who).ok_or_else(|| bad(": a part of it is not UTF-8"))?)
            }
        };
        Ok((Self { tls, host, port }, login))
    }
}

impl Login {
    /// `user:password`, or a token.
    fn of_address(who: &str) -> Option<Self> {
        Some(match who.split_once(':') {
            Some((user, password)) => Self::of_user(decoded(user)?, decoded(password)?),
            None => Self::of_token(decoded(who)?),
        })
    }

    pub(super) fn of_token(token: String) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }

    pub(super) fn of_user(user: String, password: String) -> Self {
        Self {
            user: Some(user),
            password: Some(password),
            ..Self::default()
        }
    }

    /// Signs with a seed.
    pub(super) fn of_seed(seed: &str) -> Result<Self, Error> {
        let key = KeyPair::from_seed(seed.trim()).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                "the key to sign with is not valid",
            )
        })?;
        Ok(Self {
            key: Some(key),
            ..Self::default()
        })
    }

    /// Shows the JWT of a file of credentials, and signs with its seed; `None` if it holds none.
    pub(super) fn of_credentials(text: &str) -> Option<Self> {
        let mut blocks = blocks(text);
        let (jwt, seed) = (blocks.next()?, blocks.next()?);
        Some(Self {
            jwt: Some(jwt.to_owned()),
            ..Self::of_seed(seed).ok()?
        })
    }

    /// What one says of oneself, with the signature that a server wants.
    fn connect(&self, nonce: &str, tls: bool) -> Result<Vec<u8>, Error> {
        let mut says = json!({
            "verbose": false,
            "pedantic": false,
            "tls_required": tls,
            "name": "liveprops",
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
            "headers": true,
            "no_responders": true,
        });
        let mut add = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                says[name] = json!(value);
            }
        };
        add("user", self.user.as_ref());
        add("pass", self.password.as_ref());
        add("auth_token", self.token.as_ref());
        add("jwt", self.jwt.as_ref());
        if let Some(key) = &self.key {
            let signed = key.sign(nonce.as_bytes()).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "the key to sign with is not valid",
                )
            })?;
            add("sig", Some(&URL_SAFE_NO_PAD.encode(signed)));
            if self.jwt.is_none() {
                add("nkey", Some(&key.public_key()));
            }
        }
        Ok(format!("CONNECT {says}\r\nPING\r\n").into_bytes())
    }
}

/// What stands between lines that begin and end with dashes.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let is_dashed = |line: &str| line.starts_with("---") && line.ends_with("---");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    (1..lines.len().saturating_sub(1)).filter_map(move |at| {
        let inside = is_dashed(lines[at - 1]) && is_dashed(lines[at + 1]);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.=".contains(c);
        let good = !lines[at].is_empty() && lines[at].chars().all(plain);
        (inside && good && !is_dashed(lines[at])).then_some(lines[at])
    })
}

/// A part of an address without its percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let escaped = (*first == b'%')
            .then(|| more.split_at_checked(2))
            .flatten()
            .and_then(|(two, more)| {
                let two = std::str::from_utf8(two).ok()?;
                Some((u8::from_str_radix(two, 16).ok()?, more))
            });
        match escaped {
            Some((byte, more)) => {
                bytes.push(byte);
                rest = more;
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Connects to a server, by one of its addresses, and says who one is.
pub(super) async fn connect(
    address: &Address,
    login: &Login,
    tls: &Arc<ClientConfig>,
    wants_tls: bool,
) -> Result<Connection, Error> {
    let all = async {
        let place = (address.host.as_str(), address.port);
        let found = lookup_host(place).await;
        let found = found.map_err(|_| unavailable("the host's name has no address"))?;
        let mut outcome = Err(unavailable("the host's name has no address"));
        for place in found {
            let one = async {
                let stream = TcpStream::connect(place).await;
                let stream = stream
                    .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
                    .map_err(|fault| unavailable(format!("there is no connection: {fault}")))?;
                begin(stream, address, login, tls, wants_tls).await
            };
            outcome = match timeout(CONNECT, one).await {
                Ok(outcome) => outcome,
                Err(_) => Err(late("there was a connection", CONNECT)),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    };
    // Looking up a name has no deadline of its own.
    let limit = CONNECT + CONNECT / 3;
    match timeout(limit, all).await {
        Ok(outcome) => outcome,
        Err(_) => Err(late("there was a connection", limit)),
    }
}

async fn begin(
    mut stream: TcpStream,
    address: &Address,
    login: &Login,
    tls: &Arc<ClientConfig>,
    wants_tls: bool,
) -> Result<Connection, Error> {
    let mut inbox = Inbox::default();
    let info = exchange(&mut stream, &mut inbox, b"", |op| match op {
        Op::Info(info) => Ok(Some(info)),
        Op::Error(error) => Err(refused(&error)),
        _ => Err(malformed("no INFO comes first")),
    })
    .await?;
    let encrypted = wants_tls || info.needs_tls;
    let mut stream: Box<dyn Stream> = if !encrypted {
        Box::new(stream)
    } else if inbox.is_empty() {
        Box::new(encrypt(stream, &address.host, tls, wants_tls).await?)
    } else {
        // What comes before the handshake could be from anybody.
        return Err(malformed("more than an INFO comes before TLS"));
    };
    let greeting = login.connect(&info.nonce, encrypted)?;
    exchange(&mut *stream, &mut inbox, &greeting, |op| match op {
        Op::Pong => Ok(Some(())),
        Op::Error(error) => Err(refused(&error)),
        _ => Ok(None),
    })
    .await?;
    Ok(Connection::run(stream, inbox))
}

async fn encrypt(
    stream: TcpStream,
    host: &str,
    tls: &Arc<ClientConfig>,
    wanted: bool,
) -> Result<impl Stream + use<>, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        let detail = "the host is no name that a certificate can be for";
        Error::new(ErrorKind::InvalidConfig, detail)
    })?;
    let encrypted = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    encrypted.await.map_err(|fault| {
        let why = cut(&fault.to_string());
        let hint = if wanted {
            ""
        } else {
            "; it is asked for by the server: trust it by `tls://` or a CA certificate"
        };
        unavailable(format!("TLS failed: {why}{hint}"))
    })
}

/// Why a server takes nobody, in its words.
fn refused(error: &str) -> Error {
    let lower = error.to_ascii_lowercase();
    if lower.contains("authoriz") || lower.contains("authentic") {
        unavailable("the server refuses: check the credentials")
    } else {
        unavailable(format!("the server refuses: {}", cut(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Address, Option<Login>) {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_asks_for_tls_or_does_not_and_nothing_else_is_taken() {
        let all = [
            ("h:1", false, "h", 1),
            ("nats://h", false, "h", 4222),
            ("NATS://h/", false, "h", 4222),
            ("http://h:1", false, "h", 1),
            ("tls://me:pw@h", true, "h", 4222),
            ("TLS://[::1]:7", true, "::1", 7),
            ("Https://h?x", true, "h", 4222),
        ];
        for (given, tls, host, port) in all {
            let host = host.to_owned();
            assert_eq!(parsed(given).0, Address { tls, host, port }, "{given}");
        }
        for wrong in [
            "wss://s3cret@h",
            "WS://h",
            "://h",
            "w\tss://h",
            "s3cret@h://h",
            "me:s3cret@",
            "nats://me:s3cret@h:0",
            "nats://me:s3cret@h:x",
            "nats://me:s3cret@a b",
            "nats://me:%ff@h",
        ] {
            let told = Address::parse(wrong).err().unwrap().to_string();
            assert!(told.contains("not valid"), "{told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
        let told = Address::parse("wss://h").err().unwrap().to_string();
        assert!(told.contains("`wss`"), "{told}");
    }

    #[test]
    fn who_one_is_may_stand_in_the_address() {
        let login = parsed("nats://me:p%40ss%3Aw%2Frd@h").1.unwrap();
        assert_eq!(login.user.as_deref(), Some("me"));
        assert_eq!(login.password.as_deref(), Some("p@ss:w/rd"));
        let login = parsed("tls://t0ken@h").1.unwrap();
        assert_eq!((login.token.as_deref(), login.user), (Some("t0ken"), None));
        assert!(parsed("nats://h").1.is_none() && parsed("nats://@h").1.is_none());
    }

    #[test]
    fn a_file_of_credentials_is_read_however_it_is_decorated() {
        let seed = KeyPair::new_user().seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.a_b.c-d=\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------"
        );
        let login = Login::of_credentials(&text).unwrap();
        assert_eq!(login.jwt.as_deref(), Some("eyJ.a_b.c-d="));
        let says = String::from_utf8(login.connect("n", false).unwrap()).unwrap();
        assert!(
            says.contains("\"sig\":\"") && !says.contains(&seed),
            "{says}"
        );
        assert!(Login::of_credentials("").is_none());
        assert!(Login::of_credentials(&text[..60]).is_none());
    }
}
