//! The counts that are kept under version control: one case a line, and what they were made with.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Instructions by the name of the case.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) toolchain: String,
    pub(crate) counts: BTreeMap<String, f64>,
}

impl Record {
    /// What is recorded; nothing, if there is no file.
    pub(crate) fn read() -> Self {
        let mut record = Self::default();
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (name, value) in lines.filter_map(|line| line.split_once(" = ")) {
            match name {
                "toolchain" => record.toolchain = value.to_owned(),
                _ => {
                    let count = value.parse().expect("a count of instructions");
                    record.counts.insert(name.to_owned(), count);
                }
            }
        }
        record
    }

    pub(crate) fn write(&self) {
        let mut text = format!(
            "# Instructions an operation, as `cargo bench --bench guard -- --record` counted them.\n\
             toolchain = {}\n",
            self.toolchain
        );
        for (name, count) in &self.counts {
            writeln!(text, "{name} = {count:.1}").expect("a string takes all");
        }
        std::fs::write(path(), text).expect("a place for the record");
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// What decides on instructions besides the code: the compiler and the machine it compiles for.
pub(crate) fn toolchain() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.map_or_else(
        |_| "an unknown rustc".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    format!("{version} for {}", std::env::consts::ARCH)
}
