//! Prints the tables, the versions of the crates and the machine.

use crate::figures;
use crate::harness::{How, Job, Kind, Row};

/// Prints one table: the floor, liveprops, then the other crates, cheapest first.
pub(crate) fn table(job: &Job, rows: &[Row]) {
    let base = |at: usize| rows[at][job.base];
    let first = |kind: Kind| (0..rows.len()).find(|at| job.contenders[*at].kind == kind);
    // Each column with ratios, and the floor of those.
    let mut ratios = vec![(job.base, Kind::Floor), (job.base, Kind::Ours)];
    let mut headings = vec!["× floor", "× liveprops"];
    if let Some(counted) = job.counted {
        ratios.insert(1, (counted, Kind::Floor));
        ratios.push((counted, Kind::Ours));
        headings.insert(1, "instructions × floor");
        headings.push("instructions × liveprops");
    }

    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| {
        let order = |at: usize| match job.contenders[at].kind {
            Kind::Floor => (0, 0.0),
            Kind::Ours => (1, 0.0),
            Kind::Other => (2, base(at).unwrap_or(f64::INFINITY)),
        };
        let (a, b) = (order(*a), order(*b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });

    println!("\n### {} (`{}`)\n\n{}\n", job.title, job.name, job.note);
    let titles: Vec<&str> = job.columns.iter().map(|column| column.title).collect();
    let headings: Vec<&str> = titles.into_iter().chain(headings).collect();
    println!("| | {} |", headings.join(" | "));
    println!("|---|{}", "--:|".repeat(headings.len()));
    for at in order {
        let contender = &job.contenders[at];
        let name = match contender.kind {
            Kind::Floor => format!("floor: {}", contender.name),
            Kind::Ours => format!("**{}**", contender.name),
            Kind::Other => contender.name.to_owned(),
        };
        let figures =
            (job.columns.iter().zip(&rows[at])).map(|(column, figure)| cell(column.how, *figure));
        let ratios = ratios.iter().map(|(column, kind)| {
            let against = first(*kind).and_then(|at| rows[at][*column]);
            match (rows[at][*column], against) {
                (Some(own), Some(against)) => figures::ratio(own / against),
                _ => "-".to_owned(),
            }
        });
        let cells: Vec<String> = figures.chain(ratios).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    if !job.remark.is_empty() {
        println!("\n{}", job.remark);
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

/// Prints the compared versions, from the lock file of this build.
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
        "Times are medians of up to nine wall-clock readings, taken alternately for all rows of a \
         column; they differ from run to run. Instructions are reproducible to a few percent. \
         Ratios are to the floor and to the first row of liveprops. `-`: not supported, or too slow \
         to be counted."
    );
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
