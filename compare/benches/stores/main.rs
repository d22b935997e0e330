//! Key-value stores: liveprops beside bare clients of the same servers.
//!
//! ```sh
//! cargo bench --manifest-path compare/Cargo.toml --features stores --bench stores # four minutes
//! cargo bench --manifest-path compare/Cargo.toml --features stores --bench stores -- etcd nats
//! ```
//!
//! The stores are `consul`, `etcd`, `nats` and `zookeeper`. The bench downloads missing servers, as the
//! tests do. It measures the bare client and liveprops alternately, so that load on the machine slows
//! down both.

#![allow(clippy::unwrap_used)] // a bench that cannot run ends

mod arrival;
mod hop;
mod kinds;
mod many;
#[path = "../../../tests/kit/proxy.rs"]
#[allow(dead_code)] // the tests do more with it
mod proxy;
mod puts;
#[path = "../../../tests/kit/server.rs"]
#[allow(dead_code)] // the tests do more with it
mod server;
mod store;
mod table;

use std::time::Instant;

use kinds::{consul::Consul, etcd::Etcd, nats::Nats, zookeeper::ZooKeeper};
use server::{Kind, Server};
use store::Store;
use table::Table;

struct Tables {
    puts: Table,
    load: Table,
    reconnect: Table,
    hop: [Table; 2],
    /// Exceeded budgets and unavailable servers.
    failures: Vec<String>,
}

/// Runs all measurements of one store.
type Measure = fn(&mut Tables);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if hop::run_as_child(&args) {
        return;
    }
    // Cargo adds `--bench` to whatever the user gives.
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let mut tables = Tables {
        puts: puts::table(),
        load: many::load_table(),
        reconnect: many::reconnect_table(),
        hop: hop::tables(),
        failures: Vec::new(),
    };
    let stores: [(&str, Measure); 4] = [
        ("consul", measure_store::<Consul>),
        ("etcd", measure_store::<Etcd>),
        ("nats", measure_store::<Nats>),
        ("zookeeper", measure_store::<ZooKeeper>),
    ];
    if let Some(unknown) = wanted
        .iter()
        .find(|name| stores.iter().all(|(it, _)| it != *name))
    {
        eprintln!("unknown store `{unknown}`: expected consul, etcd, nats or zookeeper");
        std::process::exit(2);
    }
    let began = Instant::now();
    for (name, measure) in stores {
        if wanted.is_empty() || wanted.iter().any(|it| *it == name) {
            eprintln!("{name}, after {} s", began.elapsed().as_secs());
            measure(&mut tables);
        }
    }
    tables.puts.print();
    tables.load.print();
    tables.reconnect.print();
    tables.hop.iter().for_each(Table::print);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "\nMeasured on {} {}, {cores} cores, with the servers on them, in {} s.",
        std::env::consts::OS,
        std::env::consts::ARCH,
        began.elapsed().as_secs()
    );
    if tables.failures.is_empty() {
        println!("\nAll budgets are met.");
    } else {
        println!("\nNot met: {}.", tables.failures.join("; "));
    }
}

fn measure_store<S: Store>(tables: &mut Tables) {
    let Some(server) = Server::start(S::KIND) else {
        tables
            .failures
            .push(format!("{} is not available", S::NAME));
        return;
    };
    let puts = puts::measure::<S>(&server, &mut tables.puts);
    if !puts.is_within_budget {
        tables.failures.push(format!("{}, put → handle", S::NAME));
    }
    if S::KIND == Kind::Nats {
        hop::measure(&server, &puts, &mut tables.hop);
    }
    many::fill::<S>(&server);
    many::load::<S>(&server, &mut tables.load);
    many::reconnect::<S>(&server, &mut tables.reconnect);
}

/// Creates a runtime on the calling thread.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
