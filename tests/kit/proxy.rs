//! A TCP proxy between a client and a server that injects faults.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How the proxy treats connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Mode {
    Pass,
    /// Closes open connections, and new ones at once.
    Refuse,
    /// Resets open and new connections.
    Reset,
    /// Keeps connections open and discards all bytes.
    HalfOpen,
    /// Keeps connections open and delays all bytes.
    Stall,
}

const MODES: [Mode; 5] = [
    Mode::Pass,
    Mode::Refuse,
    Mode::Reset,
    Mode::HalfOpen,
    Mode::Stall,
];

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    mode: AtomicU8,
    target: AtomicU16,
    ended: AtomicBool,
    accepted: AtomicUsize,
    /// Bytes forwarded in both directions.
    forwarded: AtomicUsize,
    /// When each connection was accepted.
    times: Mutex<Vec<Instant>>,
    /// When clients sent bytes.
    sent: Mutex<Vec<Instant>>,
    /// Open connections, with their numbers.
    pairs: Mutex<Vec<(usize, TcpStream, TcpStream)>>,
    /// The last bytes of each client, with the number of its connection.
    last: Mutex<Vec<(usize, Vec<u8>)>>,
    /// The numbers of connections that stay open and discard all bytes.
    discarding: Mutex<Vec<usize>>,
}

impl Shared {
    fn mode(&self) -> Mode {
        MODES[usize::from(self.mode.load(Ordering::SeqCst))]
    }

    fn cut(&self, reset: bool) {
        for (_, client, server) in self.pairs.lock().unwrap().drain(..) {
            for stream in [client, server] {
                if reset {
                    // Without lingering, closing sends a reset.
                    linger(&stream);
                }
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn linger(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
}

impl Proxy {
    /// Starts a proxy in front of a local port.
    pub(crate) fn new(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(Mode::Pass as u8),
            target: AtomicU16::new(target),
            ended: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            forwarded: AtomicUsize::new(0),
            times: Mutex::default(),
            sent: Mutex::default(),
            pairs: Mutex::default(),
            last: Mutex::default(),
            discarding: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let number = accepting.accepted.fetch_add(1, Ordering::SeqCst);
                accepting.times.lock().unwrap().push(Instant::now());
                match accepting.mode() {
                    Mode::Refuse => drop(client.shutdown(Shutdown::Both)),
                    Mode::Reset => linger(&client),
                    _ => forward(&accepting, number, client),
                }
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
        match mode {
            Mode::Refuse => self.shared.cut(false),
            Mode::Reset => self.shared.cut(true),
            _ => {}
        }
    }

    /// Closes open connections; new ones pass.
    pub(crate) fn cut(&self) {
        self.shared.cut(false);
    }

    /// Discards all further bytes of connections whose client last sent `text`. Returns their number.
    #[allow(dead_code)] // used for some stores only
    pub(crate) fn discard(&self, text: &str) -> usize {
        let last = self.shared.last.lock().unwrap();
        let has_sent = |sent: &[u8]| String::from_utf8_lossy(sent).contains(text);
        let matching = last.iter().filter(|(_, sent)| has_sent(sent));
        let matching: Vec<usize> = matching.map(|(number, _)| *number).collect();
        self.shared.discarding.lock().unwrap().extend(&matching);
        matching.len()
    }

    /// Forwards new connections to another port and closes open ones.
    pub(crate) fn set_target(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        self.shared.cut(false);
    }

    /// Returns when clients sent bytes: about once per request.
    pub(crate) fn requests(&self) -> Vec<Instant> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// Returns when each connection was accepted.
    pub(crate) fn connections(&self) -> Vec<Instant> {
        self.shared.times.lock().unwrap().clone()
    }

    /// Returns the bytes forwarded in both directions.
    #[allow(dead_code)] // used by benches only
    pub(crate) fn forwarded(&self) -> usize {
        self.shared.forwarded.load(Ordering::SeqCst)
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.shared.pairs.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.cut(false);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn forward(shared: &Arc<Shared>, number: usize, client: TcpStream) {
    let target = shared.target.load(Ordering::SeqCst);
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let clones = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some((kept, other)), Some((from, to))) = (clones(), clones()) else {
        return;
    };
    shared.pairs.lock().unwrap().push((number, kept, other));
    for (from, to, is_client) in [(client, to, true), (server, from, false)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || pump(&shared, number, from, to, is_client));
    }
}

fn pump(shared: &Shared, number: usize, mut from: TcpStream, mut to: TcpStream, is_client: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if is_client {
            shared.sent.lock().unwrap().push(Instant::now());
            let mut last = shared.last.lock().unwrap();
            last.retain(|(other, _)| *other != number);
            last.push((number, buffer[..length.min(1024)].to_vec()));
        }
        while shared.mode() == Mode::Stall && !shared.ended.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        let is_discarding = shared.discarding.lock().unwrap().contains(&number);
        if is_discarding || shared.mode() == Mode::HalfOpen {
            continue;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        shared.forwarded.fetch_add(length, Ordering::SeqCst);
    }
    // The end of one direction ends the other, except in half-open connections.
    if shared.mode() != Mode::HalfOpen {
        for stream in [&from, &to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    let mut last = shared.last.lock().unwrap();
    last.retain(|(other, _)| *other != number);
    drop(last);
    let mut pairs = shared.pairs.lock().unwrap();
    pairs.retain(|(other, ..)| *other != number);
}
