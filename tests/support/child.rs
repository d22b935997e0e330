//! Runs one test of a test program in another process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ROLE: &str = "LIVEPROPS_CHILD";

/// The time limit of a child.
const LIFETIME: Duration = Duration::from_secs(240);

/// Returns the role of this process as a child; `None` in the test program itself.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Sends a line to the parent.
pub(crate) fn report(line: impl std::fmt::Display) {
    // The output of the test harness may not end with a line break.
    println!("\nchild: {line}");
}

/// Starts a child.
pub(crate) struct Child {
    test: String,
    role: String,
    wrapper: Vec<String>,
    temporary: PathBuf,
}

impl Child {
    pub(crate) fn of(test: &str) -> Self {
        Self {
            test: test.to_owned(),
            role: "run".to_owned(),
            wrapper: Vec::new(),
            temporary: std::env::temp_dir(),
        }
    }

    pub(crate) fn role(mut self, role: impl ToString) -> Self {
        self.role = role.to_string();
        self
    }

    /// Sets the directory of temporary files, for a child that is killed before it deletes them.
    pub(crate) fn temporary(mut self, dir: &Path) -> Self {
        self.temporary = dir.to_owned();
        self
    }

    /// Runs the child under another program; `None` if that program does not work here.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Option<Self> {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        let probe = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg("true")
            .output();
        probe.ok()?.status.success().then_some(self)
    }

    pub(crate) fn start(self) -> Running {
        let program = std::env::current_exe().unwrap();
        let wrapper = self.wrapper.iter().map(Into::into);
        let mut command = wrapper.chain([program.into_os_string()]);
        let mut process = Command::new(command.next().unwrap())
            .args(command)
            .args([&self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, self.role)
            .env("TMPDIR", self.temporary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (sender, output) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, line)) = line.split_once("child: ") {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        Running { process, output }
    }

    /// Runs the child and asserts that it reports a line and exits successfully.
    #[track_caller]
    pub(crate) fn succeeds(self) {
        let mut child = self.start();
        let line = child.output.recv_timeout(LIFETIME);
        assert!(
            child.exits_successfully(),
            "the child failed after {line:?}"
        );
        println!("the child: {}", line.unwrap());
    }
}

/// A running child; killed when this is dropped.
pub(crate) struct Running {
    process: std::process::Child,
    /// The lines that the child reports.
    pub(crate) output: Receiver<String>,
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        // The `kill` of the shell: some systems lack the program.
        let kill = ["-c", "kill \"$0\" \"$1\"", name, &id];
        let sent = Command::new("sh").args(kill).status().unwrap();
        assert!(sent.success());
        // Threads stop some time after the signal.
        while name == "-STOP" && !self.is_stopped() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Returns whether all threads of the child are stopped.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Returns the state of the process in `/proc`: `T` if it is stopped.
    pub(crate) fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Closes the input of the child, waits for its end and returns whether it succeeded.
    pub(crate) fn exits_successfully(&mut self) -> bool {
        drop(self.process.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < LIFETIME {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
