//! A small fleet: a loader that publishes the files of three services to a NATS bucket, and three services
//! that follow their documents while they answer requests.
//!
//! ```sh
//! examples/fleet/fleet.sh up                      # a server, the loader and the services
//! examples/fleet/fleet.sh set checkout limit 50   # edits a file; one service changes
//! examples/fleet/fleet.sh logs                    # the log of each process
//! examples/fleet/fleet.sh down
//! ```
//!
//! The files decide: the loader corrects foreign writes and a wiped bucket within a second. It publishes
//! only the newest version, so a service that was down starts with that. It does not publish a file that
//! cannot be used. A service rejects a bad document that was written past the loader. Neither of them
//! stops for that, or while the server is away.
//!
//! The script starts this program in its roles: `fleet loader SERVER DIR` and
//! `fleet service SERVER NAME PORT STATE`.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use liveprops::Schema;
use liveprops::health::{SourceEvent, SourceEventKind};

mod loader;
mod service;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The services, each with a file and a document of its name.
const SERVICES: [&str; 3] = ["checkout", "search", "mail"];
/// The bucket with their documents.
const BUCKET: &str = "fleet";
/// The pause before a failed operation is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["loader", server, dir] => loader::run(server, Path::new(dir)),
        ["service", server, name, port, state] => {
            service::run(server, name, port.parse()?, Path::new(state))
        }
        _ => Err("fleet loader SERVER DIR | fleet service SERVER NAME PORT STATE".into()),
    }
}

/// The schema of a service's document. The loader and the service check it.
fn schema() -> Schema {
    Schema::new()
        .declare(
            Schema::key::<String>("greeting")
                .length(1..=80)
                .required()
                .describe("the text for visitors"),
        )
        .declare(
            Schema::key::<u32>("limit")
                .range(1..=10_000)
                .required()
                .describe("requests a second"),
        )
        .declare(
            Schema::key::<String>("log")
                .one_of(["changes", "requests"])
                .required()
                .describe("the events to log"),
        )
        .strict("")
        .deny_unknown()
}

/// The name of a service's file, which is the key of its document, too.
fn file_of(service: &str) -> String {
    format!("{service}.toml")
}

/// Prints a line with the time of day. A failing write does not stop the program.
fn log_line(what: impl std::fmt::Display) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.unwrap_or_default().as_millis() % 86_400_000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let time = format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}");
    let _ = writeln!(std::io::stdout(), "{time} {what}");
}

/// A log that prints equal lines in a row only once.
#[derive(Default)]
struct Repeated(String);

impl Repeated {
    fn log(&mut self, what: impl std::fmt::Display) {
        let what = what.to_string();
        if self.0 != what {
            log_line(&what);
            self.0 = what;
        }
    }
}

/// Logs an event of a source.
fn log_event(event: &SourceEvent) {
    let name = &event.name;
    match &event.kind {
        SourceEventKind::Rejected(why) => {
            log_line(format!("{name}: rejected, the old values stay: {why}"))
        }
        SourceEventKind::Suspended(why) => {
            log_line(format!("{name}: fails, the old values stay: {why}"))
        }
        SourceEventKind::Reconnected | SourceEventKind::Recovered => {
            log_line(format!("{name}: works again"));
        }
        _ => {}
    }
}
