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
const SOON: Duration = Duration::from_secs(8);
/// How long what a step leads to is looked at.
const A_WHILE: Duration = Duration::from_secs(1);

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
    log.event("the server says 100");
    let program = Program::start(port, state.path())?;
    log.event("the program starts");
    program.reads_until(&log, 100, |source| matches!(source.status, Status::Up))?;

    drop(server);
    log.event("the server is killed");
    let stale = |source: &SourceHealth| matches!(source.status, Status::Stale { .. });
    program.reads_until(&log, 100, stale)?;

    drop(program);
    log.event("the program ends");
    let program = Program::start(port, state.path())?;
    log.event("the program starts again, without the server");
    let kept = |source: &SourceHealth| stale(source) && source.cached.is_some();
    program.reads_until(&log, 100, kept)?;

    let _server = Server::start(port, 250)?;
    log.event("the server is back and says 250");
    let up = |source: &SourceHealth| matches!(source.status, Status::Up) && source.cached.is_none();
    program.reads_until(&log, 250, up)?;
    log.event("all as promised");
    Ok(())
}

/// What a service would hold: its configuration, and a handle on what it reads all the time.
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
            .state_dir(state) // the newest good values are kept here
            .source(http.with(|policy| policy.cached()))
            .build()?;
        let limit = props.property::<u32>("ratelimit.qps").build()?;
        Ok(Self { props, limit })
    }

    /// Reads the limit again and again, tells what is new, and goes on until limit and health have
    /// been as promised for a while.
    fn reads_until(
        &self,
        log: &Log,
        limit: u32,
        promised: impl Fn(&SourceHealth) -> bool,
    ) -> Outcome<()> {
        let begun = Instant::now();
        let mut since = None;
        let mut told = String::new();
        while begun.elapsed() < SOON {
            let source = self.props.health().sources.remove(0);
            let read = self.limit.get();
            let line = format!("limit {read}, {}", describe(&source));
            if line != told {
                log.detail(&line);
                told = line;
            }
            if read == limit && promised(&source) {
                if since.get_or_insert_with(Instant::now).elapsed() > A_WHILE {
                    return Ok(());
                }
            } else {
                since = None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("a limit of {limit} was promised; after {SOON:?}: {told}").into())
    }
}

/// The health of a source in one line.
fn describe(source: &SourceHealth) -> String {
    let kept = match source.cached {
        Some(_) => " with the values kept on disk",
        None => "",
    };
    match &source.status {
        Status::Up => "up".to_owned(),
        Status::Stale { reason, .. } => format!("stale{kept}: {reason}"),
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
        // It names its port once it listens.
        let said = server.process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
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

/// What the server's process does: one document, whatever is asked for.
fn serve_limit(port: u16, limit: &str) -> Outcome<()> {
    // It ends with whoever started it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("{}", listener.local_addr()?.port());
    let body = format!("ratelimit.qps = {limit}\n");
    for stream in listener.incoming() {
        // A client that goes away is its own affair.
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
