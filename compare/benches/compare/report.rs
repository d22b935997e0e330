//! Prints tables, the versions of who was in them, and the machine.

use crate::figures;
use crate::harness::{How, Job, Kind, Row};

/// Prints one table: the floor, liveprops, then the rivals, cheapest first.
pub(crate) fn table(job: &Job, rows: &[Row]) {
    let base = |at: usize| rows[at][job.base];
    let first = |kind: Kind| (0..rows.len()).find(|at| job.contenders[*at].kind == kind);
    let floor = first(Kind::Floor).and_then(base);
    let ours = first(Kind::Ours).and_then(base);

    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| {
        let place = |at: usize| match job.contenders[at].kind {
            Kind::Floor => (0, 0.0),
            Kind::Ours => (1, 0.0),
            Kind::Rival => (2, base(at).unwrap_or(f64::INFINITY)),
        };
        let (a, b) = (place(*a), place(*b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });

    println!("\n### {} (`{}`)\n\n{}\n", job.title, job.name, job.note);
    let titles: Vec<&str> = job.columns.iter().map(|column| column.title).collect();
    println!("| | {} | × floor | × liveprops |", titles.join(" | "));
    println!("|---|{}--:|--:|", "--:|".repeat(titles.len()));
    for at in order {
        let contender = &job.contenders[at];
        let name = match contender.kind {
            Kind::Floor => format!("floor: {}", contender.name),
            Kind::Ours => format!("**{}**", contender.name),
            Kind::Rival => contender.name.to_owned(),
        };
        let cells: Vec<String> = job
            .columns
            .iter()
            .zip(&rows[at])
            .map(|(column, figure)| cell(column.how, *figure))
            .collect();
        let ratio = |to: Option<f64>| match (base(at), to) {
            (Some(own), Some(to)) => figures::ratio(own / to),
            _ => "-".to_owned(),
        };
        println!(
            "| {name} | {} | {} | {} |",
            cells.join(" | "),
            ratio(floor),
            ratio(ours)
        );
    }
}

fn cell(how: How, figure: Option<f64>) -> String {
    let Some(figure) = figure else {
        return "-".to_owned();
    };
    match how {
        How::Time | How::Two | How::TwoWritten => figures::time(figure),
        How::Instructions | How::Writes | How::PeakBytes | How::LiveBytes => figures::whole(figure),
    }
}

/// Prints which versions were compared, from the lock file this was built with.
pub(crate) fn versions() {
    const SHOWN: [&str; 10] = [
        "liveprops",
        "config",
        "figment",
        "dynamic-config",
        "arc-swap",
        "foldhash",
        "notify",
        "parking_lot",
        "tokio",
        "toml",
    ];
    let lock = include_str!("../../Cargo.lock");
    println!("\n### Versions\n\n| crate | version |\n|---|---|");
    for name in SHOWN {
        let versions: Vec<&str> = lock
            .split("[[package]]")
            .filter(|package| package.contains(&format!("\nname = \"{name}\"\n")))
            .filter_map(|package| {
                package
                    .split("\nversion = \"")
                    .nth(1)?
                    .split(['"', '+'])
                    .next()
            })
            .collect();
        if !versions.is_empty() {
            println!("| {name} | {} |", versions.join(", "));
        }
    }
}

/// Prints what it ran on.
pub(crate) fn machine(valgrind: bool) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "\nMeasured on {} {}, {cores} cores{}; {}.",
        std::env::consts::OS,
        std::env::consts::ARCH,
        processor().map_or(String::new(), |name| format!(" ({name})")),
        if valgrind {
            "instructions counted by valgrind"
        } else {
            "without valgrind, so instructions were not counted"
        }
    );
    println!(
        "Times are medians of nine by the wall clock and differ from run to run, ratios are of \
         times; instructions repeat to a few percent. `-`: cannot, or too slow to be counted."
    );
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
