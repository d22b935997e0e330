//! A change of the content among events without end.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::sources::fs::dir::Dir;

/// Runs a closure again and again, until this is dropped.
struct Flood {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn new(every: Duration, mut action: impl FnMut() + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                action();
                sleep(every);
            }
        });
        Self {
            done,
            thread: Some(thread),
        }
    }

    /// Sets the time stamps of a file. That opens it only for reading, which is no relevant event.
    fn touching(path: &Path, every: Duration) -> Self {
        let path = path.to_path_buf();
        Self::new(every, move || {
            let file = fs::File::open(&path).unwrap();
            file.set_modified(std::time::SystemTime::now()).unwrap();
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking());
    }
}

const OFTEN: Duration = Duration::from_millis(3);

/// Where there are events, no poll reads a file during a test.
const POLL: Duration = if cfg!(feature = "watch") {
    Duration::from_secs(60)
} else {
    Duration::from_millis(20)
};

fn begin(path: &Path) -> Watched {
    fs::write(path, text(0)).unwrap();
    let watched = watch(File::new(path).poll(POLL));
    watched.expect("a", 0);
    watched
}

/// Rewrites the file in place and by rename.
fn change(watched: &Watched, path: &Path) {
    for value in 1..=3 {
        fs::write(path, text(value)).unwrap();
        watched.expect("a", value);
        replace(path, &text(value * 10));
        watched.expect("a", value * 10);
    }
}

#[test]
fn time_stamps_set_every_3_ms_do_not_keep_a_change_from_being_seen() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let _flood = Flood::touching(&path, OFTEN);
    change(&watched, &path);
}

#[test]
fn permissions_and_links_set_every_3_ms_do_not_keep_a_change_from_being_seen() {
    let (dir, other) = (dir(), dir());
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let (file, link) = (path.clone(), other.path().join("link"));
    let mut modes = [0o600, 0o644].into_iter().cycle();
    let _flood = Flood::new(OFTEN, move || {
        fs::set_permissions(&file, fs::Permissions::from_mode(modes.next().unwrap())).unwrap();
        fs::hard_link(&file, &link).unwrap();
        fs::remove_file(&link).unwrap();
    });
    change(&watched, &path);
}

#[test]
fn writes_of_equal_bytes_every_3_ms_do_not_keep_a_change_from_being_seen() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let value = Arc::new(Mutex::new(0));
    let (newest, file) = (Arc::clone(&value), path.clone());
    let _flood = Flood::new(OFTEN, move || {
        let mut file = fs::File::options().write(true).open(&file).unwrap();
        file.write_all(text(*newest.lock()).as_bytes()).unwrap();
        // Open for longer than it is closed.
        sleep(OFTEN);
    });
    for next in 1..=3 {
        *value.lock() = next;
        watched.expect("a", next);
    }
}

#[test]
fn time_stamps_set_33_times_a_second_do_not_keep_a_change_from_being_polled() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    let often = Duration::from_millis(10);
    let watched = watch(File::new(&path).without_watch().poll(often));
    watched.expect("a", 0);
    let _flood = Flood::touching(&path, Duration::from_millis(20));
    change(&watched, &path);
}

#[test]
fn a_fragment_that_is_written_all_the_time_does_not_keep_the_others_from_being_seen() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let busy = dir.path().join("busy.toml");
    fs::write(&path, text(0)).unwrap();
    fs::write(&busy, "b = 0\n").unwrap();
    let watched = watch(Dir::new(dir.path()).poll(POLL));
    watched.expect("a", 0);
    let mut value = 0;
    let _flood = Flood::new(Duration::ZERO, move || {
        value += 1;
        fs::write(&busy, format!("b = {value}\n")).unwrap();
    });
    change(&watched, &path);
}
