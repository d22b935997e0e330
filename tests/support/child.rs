//! Runs one test of a test program once more, in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ROLE: &str = "LIVEPROPS_CHILD";

/// How long a child may take altogether.
const LIFETIME: Duration = Duration::from_secs(240);

/// What this process has to do as a child; `None` in the test program itself.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says something to the parent.
pub(crate) fn say(what: impl std::fmt::Display) {
    // The test harness may have begun a line already.
    println!("\nchild: {what}");
}

/// A child that is about to be started.
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

    /// Where it puts what is temporary, for one that does not live to remove it.
    pub(crate) fn temporary(mut self, dir: &Path) -> Self {
        self.temporary = dir.to_owned();
        self
    }

    /// Runs it with another program in front; `None` where that program may not do its work.
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
        let words = self.wrapper.iter().map(Into::into);
        let mut words = words.chain([program.into_os_string()]);
        let mut process = Command::new(words.next().unwrap())
            .args(words)
            .args([&self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, self.role)
            .env("TMPDIR", self.temporary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (send, said) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((_, what)) = line.split_once("child: ") {
                    let _ = send.send(what.to_owned());
                }
            }
        });
        Running { process, said }
    }

    /// Runs it and wants it to say something and to end well.
    #[track_caller]
    pub(crate) fn succeeds(self) {
        let mut child = self.start();
        let what = child.said.recv_timeout(LIFETIME);
        assert!(child.ends_well(), "the child failed after saying {what:?}");
        println!("the child: {}", what.unwrap());
    }
}

/// A child that runs; killed when this is dropped.
pub(crate) struct Running {
    process: std::process::Child,
    /// What it says.
    pub(crate) said: Receiver<String>,
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        // The shell's own: the program of this name is not everywhere.
        let kill = ["-c", "kill \"$0\" \"$1\"", name, &id];
        let sent = Command::new("sh").args(kill).status().unwrap();
        assert!(sent.success());
        // A thread may run on for a moment.
        while name == "-STOP" && !self.is_stopped() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Whether each of its threads has stopped.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Its state as the kernel shows it: `T` when it is stopped.
    pub(crate) fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Closes its input and waits for its end.
    pub(crate) fn ends_well(&mut self) -> bool {
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
