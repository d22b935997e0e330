//! What the tests of files and directories share.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::source::Source;
use crate::source::conformance::Recorder;
use crate::value::Value;

/// Far below the interval of the slow poll: an update within this time comes from an event.
pub(crate) const SOON: Duration = Duration::from_millis(2500);

/// A source that is being watched, until this is dropped.
pub(crate) struct Watched {
    pub(crate) recorder: Recorder,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

pub(crate) fn watch(source: impl Source) -> Watched {
    watch_with(source, Recorder::new())
}

pub(crate) fn watch_with(source: impl Source, recorder: Recorder) -> Watched {
    let source = Arc::new(source);
    let updates = recorder.updates();
    let thread = std::thread::spawn(move || source.watch(&updates));
    Watched {
        recorder,
        thread: Some(thread),
    }
}

impl Watched {
    #[track_caller]
    pub(crate) fn expect(&self, key: &str, value: i64) {
        let want = Value::from(value);
        let is_set = self
            .recorder
            .wait_for(SOON, |seen| seen.document.get(key) == Some(&want));
        assert!(
            is_set,
            "{key} = {value} within {SOON:?}: {}",
            self.history()
        );
    }

    #[track_caller]
    pub(crate) fn expect_none(&self, key: &str) {
        let is_removed = self
            .recorder
            .wait_for(SOON, |seen| seen.document.get(key).is_none());
        assert!(
            is_removed,
            "{key} is removed within {SOON:?}: {}",
            self.history()
        );
    }

    #[track_caller]
    pub(crate) fn expect_failure(&self, part: &str) {
        let is_reported = self.recorder.wait_for(SOON, |seen| {
            seen.failures.iter().any(|it| it.to_string().contains(part))
        });
        assert!(is_reported, "`{part}` is reported: {}", self.history());
    }

    #[track_caller]
    #[cfg_attr(not(feature = "watch"), allow(dead_code))] // only events need it
    pub(crate) fn expect_degraded(&self, part: &str) {
        let is_reported = self.recorder.wait_for(SOON, |seen| {
            let degraded = seen.degraded.as_ref().map(Error::to_string);
            degraded.is_some_and(|text| text.contains(part))
        });
        assert!(is_reported, "`{part}` is shown: {}", self.history());
    }

    pub(crate) fn get(&self, key: &str) -> Option<i64> {
        self.recorder.seen().document.get(key)?.as_i64()
    }

    fn history(&self) -> String {
        let seen = self.recorder.seen();
        let values: Vec<_> = seen.document.iter().take(8).collect();
        format!("{values:?}, {} updates, {:?}", seen.updates, seen.failures)
    }

    /// Stops the watch; returns how long that took to return.
    pub(crate) fn stop(mut self) -> Duration {
        self.end()
    }

    fn end(&mut self) -> Duration {
        let begun = Instant::now();
        self.recorder.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
        begun.elapsed()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}

/// Replaces a file by a rename.
pub(crate) fn replace(path: &Path, text: &str) {
    let mut aside = path.as_os_str().to_os_string();
    aside.push(".new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, path).unwrap();
}

/// Gives a symbolic link another target by a rename.
#[cfg(unix)]
pub(crate) fn retarget(link: &Path, target: &Path) {
    let mut aside = link.as_os_str().to_os_string();
    aside.push(".new");
    std::os::unix::fs::symlink(target, &aside).unwrap();
    std::fs::rename(aside, link).unwrap();
}
