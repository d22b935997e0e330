//! A TCP proxy between a client and a server that misbehaves when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Mode {
    Pass,
    /// New connections are closed at once, and those that are there are cut.
    Refuse,
    /// Those that are there are reset, new ones too.
    Reset,
    /// All stay open, and what is sent is swallowed.
    HalfOpen,
    /// All stay open, and what is sent waits.
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
    /// How many bytes went through.
    passed: AtomicUsize,
    /// When each connection came.
    times: Mutex<Vec<Instant>>,
    /// When clients sent something.
    sent: Mutex<Vec<Instant>>,
    /// Those that are open, by number.
    pairs: Mutex<Vec<(usize, TcpStream, TcpStream)>>,
    /// What a client has sent last, by the number of its connection.
    last: Mutex<Vec<(usize, Vec<u8>)>>,
    /// The numbers of connections that stay open and swallow everything.
    swallowed: Mutex<Vec<usize>>,
}

impl Shared {
    fn mode(&self) -> Mode {
        MODES[usize::from(self.mode.load(Ordering::SeqCst))]
    }

    fn cut(&self, reset: bool) {
        for (_, client, server) in self.pairs.lock().unwrap().drain(..) {
            for stream in [client, server] {
                if reset {
                    // Data that wait unread make the end of a socket a reset; so does this.
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
    /// A proxy before a port of this machine.
    pub(crate) fn before(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(Mode::Pass as u8),
            target: AtomicU16::new(target),
            ended: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            times: Mutex::default(),
            sent: Mutex::default(),
            pairs: Mutex::default(),
            last: Mutex::default(),
            swallowed: Mutex::default(),
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
                    _ => join(&accepting, number, client),
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

    /// Cuts what is connected now; new connections are let through.
    pub(crate) fn cut(&self) {
        self.shared.cut(false);
    }

    /// Lets the connections whose client has sent a text last swallow everything from now on; says how
    /// many those are.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn swallow(&self, text: &str) -> usize {
        let last = self.shared.last.lock().unwrap();
        let has_sent = |sent: &[u8]| String::from_utf8_lossy(sent).contains(text);
        let those = last.iter().filter(|(_, sent)| has_sent(sent));
        let those: Vec<usize> = those.map(|(number, _)| *number).collect();
        self.shared.swallowed.lock().unwrap().extend(&those);
        those.len()
    }

    /// Leads to another port from now on, and cuts what is connected.
    pub(crate) fn aim(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        self.shared.cut(false);
    }

    /// When clients sent something, which is about a request each time.
    pub(crate) fn requests(&self) -> Vec<Instant> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// How many connections have come, and when.
    pub(crate) fn connections(&self) -> Vec<Instant> {
        self.shared.times.lock().unwrap().clone()
    }

    /// How many bytes went through, both ways.
    #[allow(dead_code)] // by benches only
    pub(crate) fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// How many connections there are now.
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

fn join(shared: &Arc<Shared>, number: usize, client: TcpStream) {
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
    for (from, to, counts) in [(client, to, true), (server, from, false)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || pump(&shared, number, from, to, counts));
    }
}

fn pump(shared: &Shared, number: usize, mut from: TcpStream, mut to: TcpStream, counts: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if counts {
            shared.sent.lock().unwrap().push(Instant::now());
            let mut last = shared.last.lock().unwrap();
            last.retain(|(other, _)| *other != number);
            last.push((number, buffer[..length.min(1024)].to_vec()));
        }
        while shared.mode() == Mode::Stall && !shared.ended.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        let is_swallowed = shared.swallowed.lock().unwrap().contains(&number);
        if is_swallowed || shared.mode() == Mode::HalfOpen {
            continue;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        shared.passed.fetch_add(length, Ordering::SeqCst);
    }
    // A half that ended ends the other, unless nobody is to notice.
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
