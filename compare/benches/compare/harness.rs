//! How a number is measured: each in a process of its own, some of those under valgrind.
//!
//! What is timed takes turns. All contenders of a column are set up, each in its process, and then
//! asked for one reading after the other, round by round, so that a machine that is busy for a
//! while is so for all of them and the ratios hold.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
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
    /// The column that the ratios of instructions are taken from.
    pub(crate) counted: Option<usize>,
    /// What is to be said once the figures have been seen.
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
            How::Time => {
                let (n, first) = calibrate(Duration::from_millis(5), &mut operation);
                let ns = |took: Duration| took.as_secs_f64() * 1e9 / n as f64;
                // A run that took several attempts to be long enough was a warm-up; a single slow
                // one counts, because another might not fit into the time there is.
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

    /// As [`time`](Self::time), with one of 64 things after the other, where one alone would show
    /// luck.
    pub(crate) fn time_over<T, R>(
        &self,
        things: &[T; 64],
        mut operation: impl FnMut(&T) -> R,
    ) -> Option<f64> {
        let mut turn = 0usize;
        self.time(|| {
            turn = turn.wrapping_add(1);
            operation(&things[turn % 64])
        })
    }

    /// Takes a reading whenever it is this contender's turn. `first` is one that was taken already.
    /// Ends early when there is nothing to be read. What it returns was told already.
    pub(crate) fn readings(
        &self,
        first: Option<f64>,
        mut reading: impl FnMut() -> Option<f64>,
    ) -> Option<f64> {
        let say = |figure: Option<f64>| {
            let mut out = std::io::stdout();
            let text = figure.map_or(String::new(), |figure| figure.to_string());
            writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
        };
        let mut alive = say(first);
        for turn in std::io::stdin().lock().lines() {
            if turn.is_err() || !alive {
                break;
            }
            let figure = reading();
            alive = say(figure) && figure.is_some();
        }
        None
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
            How::Time | How::Two | How::TwoWritten => in_turn(job, at),
            How::Instructions => (0..rows.len())
                .map(|contender| instructions(job, &rows[contender], contender, at, valgrind))
                .collect(),
            How::Writes | How::PeakBytes | How::LiveBytes => (0..rows.len())
                .map(|contender| alone(job, contender, at))
                .collect(),
        };
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.push(figure);
        }
    }
    rows
}

/// How many readings there are of every time.
const READINGS: usize = 9;
/// A contender so slow that its readings took longer than this is not asked again.
const ENOUGH: Duration = Duration::from_secs(4);

/// The median for every contender of readings that they take in turn.
fn in_turn(job: &Job, column: usize) -> Vec<Option<f64>> {
    let mut running: Vec<Option<Running>> = (0..job.contenders.len())
        .map(|contender| Running::start(job, contender, column))
        .collect();
    for _ in 0..READINGS {
        for one in running.iter_mut().flatten() {
            one.take_turn();
        }
    }
    (running.into_iter().enumerate())
        .map(|(contender, one)| one?.finish(job, contender, column))
        .collect()
}

/// A process that is set up and waits for its turn.
struct Running {
    child: Child,
    turns: ChildStdin,
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
            turns: child.stdin.take()?,
            answers: BufReader::new(child.stdout.take()?),
            child,
            readings: Vec::new(),
            spent: Duration::ZERO,
            dead: false,
        };
        // It says that it is set up, with its first reading where setting up was one.
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

    fn take_turn(&mut self) {
        // What has not been read yet must be, however slow; what was, only if it will fit.
        let taken = self.readings.len() as u32;
        let next = self.spent.checked_div(taken).unwrap_or(Duration::ZERO);
        if self.dead || taken as usize == READINGS || self.spent + next > ENOUGH && taken > 0 {
            return;
        }
        let began = Instant::now();
        if writeln!(self.turns).is_err() {
            self.dead = true;
            return;
        }
        if let Some(line) = self.answer() {
            self.spent += began.elapsed();
            match line.parse() {
                Ok(ns) => self.readings.push(ns),
                // It tried and has nothing to show: no other turn will be better.
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
            turns,
            readings,
            ..
        } = self;
        // No turn will come any more, which ends it.
        drop(turns);
        if !child.wait().is_ok_and(|status| status.success()) {
            let name = job.contenders[contender].name;
            eprintln!("{name}, {}: failed", job.columns[column].title);
            return None;
        }
        (!readings.is_empty()).then(|| median(readings.into_iter()))
    }
}

/// What valgrind counts for one operation.
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
    // What the clock said of the same operation tells how often to run it. The slow ones are left
    // out: valgrind takes fifty times as long, and what is a thousand times dearer needs no exact
    // count.
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

/// Operations slower than this are not counted.
pub(crate) const SLOW_NS: f64 = 50e6;

/// One figure that is no time, or is a time that nothing is held against.
fn alone(job: &Job, contender: usize, column: usize) -> Option<f64> {
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

/// What a process says that measures one figure, and what it complains of.
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
