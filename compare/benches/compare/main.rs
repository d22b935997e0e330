//! Compares liveprops with other crates and with handwritten code.
//!
//! ```sh
//! cargo bench --manifest-path compare/Cargo.toml            # everything, about three minutes
//! cargo bench --manifest-path compare/Cargo.toml -- read    # one table, or several
//! ```
//!
//! The tables are `read`, `name`, `change`, `load`, `memory`, `reload` and `file`.
//!
//! This program starts a process for every figure, so no contender is affected by another one's heap,
//! threads or watched files. Each table begins with its floor, the cheapest handwritten code, followed by liveprops and the other
//! crates, cheapest first.

#![allow(clippy::unwrap_used)]

mod figures;
mod harness;
mod heap;
mod inputs;
mod jobs;
mod report;

#[global_allocator]
static HEAP: heap::Counted = heap::Counted;

fn main() {
    let jobs = jobs::all();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if harness::run_as_child(&jobs, &args) {
        return;
    }
    // Cargo adds `--bench` to whatever the user gives.
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let chosen: Vec<_> = jobs
        .iter()
        .filter(|job| wanted.is_empty() || wanted.iter().any(|name| *name == job.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = jobs.iter().map(|job| job.name).collect();
        eprintln!("there is no such table; there are: {}", names.join(", "));
        std::process::exit(2);
    }
    let valgrind = harness::has_valgrind();
    for job in chosen {
        report::table(job, &harness::measure(job, valgrind));
    }
    report::versions();
    report::machine(valgrind);
}
