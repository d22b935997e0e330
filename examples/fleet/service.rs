//! A service: answers HTTP requests with the values of its document in the bucket, also while the
//! bucket is away or wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liveprops::sources::Nats;
use liveprops::{DynamicProperty, Properties, Source};

use crate::{BUCKET, Outcome, RETRY_PAUSE, Repeated, file_of, log_event, log_line, schema};

/// How long a client may take.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the head of a request may be.
const MAX_HEAD: u64 = 16 << 10;

/// The document of a service.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct Settings {
    greeting: String,
    limit: u32,
    log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Log {
    Changes,
    Requests,
}

pub(crate) fn run(server: &str, name: &str, port: u16, state: &Path) -> Outcome<()> {
    let props = start(server, name, state);
    // The values that a request reads change together.
    let settings = props.bind::<Settings>("").build()?;
    let _changes = props.on_change_under("", |batch| {
        for change in batch.changes() {
            log_line(format!("generation {}: {change}", batch.generation()));
        }
    })?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for key in props.snapshot().keys() {
        log_line(props.explain(key.as_str()).to_string().trim_end());
    }
    log_line(format!("{name} is ready: http://127.0.0.1:{port}/"));
    let service = Arc::new(Service {
        name: name.to_owned(),
        settings,
        second: Mutex::new((Instant::now(), 0)),
    });
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                let service = Arc::clone(&service);
                // A client that closes, is slow, or cannot get a thread does not stop the service.
                let _ = std::thread::Builder::new().spawn(move || service.answer(stream));
            }
            Err(error) => {
                log_line(format!("a client is lost: {error}"));
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }
    Ok(())
}

/// Waits for a configuration: from the bucket, or from disk while the bucket is away.
fn start(server: &str, name: &str, state: &Path) -> Properties {
    let mut trouble = Repeated::default();
    loop {
        let document = Nats::bucket(BUCKET).document(file_of(name)).address(server);
        let props = Properties::builder()
            .on_source_event(log_event)
            .schema(schema())
            .state_dir(state)
            .source(document.with(|policy| policy.wait_forever().cached()))
            .build();
        match props {
            Ok(props) => return props,
            Err(error) => trouble.log(format!("waits for its configuration: {error}")),
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

struct Service {
    name: String,
    settings: DynamicProperty<Settings>,
    /// The start of the current second, and the number of requests admitted in it.
    second: Mutex<(Instant, u32)>,
}

impl Service {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        // The head of the request ends with an empty line.
        for line in BufReader::new((&stream).take(MAX_HEAD)).lines() {
            if line?.is_empty() {
                break;
            }
        }
        // Read once, so that the whole request sees one configuration.
        let now = self.settings.versioned();
        let Settings {
            greeting,
            limit,
            log,
        } = &now.value;
        let (status, body) = match self.admits(*limit) {
            true => (
                "200 OK",
                format!(
                    "service = {:?}\ngreeting = {greeting:?}\nlimit = {limit}\ngeneration = {}\npid = {}\n",
                    self.name,
                    now.generation(),
                    std::process::id(),
                ),
            ),
            false => (
                "429 Too Many Requests",
                format!("more than {limit} a second\npid = {}\n", std::process::id()),
            ),
        };
        if *log == Log::Requests {
            log_line(format!("answered {status}"));
        }
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        (&stream).write_all((head + &body).as_bytes())
    }

    /// Whether a request is admitted: at most `limit` in a second.
    fn admits(&self, limit: u32) -> bool {
        let mut second = self
            .second
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 = second.1.saturating_add(1);
        second.1 <= limit
    }
}
