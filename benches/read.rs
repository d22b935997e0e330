//! What reading costs: each way of reading beside its floor, alone and beside a writer.
//!
//! `cargo bench --bench read`

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/contention.rs"]
mod contention;
#[path = "cases/reading.rs"]
mod reading;
mod support;

fn main() {
    support::main(&[
        ("Reading", reading::cases()),
        (
            "Reading beside 1,000 commits a second",
            contention::beside_a_writer(),
        ),
        (
            "Reading beside commits without a pause",
            contention::beside_a_neighbour(),
        ),
    ]);
}
