//! Ten thousand keys: read at the start, and again after the connection was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::{DynamicProperty, Properties};

use crate::proxy::{Mode, Proxy};
use crate::server::Server;
use crate::store::Store;
use crate::table::{Table, median};

pub(crate) const KEYS: usize = 10_000;
/// So many readings of each, whose median counts.
const ROUNDS: usize = 7;
const CHANGED: usize = 3;
/// How long the connection is away.
const AWAY: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(20);

pub(crate) fn load_table() -> Table {
    let note = format!(
        "Milliseconds to connect and read {KEYS} keys, medians of {ROUNDS} in turn: of the bare \
         client into a `HashMap<String, Vec<u8>>`, of liveprops by `Properties::builder().build()`."
    );
    let headings = ["store", "bare client", "bare", "liveprops", "× bare"];
    Table::new(&format!("Loading {KEYS} keys"), &note, &headings)
}

pub(crate) fn reconnect_table() -> Table {
    let note = format!(
        "The connection is cut for {} ms, in which {CHANGED} of {KEYS} keys change. Medians of \
         {ROUNDS}, in milliseconds from when there is a way again to when all three handles are \
         right; of that, the back-off until a connection is tried, and the rest. The floor is the \
         bare client that connects and reads all. `told`: changes told in a round, at least and at \
         most. `kB`: what went through.",
        AWAY.as_millis()
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
            "told",
            "kB",
        ],
    )
}

/// Fills a store.
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

/// How long a bare client takes to connect and read everything.
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
        // It is followed by now, and has nothing more to read that would be in the others' way.
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
    let proxy = Proxy::before(server.port());
    let props = follow::<S>(proxy.port());
    let told = Arc::new(AtomicUsize::new(0));
    let telling = Arc::clone(&told);
    let _subscription = props.on_change_under("", move |batch| {
        telling.fetch_add(batch.changes().len(), Ordering::SeqCst);
    });
    let keys: [String; CHANGED] = std::array::from_fn(|n| format!("key{}", n * 3_333));
    let handles = keys
        .clone()
        .map(|key| props.property::<usize>(&key).build().unwrap());
    let (mut theirs, mut all, mut back_off, mut rest) = (vec![], vec![], vec![], vec![]);
    let (mut counts, mut kilobytes) = (vec![], vec![]);
    for round in 0..ROUNDS {
        theirs.push(bare::<S>(server.port()));
        // It follows, and has nothing to say.
        wait(&handles, round, Duration::from_millis(300));
        told.store(0, Ordering::SeqCst);
        proxy.set(Mode::Refuse);
        let away = Instant::now();
        let mut store = S::connect(server.port());
        for key in &keys {
            store.put(&format!("many/{key}"), &(round + 1).to_string());
        }
        std::thread::sleep(AWAY.saturating_sub(away.elapsed()));
        let (passed, tried) = (proxy.passed(), proxy.connections().len());
        let began = Instant::now();
        proxy.set(Mode::Pass);
        wait(&handles, round + 1, Duration::ZERO);
        let took = began.elapsed();
        let connected = proxy.connections()[tried].saturating_duration_since(began);
        all.push(took.as_secs_f64() * 1e3);
        back_off.push(connected.as_secs_f64() * 1e3);
        rest.push(took.saturating_sub(connected).as_secs_f64() * 1e3);
        // What else it might tell of, or read.
        std::thread::sleep(Duration::from_millis(300));
        counts.push(told.load(Ordering::SeqCst));
        kilobytes.push((proxy.passed() - passed) as f64 / 1e3);
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
        "{}: told of {counts:?} changes",
        S::NAME
    );
}

/// Waits until all handles show a number, unless that is the one they begin with, and then for a
/// while more.
fn wait(handles: &[DynamicProperty<usize>; CHANGED], number: usize, more: Duration) {
    let limit = Instant::now() + LATE;
    while number > 0 && handles.iter().any(|handle| handle.get() != number) {
        assert!(Instant::now() < limit, "{number} is not seen");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(more);
}
