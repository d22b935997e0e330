//! The first load of a file that somebody may be writing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A file that has not changed for this time is not read twice.
const OLD: Duration = Duration::from_millis(150);

/// Runs `load` while another thread writes without a pause of the debounce time.
fn load_while_writing(path: &Path, text: impl Fn(i64) -> String + Sync) -> (Document, Duration) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0;
            while !done.load(Ordering::Relaxed) {
                value += 1;
                let mut file = fs::File::options().write(true).open(path).unwrap();
                file.write_all(text(value % 10).as_bytes()).unwrap();
                sleep(Duration::from_millis(4));
            }
        });
        let begun = Instant::now();
        let loaded = File::new(path).load();
        done.store(true, Ordering::Relaxed);
        (loaded.unwrap(), begun.elapsed())
    })
}

#[test]
fn a_load_reads_a_file_twice_only_if_it_changed_a_moment_ago() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(1)).unwrap();
    let begun = Instant::now();
    File::new(&path).load().unwrap();
    assert!(
        begun.elapsed() >= DEBOUNCE,
        "a file that changed a moment ago is read twice"
    );
    sleep(OLD);
    // A time stamp that a program sets proves nothing.
    let file = fs::File::options().write(true).open(&path).unwrap();
    let tomorrow = std::time::SystemTime::now() + Duration::from_secs(86_400);
    file.set_modified(tomorrow).unwrap();
    sleep(OLD);
    let quickest = (0..5).map(|_| {
        let begun = Instant::now();
        File::new(&path).load().unwrap();
        begun.elapsed()
    });
    assert!(
        quickest.min().unwrap() < DEBOUNCE,
        "an old file is read once"
    );
}

#[test]
fn a_load_waits_for_a_file_that_was_removed_a_moment_ago() {
    for _ in 0..50 {
        let dir = dir();
        let path = dir.path().join("app.toml");
        fs::write(&path, text(1)).unwrap();
        fs::remove_file(&path).unwrap();
        let begun = Instant::now();
        let file = File::new(&path);
        let loader = std::thread::spawn(move || file.load());
        sleep(DEBOUNCE / 2);
        fs::write(&path, text(2)).unwrap();
        // On a busy machine the file may be written too late.
        if begun.elapsed() < DEBOUNCE {
            let document = loader.join().unwrap().unwrap();
            assert_eq!(document.get("a"), Some(&2.into()));
            return;
        }
    }
    panic!("the machine is too busy to write a file in time");
}

#[test]
fn a_load_accepts_a_file_that_is_written_all_the_time_with_equal_content() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(1)).unwrap();
    let (document, took) = load_while_writing(&path, |_| text(1));
    assert_eq!(document.get("a"), Some(&1.into()));
    assert!(document.problems().is_empty());
    assert!(took < LOAD_TIMEOUT / 2, "{took:?}");
}

#[test]
fn a_load_ends_and_reports_a_file_that_never_stops_changing() {
    for _ in 0..5 {
        let dir = dir();
        let path = dir.path().join("app.toml");
        fs::write(&path, text(1)).unwrap();
        let (document, took) = load_while_writing(&path, text);
        assert!(document.get("a").is_some());
        assert!(took < LOAD_TIMEOUT + Duration::from_secs(1), "{took:?}");
        // On a busy machine the writer pauses for so long that the file counts as complete.
        if let Some(problem) = document.problems().first() {
            let problem = problem.to_string();
            assert!(problem.contains("app.toml"), "{problem}");
            assert!(problem.contains("kept changing"), "{problem}");
            return;
        }
    }
    panic!("the machine is too busy to write a file all the time");
}
