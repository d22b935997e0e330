//! Instructions, counted by callgrind: the bench calls itself under valgrind for one case.

use std::process::{Command, Stdio};

use super::Case;

/// Whether valgrind is installed.
pub(crate) fn available() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs the one case this process was called for, if it was called for one.
pub(crate) fn as_child<'a>(cases: impl IntoIterator<Item = &'a Case>) -> bool {
    let args: Vec<String> = std::env::args().collect();
    let [_, flag, name, n, ..] = args.as_slice() else {
        return false;
    };
    if flag != "--case" {
        return false;
    }
    let case = cases
        .into_iter()
        .find(|case| case.counted > 0 && case.name == name)
        .expect("a case of that name");
    (case.run)(n.parse().expect("a number"));
    true
}

/// How many instructions one operation of a case takes, if it is one to be counted.
pub(crate) fn instructions(case: &Case) -> Option<f64> {
    if case.counted == 0 {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*::support::timed*",
        ])
        .arg(own)
        .args(["--case", case.name, &case.counted.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    let total: f64 = line.split_whitespace().last()?.parse().ok()?;
    Some(total / case.counted as f64)
}
