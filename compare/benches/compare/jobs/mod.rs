//! One file per table.

mod change;
mod file;
mod load;
mod memory;
mod name;
mod read;
mod reload;

use crate::harness::{Contender, Job, Kind, Probe};

pub(crate) fn all() -> Vec<Job> {
    vec![
        read::job(),
        name::job(),
        change::job(),
        load::job(),
        memory::job(),
        reload::job(),
        file::job(),
    ]
}

type Run = fn(&Probe) -> Option<f64>;

fn floor(name: &'static str, run: Run) -> Contender {
    let kind = Kind::Floor;
    Contender { kind, name, run }
}

fn ours(name: &'static str, run: Run) -> Contender {
    let kind = Kind::Ours;
    Contender { kind, name, run }
}

fn other(name: &'static str, run: Run) -> Contender {
    let kind = Kind::Other;
    Contender { kind, name, run }
}
