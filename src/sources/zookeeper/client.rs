//! A session with a server on one connection, which ends with it.
//!
//! The server answers in the order of the requests. The events of a watch arrive in between, in the order of
//! the changes: an answer that includes a change arrives after all events of that change.
//!
//! A broken or hostile server cannot make a session keep more than [`MAX_MESSAGE`] bytes of a message, and
//! the limit of [`ChangedPaths`], or hold it beyond its deadlines.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::sources::zookeeper::changed::ChangedPaths;
use crate::sources::zookeeper::connect::{
    ENDED, Stop, StopGuard, broken, connect, late, remaining,
};
use crate::sources::zookeeper::deadline::Deadline;
use crate::sources::zookeeper::protocol::{
    AUTH, AUTH_XID, Answer, CLOSE, EVENT_XID, Header, Message, Reader, Request, malformed,
    unavailable,
};
use crate::sources::zookeeper::tls::{Connector, Encrypted};

/// The largest message that is kept: the largest document, with room for its header. Of a longer message only
/// the header is kept.
const MAX_MESSAGE: usize = MAX_DOCUMENT_BYTES + (1 << 20);
/// The largest message that is accepted, 128 times the default limit of a server.
const MAX_SKIPPED: usize = 128 << 20;
/// The most memory that is kept for the next message.
const MAX_IDLE_BYTES: usize = 256 << 10;
/// The most requests that wait for an answer.
const MAX_UNANSWERED: usize = 256;
/// How long a write may take; requests are small.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server keeps a silent session.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// A server, and how to connect to it.
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: Option<Connector>,
    /// `user:password`.
    pub(super) digest: Option<String>,
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
    _stop: StopGuard,
    /// The bytes that have arrived; those from `read` on are not parsed.
    inbox: Vec<u8>,
    read: usize,
    /// The header of a message that is too long, and the number of its bytes that have not arrived.
    cut: Option<(Received, usize)>,
    chunk: Vec<u8>,
    /// The number of the last request.
    xid: i32,
    /// The transaction that the last answer includes.
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
        let guard = stop.register(&tcp)?;
        let set_up = |fault: io::Error| unavailable(format!("the socket: {fault}"));
        tcp.set_nodelay(true).map_err(set_up)?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(set_up)?;
        tcp.set_read_timeout(Some(remaining(until)))
            .map_err(set_up)?;
        let stream = match &server.tls {
            None => Stream::Plain(tcp),
            Some(tls) => Stream::Tls(Box::new(tls.connect(server.host, tcp)?)),
        };
        let mut session = Self {
            stream,
            _stop: guard,
            inbox: Vec::new(),
            read: 0,
            cut: None,
            chunk: vec![0; 64 << 10],
            xid: 0,
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
        hello
            .int(0)
            .long(0)
            .int(SESSION_TIMEOUT.as_millis() as i32)
            .long(0);
        hello.bytes(&[0; 16]).byte(0);
        self.write(&hello.framed())?;
        let answer = self.message(until)?.ok_or_else(|| late("a session"))?;
        let mut answer = Reader(&answer.bytes);
        let (_protocol, _timeout, id) = (answer.int()?, answer.int()?, answer.long()?);
        if id == 0 {
            return Err(unavailable("the server grants no session: see its log"));
        }
        Ok(())
    }

    /// Sends the digest. A server accepts any digest, or none.
    fn authenticate(&mut self, digest: &str, until: Instant) -> Result<(), Error> {
        let mut message = Message::new();
        message.int(AUTH_XID).int(AUTH);
        message.int(0).text("digest").bytes(digest.as_bytes());
        self.write(&message.framed())?;
        let answer = self.message(until)?.ok_or_else(|| late("credentials"))?;
        let header = Header::of(&mut Reader(&answer.bytes))?;
        match (header.xid, header.error) {
            (AUTH_XID, 0) => Ok(()),
            _ => Err(unavailable("the server accepts no digest as credentials")),
        }
    }

    /// Sends requests, and passes each answer to `receive`, which may add more requests.
    pub(super) fn exchange(
        &mut self,
        mut requests: VecDeque<Request>,
        deadline: Deadline,
        mut receive: impl FnMut(Request, Answer<'_>, &mut VecDeque<Request>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut unanswered: VecDeque<(i32, Request)> = VecDeque::new();
        loop {
            let mut bytes = Vec::new();
            while let Some(request) = (unanswered.len() < MAX_UNANSWERED)
                .then(|| requests.pop_front())
                .flatten()
            {
                self.xid = self.xid.checked_add(1).unwrap_or(1);
                bytes.extend(request.message(self.xid));
                unanswered.push_back((self.xid, request));
            }
            if !bytes.is_empty() {
                self.write(&bytes)?;
            }
            let Some((xid, request)) = unanswered.pop_front() else {
                return Ok(());
            };
            let (header, message) = self.answer(deadline)?;
            if header.xid != xid {
                return Err(malformed("an answer that was not asked for"));
            }
            self.zxid = header.zxid;
            let answer = match (&request, message.is_whole()) {
                (_, true) => request.answer(header.error, message.body())?,
                (Request::Data(_), false) => Answer::TooLarge(message.length),
                (_, false) => {
                    let detail = format!(
                        "an answer of {} bytes is more than {MAX_MESSAGE}",
                        message.length
                    );
                    return Err(Error::new(ErrorKind::TooLarge, detail));
                }
            };
            receive(request, answer, &mut requests)?;
        }
    }

    /// The next answer; records the events before it.
    fn answer(&mut self, deadline: Deadline) -> Result<(Header, Received), Error> {
        let until = deadline.next();
        loop {
            let message = self.message(until)?.ok_or_else(|| deadline.error())?;
            if let Some(answer) = self.record_event(message)? {
                return Ok(answer);
            }
            // The events may have no end.
            if Instant::now() >= until {
                return Err(deadline.error());
            }
        }
    }

    /// Waits for an event; `false` if none arrives in time.
    pub(super) fn wait_for_event(&mut self, until: Instant) -> Result<bool, Error> {
        while self.changed.is_empty() {
            let Some(message) = self.message(until)? else {
                return Ok(false);
            };
            if self.record_event(message)?.is_some() {
                return Err(malformed("an answer that was not asked for"));
            }
        }
        Ok(true)
    }

    /// The transaction that the last answer includes.
    pub(super) fn zxid(&self) -> i64 {
        self.zxid
    }

    pub(super) fn revision(&self) -> String {
        self.zxid.to_string()
    }

    /// Ends the session, so that the server need not wait for its timeout.
    pub(super) fn close(mut self) {
        let mut message = Message::new();
        message.int(0).int(CLOSE);
        let _ = self.write(&message.framed());
        let _ = self.stream.tcp().shutdown(Shutdown::Write);
    }

    /// Records an event; returns any other message with its header.
    fn record_event(&mut self, message: Received) -> Result<Option<(Header, Received)>, Error> {
        let mut reader = Reader(&message.bytes);
        let header = Header::of(&mut reader)?;
        if header.xid != EVENT_XID {
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

    /// The next message; `None` if it is not complete in time.
    fn message(&mut self, until: Instant) -> Result<Option<Received>, Error> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            self.inbox.drain(..self.read);
            self.read = 0;
            if self.inbox.is_empty() && self.inbox.capacity() > MAX_IDLE_BYTES {
                self.inbox = Vec::new();
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            let _ = self.stream.tcp().set_read_timeout(Some(remaining(until)));
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

    /// The first message of those that have arrived, if it is complete.
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
        if length > MAX_SKIPPED {
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
