//! NATS: the messages of a broken or hostile server need bounded memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::sources::Nats;
use liveprops::{Properties, Source};

use crate::process_memory::{follow, stays_below};
use crate::support::child::role;

/// The bound in the documentation of `Nats`, in MiB.
const LIMIT: usize = 200;
const MIB: usize = 1 << 20;
const SLOW: usize = 200;
const EACH: Duration = Duration::from_millis(25);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Worst {
    /// A message of 10¹¹ bytes.
    Length,
    /// Messages of the largest size, endlessly.
    Large,
    /// One endless INFO.
    Info,
    /// Endless INFOs.
    Infos,
    /// Endless pings from a server that reads no answers.
    Pings,
    /// A JetStream answer full of member names.
    Answer,
    /// Endless keys.
    Keys,
    /// Endless keys with large values.
    Values,
    /// Not hostile: [`SLOW`] keys, sent slowly.
    Slow,
}

const ALL: [Worst; 8] = [
    Worst::Length,
    Worst::Large,
    Worst::Info,
    Worst::Infos,
    Worst::Pings,
    Worst::Answer,
    Worst::Keys,
    Worst::Values,
];

struct Peer {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    sent: Arc<AtomicUsize>,
}

impl Peer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }

    fn forever(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        loop {
            self.write(bytes)?;
        }
    }

    fn line(&mut self) -> std::io::Result<Vec<String>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }

    fn serve(&mut self, worst: Worst) -> std::io::Result<()> {
        if worst == Worst::Info {
            self.write(b"INFO {\"x\":\"")?;
            return self.forever(&vec![b'x'; MIB]);
        }
        let info = b"INFO {\"server_id\":\"x\",\"server_name\":\"m1\",\"host\":\"x\",\"port\":1,\
                     \"version\":\"2.14.0\",\"headers\":true,\"max_payload\":1048576,\"proto\":1,\
                     \"client_id\":1,\"go\":\"\"}\r\n";
        self.write(info)?;
        let mut subscribed: Vec<(String, String)> = Vec::new();
        loop {
            let words = self.line()?;
            match words[0].as_str() {
                "PING" => self.write(b"PONG\r\n")?,
                "SUB" => subscribed.push((words[1].clone(), words[words.len() - 1].clone())),
                "PUB" => {
                    let mut body = vec![0; words[words.len() - 1].parse::<usize>().unwrap() + 2];
                    self.lines.read_exact(&mut body)?;
                    let sid = |subject: &str| {
                        let is = |(one, _): &&(String, String)| {
                            subject.starts_with(one.trim_end_matches('*'))
                        };
                        subscribed.iter().rev().find(is).unwrap().1.clone()
                    };
                    self.misbehave(worst, &words, sid(&words[2]), || {
                        let config: serde_json::Value = serde_json::from_slice(&body).unwrap();
                        sid(config["config"]["deliver_subject"].as_str().unwrap())
                    })?;
                }
                _ => {}
            }
        }
    }

    fn misbehave(
        &mut self,
        worst: Worst,
        words: &[String],
        sid: String,
        feed: impl Fn() -> String,
    ) -> std::io::Result<()> {
        let reply = words[2].clone();
        let chunk = vec![b'x'; MIB];
        let answer = |peer: &mut Self, body: &str| {
            let length = body.len();
            peer.write(format!("MSG {reply} {sid} {length}\r\n{body}\r\n").as_bytes())
        };
        match worst {
            Worst::Length => {
                self.write(format!("MSG {reply} {sid} 100000000000\r\n").as_bytes())?;
                return self.forever(&chunk);
            }
            Worst::Large => loop {
                let length = 64 * MIB;
                self.write(format!("MSG {reply} {sid} {length}\r\n").as_bytes())?;
                for _ in 0..64 {
                    self.write(&chunk)?;
                }
                self.write(b"\r\n")?;
            },
            Worst::Infos => {
                return self.forever(&b"INFO {\"connect_urls\":[\"a:1\"]}\r\n".repeat(999));
            }
            Worst::Pings => return self.forever(&b"PING\r\n".repeat(9999)),
            Worst::Answer => {
                let all = "{\"\":0},".repeat(MIB);
                return answer(self, &format!("{{\"cluster\":{{\"replicas\":[{all}0]}}}}"));
            }
            Worst::Info | Worst::Keys | Worst::Values | Worst::Slow => {}
        }
        if words[1].contains("STREAM.INFO") {
            return answer(
                self,
                "{\"created\":\"then\",\"config\":{},\"state\":{\"messages\":2000000000,\
                 \"first_seq\":1,\"last_seq\":2000000000,\"num_subjects\":2000000000}}",
            );
        }
        if !words[1].contains("CONSUMER.CREATE") {
            return answer(self, "{\"success\":true}");
        }
        let count = match worst {
            Worst::Slow => SLOW,
            _ => 2_000_000_000,
        };
        let created = format!("{{\"num_pending\":{count},\"delivered\":{{\"consumer_seq\":0}}}}");
        answer(self, &created)?;
        let sid = feed();
        let value = match worst {
            Worst::Values => "x".repeat(MIB),
            _ => String::new(),
        };
        let mut batch = Vec::new();
        for n in 1..=count {
            let pending = count - n;
            let ack = format!("$JS.ACK.KV_config.c.1.{n}.{n}.1700000000.{pending}");
            let head = format!("MSG $KV.config.app.{n:x} {sid} {ack} {}\r\n", value.len());
            batch.extend(head.as_bytes());
            batch.extend(value.as_bytes());
            batch.extend(b"\r\n");
            if worst == Worst::Slow {
                std::thread::sleep(EACH);
            }
            if batch.len() > MIB / 2 || worst == Worst::Slow {
                self.write(&batch)?;
                batch.clear();
            }
        }
        Ok(())
    }
}

#[test]
fn a_hostile_server_does_not_fill_the_memory_of_a_program_that_follows_nats() {
    let test =
        "nats_hostile::a_hostile_server_does_not_fill_the_memory_of_a_program_that_follows_nats";
    if let Some(port) = role() {
        let port = port.rsplit(' ').next().unwrap().to_owned();
        let nats = Nats::bucket("config").prefix("app");
        return follow(nats.address(format!("127.0.0.1:{port}")));
    }
    for worst in ALL {
        let (port, sessions, sent) = start(worst);
        stays_below(test, format!("{worst:?} {port}"), LIMIT, || {
            sessions.load(Ordering::SeqCst) > 3 || sent.load(Ordering::SeqCst) > 1500 * MIB
        });
    }
}

/// Starts a server; counts sessions and sent bytes.
fn start(worst: Worst) -> (u16, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sessions, sent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counts = (Arc::clone(&sessions), Arc::clone(&sent));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counts.0.fetch_add(1, Ordering::SeqCst);
            let mut peer = Peer {
                lines: BufReader::new(stream.try_clone().unwrap()),
                stream,
                sent: Arc::clone(&counts.1),
            };
            // The write fails when the client ends.
            std::thread::spawn(move || peer.serve(worst));
        }
    });
    (port, sessions, sent)
}

#[test]
fn a_bucket_is_read_as_long_as_it_makes_progress() {
    let (port, sessions, _) = start(Worst::Slow);
    let source = Nats::bucket("config").prefix("app");
    let source = source.address(format!("127.0.0.1:{port}"));
    let begun = Instant::now();
    assert_eq!(source.load().unwrap().iter().count(), SLOW);
    assert!(begun.elapsed() >= EACH * SLOW as u32);
    // A start with retries does not begin again either.
    let patient = source.with(|policy| policy.required_within(Duration::from_secs(60)));
    let props = Properties::builder().source(patient).build().unwrap();
    assert_eq!(props.snapshot().keys().len(), SLOW);
    assert!(
        sessions.load(Ordering::SeqCst) <= 3,
        "one for each load, and one to follow"
    );
}
