//! The bytes of heap that a program holds while a large file is reloaded, now and at most.
//!
//! An allocator counts them over all threads, so each measurement has a process of its own.
#![cfg(all(unix, feature = "toml", feature = "watch"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use liveprops::{Properties, sources::File};
use peak_alloc::PeakAlloc;
use support::child::{Child, role, say};
use support::disk::{is_up, open};
use support::time_until;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// How long anything may take that must happen; debug builds compare whole trees at each commit.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often a file is reloaded at most.
const RELOADS: usize = 4;

/// The old tree, the new one and the text, in live bytes. `BENCHMARKS.md` states it.
const PEAK: f64 = 2.25;

/// A large file in force, and the bytes that it takes.
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
        // Written beforehand: the texts of the test are no part of what is measured.
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
        // The text of the file is freed a moment later.
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
fn an_idle_program_holds_one_tree_after_a_reload() {
    if role().is_none() {
        return Child::of("an_idle_program_holds_one_tree_after_a_reload").succeeds();
    }
    let large = Large::load();
    for n in 1..=2 {
        large.reload(n);
        let freed = time_until(DEADLINE, || large.now() < large.live * 11 / 10);
        assert!(freed.is_some(), "{} where {} live", large.now(), large.live);
    }
    // What a reader holds is freed soon after the reader lets go, without another commit.
    let reader = large.props.snapshot();
    large.reload(3);
    assert_eq!(reader.get::<usize>("n").unwrap(), 2);
    drop(reader);
    let freed = time_until(DEADLINE, || large.now() < large.live * 11 / 10);
    assert!(freed.is_some(), "{} where {} live", large.now(), large.live);
    say(format!("{} where {} live", large.now(), large.live));
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
    say(format!(
        "{peak} at most where {} live: {ratio:.2}",
        large.live
    ));
    // Whole numbers of tables and pieces do not add up to the same for each text.
    assert!(ratio <= PEAK * 1.05, "{ratio:.2}, and {PEAK} is stated");
}
