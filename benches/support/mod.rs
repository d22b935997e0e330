//! A small harness: each case beside its floor in one run, as nanoseconds and, where valgrind is
//! installed, as instructions, which repeat from run to run on a noisy machine.
//!
//! A case runs its operation `n` times inside [`timed`], and only what happens in there counts:
//! for the clock and for valgrind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One operation to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The case this one is compared with.
    pub(crate) floor: &'static str,
    /// How much dearer than the floor it may be; 0 if there is no budget.
    pub(crate) budget: f64,
    /// How many times to run for one reading of the clock.
    pub(crate) n: u64,
    /// How many times to run under valgrind; 0 if counting instructions says nothing, as where
    /// other threads do the work.
    pub(crate) counted: u64,
    /// Runs the operation so many times and says how long that took.
    pub(crate) run: fn(u64) -> Duration,
}

/// Runs an operation `n` times and says how long that took.
#[inline(never)]
pub(crate) fn timed<R>(n: u64, mut operation: impl FnMut() -> R) -> Duration {
    let began = Instant::now();
    for _ in 0..n {
        std::hint::black_box(operation());
    }
    began.elapsed()
}

struct Figures {
    ns: f64,
    instructions: Option<f64>,
}

/// Measures all cases and prints a Markdown table; or runs one case, when called by itself.
pub(crate) fn main(title: &str, cases: &[Case]) {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, name, n, ..] = args.as_slice() {
        if flag == "--case" {
            let case = cases
                .iter()
                .find(|case| case.name == name)
                .expect("a case of that name");
            (case.run)(n.parse().expect("a number"));
            return;
        }
    }
    let valgrind = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    let figures: Vec<Figures> = cases.iter().map(|case| measure(case, valgrind)).collect();
    println!("\n### {title}\n");
    println!("| case | ns | instructions | floor | ratio (ns) | ratio (instructions) | budget |");
    println!("|---|--:|--:|---|--:|--:|--:|");
    for (case, figure) in cases.iter().zip(&figures) {
        let floor = cases
            .iter()
            .position(|other| other.name == case.floor)
            .map(|at| &figures[at]);
        let ratio = |own: Option<f64>, floor: Option<f64>| match (own, floor) {
            (Some(own), Some(floor)) if floor > 0.0 => format!("{:.2}", own / floor),
            _ => "-".to_owned(),
        };
        let instructions = figure
            .instructions
            .map_or("-".to_owned(), |count| format!("{count:.0}"));
        println!(
            "| {} | {:.1} | {instructions} | {} | {} | {} | {} |",
            case.name,
            figure.ns,
            if case.floor.is_empty() {
                "-"
            } else {
                case.floor
            },
            ratio(Some(figure.ns), floor.map(|floor| floor.ns)),
            ratio(
                figure.instructions,
                floor.and_then(|floor| floor.instructions)
            ),
            if case.budget > 0.0 {
                format!("{}", case.budget)
            } else {
                "-".to_owned()
            },
        );
    }
    if !valgrind {
        println!("\nInstructions are counted where valgrind is installed.");
    }
}

fn measure(case: &Case, valgrind: bool) -> Figures {
    let mut readings: Vec<f64> = (0..9)
        .map(|_| (case.run)(case.n).as_secs_f64() * 1e9 / case.n as f64)
        .collect();
    readings.sort_by(f64::total_cmp);
    let instructions = (valgrind && case.counted > 0)
        .then(|| Some(instructions(case.name, case.counted)? / case.counted as f64));
    Figures {
        ns: readings[readings.len() / 2],
        instructions: instructions.flatten(),
    }
}

fn instructions(name: &str, n: u64) -> Option<f64> {
    let own = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*::support::timed*",
        ])
        .arg(own)
        .args(["--case", name, &n.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.split_whitespace().last()?.parse().ok()
}
