//! How a number is measured: each in a process of its own, some of those under valgrind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One table.
pub(crate) struct Job {
    /// What selects it on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What a reader must know to judge the figures.
    pub(crate) note: &'static str,
    pub(crate) columns: Vec<Column>,
    /// The column that the ratios and the order are taken from.
    pub(crate) base: usize,
    pub(crate) contenders: Vec<Contender>,
}

/// One kind of figure of a table.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) how: How,
    /// How large the configuration is: keys, or bytes of text.
    pub(crate) size: usize,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// Nanoseconds by the wall clock.
    Time,
    /// Instructions, by valgrind.
    Instructions,
    /// Nanoseconds on each of two threads that do it at the same time.
    Two,
    /// The same while a third thread changes what they read.
    TwoWritten,
    /// How often that third thread gets through in a second.
    Writes,
    /// The most bytes of heap that were in use for each key.
    PeakBytes,
    /// The bytes of heap in use afterwards for each key.
    LiveBytes,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Kind {
    Floor,
    Ours,
    Rival,
}

pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// Measures one figure; `None` if it cannot, or not in reasonable time.
    pub(crate) run: fn(&Probe) -> Option<f64>,
}

/// What a contender is asked for.
pub(crate) struct Probe {
    pub(crate) how: How,
    pub(crate) size: usize,
    /// How often to run where instructions are counted.
    counted: u64,
}

impl Probe {
    /// Measures one operation: how long it takes; or runs it for valgrind to count and says how
    /// often.
    pub(crate) fn time<R>(&self, mut operation: impl FnMut() -> R) -> Option<f64> {
        match self.how {
            How::Time => Some(median_ns(&mut operation)),
            How::Instructions => {
                timed(self.counted, &mut operation);
                Some(self.counted as f64)
            }
            _ => None,
        }
    }
}

/// Runs an operation `n` times and says how long that took. Valgrind counts what happens in here
/// and nothing else.
#[inline(never)]
pub(crate) fn timed<R>(n: u64, mut operation: impl FnMut() -> R) -> Duration {
    let began = Instant::now();
    for _ in 0..n {
        std::hint::black_box(operation());
    }
    began.elapsed()
}

/// How often to run for one reading of the clock to take at least so long.
pub(crate) fn calibrate<R>(least: Duration, operation: &mut impl FnMut() -> R) -> (u64, Duration) {
    let mut n = 1;
    loop {
        let took = timed(n, &mut *operation);
        if took >= least {
            return (n, took);
        }
        n *= 2;
    }
}

/// The median of nine readings; of fewer where one operation is so slow that nine would take more
/// than four seconds.
fn median_ns<R>(operation: &mut impl FnMut() -> R) -> f64 {
    let (n, first) = calibrate(Duration::from_millis(5), operation);
    let mut left = Duration::from_secs(4).saturating_sub(first);
    // A run that took several attempts to be long enough was a warm-up; a single slow one counts.
    let mut readings = if n == 1 { vec![first] } else { Vec::new() };
    while readings.len() < 9 && (readings.is_empty() || left > first) {
        let took = timed(n, &mut *operation);
        left = left.saturating_sub(took);
        readings.push(took);
    }
    median(readings.iter().map(Duration::as_secs_f64)) * 1e9 / n as f64
}

pub(crate) fn median(readings: impl Iterator<Item = f64>) -> f64 {
    let mut readings: Vec<f64> = readings.collect();
    readings.sort_by(f64::total_cmp);
    readings[readings.len() / 2]
}

/// One row of figures, in the order of the columns.
pub(crate) type Row = Vec<Option<f64>>;

/// Measures a whole table.
pub(crate) fn measure(job: &Job, valgrind: bool) -> Vec<Row> {
    job.contenders
        .iter()
        .enumerate()
        .map(|(at, _)| measure_row(job, at, valgrind))
        .collect()
}

fn measure_row(job: &Job, contender: usize, valgrind: bool) -> Row {
    let mut row: Row = Vec::new();
    for (at, column) in job.columns.iter().enumerate() {
        let figure = if column.how != How::Instructions {
            child(job, contender, at, 0, false)
        } else if !valgrind {
            None
        } else {
            // What the clock said of the same operation tells how often to run it. The slow ones
            // are left out: valgrind takes fifty times as long, and what is a thousand times
            // dearer needs no exact count.
            let known = job.columns[..at].iter().zip(&row).find_map(|(other, ns)| {
                (other.how == How::Time && other.size == column.size).then_some(*ns)
            });
            match known {
                None => child(job, contender, at, 1, true),
                Some(Some(ns)) if ns < SLOW_NS => {
                    let n = (2e6 / ns).clamp(1.0, 20_000.0) as u64;
                    child(job, contender, at, n, true)
                }
                Some(_) => None,
            }
        };
        row.push(figure);
    }
    row
}

/// Operations slower than this are not counted.
pub(crate) const SLOW_NS: f64 = 50e6;

/// Has one figure measured by a process of its own.
fn child(job: &Job, contender: usize, column: usize, n: u64, valgrind: bool) -> Option<f64> {
    let own = std::env::current_exe().ok()?;
    let mut command = if valgrind {
        let mut command = Command::new("valgrind");
        command.args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*::harness::timed*",
        ]);
        command.arg(own);
        command
    } else {
        Command::new(own)
    };
    let output = command
        .arg(CHILD)
        .args([contender, column].map(|number| number.to_string()))
        .args([n.to_string(), job.name.to_owned()])
        .output()
        .ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let name = job.contenders[contender].name;
        eprintln!("{name}, {}: {errors}", job.columns[column].title);
        return None;
    }
    let answer: f64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .ok()?;
    if !valgrind {
        return Some(answer);
    }
    let line = errors.lines().find(|line| line.contains("Collected :"))?;
    let instructions: f64 = line.split_whitespace().last()?.parse().ok()?;
    Some(instructions / answer)
}

const CHILD: &str = "--figure";

/// Measures the one figure that the parent process asked for, if it did.
pub(crate) fn answer_as_child(jobs: &[Job], args: &[String]) -> bool {
    let [flag, contender, column, n, job] = args else {
        return false;
    };
    if flag != CHILD {
        return false;
    }
    let job = jobs.iter().find(|other| other.name == job).unwrap();
    let column = &job.columns[column.parse::<usize>().unwrap()];
    let contender = &job.contenders[contender.parse::<usize>().unwrap()];
    let probe = Probe {
        how: column.how,
        size: column.size,
        counted: n.parse().unwrap(),
    };
    if let Some(figure) = (contender.run)(&probe) {
        println!("{figure}");
    }
    true
}

pub(crate) fn has_valgrind() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
