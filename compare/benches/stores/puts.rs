//! Measures the time from a put to the value: one put at a time, the contenders alternately.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use liveprops::Properties;
use liveprops::property::Subscription;

use crate::arrival::Arrival;
use crate::server::Server;
use crate::store::{Store, Watch};
use crate::table::{Table, percentile};

/// Measured puts of each contender.
const PUTS: u64 = 300;
/// Puts before the measured ones.
const WARM_UP: u64 = 20;
/// Puts without a pause.
const CLOSE: u64 = 30;
/// Puts of one contender before the other one's.
const IN_A_ROW: u64 = 10;
/// The longest time of liveprops, as a multiple of the bare client's.
const BUDGET: f64 = 1.2;

/// A client that waits for the value of a key.
struct Contender {
    key: String,
    arrival: Arc<Arrival>,
}

/// The latencies of all puts in milliseconds, sorted.
#[derive(Default)]
pub(crate) struct Latencies {
    /// Until the change event.
    pub(crate) event: Vec<f64>,
    /// Until the value.
    pub(crate) value: Vec<f64>,
}

impl Contender {
    fn bare<S: Store>(port: u16, prefix: &str, watch: Watch, store: &mut S) -> Self {
        let contender = Self::new(prefix, store);
        watch(port, prefix, Arc::clone(&contender.arrival));
        contender
    }

    fn new<S: Store>(prefix: &str, store: &mut S) -> Self {
        let some = ["a", "b", "c", "d", "e", "n"];
        let all = some.map(|name| (format!("{prefix}/{name}"), "1".to_owned()));
        store.fill(&all);
        Self {
            key: format!("{prefix}/n"),
            arrival: Arrival::new(),
        }
    }

    /// A handle: it shows the value before its callback is called.
    fn ours<S: Store>(port: u16, store: &mut S) -> (Self, Properties, Subscription) {
        let contender = Self::new("ours", store);
        let props = Properties::builder()
            .source(S::source(port, "ours"))
            .inline_callbacks()
            .build()
            .unwrap();
        let handle = props.property::<u64>("n").build().unwrap();
        let (arrival, reader) = (Arc::clone(&contender.arrival), handle.clone());
        let subscription = handle.on_change(move |_| arrival.record_value(reader.get()));
        (contender, props, subscription)
    }
}

/// Puts for all contenders alternately.
fn measure_alternately<S: Store>(
    store: &mut S,
    contenders: &[&Contender],
    apart: Duration,
) -> Vec<Latencies> {
    let mut all: Vec<Latencies> = contenders.iter().map(|_| Latencies::default()).collect();
    // Includes a margin, since a sleeping thread wakes late.
    let pause = (apart.mul_f64(1.1) + Duration::from_millis(10)) / contenders.len() as u32;
    for value in 2..2 + WARM_UP + PUTS {
        for (contender, readings) in contenders.iter().zip(&mut all) {
            // The offset keeps puts out of step with periodic work of a contender.
            let due = Instant::now() + pause + Duration::from_micros(value * 37 % 1000);
            let latency = measure_put(store, contender, value);
            if value >= 2 + WARM_UP {
                readings.event.push(latency.event.as_secs_f64() * 1e3);
                readings.value.push(latency.value.as_secs_f64() * 1e3);
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    for readings in &mut all {
        readings.event.sort_by(f64::total_cmp);
        readings.value.sort_by(f64::total_cmp);
    }
    all
}

/// Puts without a pause: each as soon as the last value has arrived.
fn measure_closely<S: Store>(store: &mut S, contenders: [&Contender; 2]) -> [Vec<f64>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    for value in (10_000..10_000 + CLOSE).step_by(IN_A_ROW as usize) {
        for (contender, readings) in contenders.iter().zip(&mut all) {
            for value in value..value + IN_A_ROW {
                readings.push(measure_put(store, contender, value).value.as_secs_f64() * 1e3);
            }
        }
    }
    all.each_mut().map(|readings| {
        readings.sort_by(f64::total_cmp);
        std::mem::take(readings)
    })
}

fn measure_put<S: Store>(
    store: &mut S,
    contender: &Contender,
    value: u64,
) -> crate::arrival::Latency {
    let text = value.to_string();
    contender
        .arrival
        .measure(value, || store.put(&contender.key, &text))
}

pub(crate) fn table() -> Table {
    Table::new(
        "From a put to the value",
        &format!(
            "Milliseconds from before the put to the value: of the bare client, to its bytes; of \
             liveprops, to an inline callback that reads it from its `DynamicProperty`. \
             {PUTS} puts each, one at a time and alternately, too far apart for a burst. `close`: \
             each put follows the last value at once, so liveprops debounces. Both threads sleep \
             until the value arrives."
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

/// The latencies of all contenders.
pub(crate) struct Outcome {
    pub(crate) bare: Latencies,
    pub(crate) ours: Latencies,
    pub(crate) other: Option<Latencies>,
    pub(crate) is_within_budget: bool,
}

pub(crate) fn measure<S: Store>(server: &Server, table: &mut Table) -> Outcome {
    let port = server.port();
    let store = &mut S::connect(port);
    let bare = Contender::bare(port, "bare", S::watch, store);
    let other = S::OTHER.map(|watch| Contender::bare(port, "other", watch, store));
    let (ours, _props, _subscription) = Contender::ours(port, store);
    let all: Vec<&Contender> = [&bare, &ours].into_iter().chain(&other).collect();
    let mut readings = measure_alternately(store, &all, S::APART).into_iter();
    let mut next = || readings.next().unwrap();
    let close =
        measure_closely(store, [&bare, &ours]).map(|it| format!("{:.2}", percentile(&it, 50)));
    let (bare, ours) = (next(), next());
    let other = other.map(|_| next());

    let mut row = |what: &str, of: &[f64], close: &str, ratio: &str, budget: &str| {
        let [p50, p99] = [50, 99].map(|percent| format!("{:.2}", percentile(of, percent)));
        table.row(&[S::NAME, what, &p50, &p99, close, ratio, budget]);
    };
    if percentile(&bare.event, 50) < percentile(&bare.value, 50) {
        row("bare: the event alone", &bare.event, "-", "-", "-");
    }
    let what = format!("bare: {}", S::BARE);
    row(&what, &bare.value, &close[0], "1.00", "-");
    let ratio = percentile(&ours.value, 50) / percentile(&bare.value, 50);
    let is_within_budget = ratio <= BUDGET;
    let shown = if is_within_budget {
        format!("{ratio:.2}")
    } else {
        format!("**{ratio:.2}**")
    };
    let budget = format!("≤ {BUDGET}");
    row("**liveprops**", &ours.value, &close[1], &shown, &budget);
    Outcome {
        bare,
        ours,
        other,
        is_within_budget,
    }
}
