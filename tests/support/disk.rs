//! What the tests with real files share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liveprops::health::{SourceEvent, SourceEventKind, SourceHealth, Status};
use liveprops::property::Subscription;
use liveprops::{Format, Properties, sources::File};

use super::wait_until;

/// Far below the slow poll of 5 seconds, so that what comes within it was brought by an event.
pub(crate) const SOON: Duration = Duration::from_secs(4);

/// Waits until `condition` holds, which an event has to bring about.
#[track_caller]
pub(crate) fn soon(what: &str, condition: impl FnMut() -> bool) {
    wait_until(SOON, what, condition);
}

/// Replaces a file by a rename, from the same directory as programs should.
pub(crate) fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let aside = path.with_file_name(".aside");
    fs::write(&aside, content).unwrap();
    fs::rename(aside, path).unwrap();
}

/// Swings a symbolic link at once.
pub(crate) fn swing(link: &Path, target: &str) {
    let aside = link.with_file_name("..aside");
    std::os::unix::fs::symlink(target, &aside).unwrap();
    fs::rename(aside, link).unwrap();
}

/// A directory with one configuration file in it.
pub(crate) struct Desk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Desk {
    pub(crate) fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        Self { dir, path }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn open(&self) -> Properties {
        open(File::new(&self.path))
    }

    /// The origin of a place in the file, as it is shown.
    pub(crate) fn place(&self, place: &str) -> String {
        format!("file {}:{place}", self.path.display())
    }
}

pub(crate) fn open(source: impl liveprops::Source) -> Properties {
    Properties::builder().source(source).build().unwrap()
}

pub(crate) fn format(extension: &str) -> Format {
    Format::from_extension(extension).unwrap()
}

/// Whether the feature of a format is on.
pub(crate) fn knows(extension: &str) -> bool {
    Format::from_extension(extension).is_some()
}

/// The health of the only source.
pub(crate) fn health(props: &Properties) -> SourceHealth {
    let mut sources = props.health().sources;
    sources.retain(|source| source.name.as_ref() != "overrides");
    assert_eq!(sources.len(), 1, "{sources:?}");
    sources.remove(0)
}

/// Why the only source is stale, if it is.
pub(crate) fn stale(props: &Properties) -> Option<String> {
    match health(props).status {
        Status::Stale { reason, .. } => Some(reason.to_string()),
        _ => None,
    }
}

pub(crate) fn is_up(props: &Properties) -> bool {
    matches!(health(props).status, Status::Up)
}

/// What happens to the sources, as a list.
#[derive(Clone)]
pub(crate) struct Diary {
    events: Arc<Mutex<Vec<SourceEvent>>>,
    _guard: Arc<Subscription>,
}

impl Diary {
    pub(crate) fn of(props: &Properties) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&events);
        let guard = props.on_source_event(move |event| into.lock().unwrap().push(event.clone()));
        Self {
            events,
            _guard: Arc::new(guard),
        }
    }

    pub(crate) fn events(&self) -> Vec<SourceEvent> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, which: impl Fn(&SourceEventKind) -> bool) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| which(&event.kind)).count()
    }

    pub(crate) fn reconnected(&self) -> usize {
        self.count(|kind| matches!(kind, SourceEventKind::Reconnected))
    }

    pub(crate) fn recovered(&self) -> usize {
        self.count(|kind| matches!(kind, SourceEventKind::Recovered))
    }

    pub(crate) fn updated(&self) -> usize {
        self.count(|kind| matches!(kind, SourceEventKind::Updated))
    }
}
