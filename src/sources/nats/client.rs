//! One connection to a server: publishing, requests and subscriptions, until it is lost.
//!
//! A task of the runtime reads and writes. Its memory is bounded: a subscription queues [`MAX_QUEUED`] bytes
//! of messages and drops more, as a server does with a slow consumer; [`MAX_UNSENT`] bytes wait to be written.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::error::Error;
use crate::sources::nats::errors::unavailable;
use crate::sources::nats::protocol::{Inbox, Message, Op, is_subject, malformed};
use crate::sources::shared::tls::failure;
use crate::sync::lock::Mutex;
use crate::sync::random;

/// The most bytes of messages that a subscription queues.
const MAX_QUEUED: usize = 16 << 20;
/// The most bytes that wait to be written.
const MAX_UNSENT: usize = 1 << 20;
/// The bytes of one read.
const CHUNK: usize = 64 << 10;
/// How often a ping is sent, and how many may have no answer.
const PING: Duration = Duration::from_secs(2);
const MAX_PINGS: usize = 2;
/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// The subscription that brings the answers to requests.
const ANSWERS: u64 = 1;
/// The status of the answer to a request that nobody listens to.
const NO_RESPONDERS: u16 = 503;

/// A connection of bytes, encrypted or not.
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

/// Sends requests on a connection.
#[derive(Clone)]
pub(super) struct Client(Arc<Shared>);

struct Shared {
    state: Mutex<ConnectionState>,
    /// Notified when bytes wait to be written.
    unsent: Notify,
    /// Notified when the connection is lost.
    lost: Notify,
    /// The number of pings without an answer. A counter: its order with other memory does not matter.
    pings: AtomicUsize,
    /// The prefix of the subjects of answers.
    answers: String,
}

#[derive(Default)]
struct ConnectionState {
    unsent: Vec<u8>,
    /// The requests without an answer.
    requests: HashMap<String, oneshot::Sender<Message>>,
    subscriptions: HashMap<u64, Arc<Queue>>,
    last_id: u64,
    /// The newest error that the server sent by itself.
    server_error: Option<String>,
    /// Why the connection is lost, once it is.
    lost: Option<String>,
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

/// Why a request failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestError {
    TimedOut,
    NoResponders,
    InvalidSubject,
    Lost,
}

impl Connection {
    /// Continues a stream after the login, from which bytes may have been read already.
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
            state.last_id = ANSWERS;
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

    /// Waits until it is lost; returns why.
    pub(super) async fn wait_for_loss(&self) -> String {
        loop {
            if let Some(why) = &self.client.0.state.lock().lost {
                return why.clone();
            }
            self.client.0.lost.notified().await;
        }
    }

    /// Takes the newest error that the server sent by itself.
    pub(super) fn take_server_error(&self) -> Option<String> {
        self.client.0.state.lock().server_error.take()
    }
}

impl Shared {
    fn end(&self, why: &str) {
        let mut state = self.state.lock();
        state.lost = Some(why.to_owned());
        state.requests.clear();
        for (_, queue) in state.subscriptions.drain() {
            queue.state.lock().ended = true;
            queue.changed.notify_one();
        }
        drop(state);
        self.lost.notify_one();
    }

    /// Queues bytes to be written; `false` if there are too many, or the connection is lost.
    fn send(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.lost.is_some() || state.unsent.len() + bytes.len() > MAX_UNSENT {
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
    /// Adds a message unless there are too many: the consumer notices the gap.
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

/// Reads until that fails; returns why.
async fn read(shared: &Shared, mut stream: impl AsyncRead + Unpin, mut inbox: Inbox) -> String {
    let mut chunk = vec![0; CHUNK];
    loop {
        loop {
            match inbox.next() {
                Ok(None) => break,
                Ok(Some(Op::Message(sid, message))) => shared.receive(sid, message),
                Ok(Some(Op::Ping)) => {
                    // A server that reads no answers gets no more of them.
                    shared.send(b"PONG\r\n");
                }
                Ok(Some(Op::Pong)) => shared.pings.store(0, Ordering::Relaxed),
                Ok(Some(Op::Error(error))) => shared.state.lock().server_error = Some(error),
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

/// Writes until that fails; returns why.
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
        match timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return fault.to_string(),
            Err(_) => return format!("the server accepted no bytes for {WRITE_TIMEOUT:?}"),
        }
    }
}

impl Client {
    pub(super) fn is_lost(&self) -> bool {
        self.0.state.lock().lost.is_some()
    }

    pub(super) fn publish(&self, subject: &str, body: &[u8]) -> Result<(), RequestError> {
        self.send(subject, "", body)
    }

    fn send(&self, subject: &str, reply: &str, body: &[u8]) -> Result<(), RequestError> {
        if !is_subject(subject) {
            return Err(RequestError::InvalidSubject);
        }
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
        if self.0.send(&bytes) {
            Ok(())
        } else {
            Err(RequestError::Lost)
        }
    }

    /// Publishes a request, and waits for its answer.
    pub(super) async fn request(
        &self,
        subject: &str,
        body: &[u8],
        limit: Duration,
    ) -> Result<Message, RequestError> {
        let (send, answer) = oneshot::channel();
        let token = {
            let mut state = self.0.state.lock();
            if state.lost.is_some() {
                return Err(RequestError::Lost);
            }
            state.last_id += 1;
            let token = state.last_id.to_string();
            state.requests.insert(token.clone(), send);
            token
        };
        let request = OpenRequest {
            client: self,
            token: &token,
        };
        let reply = format!("{}.{token}", self.0.answers);
        self.send(subject, &reply, body)?;
        let answer = timeout(limit, answer).await;
        drop(request);
        match answer {
            Ok(Ok(message)) if message.status() == Some(NO_RESPONDERS) => {
                Err(RequestError::NoResponders)
            }
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(RequestError::Lost),
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    /// Subscribes to a subject.
    pub(super) fn subscribe(&self, subject: &str) -> Result<Subscription, RequestError> {
        let queue = Arc::new(Queue::default());
        let mut state = self.0.state.lock();
        if state.lost.is_some() {
            return Err(RequestError::Lost);
        }
        state.last_id += 1;
        let sid = state.last_id;
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
            Err(RequestError::Lost)
        }
    }
}

/// A request without an answer; dropping this removes it.
struct OpenRequest<'a> {
    client: &'a Client,
    token: &'a str,
}

impl Drop for OpenRequest<'_> {
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
    /// Waits for the next message; `None` if the connection is lost. A call may be cancelled without losing
    /// any.
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

/// Makes up a subject for answers that nobody else has.
pub(super) fn new_inbox() -> String {
    format!("_INBOX.{:016x}{:016x}", random::number(), random::number())
}

/// Writes bytes, and reads operations until `select` returns a value for one. For the time before
/// [`Connection::run`].
pub(super) async fn exchange<T>(
    stream: &mut (impl Stream + ?Sized),
    inbox: &mut Inbox,
    bytes: &[u8],
    mut select: impl FnMut(Op) -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let broken = |fault: std::io::Error| {
        failure(&fault).unwrap_or_else(|| unavailable(format!("the connection broke: {fault}")))
    };
    stream.write_all(bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        while let Some(op) = inbox.next()? {
            if let Op::Message(..) = op {
                return Err(malformed("a message that was not asked for"));
            }
            if let Some(found) = select(op)? {
                return Ok(found);
            }
        }
        match stream.read(&mut chunk).await.map_err(broken)? {
            0 => return Err(unavailable("the server ended the connection")),
            length => inbox.extend(&chunk[..length]),
        }
    }
}
