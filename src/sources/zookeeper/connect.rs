//! Connects to a server by TCP, and shuts the connection down when the source stops.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sources::shared::tls;
use crate::sources::zookeeper::protocol::unavailable;
use crate::sync::lock::Mutex;

/// Ends a session from another thread.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<Mutex<StopState>>);

#[derive(Default)]
enum StopState {
    /// No session is open.
    #[default]
    Idle,
    /// A session waits on this connection.
    Open(TcpStream),
    Stopped,
}

impl Stop {
    pub(super) fn stop(&self) {
        let state = std::mem::replace(&mut *self.0.lock(), StopState::Stopped);
        if let StopState::Open(stream) = state {
            // The other half stays open for the end of the session. Not every system wakes a read by this.
            let half = if cfg!(unix) {
                Shutdown::Read
            } else {
                Shutdown::Both
            };
            let _ = stream.shutdown(half);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(*self.0.lock(), StopState::Stopped)
    }

    /// Has [`stop`](Self::stop) shut this connection down, until the guard is dropped.
    pub(super) fn register(&self, stream: &TcpStream) -> Result<StopGuard, Error> {
        let stream = stream.try_clone();
        let mut state = self.0.lock();
        if matches!(*state, StopState::Stopped) {
            return Err(unavailable("the source stops"));
        }
        *state = stream.map_or(StopState::Idle, StopState::Open);
        Ok(StopGuard(self.clone()))
    }
}

/// Keeps a connection registered, which is closed only after that.
pub(super) struct StopGuard(Stop);

impl Drop for StopGuard {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        if matches!(*state, StopState::Open(_)) {
            *state = StopState::Idle;
        }
    }
}

/// Connects to one of the addresses of a host.
pub(super) fn connect(host: &str, port: u16, until: Instant) -> Result<TcpStream, Error> {
    let mut last = unavailable("the host has no address");
    for address in resolve(host, port, until)? {
        match TcpStream::connect_timeout(&address, remaining(until)) {
            Ok(stream) => return Ok(stream),
            Err(fault) => last = unavailable(format!("connecting: {fault}")),
        }
    }
    Err(last)
}

fn resolve(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Error> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = plain.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // The system has no deadline for a lookup, so another thread waits for it.
    let (send, found) = channel();
    let name = (host.to_owned(), port);
    std::thread::Builder::new()
        .name("liveprops-resolve".to_owned())
        .spawn(move || send.send(name.to_socket_addrs().map(Vec::from_iter)))
        .map_err(|fault| unavailable(format!("a thread: {fault}")))?;
    match found.recv_timeout(remaining(until)) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(fault)) => Err(unavailable(format!("the name of the host: {fault}"))),
        Err(_) => Err(late("the name of the host")),
    }
}

/// The time until then, at least 1 ms: a socket reads 0 as no timeout.
pub(super) fn remaining(until: Instant) -> Duration {
    let remaining = until.saturating_duration_since(Instant::now());
    remaining.max(Duration::from_millis(1))
}

pub(super) const ENDED: &str =
    "the server ended the connection: see its log, where it rejects clients";

pub(super) fn late(what: &str) -> Error {
    unavailable(format!("{what} timed out"))
}

pub(super) fn broken(fault: &io::Error) -> Error {
    match fault.kind() {
        io::ErrorKind::UnexpectedEof => unavailable(ENDED),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late("the end of a message"),
        _ => tls::failure(fault)
            .unwrap_or_else(|| unavailable(format!("the connection broke: {fault}"))),
    }
}
