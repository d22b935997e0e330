//! Measures the time from replacing a file by a rename until a reader sees the new value.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use dynamic_config::{LogLevel, WatchOptions, dynamic_config};
use liveprops::{Properties, sources::File};
use notify::{RecursiveMode, Watcher};
use serde::Deserialize;

use super::{floor, other, ours};
use crate::harness::{Column, How, Job, Probe, median};
use crate::inputs;

pub(crate) fn job() -> Job {
    Job {
        name: "file",
        title: "A file is replaced by a rename",
        note: "From the rename to a reader that sees the new number; each reading is the middle \
               of five. \
               `config` and `figment` do not watch files. dynamic-config waits on purpose, so \
               that a file written in place is complete; liveprops does so only for such files.",
        columns: vec![Column {
            title: "visible after",
            how: How::Time,
            size: 0,
        }],
        base: 0,
        counted: None,
        remark: "",
        contenders: vec![
            floor("`notify`, read, `toml::Table`, store", by_hand),
            ours("liveprops `File`", liveprops),
            other("dynamic-config, debounce 250 ms", |probe| {
                dynamic_config(probe, Duration::from_millis(250).into())
            }),
            other("dynamic-config, debounce 1 ms", |probe| {
                dynamic_config(probe, Duration::from_millis(1).into())
            }),
            other("dynamic-config, debounce 1 ms, no grace", |probe| {
                let options = WatchOptions::new(Duration::from_millis(1));
                dynamic_config(probe, options.atomic_save_grace(Duration::ZERO))
            }),
        ],
    }
}

fn text(qps: u32) -> String {
    format!("[service]\nqps = {qps}\n")
}

/// The smallest solution: watch the directory, because a rename replaces the watched file; then read,
/// parse and publish. It has no debounce, no layers and no error handling.
fn by_hand(probe: &Probe) -> Option<f64> {
    let (dir, path) = inputs::file(&text(0));
    let qps = Arc::new(AtomicU32::new(0));
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).unwrap();
    watcher
        .watch(dir.path(), RecursiveMode::NonRecursive)
        .unwrap();
    let (own, target) = (path.clone(), Arc::clone(&qps));
    std::thread::spawn(move || {
        for event in events.into_iter().flatten() {
            if !event.paths.contains(&own) || event.kind.is_access() {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&own) else {
                continue;
            };
            let table: toml::Table = toml::from_str(&text).unwrap();
            let new = table["service"]["qps"].as_integer().unwrap();
            target.store(new as u32, Ordering::Relaxed);
        }
    });
    rounds(probe, &path, || qps.load(Ordering::Relaxed))
}

fn liveprops(probe: &Probe) -> Option<f64> {
    let (_dir, path) = inputs::file(&text(0));
    let props = Properties::builder()
        .source(File::new(&path))
        .build()
        .unwrap();
    let qps = props.property::<u32>("service.qps").build().unwrap();
    rounds(probe, &path, || qps.get())
}

#[dynamic_config]
#[derive(Deserialize)]
struct Service {
    qps: u32,
}

/// Its documentation uses 250 ms. The crate waits for the debounce after every event, also after a
/// rename, and then for a default grace period of 25 ms.
fn dynamic_config(probe: &Probe, options: WatchOptions) -> Option<f64> {
    dynamic_config::set_log_level(LogLevel::Off);
    let (_dir, path) = inputs::file(&text(0));
    let builder = Service::builder("service").file(path.to_str().unwrap());
    builder.init().unwrap();
    let _watching = builder.watch(options).unwrap();
    rounds(probe, &path, || Service::current().qps)
}

/// Measures nanoseconds; each reading is the median of five renames. `None` if a change never arrives.
fn rounds(probe: &Probe, path: &Path, read: impl Fn() -> u32) -> Option<f64> {
    let mut value = 0;
    probe.readings(None, || {
        let mut five = [0.0; 5];
        for one in &mut five {
            value += 1;
            *one = round(path, value, &read)?;
        }
        Some(median(five.into_iter()))
    })
}

fn round(path: &Path, value: u32, read: &impl Fn() -> u32) -> Option<f64> {
    // Events of the previous round must not affect this one.
    std::thread::sleep(Duration::from_millis(30));
    let next = path.with_extension("next");
    std::fs::write(&next, text(value)).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    let renamed = Instant::now();
    std::fs::rename(&next, path).unwrap();
    while read() != value {
        if renamed.elapsed() > Duration::from_secs(5) {
            return None;
        }
        std::thread::yield_now();
    }
    Some(renamed.elapsed().as_nanos() as f64)
}
