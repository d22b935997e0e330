//! From a put to the value: one put at a time, the contenders in turn.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use liveprops::Properties;
use liveprops::property::Subscription;

use crate::seen::Seen;
use crate::server::Server;
use crate::store::{Store, Watch};
use crate::table::{Table, percentile};

/// So many puts for each, and before these so many that do not count.
const PUTS: u64 = 300;
const WARM: u64 = 20;
/// So many without a pause, of which so many in a row.
const CLOSE: u64 = 30;
const IN_A_ROW: u64 = 10;
/// What ours may take, as a multiple of the bare client's.
const BUDGET: f64 = 1.2;

/// Who waits for the value of a key.
struct Contender {
    key: String,
    seen: Arc<Seen>,
}

/// How late each put was, in milliseconds, sorted.
#[derive(Default)]
pub(crate) struct Readings {
    pub(crate) told: Vec<f64>,
    pub(crate) seen: Vec<f64>,
}

impl Contender {
    /// The bare client.
    fn bare<S: Store>(port: u16, prefix: &str, watch: Watch, store: &mut S) -> Self {
        let contender = Self::new(prefix, store);
        watch(port, prefix, Arc::clone(&contender.seen));
        contender
    }

    fn new<S: Store>(prefix: &str, store: &mut S) -> Self {
        let some = ["a", "b", "c", "d", "e", "n"];
        let all = some.map(|name| (format!("{prefix}/{name}"), "1".to_owned()));
        store.fill(&all);
        Self {
            key: format!("{prefix}/n"),
            seen: Seen::new(),
        }
    }

    /// A handle, which shows the value before the callback is called.
    fn ours<S: Store>(port: u16, store: &mut S) -> (Self, Properties, Subscription) {
        let contender = Self::new("ours", store);
        let props = Properties::builder()
            .source(S::source(port, "ours"))
            .inline_callbacks()
            .build()
            .unwrap();
        let handle = props.property::<u64>("n").build().unwrap();
        let (seen, shows) = (Arc::clone(&contender.seen), handle.clone());
        let subscription = handle.on_change(move |_| seen.saw_number(shows.get()));
        (contender, props, subscription)
    }
}

/// Puts for one after the other.
fn in_turn<S: Store>(store: &mut S, contenders: &[&Contender], apart: Duration) -> Vec<Readings> {
    let mut all: Vec<Readings> = contenders.iter().map(|_| Readings::default()).collect();
    // With some to spare, since a thread that sleeps wakes late.
    let pause = (apart.mul_f64(1.1) + Duration::from_millis(10)) / contenders.len() as u32;
    for value in 2..2 + WARM + PUTS {
        for (contender, readings) in contenders.iter().zip(&mut all) {
            // None is to be put in step with what a contender does at intervals.
            let due = Instant::now() + pause + Duration::from_micros(value * 37 % 1000);
            let late = once(store, contender, value);
            if value >= 2 + WARM {
                readings.told.push(late.told.as_secs_f64() * 1e3);
                readings.seen.push(late.seen.as_secs_f64() * 1e3);
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    for readings in &mut all {
        readings.told.sort_by(f64::total_cmp);
        readings.seen.sort_by(f64::total_cmp);
    }
    all
}

/// Puts for one and then for the other, each as soon as the last value is seen.
fn closely<S: Store>(store: &mut S, contenders: [&Contender; 2]) -> [Vec<f64>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    for value in (10_000..10_000 + CLOSE).step_by(IN_A_ROW as usize) {
        for (contender, readings) in contenders.iter().zip(&mut all) {
            for value in value..value + IN_A_ROW {
                readings.push(once(store, contender, value).seen.as_secs_f64() * 1e3);
            }
        }
    }
    all.each_mut().map(|readings| {
        readings.sort_by(f64::total_cmp);
        std::mem::take(readings)
    })
}

fn once<S: Store>(store: &mut S, contender: &Contender, value: u64) -> crate::seen::Late {
    let text = value.to_string();
    contender
        .seen
        .after(value, || store.put(&contender.key, &text))
}

pub(crate) fn table() -> Table {
    Table::new(
        "From a put to the value",
        &format!(
            "Milliseconds from before the put to the value: of the bare client, to its bytes; of \
             liveprops, to an inline callback that finds it in its `DynamicProperty`, a little after \
             it is there. {PUTS} puts each, one at a time and in turn, so far apart that none is a \
             burst; `close`: each as soon as the last was seen, where ours gathers what comes in \
             bursts. Both are waited for asleep."
        ),
        &[
            "store",
            "what",
            "p50",
            "p99",
            "close, p50",
            "× bare",
            "budget",
        ],
    )
}

/// How late the bare client was, liveprops, and what else there is of the store.
pub(crate) struct Outcome {
    pub(crate) bare: Readings,
    pub(crate) ours: Readings,
    pub(crate) other: Option<Readings>,
    /// Whether that is within the budget.
    pub(crate) kept: bool,
}

pub(crate) fn measure<S: Store>(server: &Server, table: &mut Table) -> Outcome {
    let port = server.port();
    let store = &mut S::connect(port);
    let bare = Contender::bare(port, "bare", S::watch, store);
    let other = S::OTHER.map(|watch| Contender::bare(port, "other", watch, store));
    let (ours, _props, _subscription) = Contender::ours(port, store);
    let all: Vec<&Contender> = [&bare, &ours].into_iter().chain(&other).collect();
    let mut readings = in_turn(store, &all, S::APART).into_iter();
    let mut next = || readings.next().unwrap();
    let close = closely(store, [&bare, &ours]).map(|it| format!("{:.2}", percentile(&it, 50)));
    let (bare, ours) = (next(), next());
    let other = other.map(|_| next());

    let mut row = |what: &str, of: &[f64], close: &str, ratio: &str, budget: &str| {
        let [p50, p99] = [50, 99].map(|percent| format!("{:.2}", percentile(of, percent)));
        table.row(&[S::NAME, what, &p50, &p99, close, ratio, budget]);
    };
    if percentile(&bare.told, 50) < percentile(&bare.seen, 50) {
        row("bare: the event alone", &bare.told, "-", "-", "-");
    }
    let what = format!("bare: {}", S::BARE);
    row(&what, &bare.seen, &close[0], "1.00", "-");
    let ratio = percentile(&ours.seen, 50) / percentile(&bare.seen, 50);
    let kept = ratio <= BUDGET;
    let shown = match kept {
        true => format!("{ratio:.2}"),
        false => format!("**{ratio:.2}**"),
    };
    let budget = format!("≤ {BUDGET}");
    row("**liveprops**", &ours.seen, &close[1], &shown, &budget);
    Outcome {
        bare,
        ours,
        other,
        kept,
    }
}
