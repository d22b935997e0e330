//! A session with a server of ZooKeeper on one connection, which ends with it.
//!
//! Answers come in the order of the questions, and what a watch tells comes in between, in the order
//! in which it happened: an answer that was computed after a change comes after all that is told of
//! that change.
//!
//! A server that is broken, or hostile, cannot make a session hold more than [`MAX_MESSAGE`] bytes
//! of a message and [`MAX_CHANGED`] bytes of paths, or keep it from its deadlines.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::zookeeper::tls::{Encrypted, Ready};
use crate::sources::zookeeper::wire::{
    AUTH, AUTH_XID, Answer, Ask, CLOSE, Header, Message, Reader, TOLD_XID, malformed, unavailable,
};
use crate::sync::lock::Mutex;

/// The largest message that is kept: the largest document, with room for what stands around it. Of a
/// longer one only the header is kept.
const MAX_MESSAGE: usize = MAX_DOCUMENT_BYTES + (1 << 20);
/// The largest message that any server may be set up to send: 128 times of what it does by default.
const LARGEST: usize = 128 << 20;
/// So many bytes of paths that a watch has told of are kept, each counting [`PATH_BYTES`] besides.
const MAX_CHANGED: usize = 4 << 20;
const PATH_BYTES: usize = 64;
/// How much memory is kept for the next message.
const KEPT: usize = 256 << 10;
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

/// How long answers are waited for: some time for each after the one before it, and a limit for all.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    each: Duration,
    limit: Duration,
    begun: Instant,
}

impl Deadline {
    /// A limit for all of them.
    pub(super) fn all(limit: Duration) -> Self {
        Self::each(limit, limit)
    }

    /// Each answer extends it by `each`, until `limit` is over.
    pub(super) fn each(each: Duration, limit: Duration) -> Self {
        Self {
            each,
            limit,
            begun: Instant::now(),
        }
    }

    /// Until when the next answer has to come.
    fn next(&self) -> Instant {
        (Instant::now() + self.each).min(self.begun + self.limit)
    }

    fn missed(&self) -> Error {
        match self.begun.elapsed() < self.limit {
            true => late("an answer"),
            false => {
                let detail = format!("not every answer came within {:?}", self.limit);
                Error::new(ErrorKind::Timeout, detail)
            }
        }
    }
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

/// The nodes that a watch has named.
#[derive(Default)]
pub(super) struct ChangedPaths {
    paths: BTreeSet<String>,
    bytes: usize,
    overflowed: bool,
}

impl ChangedPaths {
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.overflowed
    }

    /// Takes the paths; `None` if there were too many to be kept, and everything has to be read.
    pub(super) fn drain(&mut self) -> Option<BTreeSet<String>> {
        let all = std::mem::take(self);
        (!all.overflowed).then_some(all.paths)
    }

    fn insert(&mut self, path: &str) {
        if self.overflowed || self.paths.contains(path) {
            return;
        }
        self.bytes += PATH_BYTES + path.len();
        if self.bytes > MAX_CHANGED {
            *self = Self {
                overflowed: true,
                ..Self::default()
            };
            return;
        }
        self.paths.insert(path.to_owned());
    }
}

/// A message without its length.
struct Received {
    /// All of it, or only its header.
    bytes: Vec<u8>,
    length: usize,
}

impl Received {
    fn is_whole(&self) -> bool {
        self.bytes.len() == self.length
    }

    fn body(&self) -> Reader<'_> {
        Reader(self.bytes.get(Header::LENGTH..).unwrap_or_default())
    }
}

pub(super) struct Session {
    stream: Stream,
    _held: Held,
    /// What has come and is not yet read, from `read` on.
    inbox: Vec<u8>,
    read: usize,
    /// What is kept of a message that is too long, and how much of it is still to come.
    cut: Option<(Received, usize)>,
    chunk: Vec<u8>,
    questions: i32,
    zxid: i64,
    pub(super) changed: ChangedPaths,
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
            cut: None,
            chunk: vec![0; 64 << 10],
            questions: 0,
            zxid: 0,
            changed: ChangedPaths::default(),
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
        let mut answer = Reader(&answer.bytes);
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
        let header = Header::of(&mut Reader(&answer.bytes))?;
        match (header.xid, header.error) {
            (AUTH_XID, 0) => Ok(()),
            _ => Err(unavailable("the server takes no digest as credentials")),
        }
    }

    /// Asks, and hands each answer to `take`, which may have more to ask.
    pub(super) fn ask(
        &mut self,
        mut questions: VecDeque<Ask>,
        deadline: Deadline,
        mut take: impl FnMut(Ask, Answer<'_>, &mut VecDeque<Ask>) -> Result<(), Error>,
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
            let (header, message) = self.answer(deadline)?;
            if header.xid != xid {
                return Err(malformed("an answer that was not asked for"));
            }
            self.zxid = header.zxid;
            let answer = match (&ask, message.is_whole()) {
                (_, true) => ask.answer(header.error, message.body())?,
                (Ask::Data(_), false) => Answer::TooLarge(message.length),
                (_, false) => {
                    let detail = format!(
                        "an answer of {} bytes is more than {MAX_MESSAGE}",
                        message.length
                    );
                    return Err(Error::new(ErrorKind::TooLarge, detail));
                }
            };
            take(ask, answer, &mut questions)?;
        }
    }

    /// The next answer, behind whatever a watch tells before it.
    fn answer(&mut self, deadline: Deadline) -> Result<(Header, Received), Error> {
        let until = deadline.next();
        loop {
            let message = self.message(until)?.ok_or_else(|| deadline.missed())?;
            if let Some(answer) = self.note(message)? {
                return Ok(answer);
            }
            // What a watch tells may have no end.
            if Instant::now() >= until {
                return Err(deadline.missed());
            }
        }
    }

    /// Waits until a watch tells of something; `false` if it does not by then.
    pub(super) fn listen(&mut self, until: Instant) -> Result<bool, Error> {
        while self.changed.is_empty() {
            let Some(message) = self.message(until)? else {
                return Ok(false);
            };
            if self.note(message)?.is_some() {
                return Err(malformed("an answer that was not asked for"));
            }
        }
        Ok(true)
    }

    /// The newest transaction that an answer was given after.
    pub(super) fn zxid(&self) -> i64 {
        self.zxid
    }

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
    fn note(&mut self, message: Received) -> Result<Option<(Header, Received)>, Error> {
        let mut reader = Reader(&message.bytes);
        let header = Header::of(&mut reader)?;
        if header.xid != TOLD_XID {
            return Ok(Some((header, message)));
        }
        let (_kind, _state, path) = (reader.int()?, reader.int()?, reader.text()?);
        self.changed.insert(path);
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
    fn message(&mut self, until: Instant) -> Result<Option<Received>, Error> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            self.inbox.drain(..self.read);
            self.read = 0;
            if self.inbox.is_empty() && self.inbox.capacity() > KEPT {
                self.inbox = Vec::new();
            }
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

    /// The first message of what has come, if all of it is there.
    fn parse(&mut self) -> Result<Option<Received>, Error> {
        if let Some((message, to_come)) = self.cut.take() {
            let here = to_come.min(self.inbox.len() - self.read);
            self.read += here;
            if here < to_come {
                self.cut = Some((message, to_come - here));
                return Ok(None);
            }
            return Ok(Some(message));
        }
        let Some((length, rest)) = self.inbox[self.read..].split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LARGEST {
            return Err(malformed("a message that is too long"));
        }
        if length <= MAX_MESSAGE {
            let Some(bytes) = rest.get(..length).map(<[u8]>::to_vec) else {
                return Ok(None);
            };
            self.read += 4 + length;
            return Ok(Some(Received { bytes, length }));
        }
        let Some(bytes) = rest.get(..Header::LENGTH).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.read += 4 + Header::LENGTH;
        self.cut = Some((Received { bytes, length }, length - Header::LENGTH));
        self.parse()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_without_end_are_dropped_and_everything_is_to_be_read() {
        let mut changed = ChangedPaths::default();
        assert!(changed.is_empty());
        for n in 0..MAX_CHANGED / PATH_BYTES {
            changed.insert("/app/the same");
            changed.insert(&format!("/app/{n}"));
        }
        assert!(changed.overflowed && changed.paths.is_empty() && !changed.is_empty());
        assert_eq!(changed.drain(), None);
        assert!(changed.is_empty());
        changed.insert("/app");
        assert_eq!(changed.drain().unwrap().len(), 1);
    }

    #[test]
    fn each_answer_extends_a_deadline_up_to_its_limit() {
        let each = Deadline::each(Duration::from_secs(2), Duration::from_secs(60));
        let next = each.next() - each.begun;
        assert!(next >= Duration::from_secs(2) && next < Duration::from_secs(50));
        let near = Deadline {
            begun: Instant::now() - Duration::from_secs(59),
            ..each
        };
        assert_eq!(near.next(), near.begun + near.limit);
        let over = Deadline {
            begun: Instant::now() - Duration::from_secs(61),
            ..each
        };
        assert_eq!(over.missed().kind(), ErrorKind::Timeout);
    }
}
