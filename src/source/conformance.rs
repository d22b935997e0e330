//! A test suite for sources, and the [`Recorder`] that it listens with.
//!
//! Run it in the tests of a source of your own: [`check`] needs a way to make the source and an
//! [`Editor`] that changes the store behind it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::lock::{Condvar, Mutex};

use crate::error::{Error, ErrorKind};
use crate::source::{
    CommitOutcome, Content, Make, Sink, Source, SourceContext, Ticket, Update, Watching,
};
use crate::value::Value;
use crate::value::document::Document;

/// How long the suite waits for something to arrive.
const DEADLINE: Duration = Duration::from_secs(12);

/// How long the suite looks for something that must not arrive.
const LULL: Duration = Duration::from_millis(300);

/// Changes the store behind a source, for [`check`].
pub trait Editor: Send + Sync {
    /// Sets a key to a text. Called again with the same text it writes the same again.
    fn set(&self, key: &str, text: &str);

    /// Removes a key.
    fn remove(&self, key: &str);
}

/// Listens to a source in a test: keeps what it sends, without any engine.
///
/// Cloning gives another handle on the same recording.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use liveprops::{Origin, Update, source::conformance::Recorder};
///
/// let recorder = Recorder::new();
/// let updates = recorder.updates();
/// std::thread::spawn(move || {
///     let update = Update::delta().set("a", 1, Origin::new("test", "here"))?;
///     updates.send(update)
/// });
/// assert!(recorder.wait_for(Duration::from_secs(5), |seen| seen.document.get("a").is_some()));
/// ```
#[derive(Clone, Default)]
pub struct Recorder(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    bell: Condvar,
    shared: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    stopped: bool,
    hooks: Vec<Box<dyn Fn() + Send + Sync>>,
    reject: Option<Reject>,
}

type Reject = Box<dyn Fn(&Document) -> bool + Send>;

/// What a [`Recorder`] has received; see [`Recorder::seen`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// The sum of all accepted updates.
    pub document: Document,
    /// The number of accepted updates.
    pub updates: usize,
    /// The number of accepted updates that changed a value.
    pub changes: usize,
    /// The number of rejected updates; see [`Recorder::reject_when`].
    pub rejected: usize,
    /// The errors that the source reported, the oldest first.
    pub failures: Vec<Error>,
    /// The number of heartbeats.
    pub alive: usize,
    /// Why the source works worse than it should; see [`SourceContext::set_degraded`].
    pub degraded: Option<Error>,
    /// Where the source reads from; see [`SourceContext::set_location`].
    pub location: Option<Arc<str>>,
}

impl Recorder {
    /// Creates an empty recorder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The context for [`Source::watch`].
    pub fn updates(&self) -> SourceContext {
        SourceContext::new(Arc::new(self.clone()))
    }

    /// Requests that the watch of the source returns.
    pub fn stop(&self) {
        let hooks = {
            let mut state = self.0.state.lock();
            state.stopped = true;
            std::mem::take(&mut state.hooks)
        };
        self.0.bell.notify_all();
        hooks.iter().for_each(|hook| hook());
    }

    /// Rejects each update that would lead to a document for which `reject` returns true.
    pub fn reject_when(&self, reject: impl Fn(&Document) -> bool + Send + 'static) {
        self.0.state.lock().reject = Some(Box::new(reject));
    }

    /// What was received so far.
    pub fn seen(&self) -> Seen {
        self.0.state.lock().seen.clone()
    }

    /// Waits, at most `deadline`, until `want` returns true for what was received; returns whether it did.
    pub fn wait_for(&self, deadline: Duration, mut want: impl FnMut(&Seen) -> bool) -> bool {
        let until = Instant::now() + deadline;
        let mut state = self.0.state.lock();
        loop {
            if want(&state.seen) {
                return true;
            }
            if self.0.bell.wait_until(&mut state, until) {
                return want(&state.seen);
            }
        }
    }

    fn apply(&self, update: Update) -> Result<CommitOutcome, Error> {
        let mut state = self.0.state.lock();
        let next = after(&state.seen.document, update);
        if state.reject.as_ref().is_some_and(|reject| reject(&next)) {
            state.seen.rejected += 1;
            self.0.bell.notify_all();
            return Err(Error::new(ErrorKind::Rejected, "the recorder rejects this"));
        }
        let changed = next != state.seen.document;
        state.seen.document = next;
        state.seen.updates += 1;
        state.seen.changes += usize::from(changed);
        self.0.bell.notify_all();
        Ok(CommitOutcome {
            generation: state.seen.changes as u64,
            changed: usize::from(changed),
            rejected: Vec::new(),
            kept: Vec::new(),
        })
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.seen()).finish()
    }
}

/// A document after an update.
fn after(before: &Document, update: Update) -> Document {
    let edits = match update.content {
        Content::Full(document) => return document,
        Content::Delta(edits) => edits,
    };
    let mut document = before.clone();
    for edit in edits {
        match edit.value {
            None => drop(document.remove(edit.key.as_str())),
            Some((value, origin)) => {
                let again = (value.clone(), origin.clone());
                if document.set(edit.key.as_str(), value, origin).is_err() {
                    document.remove(edit.key.as_str());
                    let _ = document.set(edit.key.as_str(), again.0, again.1);
                }
            }
        }
    }
    document
}

impl Sink for Recorder {
    fn queue(&self, update: Update) -> Box<dyn Ticket> {
        Box::new(Done(self.apply(update)))
    }

    fn report_error(&self, error: Error) {
        self.0.state.lock().seen.failures.push(error);
        self.0.bell.notify_all();
    }

    fn heartbeat(&self) {
        self.0.state.lock().seen.alive += 1;
        self.0.bell.notify_all();
    }

    fn set_degraded(&self, reason: Option<Error>) {
        self.0.state.lock().seen.degraded = reason;
        self.0.bell.notify_all();
    }

    fn set_location(&self, place: Arc<str>) {
        self.0.state.lock().seen.location = Some(place);
        self.0.bell.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.0.state.lock().stopped
    }

    fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.0.state.lock();
        while !state.stopped {
            if self.0.bell.wait_until(&mut state, until) {
                break;
            }
        }
        state.stopped
    }

    fn on_stop(&self, hook: Box<dyn Fn() + Send + Sync>) {
        let mut state = self.0.state.lock();
        if state.stopped {
            drop(state);
            hook();
        } else {
            state.hooks.push(hook);
        }
    }

    fn shared(&self, kind: TypeId, make: Make<'_>) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(self.0.shared.lock().entry(kind).or_insert_with(make))
    }
}

/// An update that the recorder took when it was queued.
struct Done(Result<CommitOutcome, Error>);

impl Ticket for Done {
    fn commit(self: Box<Self>) -> Result<CommitOutcome, Error> {
        self.0
    }
}

/// Holds a source against the contract of [`Source`].
///
/// `make` creates a new source over the same store; `editor` changes that store. It must start
/// without the keys `conformance.first` and `conformance.second`, which the suite sets and
/// removes. Takes some seconds with a source that is pushed to, and some pauses with a polled one.
///
/// # Errors
///
/// What the source does wrong, one sentence each.
///
/// # Examples
///
/// ```no_run
/// use liveprops::source::conformance::{Editor, check};
/// use liveprops::sources::File;
///
/// struct Rewrite;
///
/// impl Editor for Rewrite {
///     fn set(&self, key: &str, text: &str) { /* rewrites the file */ }
///     fn remove(&self, key: &str) { /* rewrites the file */ }
/// }
///
/// assert_eq!(check(&|| File::new("app.toml"), &Rewrite), Ok(()));
/// ```
pub fn check<S: Source>(make: &dyn Fn() -> S, editor: &dyn Editor) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    if let Err(error) = check_load(make, editor, &mut faults) {
        faults.push(format!("load fails: {error}"));
    } else {
        check_changes(make, editor, &mut faults);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

const FIRST: &str = "conformance.first";
const SECOND: &str = "conformance.second";

fn is_text(document: &Document, key: &str, text: &str) -> bool {
    // A format with types of its own may have read a number.
    match document.get(key) {
        Some(Value::Text(found)) => **found == *text,
        Some(found) => found.to_string() == text,
        None => false,
    }
}

fn check_load<S: Source>(
    make: &dyn Fn() -> S,
    editor: &dyn Editor,
    faults: &mut Vec<String>,
) -> Result<(), Error> {
    editor.set(FIRST, "one");
    let source = make();
    let origin = source.origin();
    if origin.kind().is_empty() || origin.name().is_empty() {
        faults.push("the source's origin has no kind or no name".to_owned());
    }
    let document = source.load()?;
    if document != source.load()? {
        faults.push("two loads with no change between them differ".to_owned());
    }
    if !is_text(&document, FIRST, "one") {
        faults.push(format!(
            "load does not return `{FIRST}`, which was set before"
        ));
    }
    for (key, _, origin) in document.iter() {
        if origin.kind().is_empty() {
            faults.push(format!("`{key}` has no origin"));
        }
    }
    Ok(())
}

fn check_changes<S: Source>(make: &dyn Fn() -> S, editor: &dyn Editor, faults: &mut Vec<String>) {
    let source = Arc::new(make());
    let recorder = Recorder::new();
    if source.watching() == Watching::Never {
        return;
    }
    let thread = {
        let (source, recorder) = (Arc::clone(&source), recorder.clone());
        std::thread::spawn(move || listen(&*source, &recorder))
    };
    let want = |faults: &mut Vec<String>, fault: &str, want: &dyn Fn(&Document) -> bool| {
        if !recorder.wait_for(DEADLINE, |seen| want(&seen.document)) {
            faults.push(format!("{fault} within {DEADLINE:?}"));
        }
    };
    want(faults, "a watch does not send what is there", &|it| {
        is_text(it, FIRST, "one")
    });
    for text in ["two", "three", "four"] {
        editor.set(FIRST, text);
        want(faults, "a changed value does not arrive", &|it| {
            is_text(it, FIRST, text)
        });
    }
    editor.set(SECOND, "here");
    want(faults, "a new key does not arrive", &|it| {
        is_text(it, SECOND, "here") && is_text(it, FIRST, "four")
    });
    let changes = recorder.seen().changes;
    editor.set(SECOND, "here");
    if recorder.wait_for(LULL, |seen| seen.changes > changes) {
        faults.push("content that did not change is sent as a change".to_owned());
    }
    editor.remove(SECOND);
    want(faults, "a removal does not arrive", &|it| {
        it.get(SECOND).is_none() && is_text(it, FIRST, "four")
    });
    match make().load() {
        Ok(document) if document == recorder.seen().document => {}
        Ok(_) => faults.push("load returns something else than the sum of all updates".to_owned()),
        Err(error) => faults.push(format!("load fails after edits: {error}")),
    }
    let begun = Instant::now();
    recorder.stop();
    while !thread.is_finished() && begun.elapsed() < Duration::from_secs(1) {
        std::thread::yield_now();
    }
    if !thread.is_finished() {
        faults.push("a watch does not return within 1 second after a stop".to_owned());
    } else if let Ok(Err(error)) = thread.join() {
        faults.push(format!("the watch ends with an error: {error}"));
    }
}

/// Acts as the engine: watches or polls until the stop.
fn listen(source: &dyn Source, recorder: &Recorder) -> Result<(), Error> {
    let updates = recorder.updates();
    let Watching::Poll(pause) = source.watching() else {
        return source.watch(&updates);
    };
    loop {
        match source.load() {
            Ok(document) => drop(updates.send(Update::full(document))),
            Err(error) => updates.report_error(error),
        }
        if updates.wait(pause) {
            return Ok(());
        }
    }
}
