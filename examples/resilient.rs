//! A rate limit from a server that dies and comes back. The program continues with the last good value,
//! and starts with it while the server is down.
//!
//! `cargo run --example resilient --features http`
//!
//! It prints what happens and when, checks each step, and takes about 5 seconds. The server is a
//! process of its own: this program once more, as `resilient serve PORT LIMIT`.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use liveprops::health::{SourceHealth, Status};
use liveprops::sources::Http;
use liveprops::{DynamicProperty, Properties, Source};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long a step may take.
const STEP_LIMIT: Duration = Duration::from_secs(8);
/// How long a reached state must last.
const STABLE: Duration = Duration::from_secs(1);

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, port, limit] = args.as_slice() {
        assert_eq!(serve, "serve");
        return serve_limit(port.parse()?, limit);
    }
    let log = Log(Instant::now());
    let state = tempfile::tempdir()?;

    let server = Server::start(0, 100)?;
    let port = server.port;
    log.event("the server answers 100");
    let program = Program::start(port, state.path())?;
    log.event("the program starts");
    program.wait_for(&log, 100, |source| matches!(source.status, Status::Up))?;

    drop(server);
    log.event("the server is killed");
    let stale = |source: &SourceHealth| matches!(source.status, Status::Stale { .. });
    program.wait_for(&log, 100, stale)?;

    drop(program);
    log.event("the program ends");
    let program = Program::start(port, state.path())?;
    log.event("the program starts again, without the server");
    let from_disk = |source: &SourceHealth| stale(source) && source.cached.is_some();
    program.wait_for(&log, 100, from_disk)?;

    let _server = Server::start(port, 250)?;
    log.event("the server is back and answers 250");
    let up = |source: &SourceHealth| matches!(source.status, Status::Up) && source.cached.is_none();
    program.wait_for(&log, 250, up)?;
    log.event("every step went as expected");
    Ok(())
}

/// A service: its configuration, and a handle on the value that it reads for each request.
struct Program {
    props: Properties,
    limit: DynamicProperty<u32>,
}

impl Program {
    fn start(port: u16, state: &Path) -> Outcome<Self> {
        let http = Http::new(format!("http://127.0.0.1:{port}/limits.toml"))
            .poll(Duration::from_millis(200))
            .without_proxy();
        let props = Properties::builder()
            .state_dir(state) // the newest good values are stored here
            .source(http.with(|policy| policy.cached()))
            .build()?;
        let limit = props.property::<u32>("ratelimit.qps").build()?;
        Ok(Self { props, limit })
    }

    /// Waits until the limit and the health are as expected, and stay so. Logs each change.
    fn wait_for(
        &self,
        log: &Log,
        limit: u32,
        is_expected: impl Fn(&SourceHealth) -> bool,
    ) -> Outcome<()> {
        let started = Instant::now();
        let mut since = None;
        let mut logged = String::new();
        while started.elapsed() < STEP_LIMIT {
            let source = self.props.health().sources.remove(0);
            let read = self.limit.get();
            let line = format!("limit {read}, {}", describe(&source));
            if line != logged {
                log.detail(&line);
                logged = line;
            }
            if read == limit && is_expected(&source) {
                if since.get_or_insert_with(Instant::now).elapsed() > STABLE {
                    return Ok(());
                }
            } else {
                since = None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("expected a limit of {limit} within {STEP_LIMIT:?}, found: {logged}").into())
    }
}

/// The health of a source in one line.
fn describe(source: &SourceHealth) -> String {
    let from_disk = match source.cached {
        Some(_) => " with the values stored on disk",
        None => "",
    };
    match &source.status {
        Status::Up => "up".to_owned(),
        Status::Stale { reason, .. } => format!("stale{from_disk}: {reason}"),
        other => format!("{other:?}"),
    }
}

/// Prints what happens, with the seconds since the start.
struct Log(Instant);

impl Log {
    fn event(&self, what: &str) {
        println!("{:5.2} s  {what}", self.0.elapsed().as_secs_f64());
    }

    fn detail(&self, what: &str) {
        self.event(&format!("    {what}"));
    }
}

/// The server's process; killed when this is dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(port: u16, limit: u32) -> Outcome<Self> {
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", &port.to_string(), &limit.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut server = Self { process, port };
        // It prints its port once it listens.
        let output = server.process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        server.port = line.trim().parse()?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the server: it answers every request with the same document.
fn serve_limit(port: u16, limit: &str) -> Outcome<()> {
    // The server ends with the process that started it: then its standard input closes.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("{}", listener.local_addr()?.port());
    let body = format!("ratelimit.qps = {limit}\n");
    for stream in listener.incoming() {
        // A client that closes its connection does not stop the server.
        let _ = answer(stream?, &body);
    }
    Ok(())
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    // The head of the request ends with an empty line.
    for line in BufReader::new(&stream).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
