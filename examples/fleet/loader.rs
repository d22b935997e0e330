//! The loader: publishes the file of each service if it is valid and differs from the document in
//! the bucket.

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

use crate::{
    BUCKET, Outcome, RETRY_PAUSE, Repeated, SERVICES, file_of, log_event, log_line, schema,
};

/// How often the bucket is checked while no file changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the server may take for an answer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn run(server: &str, dir: &Path) -> Outcome<()> {
    let changed = Arc::new(Notify::new());
    let mut files = SERVICES.map(|service| Followed::new(dir, service, &changed));
    let mut state = Repeated::default();
    loop {
        files.iter_mut().for_each(Followed::refresh);
        if let Err(error) = connection(server, &mut files, &changed, &mut state) {
            state.log(format!("cannot publish: {error}"));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// Publishes until the connection fails.
fn connection(
    server: &str,
    files: &mut [Followed],
    changed: &Notify,
    state: &mut Repeated,
) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(publish(server, files, changed, state));
    // Requests of this connection that are still queued are not sent later.
    runtime.shutdown_background();
    outcome
}

/// Keeps the bucket equal to the files.
async fn publish(
    server: &str,
    files: &mut [Followed],
    changed: &Notify,
    state: &mut Repeated,
) -> Outcome<()> {
    let bucket = Bucket::connect(server).await?;
    loop {
        let mut outcome = Ok(());
        for file in &mut *files {
            file.refresh();
            // A failure of one file does not stop the others.
            if let Err(error) = bucket.update(file).await {
                outcome = Err(format!("{}: {error}", file.name));
            }
        }
        outcome?;
        state.log(format!("connected to {server}"));
        let _ = timeout(CHECK_INTERVAL, changed.notified()).await;
    }
}

/// A file that liveprops watches, and its newest valid text.
struct Followed {
    name: String,
    path: PathBuf,
    changed: Arc<Notify>,
    open: Option<(Properties, Subscription)>,
    good: Option<Vec<u8>>,
    trouble: Repeated,
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
            trouble: Repeated::default(),
        }
    }

    /// Reads the newest text and keeps it if it is valid.
    fn refresh(&mut self) {
        if self.open.is_none() {
            match self.follow() {
                Ok(open) => self.open = Some(open),
                Err(error) => self.trouble.log(format!("not published: {error}")),
            }
        }
        if let Some(text) = self.text() {
            self.good = Some(text);
        }
    }

    /// Starts to watch the file: a valid change wakes the publisher, an invalid one is logged.
    fn follow(&self) -> Result<(Properties, Subscription), liveprops::Error> {
        let props = Properties::builder()
            .on_source_event(log_event)
            .schema(schema())
            .source(File::new(&self.path))
            .build()?;
        let changed = Arc::clone(&self.changed);
        let subscription = props.on_change_under("", move |_| changed.notify_one())?;
        Ok((props, subscription))
    }

    /// The text of the file if it is in force. If it is not, the file was written again, and another
    /// change follows.
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
            .connection_timeout(SERVER_TIMEOUT)
            .request_timeout(Some(SERVER_TIMEOUT))
            // A new connection is made instead. It must not send requests of the old one, which may be
            // out of date.
            .max_reconnects(1);
        Ok(Self(options.connect(server).await?))
    }

    /// Publishes a file if the document in the bucket differs.
    async fn update(&self, file: &Followed) -> Outcome<()> {
        let Some(text) = &file.good else {
            return Ok(());
        };
        if self.get(&file.name).await?.as_deref() != Some(text) {
            self.put(&file.name, text).await?;
            log_line(format!("published {}: {} bytes", file.name, text.len()));
        }
        Ok(())
    }

    /// The document of a key; creates the bucket if it does not exist.
    async fn get(&self, key: &str) -> Outcome<Option<Vec<u8>>> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{key}");
        let answer = match self.0.request(subject.clone(), "".into()).await {
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                self.create().await?;
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
        check_answer(&answer)
    }

    /// Creates the bucket as `nats kv add fleet` does: it keeps the newest value of each key.
    async fn create(&self) -> Outcome<()> {
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
        check_answer(&answer)?;
        log_line(format!("created the bucket {BUCKET}"));
        Ok(())
    }
}

/// Checks the answer of JetStream.
fn check_answer(answer: &Message) -> Outcome<()> {
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(format!("rejected: {error}").into()),
    }
}
