//! How late something is: each event timed for itself, told as percentiles, the cases in turn.

use std::time::Duration;

use super::or_dash;

/// Something that happens some time after it was caused.
pub(crate) struct Latency {
    pub(crate) name: &'static str,
    /// The case this one is compared with.
    pub(crate) floor: &'static str,
    pub(crate) budget: Budget,
    /// Causes it once and says how late it was.
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
pub(crate) fn main(title: &str, rounds: usize, mut cases: Vec<Latency>) {
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
        println!(
            "| {} | {:.2} | {:.2} | {} | {} | {} |",
            case.name,
            percentile(own, 50),
            percentile(own, 99),
            if case.floor.is_empty() {
                "-"
            } else {
                case.floor
            },
            or_dash(ratio, |ratio| format!("{ratio:.2}")),
            match case.budget {
                Budget::None => "-".to_owned(),
                Budget::Times(times) => format!("{times} x"),
                Budget::AtMost(time) => format!("{} µs", time.as_micros()),
            },
        );
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
