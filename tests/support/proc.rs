//! Figures of this process from `/proc` of Linux.

use std::fs;

/// Returns a number of `/proc/self/status`, such as `VmRSS` in KiB.
pub(crate) fn status(field: &str) -> u64 {
    number("/proc/self/status", field)
}

/// Returns the context switches of the calling thread.
pub(crate) fn context_switches() -> u64 {
    let file = "/proc/thread-self/status";
    number(file, "voluntary_ctxt_switches") + number(file, "nonvoluntary_ctxt_switches")
}

/// Returns the peak memory of this process in MiB.
pub(crate) fn peak_mib() -> usize {
    status("VmHWM") as usize / 1024
}

pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Returns how many threads have a name with this prefix. The system cuts names to 15 bytes.
pub(crate) fn threads_named(prefix: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

pub(crate) fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn number(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}
