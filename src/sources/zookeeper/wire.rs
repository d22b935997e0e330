//! What is said to a server of ZooKeeper and what it answers: a session on one connection, which
//! ends with it.
//!
//! A message is its length in four bytes and as many bytes more; numbers are big-endian, texts and
//! bytes have their length before them. Answers come in the order of the questions, and what a watch
//! tells comes in between, in the order in which it happened: an answer that was computed after a
//! change comes after all that is told of that change.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;

use crate::error::{Error, ErrorKind};
use crate::sources::zookeeper::tls::{Encrypted, Ready};

/// The largest message that is taken: a server sends none above its `jute.maxbuffer`, by default
/// 1 MB, but for lists of names.
const MAX_MESSAGE: usize = 32 << 20;
/// So many questions wait for an answer at most.
const WINDOW: usize = 256;
/// How long a write may take: a question is small, and waits in the system's memory.
const WRITE: Duration = Duration::from_secs(1);
/// How long a server keeps a session that says nothing.
const SESSION: Duration = Duration::from_secs(6);

/// A server, and how it is spoken to.
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: Option<Ready>,
    /// `user:password`.
    pub(super) digest: Option<String>,
}

/// A question about a node.
#[derive(Debug)]
pub(super) enum Ask {
    /// Tell of every change of it and of all below it from now on, even if it is not there.
    Watch(String),
    /// Be no older than the leader is now.
    Sync(String),
    Data(String),
    Children(String),
}

#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Data {
        bytes: Vec<u8>,
        /// The transaction that set it.
        revision: u64,
        has_children: bool,
    },
    Names(Vec<String>),
    NoNode,
    Denied,
}

/// Ends what waits for an answer, from another thread.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<Mutex<(bool, Option<TcpStream>)>>);

impl Stop {
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.0 = true;
        if let Some(stream) = state.1.take() {
            // The other half is left for a farewell; not every system wakes a read by this.
            let half = match cfg!(unix) {
                true => Shutdown::Read,
                false => Shutdown::Both,
            };
            let _ = stream.shutdown(half);
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.0.lock().0
    }

    /// Ends this stream too, for as long as it is held.
    fn hold(&self, stream: &TcpStream) -> Result<Held, Error> {
        let mut state = self.0.lock();
        if state.0 {
            return Err(unavailable("it is to end"));
        }
        state.1 = stream.try_clone().ok();
        Ok(Held(self.clone()))
    }
}

/// Lets go of a stream, which is not closed before.
struct Held(Stop);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.lock().1 = None;
    }
}

pub(super) struct Session {
    stream: Stream,
    _held: Held,
    /// What has come and is not yet read, from `read` on.
    inbox: Vec<u8>,
    read: usize,
    chunk: Vec<u8>,
    questions: i32,
    zxid: i64,
    /// The nodes that a watch has told of.
    pub(super) told: BTreeSet<String>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<Encrypted>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

impl Session {
    /// Connects, and begins a session.
    pub(super) fn open(server: Server<'_>, stop: &Stop, until: Instant) -> Result<Self, Error> {
        let tcp = connect(server.host, server.port, until)?;
        let held = stop.hold(&tcp)?;
        let set_up = |fault: io::Error| unavailable(format!("the socket: {fault}"));
        tcp.set_nodelay(true).map_err(set_up)?;
        tcp.set_write_timeout(Some(WRITE)).map_err(set_up)?;
        tcp.set_read_timeout(Some(left(until))).map_err(set_up)?;
        let stream = match &server.tls {
            None => Stream::Plain(tcp),
            Some(tls) => Stream::Tls(Box::new(tls.begin(server.host, tcp)?)),
        };
        let mut session = Self {
            stream,
            _held: held,
            inbox: Vec::new(),
            read: 0,
            chunk: vec![0; 64 << 10],
            questions: 0,
            zxid: 0,
            told: BTreeSet::new(),
        };
        session.greet(until)?;
        if let Some(digest) = &server.digest {
            session.authenticate(digest, until)?;
        }
        Ok(session)
    }

    fn greet(&mut self, until: Instant) -> Result<(), Error> {
        let mut hello = Message::new();
        hello.int(0).long(0).int(SESSION.as_millis() as i32).long(0);
        hello.bytes(&[0; 16]).byte(0);
        self.write(&hello.framed())?;
        let answer = self.message(until)?.ok_or_else(|| late("a session"))?;
        let mut answer = Reader(&answer);
        let (_protocol, _timeout, id) = (answer.int()?, answer.int()?, answer.long()?);
        match id {
            0 => Err(unavailable("the server gives no session: see its log")),
            _ => Ok(()),
        }
    }

    /// Says who one is. A server takes any digest, unless it takes none.
    fn authenticate(&mut self, digest: &str, until: Instant) -> Result<(), Error> {
        let mut message = Message::new();
        message.int(AUTH_XID).int(AUTH);
        message.int(0).text("digest").bytes(digest.as_bytes());
        self.write(&message.framed())?;
        let answer = self.message(until)?.ok_or_else(|| late("credentials"))?;
        let header = Header::of(&mut Reader(&answer))?;
        match (header.xid, header.error) {
            (AUTH_XID, 0) => Ok(()),
            _ => Err(unavailable("the server takes no digest as credentials")),
        }
    }

    /// Asks, and hands each answer to `take`, which may have more to ask.
    pub(super) fn ask(
        &mut self,
        mut questions: VecDeque<Ask>,
        until: Instant,
        mut take: impl FnMut(Ask, Answer, &mut VecDeque<Ask>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut asked: VecDeque<(i32, Ask)> = VecDeque::new();
        loop {
            let mut bytes = Vec::new();
            while let Some(ask) = (asked.len() < WINDOW)
                .then(|| questions.pop_front())
                .flatten()
            {
                self.questions = self.questions.checked_add(1).unwrap_or(1);
                bytes.extend(ask.message(self.questions));
                asked.push_back((self.questions, ask));
            }
            if !bytes.is_empty() {
                self.write(&bytes)?;
            }
            let Some((xid, ask)) = asked.pop_front() else {
                return Ok(());
            };
            let (header, body) = loop {
                let bytes = self.message(until)?.ok_or_else(|| late("an answer"))?;
                if let Some(answer) = self.note(&bytes)? {
                    break answer;
                }
            };
            if header.xid != xid {
                return Err(malformed("an answer that was not asked for"));
            }
            self.zxid = header.zxid;
            let answer = ask.answer(header.error, Reader(body.as_slice()))?;
            take(ask, answer, &mut questions)?;
        }
    }

    /// Waits until a watch tells of something; `false` if it does not by then.
    pub(super) fn listen(&mut self, until: Instant) -> Result<bool, Error> {
        while self.told.is_empty() {
            let Some(bytes) = self.message(until)? else {
                return Ok(false);
            };
            if self.note(&bytes)?.is_some() {
                return Err(malformed("an answer that was not asked for"));
            }
        }
        Ok(true)
    }

    /// The newest transaction that an answer was given after.
    pub(super) fn revision(&self) -> String {
        self.zxid.to_string()
    }

    /// Ends the session, so that the server need not wait until it has died.
    pub(super) fn close(mut self) {
        let mut message = Message::new();
        message.int(0).int(CLOSE);
        let _ = self.write(&message.framed());
        let _ = self.stream.tcp().shutdown(Shutdown::Write);
    }

    /// Takes down what a watch tells; gives an answer back.
    fn note(&mut self, bytes: &[u8]) -> Result<Option<(Header, Vec<u8>)>, Error> {
        let mut reader = Reader(bytes);
        let header = Header::of(&mut reader)?;
        if header.xid != TOLD_XID {
            return Ok(Some((header, reader.0.to_vec())));
        }
        let (_kind, _state, path) = (reader.int()?, reader.int()?, reader.text()?);
        self.told.insert(path);
        Ok(None)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        written.map_err(|fault| broken(&fault))
    }

    /// The next message; `None` if it is not complete by then.
    fn message(&mut self, until: Instant) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let rest = &self.inbox[self.read..];
            if let Some((length, rest)) = rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > MAX_MESSAGE {
                    return Err(malformed("a message that is too long"));
                }
                if let Some(message) = rest.get(..length) {
                    let message = message.to_vec();
                    self.read += 4 + length;
                    return Ok(Some(message));
                }
            }
            self.inbox.drain(..self.read);
            self.read = 0;
            if Instant::now() >= until {
                return Ok(None);
            }
            let _ = self.stream.tcp().set_read_timeout(Some(left(until)));
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(&mut self.chunk),
                Stream::Tls(stream) => stream.read(&mut self.chunk),
            };
            match read {
                Ok(0) => return Err(unavailable(ENDED)),
                Ok(length) => self.inbox.extend_from_slice(&self.chunk[..length]),
                Err(fault) => match fault.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(broken(&fault)),
                },
            }
        }
    }
}

/// Connects to one of the addresses of a host.
fn connect(host: &str, port: u16, until: Instant) -> Result<TcpStream, Error> {
    let mut last = unavailable("the host has no address");
    for address in resolve(host, port, until)? {
        match TcpStream::connect_timeout(&address, left(until)) {
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
    // The system gives no deadline for this, so that a thread of its own waits for it.
    let (send, found) = channel();
    let name = (host.to_owned(), port);
    std::thread::Builder::new()
        .name("liveprops-resolve".to_owned())
        .spawn(move || send.send(name.to_socket_addrs().map(Vec::from_iter)))
        .map_err(|fault| unavailable(format!("a thread: {fault}")))?;
    match found.recv_timeout(left(until)) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(fault)) => Err(unavailable(format!("the name of the host: {fault}"))),
        Err(_) => Err(late("the name of the host")),
    }
}

/// How long it is until then; never nothing, which would mean for ever.
fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

const ENDED: &str = "the server ended the connection: see its log, where it refuses clients";

fn unavailable(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, detail)
}

fn late(what: &str) -> Error {
    unavailable(format!("{what} did not come in time"))
}

fn broken(fault: &io::Error) -> Error {
    match fault.kind() {
        io::ErrorKind::UnexpectedEof => unavailable(ENDED),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late("the end of a message"),
        _ => unavailable(format!("the connection broke: {fault}")),
    }
}

fn malformed(what: &str) -> Error {
    let detail = format!("{what}: is this a server of ZooKeeper?");
    Error::new(ErrorKind::Malformed, detail)
}

const TOLD_XID: i32 = -1;
const AUTH_XID: i32 = -4;

const GET_DATA: i32 = 4;
const SYNC: i32 = 9;
const GET_CHILDREN2: i32 = 12;
const AUTH: i32 = 100;
const ADD_WATCH: i32 = 106;
const CLOSE: i32 = -11;

const RECURSIVE: i32 = 1;

const UNIMPLEMENTED: i32 = -6;
const BAD_ARGUMENTS: i32 = -8;
const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;

impl Ask {
    fn message(&self, xid: i32) -> Vec<u8> {
        let mut message = Message::new();
        message.int(xid);
        match self {
            Ask::Watch(path) => message.int(ADD_WATCH).text(path).int(RECURSIVE),
            Ask::Sync(path) => message.int(SYNC).text(path),
            Ask::Data(path) => message.int(GET_DATA).text(path).byte(0),
            Ask::Children(path) => message.int(GET_CHILDREN2).text(path).byte(0),
        };
        message.framed()
    }

    fn answer(&self, error: i32, mut body: Reader<'_>) -> Result<Answer, Error> {
        match (self, error) {
            (_, NO_NODE) => Ok(Answer::NoNode),
            (_, NO_AUTH) => Ok(Answer::Denied),
            (Ask::Watch(_), UNIMPLEMENTED) => Err(unavailable(
                "the server has no watches of a whole tree: it is older than 3.6",
            )),
            (_, BAD_ARGUMENTS) => Err(Error::new(ErrorKind::Other, "the path is not valid")),
            (Ask::Data(_), 0) => {
                let bytes = body.bytes()?.to_vec();
                let stat = Stat::of(&mut body)?;
                Ok(Answer::Data {
                    bytes,
                    revision: stat.modified,
                    has_children: stat.children > 0,
                })
            }
            (Ask::Children(_), 0) => {
                let count = body.int()?.max(0);
                let names: Result<_, _> = (0..count).map(|_| body.text()).collect();
                Ok(Answer::Names(names?))
            }
            (_, 0) => Ok(Answer::Done),
            (_, error) => Err(unavailable(format!(
                "the server answers with error {error}"
            ))),
        }
    }
}

struct Header {
    xid: i32,
    zxid: i64,
    error: i32,
}

impl Header {
    fn of(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            xid: reader.int()?,
            zxid: reader.long()?,
            error: reader.int()?,
        })
    }
}

/// What is known of a node besides its data.
struct Stat {
    modified: u64,
    children: i32,
}

impl Stat {
    fn of(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let _created = reader.long()?;
        let modified = reader.long()? as u64;
        // Two times, three versions, an owner and a length.
        reader.take(8 + 8 + 4 + 4 + 4 + 8 + 4)?;
        let children = reader.int()?;
        Ok(Self { modified, children })
    }
}

/// Writes a message, after room for its length.
struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self(vec![0; 4])
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn int(&mut self, number: i32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn long(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.int(bytes.len() as i32);
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn framed(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.0);
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }
}

/// Reads a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| malformed("a message that is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, Error> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | i32::from(*byte)))
    }

    fn long(&mut self) -> Result<i64, Error> {
        let bytes = self.take(8)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
    }

    /// None are written as a length below 0.
    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.int()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    fn text(&mut self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut message = Message::new();
        message
            .int(-5)
            .long(i64::MIN + 7)
            .text("ä")
            .bytes(b"")
            .byte(9);
        let bytes = message.framed();
        assert_eq!(bytes[..4], [0, 0, 0, bytes.len() as u8 - 4]);
        let mut reader = Reader(&bytes[4..]);
        assert_eq!(reader.int().unwrap(), -5);
        assert_eq!(reader.long().unwrap(), i64::MIN + 7);
        assert_eq!(reader.text().unwrap(), "ä");
        assert_eq!(reader.bytes().unwrap(), b"");
        assert_eq!(reader.take(1).unwrap(), [9]);
        assert!(reader.take(1).is_err());
    }

    #[test]
    fn a_message_that_is_cut_short_is_an_error() {
        let ask = Ask::Data("/a".to_owned());
        let mut whole = Message::new();
        whole.bytes(b"data").0.extend([0; 68]);
        let whole = whole.framed();
        let body = &whole[4..];
        assert!(ask.answer(0, Reader(body)).is_ok());
        // Of the last number nothing is read.
        for length in 0..body.len() - 8 {
            assert!(ask.answer(0, Reader(&body[..length])).is_err(), "{length}");
        }
        let mut names = Message::new();
        names.int(i32::MAX).text("a");
        let names = names.framed();
        let ask = Ask::Children("/a".to_owned());
        assert!(ask.answer(0, Reader(&names[4..])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_bytes_come_they_are_an_answer_or_an_error(
            bytes in proptest::collection::vec(
                proptest::prop_oneof![proptest::prelude::Just(0u8), proptest::prelude::any::<u8>()],
                0..200,
            ),
            error in proptest::prelude::any::<i32>(),
        ) {
            for ask in [
                Ask::Watch("/a".to_owned()),
                Ask::Sync("/a".to_owned()),
                Ask::Data("/a".to_owned()),
                Ask::Children("/a".to_owned()),
            ] {
                for error in [0, error] {
                    let _ = ask.answer(error, Reader(&bytes));
                }
            }
            let _ = Header::of(&mut Reader(&bytes));
            let _ = Stat::of(&mut Reader(&bytes));
        }
    }
}
