//! A service: answers over HTTP as its document in the bucket says, whatever happens to that.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liveprops::sources::Nats;
use liveprops::{DynamicProperty, Properties, Source};

use crate::{BUCKET, Once, Outcome, PAUSE, file_of, say, schema, tell};

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the head of a request may be.
const MAX_HEAD: u64 = 16 << 10;

/// What a service is told.
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
    // All that a request needs is swapped as one.
    let settings = props.bind::<Settings>("").build()?;
    let _changes = props.on_change_under("", |batch| {
        for change in batch.changes() {
            say(format!("generation {}: {change}", batch.generation()));
        }
    })?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for key in props.snapshot().keys() {
        say(props.explain(key.as_str()).to_string().trim_end());
    }
    say(format!("{name} is ready: http://127.0.0.1:{port}/"));
    let service = Arc::new(Service {
        name: name.to_owned(),
        settings,
        second: Mutex::new((Instant::now(), 0)),
    });
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                let service = Arc::clone(&service);
                // A client that goes away, is slow, or is one too many is its own affair.
                let _ = std::thread::Builder::new().spawn(move || service.answer(stream));
            }
            Err(error) => {
                say(format!("a client is lost: {error}"));
                std::thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// Waits for a configuration: that of the bucket, or the newest that was kept while that is away.
fn start(server: &str, name: &str, state: &Path) -> Properties {
    let mut trouble = Once::default();
    loop {
        let document = Nats::bucket(BUCKET).document(file_of(name)).address(server);
        let props = Properties::builder()
            .on_source_event(tell)
            .schema(schema())
            .state_dir(state)
            .source(document.with(|policy| policy.wait_forever().cached()))
            .build();
        match props {
            Ok(props) => return props,
            Err(error) => trouble.say(format!("waits for its configuration: {error}")),
        }
        std::thread::sleep(PAUSE);
    }
}

struct Service {
    name: String,
    settings: DynamicProperty<Settings>,
    /// The second that counts, and how many were let in.
    second: Mutex<(Instant, u32)>,
}

impl Service {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // The head of the request ends with an empty line.
        for line in BufReader::new((&stream).take(MAX_HEAD)).lines() {
            if line?.is_empty() {
                break;
            }
        }
        // Read once: this request sees one configuration, whatever changes meanwhile.
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
            say(format!("answered {status}"));
        }
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        (&stream).write_all((head + &body).as_bytes())
    }

    /// Lets so many in within a second.
    fn admits(&self, limit: u32) -> bool {
        let mut second = self
            .second
            .lock()
            .unwrap_or_else(|withheld| withheld.into_inner());
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 = second.1.saturating_add(1);
        second.1 <= limit
    }
}
