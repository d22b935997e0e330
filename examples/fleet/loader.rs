//! The loader: publishes each service's file, if it can be used and says something else than the
//! bucket does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Message, RequestErrorKind};
use liveprops::property::Subscription;
use liveprops::sources::File;
use liveprops::{Format, Origin, Properties};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::{BUCKET, Once, Outcome, PAUSE, SERVICES, file_of, say, schema, tell};

/// How often the bucket is looked at though no file has changed.
const LOOK: Duration = Duration::from_secs(1);
/// How long the server may take for anything.
const ANSWER: Duration = Duration::from_secs(2);

pub(crate) fn run(server: &str, dir: &Path) -> Outcome<()> {
    let changed = Arc::new(Notify::new());
    let mut files = SERVICES.map(|service| Followed::new(dir, service, &changed));
    let mut state = Once::default();
    loop {
        files.iter_mut().for_each(Followed::look);
        if let Err(error) = connection(server, &mut files, &changed, &mut state) {
            state.say(format!("cannot publish: {error}"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Publishes for as long as one connection does.
fn connection(
    server: &str,
    files: &mut [Followed],
    changed: &Notify,
    state: &mut Once,
) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(publish(server, files, changed, state));
    // Nothing of this connection is sent later.
    runtime.shutdown_background();
    outcome
}

/// Keeps the bucket as the files are.
async fn publish(
    server: &str,
    files: &mut [Followed],
    changed: &Notify,
    state: &mut Once,
) -> Outcome<()> {
    let bucket = Bucket::connect(server).await?;
    loop {
        let mut outcome = Ok(());
        for file in &mut *files {
            file.look();
            // What is wrong with one is not to keep the others back.
            if let Err(error) = bucket.keep(file).await {
                outcome = Err(format!("{}: {error}", file.name));
            }
        }
        outcome?;
        state.say(format!("in touch with {server}"));
        let _ = timeout(LOOK, changed.notified()).await;
    }
}

/// A file that is followed by the crate, and its newest text that can be used.
struct Followed {
    name: String,
    path: PathBuf,
    changed: Arc<Notify>,
    open: Option<(Properties, Subscription)>,
    good: Option<Vec<u8>>,
    trouble: Once,
}

impl Followed {
    fn new(dir: &Path, service: &str, changed: &Arc<Notify>) -> Self {
        let name = file_of(service);
        Self {
            path: dir.join(&name),
            name,
            changed: Arc::clone(changed),
            open: None,
            good: None,
            trouble: Once::default(),
        }
    }

    /// Takes the newest text, if it can be used.
    fn look(&mut self) {
        if self.open.is_none() {
            match self.follow() {
                Ok(open) => self.open = Some(open),
                Err(error) => self.trouble.say(format!("not published: {error}")),
            }
        }
        if let Some(text) = self.text() {
            self.good = Some(text);
        }
    }

    /// From here on each good change wakes the publisher, and each bad one is told.
    fn follow(&self) -> Result<(Properties, Subscription), liveprops::Error> {
        let props = Properties::builder()
            .on_source_event(tell)
            .schema(schema())
            .source(File::new(&self.path))
            .build()?;
        let changed = Arc::clone(&self.changed);
        let subscription = props.on_change_under("", move |_| changed.notify_one())?;
        Ok((props, subscription))
    }

    /// What the file holds, if that is what is in force. Whoever writes it may have gone on since
    /// then, and then there will be another change.
    fn text(&self) -> Option<Vec<u8>> {
        let (props, _) = self.open.as_ref()?;
        let text = fs::read(&self.path).ok()?;
        let origin = Origin::new("file", self.path.display().to_string());
        let document = Format::toml().parse(&text, &origin).ok()?;
        let source = props.health().sources.first()?.source;
        let checked = props.check(source, document).ok()?;
        (checked.changes.is_empty() && checked.rejected.is_empty()).then_some(text)
    }
}

/// The services' documents.
struct Bucket(Client);

impl Bucket {
    async fn connect(server: &str) -> Outcome<Self> {
        let options = ConnectOptions::new()
            .name("fleet loader")
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            // Then a new one is made: what could not be sent is not kept, it may be old by then.
            .max_reconnects(1);
        Ok(Self(options.connect(server).await?))
    }

    /// Publishes a file, if the bucket says something else.
    async fn keep(&self, file: &Followed) -> Outcome<()> {
        let Some(text) = &file.good else {
            return Ok(());
        };
        if self.get(&file.name).await?.as_deref() != Some(text) {
            self.put(&file.name, text).await?;
            say(format!("published {}: {} bytes", file.name, text.len()));
        }
        Ok(())
    }

    /// The document of a key; makes the bucket if there is none.
    async fn get(&self, key: &str) -> Outcome<Option<Vec<u8>>> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{key}");
        let answer = match self.0.request(subject.clone(), "".into()).await {
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                self.make().await?;
                self.0.request(subject, "".into()).await?
            }
            answer => answer?,
        };
        let deleted = |answer: &Message| {
            let headers = answer.headers.as_ref();
            headers.is_some_and(|headers| headers.get("KV-Operation").is_some())
        };
        match answer.status.map(|status| status.as_u16()) {
            None if deleted(&answer) => Ok(None),
            None => Ok(Some(answer.payload.to_vec())),
            Some(404) => Ok(None),
            Some(status) => Err(format!("cannot be read: status {status}").into()),
        }
    }

    async fn put(&self, key: &str, text: &[u8]) -> Outcome<()> {
        let subject = format!("$KV.{BUCKET}.{key}");
        let answer = self.0.request(subject, text.to_vec().into()).await?;
        accepted(&answer)
    }

    /// Makes the bucket as `nats kv add fleet` does: of each key, it holds the newest.
    async fn make(&self) -> Outcome<()> {
        let config = json!({
            "name": format!("KV_{BUCKET}"),
            "subjects": [format!("$KV.{BUCKET}.>")],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "allow_rollup_hdrs": true,
            "deny_delete": true,
            "allow_direct": true,
            "storage": "file",
            "num_replicas": 1,
        });
        let subject = format!("$JS.API.STREAM.CREATE.KV_{BUCKET}");
        let answer = self.0.request(subject, config.to_string().into()).await?;
        accepted(&answer)?;
        say(format!("made the bucket {BUCKET}"));
        Ok(())
    }
}

/// What JetStream answers, as an outcome.
fn accepted(answer: &Message) -> Outcome<()> {
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(format!("not taken: {error}").into()),
    }
}
