//! Fails when reading or committing takes more or fewer instructions than recorded, or more than its
//! budget. Instruction counts repeat on a busy machine, times do not.
//!
//! `cargo bench --bench guard`, and `cargo bench --bench guard -- --record` once the
//! reason for a change is understood. The recorded counts are in `instructions.txt`. Fewer
//! instructions than recorded fail too, so that a gain is recorded and cannot be lost unnoticed.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/committing.rs"]
#[allow(dead_code)] // one of its cases is guarded
mod committing;
#[path = "cases/reading.rs"]
mod reading;
mod support;

use std::process::ExitCode;

use support::record::{Record, toolchain};
use support::{Case, counts};

/// By how much a count may differ from the recorded one; the larger of the two counts.
#[derive(Clone, Copy)]
struct Tolerance {
    percent: f64,
    instructions: f64,
    /// Of how many processes the mean is taken.
    processes: u32,
}

/// The same instructions in every process.
const EXACT: Tolerance = Tolerance {
    percent: 2.0,
    instructions: 1.0,
    processes: 1,
};

/// The hash seed of the process decides how deep the keys lie in the trie. Processes differ by up to
/// 1 %.
const PER_SEED: Tolerance = Tolerance {
    percent: 2.5,
    instructions: 0.0,
    processes: 4,
};

/// The same for a commit, where processes differ by up to 3 %.
const PER_SEED_COMMIT: Tolerance = Tolerance {
    percent: 4.0,
    instructions: 0.0,
    processes: 8,
};

/// Cases that are known to be over their budget. Empty is the aim.
const OVER_BUDGET: &[&str] = &[];

fn tolerance(case: &Case) -> Tolerance {
    match case.name {
        name if name.contains("by name") => PER_SEED,
        name if name.starts_with("one key") => PER_SEED_COMMIT,
        _ => EXACT,
    }
}

fn guarded() -> Vec<Case> {
    let mut cases = reading::cases();
    cases.push(committing::one_of_few());
    cases
}

fn main() -> ExitCode {
    let cases = guarded();
    if counts::as_child(&cases) {
        return ExitCode::SUCCESS;
    }
    if !counts::available() {
        println!("Instructions cannot be counted: valgrind is not installed.");
        // A guard that is silently absent guards nothing.
        let in_ci = std::env::var("CI").is_ok_and(|ci| !matches!(&*ci, "" | "false" | "0"));
        return match in_ci {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        };
    }
    let found = Record {
        toolchain: toolchain(),
        counts: cases
            .iter()
            .map(|case| (case.name.to_owned(), count(case)))
            .collect(),
    };
    if std::env::args().any(|arg| arg == "--record") {
        found.write();
        println!("Recorded.");
        return ExitCode::SUCCESS;
    }
    let recorded = Record::read();
    let mut faults = moved(&cases, &recorded, &found);
    faults.extend(over_budget(&cases, &found));
    match faults.is_empty() {
        true => {
            println!("\nAll within what is recorded and promised.");
            ExitCode::SUCCESS
        }
        false => {
            let advice = "Find out why. If it is meant to be so, record it: \
                          `cargo bench --bench guard -- --record`";
            println!("\n{}\n{advice}", faults.join("\n"));
            ExitCode::FAILURE
        }
    }
}

fn count(case: &Case) -> f64 {
    let processes = tolerance(case).processes;
    let counts = (0..processes).map(|_| counts::instructions(case).expect("a count"));
    counts.sum::<f64>() / f64::from(processes)
}

/// Prints each count beside the recorded one, and reports which differ.
fn moved(cases: &[Case], recorded: &Record, found: &Record) -> Vec<String> {
    let mut faults = Vec::new();
    println!("\n| case | recorded | found | tolerance | change |");
    println!("|---|--:|--:|--:|--:|");
    for case in cases {
        let name = case.name;
        let now = found.counts[name];
        let Some(before) = recorded.counts.get(name).copied() else {
            println!("| {name} | - | {now:.1} | - | - |");
            faults.push(format!("`{name}` is not recorded"));
            continue;
        };
        let Tolerance {
            percent,
            instructions,
            ..
        } = tolerance(case);
        let allowed = (before * percent / 100.0).max(instructions);
        let change = (now / before - 1.0) * 100.0;
        println!("| {name} | {before:.1} | {now:.1} | ±{allowed:.1} | {change:+.1} % |");
        if (now - before).abs() <= allowed {
            continue;
        }
        let is_floor = cases.iter().any(|other| other.floor == name);
        let what = match (is_floor, now > before) {
            (true, _) => "the floor moved",
            (false, true) => "dearer",
            (false, false) => "cheaper",
        };
        faults.push(format!(
            "`{name}`: {what}: {before:.1} instructions recorded, {now:.1} found, \
             tolerance {allowed:.1} ({} recorded, {} now)",
            recorded.toolchain, found.toolchain,
        ));
    }
    for name in recorded.counts.keys() {
        if !found.counts.contains_key(name) {
            faults.push(format!("`{name}` is recorded and not counted any more"));
        }
    }
    faults
}

/// Prints each ratio beside its budget, and reports which are over it.
fn over_budget(cases: &[Case], found: &Record) -> Vec<String> {
    let mut faults = Vec::new();
    println!("\n| case | floor | ratio | budget |");
    println!("|---|---|--:|--:|");
    for case in cases.iter().filter(|case| case.budget > 0.0) {
        let Case {
            name,
            floor,
            budget,
            ..
        } = case;
        let ratio = found.counts[*name] / found.counts[*floor];
        println!("| {name} | {floor} | {ratio:.2} | {budget} |");
        match (ratio <= *budget, OVER_BUDGET.contains(name)) {
            (true, false) | (false, true) => {}
            (true, true) => println!("`{name}` can be taken off the list of those over budget."),
            (false, false) => faults.push(format!(
                "`{name}`: {ratio:.2} times `{floor}`, {budget} is the budget"
            )),
        }
    }
    faults
}
