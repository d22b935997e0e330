//! A small harness: each case beside its floor in one run, as nanoseconds and, where valgrind is
//! installed, as instructions, which repeat from run to run on a noisy machine.
//!
//! A case runs its operation `n` times inside [`timed`], and only what happens in there counts:
//! for the clock and for valgrind.

#![allow(dead_code)] // no bench needs all of it

pub(crate) mod cores;
pub(crate) mod counts;
pub(crate) mod latency;
pub(crate) mod record;
pub(crate) mod verdict;

use std::time::{Duration, Instant};

use verdict::{Verdict, time, times};

/// One operation to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The case this one is compared with.
    pub(crate) floor: &'static str,
    /// How much dearer than the floor it may be; 0 if there is no budget.
    pub(crate) budget: f64,
    /// Whether the budget is one of instructions, and time has none.
    pub(crate) in_instructions: bool,
    /// What it may take at most, whatever the floor.
    pub(crate) at_most: Option<Duration>,
    /// How many times to run for one reading of the clock.
    pub(crate) n: u64,
    /// How many times to run under valgrind; 0 if a count of instructions means nothing, as where
    /// other threads do the work.
    pub(crate) counted: u64,
    /// Runs the operation so many times and returns how long that took.
    pub(crate) run: fn(u64) -> Duration,
}

/// Runs an operation `n` times and returns how long that took.
#[inline(never)]
pub(crate) fn timed<R>(n: u64, mut operation: impl FnMut() -> R) -> Duration {
    let began = Instant::now();
    for _ in 0..n {
        std::hint::black_box(operation());
    }
    began.elapsed()
}

/// As [`timed`], with one of 64 things after the other, where one alone would show luck.
#[inline(never)]
pub(crate) fn timed_over<T, R>(
    n: u64,
    things: &[T; 64],
    mut operation: impl FnMut(&T) -> R,
) -> Duration {
    let began = Instant::now();
    for i in 0..n {
        std::hint::black_box(operation(&things[i as usize % 64]));
    }
    began.elapsed()
}

impl Case {
    /// The same, which besides may take so long at most.
    pub(crate) fn within(mut self, at_most: Duration) -> Self {
        self.at_most = Some(at_most);
        self
    }

    /// The same, with a budget of instructions alone.
    pub(crate) fn in_instructions(mut self) -> Self {
        self.in_instructions = true;
        self
    }

    /// What it may take, with units.
    fn allowed(&self) -> String {
        let unit = if self.in_instructions {
            " instructions"
        } else {
            ""
        };
        let ratio = (self.budget > 0.0).then(|| format!("{}{unit}", times(self.budget)));
        let at_most = self.at_most.map(|it| time(it.as_nanos() as f64));
        let all: Vec<String> = [ratio, at_most].into_iter().flatten().collect();
        match all.is_empty() {
            true => "-".to_owned(),
            false => all.join(", "),
        }
    }
}

/// How often each case is read; the median counts.
const ROUNDS: usize = 9;

struct Figures {
    /// One reading a round.
    ns: Vec<f64>,
    instructions: Option<f64>,
}

/// Measures all cases and prints a Markdown table for each title; or runs one case, when called by
/// itself.
pub(crate) fn main(tables: &[(&str, Vec<Case>)]) {
    if counts::as_child(tables.iter().flat_map(|(_, cases)| cases)) {
        return;
    }
    let valgrind = counts::available();
    let mut verdict = Verdict::default();
    for (title, cases) in tables {
        print(title, cases, &measure(cases, valgrind), &mut verdict);
    }
    if !valgrind {
        println!("\nInstructions are counted where valgrind is installed.");
    }
    verdict.print();
}

fn print(title: &str, cases: &[Case], figures: &[Figures], verdict: &mut Verdict) {
    println!("\n### {title}\n");
    println!(
        "| case | time | instructions | floor | ratio (time) | ratio (instructions) | budget |"
    );
    println!("|---|--:|--:|---|--:|--:|--:|");
    for (case, figure) in cases.iter().zip(figures) {
        let floor = cases
            .iter()
            .position(|other| other.name == case.floor)
            .map(|at| &figures[at]);
        // Round by round: what slows the machine down for a while slows both.
        let times = floor.map(|floor| {
            let pairs = figure.ns.iter().zip(&floor.ns);
            median(pairs.map(|(own, floor)| own / floor).collect())
        });
        let counts = floor.and_then(|floor| Some(figure.instructions? / floor.instructions?));
        let ns = median(figure.ns.clone());
        let late = case.at_most.filter(|it| ns > it.as_nanos() as f64);
        let late = late.map(|it| time(it.as_nanos() as f64));
        let mut ratio = |of, ratio, budget| verdict.ratio(case.name, of, ratio, budget);
        let in_time = if case.in_instructions {
            0.0
        } else {
            case.budget
        };
        let times = or_dash(times, |it| ratio("time", it, in_time));
        let counts = or_dash(counts, |it| ratio("instructions", it, case.budget));
        println!(
            "| {} | {} | {} | {} | {times} | {counts} | {} |",
            case.name,
            verdict.cell(case.name, "time", &time(ns), late),
            or_dash(figure.instructions, |count| format!("{count:.0}")),
            match case.floor {
                "" => "-",
                floor => floor,
            },
            case.allowed(),
        );
    }
}

fn measure(cases: &[Case], valgrind: bool) -> Vec<Figures> {
    let mut figures: Vec<Figures> = cases
        .iter()
        .map(|case| Figures {
            ns: Vec::new(),
            instructions: valgrind.then(|| counts::instructions(case)).flatten(),
        })
        .collect();
    for _ in 0..ROUNDS {
        for (case, figure) in cases.iter().zip(&mut figures) {
            let took = (case.run)(case.n).as_secs_f64();
            figure.ns.push(took * 1e9 / case.n as f64);
        }
    }
    figures
}

fn median(mut readings: Vec<f64>) -> f64 {
    readings.sort_by(f64::total_cmp);
    readings[readings.len() / 2]
}

/// A figure, or a dash where there is none.
pub(crate) fn or_dash<T>(figure: Option<T>, show: impl FnOnce(T) -> String) -> String {
    figure.map_or("-".to_owned(), show)
}
