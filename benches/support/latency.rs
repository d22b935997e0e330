//! Latency of events: each event is timed by itself, and the result is percentiles. The cases
//! alternate.

use std::time::Duration;

use super::or_dash;
use super::verdict::{Verdict, times};

/// Something that happens some time after it was caused.
pub(crate) struct Latency {
    pub(crate) name: &'static str,
    /// The case this one is compared with.
    pub(crate) floor: &'static str,
    pub(crate) budget: Budget,
    /// Causes one event and returns its latency.
    pub(crate) once: Box<dyn FnMut() -> Duration>,
}

/// What the median may be.
pub(crate) enum Budget {
    /// Nothing is promised.
    None,
    /// So many times the floor's median.
    Times(f64),
    /// So much time, whatever the floor.
    AtMost(Duration),
}

/// Measures all cases, one after the other in each round, and prints a Markdown table. The first
/// rounds do not count: threads are started and caches filled in them.
pub(crate) fn main(title: &str, rounds: usize, mut cases: Vec<Latency>, verdict: &mut Verdict) {
    let mut readings = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..rounds + rounds / 10 {
        for (case, readings) in cases.iter_mut().zip(&mut readings) {
            let late = (case.once)();
            if round >= rounds / 10 {
                readings.push(late.as_secs_f64() * 1e6);
            }
        }
    }
    readings
        .iter_mut()
        .for_each(|readings| readings.sort_by(f64::total_cmp));
    println!("\n### {title} ({rounds} rounds)\n");
    println!("| case | p50 µs | p99 µs | floor | ratio (p50) | budget |");
    println!("|---|--:|--:|---|--:|--:|");
    for (case, own) in cases.iter().zip(&readings) {
        let floor = cases.iter().position(|other| other.name == case.floor);
        let ratio = floor.map(|at| percentile(own, 50) / percentile(&readings[at], 50));
        let median = percentile(own, 50);
        let (budget, late) = match case.budget {
            Budget::AtMost(time) => {
                let limit = time.as_secs_f64() * 1e6;
                let text = format!("{limit} µs");
                (0.0, (median > limit).then_some(text))
            }
            Budget::Times(times) => (times, None),
            Budget::None => (0.0, None),
        };
        println!(
            "| {} | {} | {:.2} | {} | {} | {} |",
            case.name,
            verdict.cell(case.name, "µs (p50)", &format!("{median:.2}"), late),
            percentile(own, 99),
            match case.floor {
                "" => "-",
                floor => floor,
            },
            or_dash(ratio, |ratio| verdict.ratio(
                case.name,
                "time (p50)",
                ratio,
                budget
            )),
            match case.budget {
                Budget::None => "-".to_owned(),
                Budget::Times(ratio) => times(ratio),
                Budget::AtMost(time) => format!("{} µs", time.as_micros()),
            },
        );
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
