//! What a change costs, from the source's call to the value every thread reads: one key of few and
//! of many, a transaction, a reload of a large file with one changed line.
//!
//! `cargo bench --bench commit`

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/committing.rs"]
mod committing;
#[path = "cases/manual_source.rs"]
mod manual_source;
#[path = "cases/reloading.rs"]
mod reloading;
mod support;

fn main() {
    support::main(&[
        ("Committing", committing::cases()),
        ("Committing 1,000 keys at once", committing::transactions()),
        ("Reloading 100,000 keys", reloading::cases()),
    ]);
}
