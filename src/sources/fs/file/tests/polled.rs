//! Changes that no event reports, and files that are only polled.

use super::*;

fn begin(path: &Path, poll: u64) -> Watched {
    fs::write(path, text(0)).unwrap();
    let watched = watch(File::new(path).poll(Duration::from_millis(poll)));
    watched.expect("a", 0);
    watched
}

#[test]
fn a_write_through_a_hard_link_is_found_by_the_poll() {
    let (dir, other) = (dir(), dir());
    let path = dir.path().join("app.toml");
    let watched = begin(&path, 100);
    let link = other.path().join("link");
    fs::hard_link(&path, &link).unwrap();
    for value in 1..=3 {
        fs::write(&link, text(value)).unwrap();
        watched.expect("a", value);
    }
}

#[test]
fn without_events_every_kind_of_change_is_found() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    let watched = watch(
        File::new(&path)
            .without_watch()
            .poll(Duration::from_millis(40)),
    );
    watched.expect("a", 0);
    for value in 1..=3 {
        fs::write(&path, text(value)).unwrap();
        watched.expect("a", value);
        replace(&path, &text(value * 10));
        watched.expect("a", value * 10);
        fs::remove_file(&path).unwrap();
        sleep(Duration::from_millis(80));
        fs::write(&path, text(value * 100)).unwrap();
        watched.expect("a", value * 100);
    }
}

#[test]
fn without_events_a_file_that_is_being_written_is_waited_for() {
    let dir = dir();
    let path = dir.path().join("app.toml");
    fs::write(&path, "a = 0\nb = 0\n").unwrap();
    let watched = watch(
        File::new(&path)
            .without_watch()
            .poll(Duration::from_millis(5)),
    );
    watched.expect("b", 0);
    for value in 1..=3 {
        let updates = watched.recorder.seen().updates;
        let mut longest = Duration::ZERO;
        let mut begun = Instant::now();
        let mut file = fs::File::create(&path).unwrap();
        for line in 0..20 {
            writeln!(file, "a{line} = {value}").unwrap();
            longest = longest.max(begun.elapsed());
            begun = Instant::now();
            sleep(Duration::from_millis(10));
        }
        writeln!(file, "b = {value}").unwrap();
        longest = longest.max(begun.elapsed());
        drop(file);
        watched.expect("b", value);
        // On a busy machine the writer itself may have stopped for too long.
        if longest < DEBOUNCE {
            assert_eq!(watched.recorder.seen().updates, updates + 1);
        }
    }
}
