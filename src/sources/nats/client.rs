//! One connection to a server of NATS: publishing, requests and subscriptions, until it is lost.
//!
//! A task of the runtime reads and writes. What it keeps is bounded: of what is read, the messages of
//! a subscription up to [`MAX_QUEUED`] bytes, after which they are dropped, as a server does with a
//! slow consumer; of what is written, [`MAX_UNSENT`] bytes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::error::Error;
use crate::sources::nats::link::unavailable;
use crate::sources::nats::wire::{Inbox, Message, Op, is_subject, malformed};
use crate::sync::lock::Mutex;

/// So many bytes of messages wait to be taken from a subscription.
const MAX_QUEUED: usize = 16 << 20;
/// So many bytes wait to be written.
const MAX_UNSENT: usize = 1 << 20;
/// So many bytes are read at once.
const CHUNK: usize = 64 << 10;
/// How often the server is asked whether it is there, and how often it may be without an answer.
const PING: Duration = Duration::from_secs(2);
const MAX_PINGS: usize = 2;
/// How long a write may take.
const WRITE: Duration = Duration::from_secs(2);
/// The subscription that brings the answers to requests.
const ANSWERS: u64 = 1;
/// What is said in place of an answer where nobody listens.
const NO_RESPONDERS: u16 = 503;

/// Bytes that go both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, which ends when this is dropped.
pub(super) struct Connection {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// What is asked on a connection.
#[derive(Clone)]
pub(super) struct Client(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something is to be written.
    unsent: Notify,
    /// The connection is lost.
    lost: Notify,
    /// How many pings are without an answer: a counter, whose order with other memory does not matter.
    pings: AtomicUsize,
    /// What the subjects of answers begin with.
    answers: String,
}

#[derive(Default)]
struct State {
    unsent: Vec<u8>,
    /// Those that wait for an answer.
    requests: HashMap<String, oneshot::Sender<Message>>,
    subscriptions: HashMap<u64, Arc<Queue>>,
    last: u64,
    /// The newest error that the server told of unasked.
    said: Option<String>,
    ended: Option<String>,
}

/// Messages of a subscription.
#[derive(Default)]
struct Queue {
    state: Mutex<Queued>,
    changed: Notify,
}

#[derive(Default)]
struct Queued {
    messages: VecDeque<Message>,
    bytes: usize,
    ended: bool,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unanswered {
    Late,
    NoResponders,
    InvalidSubject,
    Ended,
}

impl Connection {
    /// Goes on with a stream on which one is connected, and of which something may have been read.
    pub(super) fn run(stream: Box<dyn Stream>, inbox: Inbox) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            unsent: Notify::new(),
            lost: Notify::new(),
            pings: AtomicUsize::new(0),
            answers: new_inbox(),
        });
        let client = Client(Arc::clone(&shared));
        {
            let mut state = shared.state.lock();
            state.last = ANSWERS;
            let subscribe = format!("SUB {}.* {ANSWERS}\r\n", shared.answers);
            state.unsent.extend(subscribe.as_bytes());
        }
        shared.unsent.notify_one();
        let task = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            let why = tokio::select! {
                why = read(&shared, reader, inbox) => why,
                why = write(&shared, writer) => why,
            };
            shared.end(&why);
        });
        Self { client, task }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until it is lost; says why.
    pub(super) async fn lost(&self) -> String {
        loop {
            if let Some(why) = &self.client.0.state.lock().ended {
                return why.clone();
            }
            self.client.0.lost.notified().await;
        }
    }

    /// The newest error that the server told of unasked.
    pub(super) fn said(&self) -> Option<String> {
        self.client.0.state.lock().said.take()
    }
}

impl Shared {
    fn end(&self, why: &str) {
        let mut state = self.state.lock();
        state.ended = Some(why.to_owned());
        state.requests.clear();
        for (_, queue) in state.subscriptions.drain() {
            queue.state.lock().ended = true;
            queue.changed.notify_one();
        }
        drop(state);
        self.lost.notify_one();
    }

    /// Has bytes written; `false` if there are too many, or it is lost.
    fn send(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() || state.unsent.len() + bytes.len() > MAX_UNSENT {
            return false;
        }
        state.unsent.extend_from_slice(bytes);
        drop(state);
        self.unsent.notify_one();
        true
    }

    fn receive(&self, sid: u64, message: Message) {
        let mut state = self.state.lock();
        if sid == ANSWERS {
            let token = message.subject.rsplit('.').next().unwrap_or_default();
            if let Some(request) = state.requests.remove(token) {
                let _ = request.send(message);
            }
        } else if let Some(queue) = state.subscriptions.get(&sid) {
            queue.push(message);
        }
    }
}

impl Queue {
    /// Adds a message, unless there are too many: whoever takes them sees that one is missing.
    fn push(&self, message: Message) {
        let mut queued = self.state.lock();
        let bytes = queued.bytes + message.bytes();
        if bytes > MAX_QUEUED && !queued.messages.is_empty() {
            return;
        }
        queued.bytes = bytes;
        queued.messages.push_back(message);
        drop(queued);
        self.changed.notify_one();
    }
}

/// Reads until that fails; says why.
async fn read(shared: &Shared, mut stream: impl AsyncRead + Unpin, mut inbox: Inbox) -> String {
    let mut chunk = vec![0; CHUNK];
    loop {
        loop {
            match inbox.next() {
                Ok(None) => break,
                Ok(Some(Op::Message(sid, message))) => shared.receive(sid, message),
                Ok(Some(Op::Ping)) => {
                    // Whoever asks without an end, and reads no answers, gets no more.
                    shared.send(b"PONG\r\n");
                }
                Ok(Some(Op::Pong)) => shared.pings.store(0, Ordering::Relaxed),
                Ok(Some(Op::Error(error))) => shared.state.lock().said = Some(error),
                Ok(Some(Op::Info(_) | Op::Ok)) => {}
                Err(error) => return error.to_string(),
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) => return "by the server".to_owned(),
            Ok(length) => inbox.extend(&chunk[..length]),
            Err(fault) => return fault.to_string(),
        }
    }
}

/// Writes until that fails; says why.
async fn write(shared: &Shared, mut stream: impl AsyncWrite + Unpin) -> String {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    loop {
        tokio::select! {
            () = shared.unsent.notified() => {}
            _ = ping.tick() => {
                if shared.pings.fetch_add(1, Ordering::Relaxed) >= MAX_PINGS {
                    return format!("{MAX_PINGS} pings have no answer");
                }
                shared.state.lock().unsent.extend(b"PING\r\n");
            }
        }
        let bytes = std::mem::take(&mut shared.state.lock().unsent);
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        match timeout(WRITE, written).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return fault.to_string(),
            Err(_) => return format!("the server took nothing for {WRITE:?}"),
        }
    }
}

impl Client {
    pub(super) fn is_lost(&self) -> bool {
        self.0.state.lock().ended.is_some()
    }

    pub(super) fn publish(&self, subject: &str, body: &[u8]) -> Result<(), Unanswered> {
        self.send(subject, "", body)
    }

    fn send(&self, subject: &str, reply: &str, body: &[u8]) -> Result<(), Unanswered> {
        if !is_subject(subject) {
            return Err(Unanswered::InvalidSubject);
        }
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
        if self.0.send(&bytes) {
            Ok(())
        } else {
            Err(Unanswered::Ended)
        }
    }

    /// Publishes, and waits for an answer.
    pub(super) async fn request(
        &self,
        subject: &str,
        body: &[u8],
        limit: Duration,
    ) -> Result<Message, Unanswered> {
        let (send, answer) = oneshot::channel();
        let token = {
            let mut state = self.0.state.lock();
            if state.ended.is_some() {
                return Err(Unanswered::Ended);
            }
            state.last += 1;
            let token = state.last.to_string();
            state.requests.insert(token.clone(), send);
            token
        };
        let waiting = Waiting {
            client: self,
            token: &token,
        };
        let reply = format!("{}.{token}", self.0.answers);
        self.send(subject, &reply, body)?;
        let answer = timeout(limit, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(message)) if message.status() == Some(NO_RESPONDERS) => {
                Err(Unanswered::NoResponders)
            }
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(Unanswered::Ended),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// Subscribes to a subject.
    pub(super) fn subscribe(&self, subject: &str) -> Result<Subscription, Unanswered> {
        let queue = Arc::new(Queue::default());
        let mut state = self.0.state.lock();
        if state.ended.is_some() {
            return Err(Unanswered::Ended);
        }
        state.last += 1;
        let sid = state.last;
        state.subscriptions.insert(sid, Arc::clone(&queue));
        drop(state);
        let subscription = Subscription {
            client: self.clone(),
            sid,
            queue,
        };
        if self.0.send(format!("SUB {subject} {sid}\r\n").as_bytes()) {
            Ok(subscription)
        } else {
            Err(Unanswered::Ended)
        }
    }
}

/// A request that waits: it is forgotten when this is dropped.
struct Waiting<'a> {
    client: &'a Client,
    token: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.client.0.state.lock().requests.remove(self.token);
    }
}

/// A subscription, which ends when this is dropped.
pub(super) struct Subscription {
    client: Client,
    sid: u64,
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next message; `None` if the connection is lost. A call may be given up without losing
    /// anything.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            {
                let mut queued = self.queue.state.lock();
                if let Some(message) = queued.messages.pop_front() {
                    queued.bytes -= message.bytes();
                    return Some(message);
                }
                if queued.ended {
                    return None;
                }
            }
            self.queue.changed.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.client.0.state.lock().subscriptions.remove(&self.sid);
        let _ = self
            .client
            .0
            .send(format!("UNSUB {}\r\n", self.sid).as_bytes());
    }
}

/// A subject for answers that nobody else has.
pub(super) fn new_inbox() -> String {
    // Seeded anew each time, which is randomness enough here.
    let random = [0, 1].map(|n: u8| RandomState::new().hash_one(n));
    format!("_INBOX.{:016x}{:016x}", random[0], random[1])
}

/// Writes bytes before anything else goes on, and reads operations until one is wanted.
pub(super) async fn exchange<T>(
    stream: &mut (impl Stream + ?Sized),
    inbox: &mut Inbox,
    bytes: &[u8],
    mut wanted: impl FnMut(Op) -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let broken = |fault: std::io::Error| unavailable(format!("the connection broke: {fault}"));
    stream.write_all(bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        while let Some(op) = inbox.next()? {
            if let Op::Message(..) = op {
                return Err(malformed("a message that was not asked for"));
            }
            if let Some(found) = wanted(op)? {
                return Ok(found);
            }
        }
        match stream.read(&mut chunk).await.map_err(broken)? {
            0 => return Err(unavailable("the server ended the connection")),
            length => inbox.extend(&chunk[..length]),
        }
    }
}
