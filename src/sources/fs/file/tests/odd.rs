//! Content that must not be applied, and paths that are no regular file.

use super::*;
use crate::source::conformance::{Editor, Recorder, check};
use crate::sources::fs::watch::testing::{SOON, watch_with};

fn begin(path: &Path) -> Watched {
    fs::write(path, text(0)).unwrap();
    // Also polled often, so that the tests work where there are no events.
    let watched = watch(File::new(path).poll(Duration::from_millis(150)));
    watched.expect("a", 0);
    watched
}

struct Rewrite(PathBuf, Mutex<std::collections::BTreeMap<String, String>>);

impl Rewrite {
    fn write(&self) {
        let keys = self.1.lock();
        let lines: String = keys
            .iter()
            .map(|(k, v)| format!("{k} = \"{v}\"\n"))
            .collect();
        replace(&self.0, &lines);
    }
}

impl Editor for Rewrite {
    fn set(&self, key: &str, text: &str) {
        self.1.lock().insert(key.to_owned(), text.to_owned());
        self.write();
    }

    fn remove(&self, key: &str) {
        self.1.lock().remove(key);
        self.write();
    }
}

#[test]
fn a_file_keeps_the_contract_of_a_source() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let editor = Rewrite(path.clone(), Mutex::default());
    let watched = || File::new(&path).poll(Duration::from_millis(200));
    assert_eq!(check(&watched, &editor), Ok(()));
    let polled = || {
        File::new(&path)
            .without_watch()
            .poll(Duration::from_millis(50))
    };
    assert_eq!(check(&polled, &editor), Ok(()));
}

#[test]
fn an_emptied_file_keeps_its_values_and_reports_it() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for (round, blank) in ["", " \n\t", "\u{feff}\n"].into_iter().enumerate() {
        let value = round as i64;
        fs::write(&path, blank).unwrap();
        let is_reported = watched
            .recorder
            .wait_for(SOON, |seen| seen.failures.len() == round + 1);
        assert!(is_reported, "round {round}");
        watched.expect_failure("became empty");
        assert_eq!(watched.get("a"), Some(value));
        fs::write(&path, text(value + 1)).unwrap();
        watched.expect("a", value + 1);
    }
    drop(watched);
    let file = File::new(&path)
        .allow_empty()
        .poll(Duration::from_millis(150));
    let watched = watch(file);
    watched.expect("a", 3);
    fs::write(&path, "").unwrap();
    watched.expect_none("a");
}

#[test]
fn a_file_that_lost_its_last_value_keeps_its_values_and_reports_it() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let cut = [
        "# A comment.\n",
        "\u{feff}# A comment.",
        "[a]\n",
        "[a.b]\n[c]\n",
    ];
    for (round, cut) in (0..).zip(cut) {
        // A rename makes no difference.
        if round % 2 == 0 {
            fs::write(&path, cut).unwrap();
        } else {
            replace(&path, cut);
        }
        let reported = watched
            .recorder
            .wait_for(SOON, |seen| seen.failures.len() == round + 1);
        assert!(reported, "{cut:?}");
        watched.expect_failure("became empty");
        assert_eq!(watched.get("a"), Some(round as i64), "{cut:?}");
        fs::write(&path, text(round as i64 + 1)).unwrap();
        watched.expect("a", round as i64 + 1);
    }
    drop(watched);
    let file = File::new(&path)
        .allow_empty()
        .poll(Duration::from_millis(150));
    let watched = watch(file);
    watched.expect("a", 4);
    fs::write(&path, "# A comment.\n").unwrap();
    watched.expect_none("a");
}

#[test]
fn an_emptied_file_keeps_its_values_in_a_watch_that_starts_after_the_load() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(1)).unwrap();
    let file = File::new(&path);
    file.load().unwrap();
    fs::write(&path, "").unwrap();
    let watched = watch(file);
    watched.expect_failure("became empty");
    assert_eq!(watched.recorder.seen().updates, 0);
}

#[test]
fn a_broken_file_keeps_its_values_and_is_reported_once() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for value in 1..=3 {
        let failures = watched.recorder.seen().failures.len();
        replace(&path, "a = 7\nbroken");
        let is_reported = |n| {
            watched
                .recorder
                .wait_for(SOON, |seen| seen.failures.len() == n)
        };
        assert!(is_reported(failures + 1));
        for _ in 0..3 {
            replace(&path, "a = 7\nbroken");
        }
        sleep(Duration::from_millis(250));
        assert_eq!(watched.recorder.seen().failures.len(), failures + 1);
        assert_eq!(watched.get("a"), Some(value - 1));
        replace(&path, &text(value));
        watched.expect("a", value);
    }
}

#[test]
fn going_back_to_the_values_in_force_clears_the_failure_without_an_update() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    replace(&path, "broken");
    watched.expect_failure("");
    let seen = watched.recorder.seen();
    replace(&path, &text(0));
    assert!(
        watched
            .recorder
            .wait_for(SOON, |now| now.alive > seen.alive)
    );
    assert_eq!(watched.recorder.seen().updates, seen.updates);
}

#[test]
fn rejected_content_is_not_sent_again_until_it_changes() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    let recorder = Recorder::new();
    recorder.reject_when(|document| document.get("a") == Some(&crate::Value::from(13)));
    let file = File::new(&path).poll(Duration::from_millis(30));
    let watched = watch_with(file, recorder);
    watched.expect("a", 0);
    for round in 1..=3 {
        replace(&path, &text(13));
        assert!(
            watched
                .recorder
                .wait_for(SOON, |seen| seen.rejected == round)
        );
        replace(&path, &text(13));
        sleep(Duration::from_millis(150));
        assert_eq!(watched.recorder.seen().rejected, round);
        assert_eq!(watched.get("a"), Some(round as i64 - 1));
        replace(&path, &text(round as i64));
        watched.expect("a", round as i64);
    }
}

#[test]
fn identical_bytes_send_nothing() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    for _ in 0..3 {
        let alive = watched.recorder.seen().alive;
        replace(&path, &text(0));
        fs::write(&path, text(0)).unwrap();
        assert!(watched.recorder.wait_for(SOON, |seen| seen.alive > alive));
    }
    assert_eq!(watched.recorder.seen().updates, 1);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_not_regular_is_rejected_at_once() {
    use std::os::unix::fs::symlink;
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let fifo = || {
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
    };
    let kinds: [(&str, &dyn Fn()); 4] = [
        ("a pipe", &fifo),
        ("a directory", &|| fs::create_dir(&path).unwrap()),
        ("a socket", &|| {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap())
        }),
        ("a device", &|| symlink("/dev/zero", &path).unwrap()),
    ];
    for (value, (kind, create)) in (1..).zip(kinds) {
        fs::remove_file(&path).unwrap();
        create();
        let begun = Instant::now();
        let error = File::new(&path).load().unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().contains(kind), "{error}");
        watched.expect_failure(kind);
        assert_eq!(watched.get("a"), Some(value - 1));
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
        fs::write(&path, text(value)).unwrap();
        watched.expect("a", value);
    }
}

#[test]
fn a_sparse_file_that_is_too_large_is_rejected_without_being_read() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let giant = dir.path().join("giant.toml");
    fs::File::create(&giant).unwrap().set_len(10 << 30).unwrap();
    let begun = Instant::now();
    let error = File::new(&giant).load().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    fs::rename(&giant, &path).unwrap();
    watched.expect_failure("larger than");
    assert_eq!(watched.get("a"), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_of_proc_is_read_although_its_size_is_zero() {
    let content = read::read(Path::new("/proc/self/status")).unwrap();
    assert!(content.bytes.len() > 100);
}

#[cfg(unix)]
#[test]
fn a_file_without_read_permission_keeps_its_values_and_recovers_with_the_permission() {
    use std::os::unix::fs::PermissionsExt;
    let dir = dir();
    let path = dir.path().join("app.toml");
    let watched = begin(&path);
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    mode(0);
    if fs::File::open(&path).is_ok() {
        return; // Nothing is forbidden to root.
    }
    watched.expect_failure("ermission");
    assert_eq!(watched.get("a"), Some(0));
    let alive = watched.recorder.seen().alive;
    mode(0o644);
    assert!(watched.recorder.wait_for(SOON, |seen| seen.alive > alive));
}

#[cfg(unix)]
#[test]
fn a_cycle_of_links_is_an_error() {
    let dir = dir();
    let (path, other) = (dir.path().join("app.toml"), dir.path().join("b"));
    let watched = begin(&path);
    std::os::unix::fs::symlink("app.toml", &other).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("b", &path).unwrap();
    watched.expect_failure("cannot be read");
    replace(&path, &text(1));
    watched.expect("a", 1);
}

#[test]
fn a_watch_returns_at_once_when_it_is_stopped() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    for file in [File::new(&path), File::new(&path).without_watch()] {
        let watched = watch(file);
        watched.expect("a", 0);
        let duration = watched.stop();
        assert!(duration < Duration::from_secs(5), "{duration:?}");
    }
}
