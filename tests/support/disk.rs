//! Helpers of tests with real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liveprops::health::{SourceEvent, SourceEventKind, SourceHealth, Status};
use liveprops::property::Subscription;
use liveprops::{Format, Properties, sources::File};

use super::wait_until;

/// Less than the poll interval of 5 seconds, so that a change within this time came from an event.
pub(crate) const SOON: Duration = Duration::from_secs(4);

/// Waits until a file event makes `condition` true.
#[track_caller]
pub(crate) fn wait_for_event(what: &str, condition: impl FnMut() -> bool) {
    wait_until(SOON, what, condition);
}

/// Replaces a file by a rename within its directory.
pub(crate) fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let temporary = path.with_file_name(".aside");
    fs::write(&temporary, content).unwrap();
    fs::rename(temporary, path).unwrap();
}

/// Replaces a symbolic link atomically.
pub(crate) fn replace_link(link: &Path, target: &str) {
    let temporary = link.with_file_name("..aside");
    std::os::unix::fs::symlink(target, &temporary).unwrap();
    fs::rename(temporary, link).unwrap();
}

/// A temporary directory with one configuration file.
pub(crate) struct ConfigDir {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl ConfigDir {
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

    /// Returns the displayed origin of a position, such as `2:7`, in the file.
    pub(crate) fn origin(&self, position: &str) -> String {
        format!("file {}:{position}", self.path.display())
    }
}

pub(crate) fn open(source: impl liveprops::Source) -> Properties {
    Properties::builder().source(source).build().unwrap()
}

pub(crate) fn format(extension: &str) -> Format {
    Format::from_extension(extension).unwrap()
}

/// Returns whether the feature of a format is enabled.
pub(crate) fn is_supported(extension: &str) -> bool {
    Format::from_extension(extension).is_some()
}

/// Returns the health of the only source.
pub(crate) fn health(props: &Properties) -> SourceHealth {
    let mut sources = props.health().sources;
    sources.retain(|source| source.name.as_ref() != "overrides");
    assert_eq!(sources.len(), 1, "{sources:?}");
    sources.remove(0)
}

/// Returns why the only source is stale; `None` if it is not.
pub(crate) fn stale(props: &Properties) -> Option<String> {
    match health(props).status {
        Status::Stale { reason, .. } => Some(reason.to_string()),
        _ => None,
    }
}

pub(crate) fn is_up(props: &Properties) -> bool {
    matches!(health(props).status, Status::Up)
}

/// Records the events of all sources.
#[derive(Clone)]
pub(crate) struct EventLog {
    events: Arc<Mutex<Vec<SourceEvent>>>,
    _guard: Arc<Subscription>,
}

impl EventLog {
    pub(crate) fn of(props: &Properties) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&events);
        let guard = props.on_source_event(move |event| log.lock().unwrap().push(event.clone()));
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
