//! A web server in another process that injects faults.
//!
//! The file `name.response` in its directory defines the response of `/name`: a line with the mode,
//! followed by the body. The server appends each request and its time to `log`.

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::child::{self, Child, Running};

/// The listeners of the server, in the order of their ports.
const LISTENERS: [&str; 7] = ["http", "raw", "full", "tls", "expired", "wrong", "mutual"];

/// The certificates of the server and of its clients.
const CERTIFICATES: [&str; 4] = ["tls", "expired", "wrong", "client"];

/// The server process of a test; killed when this is dropped.
pub(crate) struct Web {
    /// Declared first: the process ends before its directory is deleted.
    process: Option<Running>,
    dir: tempfile::TempDir,
    test: &'static str,
    ports: Vec<u16>,
}

impl Web {
    /// Starts the server by a test that calls [`serve_as_child`].
    pub(crate) fn start(test: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_certificates(dir.path());
        let mut web = Self {
            dir,
            test,
            process: None,
            ports: vec![0; LISTENERS.len()],
        };
        web.restart();
        web
    }

    /// Restarts the server with the same ports.
    pub(crate) fn restart(&mut self) {
        self.process = None;
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        let role = format!("serve {} {}", ports.join(","), self.dir.path().display());
        let process = Child::of(self.test).role(role).start();
        let ports = process
            .output
            .recv_timeout(Duration::from_secs(20))
            .unwrap();
        self.ports = ports.split(',').map(|it| it.parse().unwrap()).collect();
        self.process = Some(process);
    }

    /// Kills the server with `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    /// Returns the address of a name at a listener.
    pub(crate) fn url(&self, listener: &str, name: &str) -> String {
        let index = LISTENERS.iter().position(|it| *it == listener).unwrap();
        let scheme = if index < 3 { "http" } else { "https" };
        format!("{scheme}://127.0.0.1:{}/{name}", self.ports[index])
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets the response of a name.
    pub(crate) fn set(&self, name: &str, mode: &str, body: impl AsRef<[u8]>) {
        // A rename replaces both atomically.
        let temporary = self.file("aside");
        fs::write(&temporary, [mode.as_bytes(), b"\n", body.as_ref()].concat()).unwrap();
        fs::rename(temporary, self.file(&format!("{name}.response"))).unwrap();
    }

    /// Returns the requests for a name so far.
    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        let all = self.notes(name).into_iter();
        all.map(|(_, line)| line).collect()
    }

    /// Returns the time of each request since the Unix epoch.
    pub(crate) fn arrivals(&self, name: &str) -> Vec<Duration> {
        let all = self.notes(name).into_iter();
        all.map(|(at, _)| at).collect()
    }

    fn notes(&self, name: &str) -> Vec<(Duration, String)> {
        let all = fs::read_to_string(self.file("log")).unwrap_or_default();
        let begin = format!("/{name} ");
        // A killed server may leave an incomplete line.
        let notes = all.lines().filter_map(|line| line.split_once(' '));
        notes
            .filter(|(_, line)| line.starts_with(&begin))
            .map(|(at, line)| (Duration::from_micros(at.parse().unwrap()), line.to_owned()))
            .collect()
    }
}

/// Creates two certificate authorities, and certificates signed by the first.
fn create_certificates(dir: &Path) {
    let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write(name, params.self_signed(&key).unwrap().pem());
        Issuer::new(params, key)
    };
    let issuer = authority("ca.pem");
    authority("stranger.pem");
    for name in CERTIFICATES {
        let host = if name == "wrong" {
            "elsewhere.test"
        } else {
            "127.0.0.1"
        };
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        if name == "expired" {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        if name == "client" {
            let usage = ExtendedKeyUsagePurpose::ClientAuth;
            params.extended_key_usages.push(usage);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// Runs the server if this process is its child; returns otherwise.
pub(crate) fn serve_as_child() {
    let Some(role) = child::role() else { return };
    let mut arguments = role.splitn(3, ' ');
    assert_eq!(arguments.next(), Some("serve"));
    let ports: Vec<u16> = arguments
        .next()
        .unwrap()
        .split(',')
        .map(|it| it.parse().unwrap())
        .collect();
    let dir = PathBuf::from(arguments.next().unwrap());
    // The end of its input ends the server with its parent.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let listeners: Vec<_> = LISTENERS
        .into_iter()
        .zip(&ports)
        .map(|(name, port)| listen(name, *port))
        .collect();
    let ports: Vec<_> = listeners
        .iter()
        .map(|it| it.local_addr().unwrap().port().to_string())
        .collect();
    runtime.block_on(async {
        for (name, listener) in LISTENERS.into_iter().zip(listeners) {
            let dir = dir.clone();
            match name {
                "raw" => {
                    let listener = listener.into_std().unwrap();
                    listener.set_nonblocking(false).unwrap();
                    std::thread::spawn(move || serve_raw(&listener, &dir));
                }
                // Listens without accepting a connection.
                "full" => std::mem::forget(listener),
                "http" => drop(tokio::spawn(accept(listener, None, dir))),
                _ => {
                    let tls = acceptor(&dir, name);
                    tokio::spawn(accept(listener, Some(tls), dir));
                }
            }
        }
        child::report(ports.join(","));
        std::future::pending::<()>().await;
    });
}

fn listen(name: &str, port: u16) -> tokio::net::TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections of a killed server may still be closing.
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(SocketAddr::from(([127, 0, 0, 1], port)))
        .unwrap();
    socket
        .listen(if name == "full" { 1 } else { 1024 })
        .unwrap()
}

fn acceptor(dir: &Path, name: &str) -> TlsAcceptor {
    let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_file_iter(dir.join(name)).unwrap();
        all.map(Result::unwrap).collect()
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match name {
        "mutual" => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("ca.pem"));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        _ => builder.with_no_client_auth(),
    };
    let name = if name == "mutual" { "tls" } else { name };
    let chain = certificates(&format!("{name}.pem"));
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
    let config = builder.with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, dir: PathBuf) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, dir) = (tls.clone(), dir.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, dir.clone()));
            let http = hyper::server::conn::http1::Builder::new();
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                }
            }
        });
    }
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, dir: PathBuf) -> Result<Reply, Infallible> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.map_or("-", |it| it.to_str().unwrap()).to_owned()
    };
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let condition = header("if-none-match");
    let since = header("if-modified-since");
    append_to_log(
        &dir,
        &format!(
            "/{name} match={condition} since={since} authorization={} team={}",
            header("authorization"),
            header("x-team"),
        ),
    );
    let (mode, body) = response_of(&dir, &name);
    let (mode, rest) = mode.split_once(' ').unwrap_or((&mode, ""));
    let complete = |status: u16, headers: &str, body: Vec<u8>| {
        reply(status, headers, Full::new(Bytes::from(body)))
    };
    let reply = match mode {
        "ok" => {
            let etag = format!("\"{:x}\"", sum(&body));
            if condition == etag {
                complete(304, "", Vec::new())
            } else {
                complete(200, &format!("etag: {etag}|{rest}"), body)
            }
        }
        "dated" if since == rest => complete(304, "", Vec::new()),
        "dated" => complete(200, &format!("last-modified: {rest}"), body),
        // Reports `304` although the body changes.
        "liar" if condition == "\"v1\"" => complete(304, "", Vec::new()),
        "liar" => complete(200, "etag: \"v1\"", body),
        "status" => {
            let (status, headers) = rest.split_once(' ').unwrap_or((rest, ""));
            complete(status.parse().unwrap(), headers, body)
        }
        "hang" => std::future::pending().await,
        "drip" => {
            let length = format!("content-length: {}", body.len());
            reply(
                200,
                &length,
                Flow::of(body, 1, Some(Duration::from_secs(1))),
            )
        }
        "chunked" => reply(200, rest, Flow::of(body, 7, None)),
        "endless" => reply(
            200,
            "",
            Flow {
                repeats: true,
                ..Flow::of(vec![b'#'; 65536], 65536, None)
            },
        ),
        _ => complete(404, "", b"nothing here".to_vec()),
    };
    Ok(reply)
}

fn reply<B>(status: u16, headers: &str, body: B) -> Reply
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
{
    let mut response = Response::new(BoxBody::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for header in headers.split('|').filter(|it| !it.is_empty()) {
        let (name, value) = header.split_once(": ").unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        response
            .headers_mut()
            .insert(name, HeaderValue::from_str(value).unwrap());
    }
    response
}

/// Reads the mode and the body of a response.
fn response_of(dir: &Path, name: &str) -> (String, Vec<u8>) {
    let all = fs::read(dir.join(format!("{name}.response"))).unwrap_or_default();
    let (mode, body) = match all.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&all[..end], &all[end + 1..]),
        None => (&all[..], &[][..]),
    };
    (String::from_utf8(mode.to_vec()).unwrap(), body.to_vec())
}

fn append_to_log(dir: &Path, line: &str) {
    let mut log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let line = format!("{} {line}\n", at.as_micros());
    log.write_all(line.as_bytes()).unwrap();
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(17, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A body that is sent in pieces, slowly, or without end.
struct Flow {
    bytes: Bytes,
    piece: usize,
    at: usize,
    every: Option<tokio::time::Interval>,
    repeats: bool,
}

impl Flow {
    fn of(bytes: Vec<u8>, piece: usize, every: Option<Duration>) -> Self {
        Self {
            bytes: bytes.into(),
            piece,
            at: 0,
            every: every.map(tokio::time::interval),
            repeats: false,
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(every) = &mut self.every {
            ready!(every.poll_tick(context));
        }
        if self.repeats {
            self.at = 0;
        }
        if self.at >= self.bytes.len() {
            return Poll::Ready(None);
        }
        let end = (self.at + self.piece).min(self.bytes.len());
        let piece = self.bytes.slice(self.at..end);
        self.at = end;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Sends bodies unchanged, including the head of the response, and then follows the mode.
fn serve_raw(listener: &TcpListener, dir: &Path) {
    for stream in listener.incoming().flatten() {
        let dir = dir.to_owned();
        std::thread::spawn(move || drop(respond_raw(stream, &dir)));
    }
}

fn respond_raw(mut stream: TcpStream, dir: &Path) -> std::io::Result<()> {
    // The bytes stay unread, so closing resets the connection.
    let mut head = [0; 1024];
    let seen = stream.peek(&mut head)?;
    let head = String::from_utf8_lossy(&head[..seen]).into_owned();
    let name = head.split([' ', '/']).find(|it| it.ends_with(".toml"));
    let Some(name) = name else {
        // A TLS client sends no request.
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    };
    append_to_log(dir, &format!("/{name} raw"));
    let (mode, body) = response_of(dir, name);
    if let Some(length) = mode.strip_prefix("repeat ") {
        // Sends the first `length` bytes once and repeats the others.
        let (begin, piece) = body.split_at(length.parse().unwrap());
        stream.write_all(begin)?;
        let piece = piece.repeat(1 + 60_000 / piece.len());
        loop {
            stream.write_all(&piece)?;
        }
    }
    match mode.as_str() {
        "reset" => {
            stream.write_all(&body)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        "close" => {
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            while lines
                .next()
                .transpose()?
                .is_some_and(|line| !line.is_empty())
            {}
            stream.write_all(&body)?;
        }
        "drip" => {
            for byte in body {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        _ => std::thread::sleep(Duration::from_secs(60)),
    }
    Ok(())
}

/// Returns an address without a listener.
pub(crate) fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
