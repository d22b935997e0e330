//! Measures the memory of a program that follows a broken or hostile server.
//!
//! The program is a child, so the measurement excludes the server. It measures peak memory, which
//! the limit of an operator counts.

use std::io::Read;
use std::time::Duration;

use liveprops::{Properties, Source};

use crate::support::child::{Child, report};
use crate::support::proc::status;
use crate::support::wait_until;

/// The time limit of a server.
const LONG: Duration = Duration::from_secs(120);

/// Follows a source in the child until its input ends, and reports by how many KiB it has grown.
pub(crate) fn follow(source: impl Source) {
    let before = status("VmHWM");
    let source = source.with(|policy| policy.optional_after(Duration::from_millis(10)));
    let props = Properties::builder().source(source).build().unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    report(status("VmHWM") - before);
    drop(props);
}

/// Runs the child in the parent until `is_enough`, and asserts that it has grown by at most `limit`
/// MiB.
#[track_caller]
pub(crate) fn stays_below(
    test: &str,
    role: impl ToString,
    limit: usize,
    mut is_enough: impl FnMut() -> bool,
) {
    let role = role.to_string();
    let mut child = Child::of(test).role(&role).start();
    wait_until(LONG, "the server did its worst", &mut is_enough);
    assert!(child.exits_successfully(), "{role}");
    let grown: usize = child.output.recv_timeout(LONG).unwrap().parse().unwrap();
    println!("{test}: {role}: {} KiB", grown);
    assert!(grown < limit << 10, "{role}: {grown} KiB");
}
