//! Measures ten thousand keys: loading them, and catching up after a lost connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::{DynamicProperty, Properties};

use crate::proxy::{Mode, Proxy};
use crate::server::Server;
use crate::store::Store;
use crate::table::{Table, median};

pub(crate) const KEYS: usize = 10_000;
/// Measurements of each, of which the median counts.
const ROUNDS: usize = 7;
const CHANGED: usize = 3;
/// How long the connection is cut.
const OUTAGE: Duration = Duration::from_millis(500);
/// A watch that is cut within a second of its start counts as failing again, which makes the pauses longer.
const HEALTHY: Duration = Duration::from_millis(1_200);
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn load_table() -> Table {
    let note = format!(
        "Milliseconds to connect and read {KEYS} keys, medians of {ROUNDS}: of the bare \
         client into a `HashMap<String, Vec<u8>>`, of liveprops by `Properties::builder().build()`."
    );
    let headings = ["store", "bare client", "bare", "liveprops", "× bare"];
    Table::new(&format!("Loading {KEYS} keys"), &note, &headings)
}

pub(crate) fn reconnect_table() -> Table {
    let note = format!(
        "The connection is cut for {} ms, in which {CHANGED} of {KEYS} keys change. Medians of \
         {ROUNDS}, in milliseconds from the end of the cut until all three handles are correct; \
         `back-off` is the part before the next connection attempt, `rest` is the remainder. The \
         baseline is a bare client that connects and reads everything. `changes`: reported changes \
         of a round, minimum and maximum. `kB`: bytes transferred.",
        OUTAGE.as_millis()
    );
    Table::new(
        &format!("Reconnecting with {KEYS} keys of which {CHANGED} changed"),
        &note,
        &[
            "store",
            "what",
            "all",
            "back-off",
            "rest",
            "rest × bare",
            "changes",
            "kB",
        ],
    )
}

pub(crate) fn fill<S: Store>(server: &Server) {
    let all: Vec<(String, String)> = (0..KEYS)
        .map(|n| (format!("many/key{n}"), format!("{}", n + 100_000)))
        .collect();
    S::connect(server.port()).fill(&all);
}

fn follow<S: Store>(port: u16) -> Properties {
    let props = Properties::builder()
        .source(S::source(port, "many"))
        .build()
        .unwrap();
    assert_eq!(props.get::<usize>("key9999").unwrap(), 109_999);
    props
}

/// Returns the milliseconds that a bare client needs to connect and read everything.
fn bare<S: Store>(port: u16) -> f64 {
    let began = Instant::now();
    let all = S::read(port, "many");
    let took = began.elapsed().as_secs_f64() * 1e3;
    assert_eq!(all.len(), KEYS);
    took
}

pub(crate) fn load<S: Store>(server: &Server, table: &mut Table) {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(bare::<S>(server.port()));
        let began = Instant::now();
        let props = follow::<S>(server.port());
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        // Waits for the end of all reads, which would slow down the next measurement.
        std::thread::sleep(Duration::from_millis(300));
        drop(props);
    }
    let (theirs, ours) = (median(theirs), median(ours));
    table.row(&[
        S::NAME,
        S::READ,
        &format!("{theirs:.0}"),
        &format!("{ours:.0}"),
        &format!("{:.2}", ours / theirs),
    ]);
}

pub(crate) fn reconnect<S: Store>(server: &Server, table: &mut Table) {
    let proxy = Proxy::new(server.port());
    let props = follow::<S>(proxy.port());
    let change_count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&change_count);
    let _subscription = props.on_change_under("", move |batch| {
        counter.fetch_add(batch.changes().len(), Ordering::SeqCst);
    });
    let keys: [String; CHANGED] = std::array::from_fn(|n| format!("key{}", n * 3_333));
    let handles = keys
        .clone()
        .map(|key| props.property::<usize>(&key).build().unwrap());
    let (mut theirs, mut all, mut back_off, mut rest) = (vec![], vec![], vec![], vec![]);
    let (mut counts, mut kilobytes) = (vec![], vec![]);
    for round in 0..ROUNDS {
        theirs.push(bare::<S>(server.port()));
        // Waits until the last round is over.
        wait(&handles, round, HEALTHY);
        change_count.store(0, Ordering::SeqCst);
        proxy.set(Mode::Refuse);
        let cut_at = Instant::now();
        let mut store = S::connect(server.port());
        for key in &keys {
            store.put(&format!("many/{key}"), &(round + 1).to_string());
        }
        std::thread::sleep(OUTAGE.saturating_sub(cut_at.elapsed()));
        let (forwarded, connections) = (proxy.forwarded(), proxy.connections().len());
        let began = Instant::now();
        proxy.set(Mode::Pass);
        wait(&handles, round + 1, Duration::ZERO);
        let took = began.elapsed();
        let connected = proxy.connections()[connections].saturating_duration_since(began);
        all.push(took.as_secs_f64() * 1e3);
        back_off.push(connected.as_secs_f64() * 1e3);
        rest.push(took.saturating_sub(connected).as_secs_f64() * 1e3);
        // Further changes and reads would come within this time.
        std::thread::sleep(Duration::from_millis(300));
        counts.push(change_count.load(Ordering::SeqCst));
        kilobytes.push((proxy.forwarded() - forwarded) as f64 / 1e3);
    }
    let [theirs, all, back_off, rest] = [theirs, all, back_off, rest].map(median);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    let cell = |figure: f64| format!("{figure:.0}");
    let (theirs_shown, kilobytes) = (cell(theirs), cell(median(kilobytes)));
    table.row(&[
        S::NAME,
        "bare: connect and read all",
        &theirs_shown,
        "-",
        &theirs_shown,
        "1.00",
        "-",
        "-",
    ]);
    table.row(&[
        S::NAME,
        "**liveprops**",
        &cell(all),
        &cell(back_off),
        &cell(rest),
        &format!("{:.2}", rest / theirs),
        &format!("{least} to {most}"),
        &kilobytes,
    ]);
    assert!(
        counts.iter().all(|count| *count == CHANGED),
        "{}: reported {counts:?} changes",
        S::NAME
    );
}

/// Waits until all handles return `number`, and then for `more`. Does not wait for 0, since the
/// handles start with another value.
fn wait(handles: &[DynamicProperty<usize>; CHANGED], number: usize, more: Duration) {
    let limit = Instant::now() + TIMEOUT;
    while number > 0 && handles.iter().any(|handle| handle.get() != number) {
        assert!(Instant::now() < limit, "{number} does not arrive");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(more);
}
