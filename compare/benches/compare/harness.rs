//! Measures each figure in a process of its own, some of them under valgrind.
//!
//! All contenders of a column are set up first, each in its process. Then the harness requests one
//! reading of each, round by round. Load on the machine slows down all of them, so the ratios hold.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// One table.
pub(crate) struct Job {
    /// The argument that selects the table on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The note below the title.
    pub(crate) note: &'static str,
    pub(crate) columns: Vec<Column>,
    /// The column of the ratios and of the order of rows.
    pub(crate) base: usize,
    /// The column of the ratios of instructions.
    pub(crate) counted: Option<usize>,
    /// The text below the table.
    pub(crate) remark: &'static str,
    pub(crate) contenders: Vec<Contender>,
}

/// One kind of figure of a table.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) how: How,
    /// How large the configuration is: keys, or bytes of text.
    pub(crate) size: usize,
}

/// What a column measures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// Nanoseconds of wall-clock time.
    Time,
    /// Instructions that valgrind counts.
    Instructions,
    /// Nanoseconds on each of two threads that read at the same time.
    Two,
    /// Nanoseconds of the same two threads while a third one writes.
    TwoWritten,
    /// Writes of that third thread per second.
    Writes,
    /// Peak bytes of heap per key.
    PeakBytes,
    /// Bytes of heap per key after loading.
    LiveBytes,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Kind {
    Floor,
    Ours,
    Other,
}

pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// Measures one figure; `None` if that is impossible or takes too long.
    pub(crate) run: fn(&Probe) -> Option<f64>,
}

/// The figure that the parent process requests.
pub(crate) struct Probe {
    pub(crate) how: How,
    pub(crate) size: usize,
    /// How often to run the operation while valgrind counts instructions.
    counted: u64,
}

impl Probe {
    /// Measures the duration of one operation. Under valgrind it runs the operation instead and
    /// returns how often.
    pub(crate) fn time<R>(&self, mut operation: impl FnMut() -> R) -> Option<f64> {
        match self.how {
            How::Time => {
                let (n, first) = calibrate(Duration::from_millis(5), &mut operation);
                let ns = |took: Duration| took.as_secs_f64() * 1e9 / n as f64;
                // Several attempts to reach the minimal duration are a warm-up. A single slow run
                // counts, because another one may not fit into the time limit.
                let counts = n == 1;
                self.readings(counts.then(|| ns(first)), || {
                    Some(ns(timed(n, &mut operation)))
                })
            }
            How::Instructions => {
                timed(self.counted, &mut operation);
                Some(self.counted as f64)
            }
            _ => None,
        }
    }

    /// Like [`time`](Self::time), but iterates over 64 items: the figure of a single one would depend
    /// on chance.
    pub(crate) fn time_over<T, R>(
        &self,
        things: &[T; 64],
        mut operation: impl FnMut(&T) -> R,
    ) -> Option<f64> {
        let mut count = 0usize;
        self.time(|| {
            count = count.wrapping_add(1);
            operation(&things[count % 64])
        })
    }

    /// Prints a reading for each request of the parent. `first` is a reading that exists already.
    /// Ends at the first reading that fails. The parent has all readings before this returns.
    pub(crate) fn readings(
        &self,
        first: Option<f64>,
        mut reading: impl FnMut() -> Option<f64>,
    ) -> Option<f64> {
        let print = |figure: Option<f64>| {
            let mut out = std::io::stdout();
            let text = figure.map_or(String::new(), |figure| figure.to_string());
            writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
        };
        let mut alive = print(first);
        for request in std::io::stdin().lock().lines() {
            if request.is_err() || !alive {
                break;
            }
            let figure = reading();
            alive = print(figure) && figure.is_some();
        }
        None
    }
}

/// Runs an operation `n` times and returns the duration. Valgrind counts only this function.
#[inline(never)]
pub(crate) fn timed<R>(n: u64, mut operation: impl FnMut() -> R) -> Duration {
    let began = Instant::now();
    for _ in 0..n {
        std::hint::black_box(operation());
    }
    began.elapsed()
}

/// Returns how often the operation runs in the duration `least`.
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

pub(crate) fn median(readings: impl Iterator<Item = f64>) -> f64 {
    let mut readings: Vec<f64> = readings.collect();
    readings.sort_by(f64::total_cmp);
    readings[readings.len() / 2]
}

/// One row of figures, in the order of the columns.
pub(crate) type Row = Vec<Option<f64>>;

/// Measures a whole table, column by column.
pub(crate) fn measure(job: &Job, valgrind: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![Vec::new(); job.contenders.len()];
    for (at, column) in job.columns.iter().enumerate() {
        let figures: Vec<Option<f64>> = match column.how {
            How::Time | How::Two | How::TwoWritten => measure_alternately(job, at),
            How::Instructions => (0..rows.len())
                .map(|contender| instructions(job, &rows[contender], contender, at, valgrind))
                .collect(),
            How::Writes | How::PeakBytes | How::LiveBytes => (0..rows.len())
                .map(|contender| measure_single(job, contender, at))
                .collect(),
        };
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.push(figure);
        }
    }
    rows
}

/// Readings of every time.
const READINGS: usize = 9;
/// The total duration after which a slow contender gets no further request.
const TIME_LIMIT: Duration = Duration::from_secs(4);

/// Measures all contenders alternately and returns the median of each.
fn measure_alternately(job: &Job, column: usize) -> Vec<Option<f64>> {
    let mut running: Vec<Option<Running>> = (0..job.contenders.len())
        .map(|contender| Running::start(job, contender, column))
        .collect();
    for _ in 0..READINGS {
        for one in running.iter_mut().flatten() {
            one.request_reading();
        }
    }
    (running.into_iter().enumerate())
        .map(|(contender, one)| one?.finish(job, contender, column))
        .collect()
}

/// A process that is set up and waits for a request.
struct Running {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    readings: Vec<f64>,
    spent: Duration,
    dead: bool,
}

impl Running {
    fn start(job: &Job, contender: usize, column: usize) -> Option<Self> {
        let mut command = Command::new(std::env::current_exe().ok()?);
        let mut child = asked(&mut command, job, contender, column, 0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .ok()?;
        let mut one = Self {
            requests: child.stdin.take()?,
            answers: BufReader::new(child.stdout.take()?),
            child,
            readings: Vec::new(),
            spent: Duration::ZERO,
            dead: false,
        };
        // The process reports its setup, with a first reading if the setup was one.
        if let Some(line) = one.answer()
            && let Ok(ns) = line.parse::<f64>()
        {
            one.readings.push(ns);
            one.spent = Duration::from_nanos(ns as u64);
        }
        Some(one)
    }

    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(length) if length > 0 => Some(line.trim().to_owned()),
            _ => {
                self.dead = true;
                None
            }
        }
    }

    fn request_reading(&mut self) {
        // The first reading is required, however slow. Further ones have to fit into the limit.
        let count = self.readings.len() as u32;
        let next = self.spent.checked_div(count).unwrap_or(Duration::ZERO);
        if self.dead || count as usize == READINGS || self.spent + next > TIME_LIMIT && count > 0 {
            return;
        }
        let began = Instant::now();
        if writeln!(self.requests).is_err() {
            self.dead = true;
            return;
        }
        if let Some(line) = self.answer() {
            self.spent += began.elapsed();
            match line.parse() {
                Ok(ns) => self.readings.push(ns),
                // Another request would fail as well.
                Err(_) => {
                    self.readings.clear();
                    self.dead = true;
                }
            }
        }
    }

    fn finish(self, job: &Job, contender: usize, column: usize) -> Option<f64> {
        let Self {
            mut child,
            requests,
            readings,
            ..
        } = self;
        // The end of its input ends the process.
        drop(requests);
        if !child.wait().is_ok_and(|status| status.success()) {
            let name = job.contenders[contender].name;
            eprintln!("{name}, {}: failed", job.columns[column].title);
            return None;
        }
        (!readings.is_empty()).then(|| median(readings.into_iter()))
    }
}

/// Counts the instructions of one operation under valgrind.
fn instructions(
    job: &Job,
    row: &Row,
    contender: usize,
    column: usize,
    valgrind: bool,
) -> Option<f64> {
    if !valgrind {
        return None;
    }
    // The measured time of the same operation decides how often to run it. Slow ones have no count:
    // valgrind multiplies their time by fifty, and a factor of a thousand needs no exact figure.
    let size = job.columns[column].size;
    let known = job.columns[..column]
        .iter()
        .zip(row)
        .find_map(|(other, ns)| (other.how == How::Time && other.size == size).then_some(*ns));
    let n = match known {
        None => 1,
        Some(Some(ns)) if ns < SLOW_NS => (2e6 / ns).clamp(1.0, 20_000.0) as u64,
        Some(_) => return None,
    };
    let mut command = Command::new("valgrind");
    command.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=*::harness::timed*",
    ]);
    command.arg(std::env::current_exe().ok()?);
    let (answer, errors) = run(&mut command, job, contender, column, n)?;
    let line = errors.lines().find(|line| line.contains("Collected :"))?;
    let instructions: f64 = line.split_whitespace().last()?.parse().ok()?;
    Some(instructions / answer)
}

/// Operations slower than this have no instruction count.
pub(crate) const SLOW_NS: f64 = 50e6;

/// Measures a single figure that needs no comparison in time.
fn measure_single(job: &Job, contender: usize, column: usize) -> Option<f64> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    Some(run(&mut command, job, contender, column, 0)?.0)
}

fn asked<'a>(
    command: &'a mut Command,
    job: &Job,
    contender: usize,
    column: usize,
    n: u64,
) -> &'a mut Command {
    command
        .arg(CHILD)
        .args([contender, column].map(|number| number.to_string()))
        .args([n.to_string(), job.name.to_owned()])
}

/// Runs a process that measures one figure; returns its output and its errors.
fn run(
    command: &mut Command,
    job: &Job,
    contender: usize,
    column: usize,
    n: u64,
) -> Option<(f64, String)> {
    let output = asked(command, job, contender, column, n).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let name = job.contenders[contender].name;
        eprintln!("{name}, {}: {errors}", job.columns[column].title);
        return None;
    }
    let answer = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .ok()?;
    Some((answer, errors))
}

const CHILD: &str = "--figure";

/// Measures the figure that a parent process requests; returns whether this is such a child.
pub(crate) fn run_as_child(jobs: &[Job], args: &[String]) -> bool {
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
