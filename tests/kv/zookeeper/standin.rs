//! A simulated ZooKeeper server with the answers of a test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const CHILDREN: i32 = 12;
pub(crate) const DATA: i32 = 4;

/// The connection of a client with a session.
pub(crate) struct Peer {
    stream: TcpStream,
    sent: Arc<AtomicUsize>,
}

/// A request: its number, operation and path.
pub(crate) struct Question {
    pub(crate) xid: i32,
    pub(crate) kind: i32,
    pub(crate) path: String,
}

/// A simulated server.
pub(crate) struct StandIn {
    pub(crate) port: u16,
    /// The number of sessions so far.
    pub(crate) sessions: Arc<AtomicUsize>,
    /// The number of sent bytes.
    pub(crate) sent: Arc<AtomicUsize>,
}

impl StandIn {
    /// Runs `serve` on a new thread for each session.
    pub(crate) fn start(
        serve: impl Fn(&mut Peer) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let standin = Self {
            port: listener.local_addr().unwrap().port(),
            sessions: Arc::default(),
            sent: Arc::default(),
        };
        let (sessions, sent) = (Arc::clone(&standin.sessions), Arc::clone(&standin.sent));
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                sessions.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                let mut peer = Peer {
                    stream,
                    sent: Arc::clone(&sent),
                };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    // The thread ends with its client.
                    let _ = peer.greet().and_then(|()| serve(&mut peer));
                });
            }
        });
        standin
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Peer {
    fn message(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut message)?;
        Ok(message)
    }

    fn greet(&mut self) -> std::io::Result<()> {
        self.message()?;
        let mut hello = 0i32.to_be_bytes().to_vec();
        hello.extend(6000i32.to_be_bytes());
        hello.extend(7i64.to_be_bytes());
        hello.extend(16i32.to_be_bytes());
        hello.extend([0; 17]);
        self.send(&hello)
    }

    pub(crate) fn question(&mut self) -> std::io::Result<Question> {
        let message = self.message()?;
        let int = |at: usize| i32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let (xid, kind) = (int(0), int(4));
        let path = match message.len() {
            0..12 => String::new(),
            _ => String::from_utf8_lossy(&message[12..12 + int(8) as usize]).into_owned(),
        };
        Ok(Question { xid, kind, path })
    }

    /// Returns a second handle of the same connection.
    pub(crate) fn another(&self) -> std::io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            sent: Arc::clone(&self.sent),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> std::io::Result<()> {
        let bytes = framed(message);
        self.write(&bytes)
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, question: &Question, body: &[u8]) -> std::io::Result<()> {
        let mut message = question.xid.to_be_bytes().to_vec();
        message.extend(1i64.to_be_bytes());
        message.extend(0i32.to_be_bytes());
        message.extend(body);
        self.send(&message)
    }
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend(message);
    bytes
}

pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    framed(bytes)
}

/// Returns the body of an answer with the data of a node.
pub(crate) fn data(value: &[u8], children: i32) -> Vec<u8> {
    let mut body = text(value);
    body.extend([0; 56]);
    body.extend(children.to_be_bytes());
    body.extend(1i64.to_be_bytes());
    body
}

/// Returns the body of an answer with the names of children.
pub(crate) fn names(names: impl Iterator<Item = String>) -> Vec<u8> {
    let names: Vec<String> = names.collect();
    let mut body = (names.len() as i32).to_be_bytes().to_vec();
    names
        .iter()
        .for_each(|name| body.extend(text(name.as_bytes())));
    body
}

/// Returns the event of a watch.
pub(crate) fn event(path: &str) -> Vec<u8> {
    let mut message = (-1i32).to_be_bytes().to_vec();
    message.extend((-1i64).to_be_bytes());
    message.extend(0i32.to_be_bytes());
    message.extend(1i32.to_be_bytes());
    message.extend(3i32.to_be_bytes());
    message.extend(text(path.as_bytes()));
    framed(&message)
}
