//! The memory of a program that talks to a server which is broken or hostile.
//!
//! The program is a child, so that nothing of the server's is measured: the most that the system has
//! ever given it, which is what an operator's limit counts.

use std::io::Read;
use std::time::Duration;

use liveprops::{Properties, Source};

use crate::support::child::{Child, say};
use crate::support::proc::status;
use crate::support::wait_until;

/// How long a server may take to do its worst.
const LONG: Duration = Duration::from_secs(120);

/// The child's part: follows a source until the parent has seen enough, and says by how many KiB it
/// has grown.
pub(crate) fn follow(source: impl Source) {
    let before = status("VmHWM");
    let source = source.with(|policy| policy.optional_after(Duration::from_millis(10)));
    let props = Properties::builder().source(source).build().unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    say(status("VmHWM") - before);
    drop(props);
}

/// The parent's part: runs the child against a server until `is_enough`, and wants it to have grown
/// by no more than `limit` MiB.
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
    assert!(child.ends_well(), "{role}");
    let grown: usize = child.said.recv_timeout(LONG).unwrap().parse().unwrap();
    println!("{test}: {role}: {} KiB", grown);
    assert!(grown < limit << 10, "{role}: {grown} KiB");
}
