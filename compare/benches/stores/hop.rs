//! Measures a runtime shared by sources: the cost of a thread hop and the threads that it saves.

use std::process::Command;
use std::thread;
use std::time::Duration;

use liveprops::Properties;

use crate::kinds::nats::{Nats, follow};
use crate::puts::Outcome;
use crate::runtime;
use crate::server::Server;
use crate::store::Store;
use crate::table::{Table, percentile};

/// Sources of one `Properties`.
const SOURCES: usize = 4;
const OURS: &str = "--four-sources";
const SHARED: &str = "--four-on-one-runtime";

pub(crate) fn tables() -> [Table; 2] {
    let hop = Table::new(
        "A hop from a runtime's thread to a source's, NATS",
        "Milliseconds from before the put, measured alternately. A source runs its client on its own \
         thread. A runtime shared by sources would hand each event over to that thread: the last \
         row adds the cost of this to liveprops.",
        &["client", "thread", "p50", "p99"],
    );
    let threads = Table::new(
        &format!("{SOURCES} sources of NATS in one process"),
        "From `/proc/self/status`, before any client starts and while all follow the bucket; each row \
         is a process of its own. The bare clients have no engine, no watchdog and no values.",
        &[
            "client",
            "thread",
            "threads before",
            "threads",
            "resident kB before",
            "resident kB",
        ],
    );
    [hop, threads]
}

pub(crate) fn measure(server: &Server, puts: &Outcome, [hop, threads]: &mut [Table; 2]) {
    let port = server.port();
    let handed = puts.other.as_ref().unwrap();
    let [direct, handed, ours] = [&puts.bare, handed, &puts.ours].map(|latencies| &latencies.value);
    let mut row = |client: &str, thread: &str, of: &[f64]| {
        let [p50, p99] = [50, 99].map(|percent| format!("{:.3}", percentile(of, percent)));
        hop.row(&[client, thread, &p50, &p99]);
    };
    row("bare", "the runtime's thread", direct);
    row("bare", "handed to another by `std::sync::mpsc`", handed);
    row("**liveprops**", "the source's thread", ours);
    let added = percentile(handed, 50) - percentile(direct, 50);
    let estimate = format!("{:.3}", percentile(ours, 50) + added);
    hop.row(&["liveprops", "handed over, estimated", &estimate, "-"]);
    for (client, thread, argument) in [
        ("**liveprops**", "each on its own thread", OURS),
        ("bare", "all on one runtime's thread", SHARED),
    ] {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program)
            .args([argument, &port.to_string()])
            .output()
            .unwrap();
        let figures = String::from_utf8(output.stdout).unwrap();
        let figures: Vec<&str> = figures.split_whitespace().collect();
        threads.row(&[&[client, thread], &figures[..]].concat());
    }
}

/// Measures in one of the processes above; returns whether this is one of them.
pub(crate) fn run_as_child(args: &[String]) -> bool {
    let [what, port, ..] = args else {
        return false;
    };
    let Ok(port) = port.parse() else {
        return false;
    };
    let before = status();
    let prefixes = (0..SOURCES).map(|n| format!("four{n}"));
    let after = match what.as_str() {
        OURS => {
            let builder = Properties::builder();
            let builder = prefixes.fold(builder, |builder, prefix| {
                builder.source(Nats::source(port, &prefix))
            });
            let props = builder.build().unwrap();
            thread::sleep(Duration::from_millis(500));
            let after = status();
            drop(props);
            after
        }
        SHARED => {
            thread::spawn(move || {
                let all = prefixes.map(|prefix| async move {
                    follow(port, &prefix, || (), |_| ()).await;
                });
                runtime().block_on(futures_util::future::join_all(all));
            });
            thread::sleep(Duration::from_millis(500));
            status()
        }
        _ => return false,
    };
    println!("{} {} {} {}", before.0, after.0, before.1, after.1);
    true
}

/// Returns the number of threads and the resident kilobytes.
fn status() -> (String, String) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    (field("Threads:"), field("VmRSS:"))
}
