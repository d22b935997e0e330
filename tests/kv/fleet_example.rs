//! Runs the example `fleet` by its own script: a real server, the loader and three services.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::nats::Wire;
use crate::scenario::{SOON, wait_until};
use crate::server::{Kind, free_port, tools};
use crate::support::example::example;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet/fleet.sh");
const SERVICES: [&str; 3] = ["checkout", "search", "mail"];
const CHECKOUT: usize = 0;
const SEARCH: usize = 1;
const MAIL: usize = 2;
/// The pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);

struct Fleet {
    temporary: tempfile::TempDir,
    tools: PathBuf,
    program: PathBuf,
    /// The ports of the server and of the services.
    ports: [u16; 4],
    /// Stops everything when its input ends, so also if this process is killed.
    guard: Option<Child>,
}

/// The answer of a service.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct Answer {
    service: String,
    greeting: String,
    limit: u32,
    generation: u64,
    pid: u32,
}

/// A configuration whose values all contain its version.
fn change(n: u32) -> String {
    format!(
        "greeting = \"change {n}\"\nlimit = {}\nlog = \"changes\"\n",
        5000 + n
    )
}

impl Answer {
    fn is_change(&self, n: u32) -> bool {
        self.greeting == format!("change {n}") && self.limit == 5000 + n
    }

    /// Returns whether the values are of different versions.
    fn is_torn(&self) -> bool {
        let n = self.greeting.strip_prefix("change ");
        n.is_some_and(|n| !self.is_change(n.parse().unwrap()))
    }
}

impl Fleet {
    /// Prepares a fleet without starting it; `None` if no server is available.
    fn new() -> Option<Self> {
        let mut fleet = Self {
            temporary: tempfile::tempdir().unwrap(),
            tools: tools(Kind::Nats)?,
            program: example("fleet"),
            ports: std::array::from_fn(|_| free_port()),
            guard: None,
        };
        let guard = fleet
            .command("bash")
            .args(["-c", "read -r _; exec \"$0\" down", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        fleet.guard = Some(guard.unwrap());
        Some(fleet)
    }

    fn dir(&self) -> PathBuf {
        self.temporary.path().join("run")
    }

    fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let [nats, checkout, search, mail] = self.ports.map(|port| port.to_string());
        let mut command = Command::new(program);
        command
            .env("FLEET_DIR", self.dir())
            .env("FLEET_BIN", &self.program)
            .env("LIVEPROPS_SERVERS", &self.tools)
            .env("FLEET_PORT", nats)
            .env("FLEET_CHECKOUT_PORT", checkout)
            .env("FLEET_SEARCH_PORT", search)
            .env("FLEET_MAIL_PORT", mail)
            .process_group(0);
        command
    }

    /// Runs the script and returns its output.
    #[track_caller]
    fn script(&self, words: &[&str]) -> String {
        let begun = Instant::now();
        let output = self.command(SCRIPT).args(words).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {stdout}{errors}");
        println!("fleet.sh {words:?}: {} ms", begun.elapsed().as_millis());
        stdout
    }

    /// Runs the script, asserts that it fails and returns its error.
    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        let output = self.command(SCRIPT).args(words).output().unwrap();
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Sends a request to a service.
    fn ask(&self, service: usize) -> Result<Answer, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports[service + 1]))?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: fleet\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().map_err(|fault| fault.to_string())?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 OK\r\n") => {
                toml::from_str(body).map_err(|fault| fault.to_string())
            }
            _ => Err(answer),
        }
    }

    #[track_caller]
    fn answer(&self, service: usize) -> Answer {
        self.ask(service).unwrap()
    }

    /// Waits until the answer of a service shows a change.
    #[track_caller]
    fn follows(&self, service: usize, n: u32) -> Duration {
        let what = format!("change {n} of {}", SERVICES[service]);
        wait_until(SOON, &what, || self.answer(service).is_change(n))
    }

    fn file(&self, service: usize) -> PathBuf {
        self.dir()
            .join("config")
            .join(format!("{}.toml", SERVICES[service]))
    }

    fn write(&self, service: usize, text: &str) {
        fs::write(self.file(service), text).unwrap();
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits until a line of a log contains all words.
    #[track_caller]
    fn is_logged(&self, name: &str, words: &[&str]) {
        let matches_all = |line: &str| words.iter().all(|word| line.contains(word));
        let what = format!("{words:?} in the log of {name}");
        wait_until(SOON, &what, || self.log(name).lines().any(matches_all));
    }

    fn published(&self) -> usize {
        self.log("loader").matches(" published ").count()
    }

    /// Returns the number of published files once it is stable.
    fn published_by_now(&self) -> usize {
        let mut before = self.published();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.published();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Waits until exactly `wanted` files were published; the log follows shortly after.
    #[track_caller]
    fn has_published(&self, wanted: usize) -> Duration {
        let what = format!("{wanted} published");
        let took = wait_until(SOON, &what, || self.published() >= wanted);
        assert_eq!(self.published(), wanted);
        took
    }

    fn connected(&self) -> usize {
        self.log("loader").matches(" connected to ").count()
    }

    fn kill(&self, name: &str) {
        let file = fs::read_to_string(self.dir().join(format!("{name}.pid"))).unwrap();
        let pid = file.split_whitespace().next().unwrap();
        let kill = ["-c", "kill -9 \"$0\"", pid];
        let kill = Command::new("sh").args(kill).status();
        assert!(kill.unwrap().success());
        let command = format!("/proc/{pid}/cmdline");
        // A zombie process has an empty command line.
        wait_until(SOON, "the key is removed", || {
            fs::read(&command).unwrap_or_default().is_empty()
        });
    }

    /// Returns the processes with the directory of the run in their arguments.
    fn left(&self) -> Vec<String> {
        let dir = self.dir().display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(&dir))
            .collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
        if std::thread::panicking() {
            for name in ["nats", "loader"].iter().chain(&SERVICES) {
                println!("--- {name}\n{}", self.log(name));
            }
        }
    }
}

/// Clients that send requests all the time, and their errors.
#[derive(Default)]
struct Traffic {
    over: AtomicBool,
    asked: AtomicUsize,
    failed: Mutex<Vec<String>>,
    /// Locked during a request, and while requests to the service are paused.
    gates: [Mutex<()>; 3],
}

impl Traffic {
    fn client(&self, fleet: &Fleet, service: usize) {
        let mut last: Option<Answer> = None;
        while !self.over.load(Ordering::Relaxed) {
            let gate = self.gates[service].lock().unwrap();
            let answer = fleet.ask(service);
            drop(gate);
            self.asked.fetch_add(1, Ordering::Relaxed);
            let back = |answer: &Answer| {
                let last = last.as_ref().filter(|last| last.pid == answer.pid);
                last.is_some_and(|last| last.generation > answer.generation)
            };
            let fault = match &answer {
                Err(fault) => Some(fault.clone()),
                Ok(answer) if answer.is_torn() || back(answer) => {
                    Some(format!("{answer:?} after {last:?}"))
                }
                Ok(_) => None,
            };
            if let Some(fault) = fault {
                let message = format!("{}: {fault}", SERVICES[service]);
                self.failed.lock().unwrap().push(message);
            }
            last = answer.ok();
            std::thread::sleep(PAUSE);
        }
    }
}

/// Ends the clients when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_fleet_follows_its_files_through_all_faults_and_loses_no_request() {
    let Some(fleet) = Fleet::new() else { return };
    assert!(fleet.script(&["help"]).contains("restart [NAME]"));
    fleet.script(&["down"]);
    let output = fleet.script(&["up"]);
    assert!(output.contains("curl http://127.0.0.1:"), "{output}");
    let first = fleet.answer(CHECKOUT);
    assert_eq!(first.greeting, "Welcome to the checkout");
    assert_eq!((first.limit, first.service.as_str()), (1000, "checkout"));
    fleet.has_published(3);

    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        for service in [CHECKOUT, SEARCH, MAIL] {
            let (traffic, fleet) = (&traffic, &fleet);
            scope.spawn(move || traffic.client(fleet, service));
        }
        let _ends = Ends(&traffic.over);
        fleet.script(&["up"]);
        assert_eq!(fleet.answer(CHECKOUT).pid, first.pid, "nothing is started");
        edits(&fleet);
        rejections(&fleet);
        assert_eq!(fleet.answer(CHECKOUT).pid, first.pid, "one process");
        restarts(&fleet, &traffic);
        outages(&fleet, &traffic);
    });
    let asked = traffic.asked.into_inner();
    let failed = traffic.failed.into_inner().unwrap();
    println!("{asked} requests, {} failed", failed.len());
    assert!(asked > 300 && failed.is_empty(), "{asked}: {failed:#?}");

    let output = fleet.script(&["logs", "loader", "--once"]);
    assert!(output.contains("published checkout.toml"), "{output}");
    assert_eq!(fleet.left().len(), 5);
    fleet.script(&["down"]);
    assert_eq!(fleet.left(), [""; 0]);
    let output = fleet.script(&["status"]);
    assert_eq!(output.matches("does not run").count(), 5, "{output}");
    fleet.script(&["clean"]);
    assert!(!fleet.dir().exists());
}

/// An edited file changes its own service at once, and no other one.
fn edits(fleet: &Fleet) {
    let others = [SEARCH, MAIL].map(|service| fleet.answer(service).generation);
    let mut took: Vec<Duration> = (0..20)
        .map(|n| {
            fleet.write(CHECKOUT, &change(n));
            fleet.follows(CHECKOUT, n)
        })
        .collect();
    took.sort();
    let (middle, worst) = (took[10].as_millis(), took[19].as_millis());
    println!("file to answer, 20 edits without a pause: middle {middle} ms, worst {worst} ms");
    assert!(middle < 1000, "{took:?}");
    let alone = || {
        std::thread::sleep(Duration::from_millis(200));
        fleet.write(CHECKOUT, &change(20));
        fleet.follows(CHECKOUT, 20).as_millis()
    };
    println!("one edit after a pause: {} ms", alone());
    let now = [SEARCH, MAIL].map(|service| fleet.answer(service).generation);
    assert_eq!(now, others, "others were not edited");
    fleet.is_logged(
        "checkout",
        &["limit: 5019 -> 5020", "(nats fleet.checkout.toml:2:9)"],
    );

    fleet.write(SEARCH, &change(0));
    fleet.follows(SEARCH, 0);
    let greeting = r#"A "quoted" \ word"#;
    fleet.script(&["set", "mail", "greeting", greeting]);
    fleet.script(&["set", "mail", "limit", "5000"]);
    wait_until(SOON, "what was set", || {
        let answer = fleet.answer(MAIL);
        answer.greeting == greeting && answer.limit == 5000
    });
    let text = fs::read_to_string(fleet.file(MAIL)).unwrap();
    assert!(text.starts_with("# What the service mail"), "{text}");
}

/// An invalid file is logged with its line, and the old values stay.
fn rejections(fleet: &Fleet) {
    let before = [CHECKOUT, SEARCH, MAIL].map(|service| fleet.answer(service));
    let published = fleet.published_by_now();
    fleet.write(SEARCH, "greeting = \"x\"\nlimit = = 2\n");
    fleet.is_logged("loader", &["search.toml:2:", "the old values stay"]);
    fleet.script(&["set", "mail", "limit", "0"]);
    fleet.is_logged("loader", &["`limit`: out of range", "mail.toml:3:9"]);
    fleet.script(&["set", "mail", "limit", "5000"]);
    fleet.script(&["set", "mail", "limt", "7"]);
    fleet.is_logged(
        "loader",
        &["`limt`", "did you mean `limit`", "mail.toml:5:8"],
    );
    assert_eq!(fleet.published(), published);

    // The service rejects a bad value written without the loader, and the loader restores its own.
    let mut wire = Wire::connect(fleet.ports[0], "");
    let bad = change(1).replace("5001", "-1");
    let answer = wire.request("$KV.fleet.checkout.toml", "", bad.as_bytes());
    assert!(answer.contains("\"seq\":"), "{answer}");
    let parts = ["`limit`", "-1", "(nats fleet.checkout.toml:2:9)"];
    fleet.is_logged("checkout", &parts);
    fleet.is_logged("checkout", &["works again"]);
    fleet.has_published(published + 1);

    let now = [CHECKOUT, SEARCH, MAIL].map(|service| fleet.answer(service));
    assert_eq!(now, before);
    for service in [SEARCH, MAIL] {
        fleet.write(service, &change(2));
        fleet.follows(service, 2);
    }
}

/// A service that was down starts with the newest values.
fn restarts(fleet: &Fleet, traffic: &Traffic) {
    let gate = traffic.gates[SEARCH].lock().unwrap();
    fleet.kill("search");
    for n in 3..53 {
        fleet.write(SEARCH, &change(n));
        std::thread::sleep(PAUSE);
    }
    fleet.script(&["up"]);
    fleet.follows(SEARCH, 52);
    // A very slow machine shows the cached values first.
    assert!(fleet.answer(SEARCH).generation <= 2, "one value came");
    drop(gate);

    // The loader publishes only files that the bucket lacks.
    let (published, connected) = (fleet.published_by_now(), fleet.connected());
    fleet.script(&["restart", "loader"]);
    wait_until(SOON, "the key has returned", || {
        fleet.connected() > connected
    });
    fleet.write(MAIL, &change(3));
    fleet.follows(MAIL, 3);
    fleet.has_published(published + 1);
}

/// The fleet continues without the server and follows it again, even if it has lost its data.
fn outages(fleet: &Fleet, traffic: &Traffic) {
    fleet.kill("nats");
    fleet.write(CHECKOUT, &change(100));
    fleet.write(MAIL, "limit = ");
    fleet.is_logged("loader", &["cannot publish"]);
    let gate = traffic.gates[SEARCH].lock().unwrap();
    fleet.script(&["restart", "search"]);
    let answer = fleet.answer(SEARCH);
    assert!(answer.is_change(52), "from its disk: {answer:?}");
    drop(gate);
    fleet.write(CHECKOUT, &change(101));
    let published = fleet.published_by_now();
    assert!(fleet.answer(CHECKOUT).is_change(20));
    fleet.script(&["restart", "nats"]);
    let took = fleet.follows(CHECKOUT, 101).as_millis();
    println!("server killed and back, to answer: {took} ms");
    fleet.has_published(published + 1);

    // The server has lost its data and one file is invalid: the loader publishes its last valid
    // text.
    fleet.kill("nats");
    fs::remove_dir_all(fleet.dir().join("data")).unwrap();
    fleet.script(&["up"]);
    let took = fleet.has_published(published + 4);
    println!("server wiped, to all published: {} ms", took.as_millis());
    assert!(fleet.answer(MAIL).is_change(3));
    for (service, n) in [(CHECKOUT, 102), (SEARCH, 103), (MAIL, 104)] {
        fleet.write(service, &change(n));
        fleet.follows(service, n);
    }
}

#[test]
fn the_script_ends_only_what_it_has_started() {
    let Some(fleet) = Fleet::new() else { return };
    let make = || {
        fs::create_dir_all(fleet.dir()).unwrap();
        fs::write(fleet.dir().join(".fleet"), "").unwrap();
    };
    make();
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    // An id that belongs to another process.
    let stale = |ticks: &str| {
        let text = format!("{} {ticks}\n", other.id());
        fs::write(fleet.dir().join("search.pid"), text).unwrap();
    };
    for ticks in ["1", ""] {
        stale(ticks);
        fleet.script(&["down"]);
    }
    stale("1");
    let output = fleet.script(&["clean"]);
    assert!(!output.contains("stopped"), "{output}");
    let ended = other.try_wait().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(ended, None);

    fleet.script(&["clean"]);
    assert!(!fleet.dir().exists(), "none is made");

    make();
    let mine = fleet.dir().join("notes");
    fs::write(&mine, "mine").unwrap();
    fleet.script(&["clean"]);
    assert!(mine.exists());

    // A directory without a fleet.
    let mine = fleet.dir().join("data/mine");
    fs::create_dir(fleet.dir().join("data")).unwrap();
    fs::write(&mine, "mine").unwrap();
    for words in [&["clean"][..], &["up"]] {
        let output = fleet.fails(words);
        assert!(output.contains("no fleet"), "{words:?}: {output}");
        assert!(mine.exists());
    }

    for words in [
        &["set", "nobody", "a", "1"][..],
        &["restart", "nobody"],
        &["up!"],
    ] {
        fleet.fails(words);
    }
}

#[test]
fn another_program_on_the_port_of_a_service_is_recognized() {
    let Some(fleet) = Fleet::new() else { return };
    let stranger = TcpListener::bind(("127.0.0.1", fleet.ports[CHECKOUT + 1])).unwrap();
    std::thread::spawn(move || {
        for mut stream in stranger.incoming().flatten() {
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npid = 1\n");
        }
    });
    let output = fleet.fails(&["up"]);
    assert!(output.contains("checkout is not ready"), "{output}");
}
