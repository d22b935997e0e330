//! Temporary servers on the loopback interface, each with its own ports and directory.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(dead_code)] // used with some features only
pub(crate) enum Kind {
    Consul,
    Etcd,
    Nats,
    ZooKeeper,
}

impl Kind {
    /// Returns the name of the server in `install.sh`: an older version if `LIVEPROPS_OLD_SERVERS` is set.
    fn name(self) -> String {
        let (name, older) = match self {
            Kind::Consul => ("consul", None),
            Kind::Etcd => ("etcd", Some("etcd34")),
            Kind::Nats => ("nats", Some("nats29")),
            Kind::ZooKeeper => ("zk", None),
        };
        let older = older.filter(|_| std::env::var_os("LIVEPROPS_OLD_SERVERS").is_some());
        older.unwrap_or(name).to_owned()
    }
}

/// A server process. It ends when this is dropped or the thread of the test ends.
pub(crate) struct Server {
    kind: Kind,
    dir: tempfile::TempDir,
    /// The port for clients comes first.
    ports: [u16; 4],
    arguments: Vec<String>,
    process: Option<Child>,
}

/// Returns the directory of the server programs and downloads missing ones.
///
/// Prints a message if they are not available. Panics if `CI` is set.
pub(crate) fn tools(kind: Kind) -> Option<PathBuf> {
    static MISSING: Mutex<Vec<Kind>> = Mutex::new(Vec::new());
    let mut missing = MISSING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if missing.contains(&kind) {
        return None;
    }
    let reason = match fetch(kind) {
        Ok(dir) => return Some(dir),
        Err(reason) => reason,
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "{kind:?} is not available: {reason}"
    );
    missing.push(kind);
    // The harness hides the captured output of a test that passes.
    let line = format!("\nSKIPPED: {kind:?} is not available: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// Downloads the missing programs of a server. Returns the directory, or the reason of a failure.
fn fetch(kind: Kind) -> Result<PathBuf, String> {
    for tool in ["bash", "flock", "setpriv"] {
        let found = Command::new(tool).arg("--version").output();
        found.map_err(|_| format!("{tool} is missing"))?;
    }
    let dir = match std::env::var_os("LIVEPROPS_SERVERS") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("servers"),
    };
    fs::create_dir_all(&dir).unwrap();
    let script = include_str!("install.sh");
    // Another test program may download at the same time.
    let done = Command::new("flock")
        .arg(dir.join(".lock"))
        .args(["bash", "-c", script, "install.sh"])
        .arg(&dir)
        .arg(kind.name())
        .output()
        .unwrap();
    match done.status.success() {
        true => Ok(dir),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// Finds a program below a directory.
fn program(dir: &Path, name: &str) -> PathBuf {
    let wanted = ["bin", "sbin"].map(|folder| Path::new(folder).join(name));
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if wanted.iter().any(|end| path.ends_with(end)) => return path,
                _ => {}
            }
        }
    }
    panic!("{name} is not below {}", dir.display());
}

/// Returns the class path of ZooKeeper.
fn archives(dir: &Path) -> String {
    const WANTED: [&str; 11] = [
        "zookeeper",
        "zookeeper-jute",
        "slf4j-api",
        "slf4j-nop",
        "logback-core",
        "logback-classic",
        "metrics-core",
        "snappy-java",
        "commons-cli",
        "commons-io",
        "netty-all",
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.join("usr/share/java"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let netty = name.starts_with("netty-") && !name.contains("tcnative");
        if WANTED.contains(&name) || netty {
            found.push(path.display().to_string());
        }
    }
    found.join(":")
}

/// A port that is free, and stays so while its server is down: the system gives those that clients
/// have from 32768 on. No port is given twice.
pub(crate) fn free_port() -> u16 {
    use std::collections::BTreeSet;
    use std::hash::{BuildHasher, RandomState};
    use std::sync::Mutex;

    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

    loop {
        let random = RandomState::new().hash_one(()) % 20_000;
        let port = 10_000 + random as u16;
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free && GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

impl Server {
    /// Starts a server without data; `None` if it is not available.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, &[])
    }

    /// Starts a server with further arguments; for ZooKeeper, with further lines of its configuration.
    pub(crate) fn start_with(kind: Kind, arguments: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(kind, arguments);
        server.restart().then_some(server)
    }

    /// Creates a server without starting it.
    pub(crate) fn prepare(kind: Kind, arguments: &[&str]) -> Self {
        Self {
            kind,
            dir: tempfile::tempdir().unwrap(),
            ports: std::array::from_fn(|_| free_port()),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            process: None,
        }
    }

    /// Returns all ports of the server.
    #[allow(dead_code)] // used for some stores only
    pub(crate) fn ports(&self) -> [u16; 4] {
        self.ports
    }

    /// Returns the id of the process.
    #[allow(dead_code)] // used for some stores only
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Adds arguments for the next start.
    #[allow(dead_code)] // used for some stores only
    pub(crate) fn add_arguments<A: Into<String>>(&mut self, more: impl IntoIterator<Item = A>) {
        self.arguments.extend(more.into_iter().map(Into::into));
    }

    /// Returns the port for clients.
    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Returns a second port, such as that of monitoring.
    #[allow(dead_code)] // used for some stores only
    pub(crate) fn other_port(&self) -> u16 {
        self.ports[1]
    }

    #[allow(dead_code)] // used for some stores only
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the server with its present data and waits until it is ready.
    pub(crate) fn restart(&mut self) -> bool {
        let is_started = self.begin();
        if is_started {
            self.wait();
        }
        is_started
    }

    /// Starts the server with its present data; `false` if it is not available.
    pub(crate) fn begin(&mut self) -> bool {
        let Some(tools) = tools(self.kind) else {
            return false;
        };
        let data = self.dir.path().join("data");
        fs::create_dir_all(&data).unwrap();
        let [port, port2, port3, port4] = self.ports;
        let data = data.display().to_string();
        let tool = |name: &str| {
            program(&tools.join(self.kind.name()), name)
                .display()
                .to_string()
        };
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let words: Vec<String> = match self.kind {
            Kind::Nats => [
                &tool("nats-server"),
                "-a",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-m",
                &port2.to_string(),
                "-js",
                "-sd",
                &data,
            ]
            .map(str::to_owned)
            .to_vec(),
            Kind::Etcd => [
                &tool("etcd"),
                "--data-dir",
                &data,
                "--listen-client-urls",
                &local(port),
                "--advertise-client-urls",
                &local(port),
                "--listen-peer-urls",
                &local(port2),
                "--initial-advertise-peer-urls",
                &local(port2),
                "--initial-cluster",
                &format!("default={}", local(port2)),
                "--log-level",
                "error",
            ]
            .map(str::to_owned)
            .to_vec(),
            Kind::ZooKeeper => {
                let config = self.dir.path().join("zoo.cfg");
                let text = format!(
                    "tickTime=500\ndataDir={data}\nclientPort={port}\n\
                     clientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
                     4lw.commands.whitelist=*\nmaxClientCnxns=0\nminSessionTimeout=1000\n{}\n",
                    self.arguments.join("\n")
                );
                fs::write(&config, text).unwrap();
                let java = if tools.join("java").exists() {
                    program(&tools.join("java"), "java").display().to_string()
                } else {
                    "java".to_owned()
                };
                [
                    &java,
                    "-Xmx256m",
                    "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1",
                    "-Dzookeeper.jmx.log4j.disable=true",
                    "-cp",
                    &archives(&tools.join("zk")),
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                    &config.display().to_string(),
                ]
                .map(str::to_owned)
                .to_vec()
            }
            Kind::Consul => [
                &tool("consul"),
                "agent",
                "-server",
                "-bootstrap-expect=1",
                "-data-dir",
                &data,
                "-bind",
                "127.0.0.1",
                "-client",
                "127.0.0.1",
                "-node",
                "n1",
                "-http-port",
                &port.to_string(),
                "-server-port",
                &port2.to_string(),
                "-serf-lan-port",
                &port3.to_string(),
                "-serf-wan-port",
                &port4.to_string(),
                "-dns-port",
                "-1",
                "-log-level",
                "warn",
                "-hcl",
                "performance { raft_multiplier = 1 }",
                "-hcl",
                "limits { http_max_conns_per_client = 2000 }",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let arguments: &[String] = match self.kind {
            Kind::ZooKeeper => &[],
            _ => &self.arguments,
        };
        // No server may outlive the thread of the test.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(words)
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        true
    }

    /// Waits until the server is ready.
    pub(crate) fn wait(&mut self) {
        let begun = Instant::now();
        while !self.is_ready() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < READY,
                "{:?} is not ready ({ended:?}): {}",
                self.kind,
                fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns whether the server becomes ready within `time`.
    #[allow(dead_code)] // used by clusters only
    pub(crate) fn is_ready_within(&self, time: Duration) -> bool {
        let begun = Instant::now();
        while !self.is_ready() {
            if begun.elapsed() >= time {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Returns whether the server answers; in a cluster, whether it has a leader.
    pub(crate) fn is_ready(&self) -> bool {
        match self.kind {
            Kind::Nats => get(self.ports[1], "/healthz").contains("ok"),
            Kind::Etcd => get(self.ports[0], "/health").contains("true"),
            Kind::ZooKeeper => exchange(self.ports[0], "srvr").contains("Mode"),
            Kind::Consul => {
                let leader = get(self.ports[0], "/v1/status/leader");
                let keys = get(self.ports[0], "/v1/kv/?keys&consistent&separator=/");
                let answers = keys.starts_with("HTTP/1.1 200") || keys.starts_with("HTTP/1.1 404");
                leader.contains("127.0.0.") && answers
            }
        }
    }

    /// Kills the server with `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("running").id().to_string();
        assert!(
            // The `kill` of the shell: some systems lack the program.
            Command::new("sh")
                .args(["-c", "kill \"$0\" \"$1\"", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Stops the process with `SIGSTOP`.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Deletes all data of a stopped server.
    pub(crate) fn wipe(&self) {
        assert!(self.process.is_none(), "the server runs");
        fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a text and reads the answer until its end, for a second at most.
fn exchange(port: u16, text: &str) -> String {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(text.as_bytes())?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    answer().unwrap_or_default()
}

fn get(port: u16, path: &str) -> String {
    exchange(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
}
