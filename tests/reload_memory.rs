//! The heap of a program while a large file is reloaded: current and peak.
//!
//! The allocator counts all threads, so each measurement runs in its own process.
#![cfg(all(unix, feature = "toml", feature = "watch"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use liveprops::{Properties, sources::File};
use peak_alloc::PeakAlloc;
use support::child::{Child, report, role};
use support::disk::{is_up, open};
use support::time_until;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The longest wait for an expected event; debug builds compare whole trees at each commit.
const DEADLINE: Duration = Duration::from_secs(20);

/// The largest number of reloads.
const RELOADS: usize = 4;

/// The bound stated in `BENCHMARKS.md`: the old tree, the new one and the text, in live bytes.
const PEAK: f64 = 2.25;

/// A large file in force, and its heap.
struct Large {
    _dir: tempfile::TempDir,
    path: PathBuf,
    props: Properties,
    before: usize,
    live: usize,
}

fn text(changed: usize) -> String {
    let mut text = format!("n = {changed}\n");
    for section in 0..1000 {
        text.push_str(&format!("[section{section}]\n"));
        for key in 0..100 {
            text.push_str(&format!(
                "key{key} = \"the value of {section} and {key}\"\n"
            ));
        }
    }
    text
}

impl Large {
    fn load() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.toml");
        // Written before the measurement, which excludes the texts of the test.
        for n in 0..=RELOADS {
            fs::write(path.with_extension(n.to_string()), text(n)).unwrap();
        }
        fs::rename(path.with_extension("0"), &path).unwrap();
        let before = HEAP.current_usage();
        let props = open(File::new(&path));
        let mut large = Self {
            _dir: dir,
            path,
            props,
            before,
            live: 0,
        };
        assert!(time_until(DEADLINE, || is_up(&large.props)).is_some());
        // The text of the file is freed shortly after.
        let is_stable = |live: &mut usize| {
            let before = std::mem::replace(live, HEAP.current_usage());
            std::thread::sleep(Duration::from_millis(50));
            before == *live
        };
        let mut live = 0;
        assert!(time_until(DEADLINE, || is_stable(&mut live)).is_some());
        large.live = live - large.before;
        large
    }

    fn now(&self) -> usize {
        HEAP.current_usage() - self.before
    }

    fn reload(&self, n: usize) {
        fs::rename(self.path.with_extension(n.to_string()), &self.path).unwrap();
        let arrived = time_until(DEADLINE, || self.props.get_opt("n").unwrap() == Some(n));
        assert!(arrived.is_some(), "reload {n}");
    }
}

#[test]
fn an_idle_program_keeps_one_tree_after_a_reload() {
    if role().is_none() {
        return Child::of("an_idle_program_keeps_one_tree_after_a_reload").succeeds();
    }
    let large = Large::load();
    for n in 1..=2 {
        large.reload(n);
        let freed = time_until(DEADLINE, || large.now() < large.live * 11 / 10);
        assert!(freed.is_some(), "{} where {} live", large.now(), large.live);
    }
    // A value is freed soon after its reader releases it, without another commit.
    let reader = large.props.snapshot();
    large.reload(3);
    assert_eq!(reader.get::<usize>("n").unwrap(), 2);
    drop(reader);
    let freed = time_until(DEADLINE, || large.now() < large.live * 11 / 10);
    assert!(freed.is_some(), "{} where {} live", large.now(), large.live);
    report(format!("{} where {} live", large.now(), large.live));
}

#[test]
fn a_file_that_is_reloaded_without_a_pause_stays_under_the_stated_peak() {
    if role().is_none() {
        let test = "a_file_that_is_reloaded_without_a_pause_stays_under_the_stated_peak";
        return Child::of(test).succeeds();
    }
    let large = Large::load();
    HEAP.reset_peak_usage();
    for n in 1..=RELOADS {
        large.reload(n);
    }
    let peak = HEAP.peak_usage() - large.before;
    let ratio = peak as f64 / large.live as f64;
    report(format!(
        "{peak} at most where {} live: {ratio:.2}",
        large.live
    ));
    // The size of a text varies with the number of its tables.
    assert!(ratio <= PEAK * 1.05, "{ratio:.2}, and {PEAK} is stated");
}
