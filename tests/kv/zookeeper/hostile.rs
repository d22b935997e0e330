//! Servers that are broken or hostile: what they send may not fill the memory of a program.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use liveprops::sources::ZooKeeper;

use crate::process_memory::{follow, stays_below};
use crate::support::child::role;
use crate::zookeeper_standin::{CHILDREN, DATA, Peer, Question, StandIn, data, event, names};

/// How much more the program may hold, in MiB, where a tree is too large to be kept, and where one is
/// kept that is still too large to be in force.
const LIMIT: usize = 100;
const LIMIT_OF_MANY: usize = 400;
const MIB: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
enum Worst {
    /// It tells of other nodes all the time, each of which is large when it is asked for.
    Events,
    /// The same, and it answers nothing.
    EventsAlone,
    /// A message of two GiB.
    Length,
    /// Messages as large as a server may be set up to send, without an end.
    Long,
    /// As many children as a message can name.
    Names,
    /// Each node has children, with long names.
    Deep,
    /// Each node has as much data as a message can have.
    Large,
    /// As many nodes as a tree may have.
    Many,
}

const ALL: [Worst; 8] = [
    Worst::Events,
    Worst::EventsAlone,
    Worst::Length,
    Worst::Long,
    Worst::Names,
    Worst::Deep,
    Worst::Large,
    Worst::Many,
];

fn flood(peer: &mut Peer, answers: bool) -> std::io::Result<()> {
    let (send, questions) = channel::<Question>();
    let mut reading = peer.another()?;
    std::thread::spawn(move || {
        while let Ok(question) = reading.question() {
            if send.send(question).is_err() {
                return;
            }
        }
    });
    let value = data(&vec![b'x'; MIB - 1000], 0);
    let mut n = 0;
    loop {
        let mut batch = Vec::new();
        for _ in 0..1000 {
            n += 1;
            batch.extend(event(&format!("/app/{n}")));
        }
        peer.write(&batch)?;
        while let Some(question) = questions.try_recv().ok().filter(|_| answers || n < 2000) {
            let body = match (question.kind, question.path.as_str()) {
                (DATA, "/app") => data(b"", 0),
                (DATA, _) => value.clone(),
                _ => Vec::new(),
            };
            peer.answer(&question, &body)?;
        }
    }
}

/// What is answered; made before anybody waits for it.
struct Bodies {
    root: Vec<u8>,
    node: Vec<u8>,
    children: Vec<u8>,
    none: Vec<u8>,
}

impl Bodies {
    fn of(worst: Worst) -> Self {
        let children = match worst {
            Worst::Names => names((0..900_000).map(|n| format!("{n:x}"))),
            Worst::Many => names((0..260_000).map(|n| format!("{n:x}"))),
            _ => names((0..500).map(|n| format!("{n:0>200}"))),
        };
        let node = match worst {
            Worst::Many => data(b"1", 0),
            Worst::Large => data(&vec![b'x'; 10 * MIB], 1),
            _ => data(b"1", 1),
        };
        Self {
            root: data(b"1", 1),
            node,
            children,
            none: Vec::new(),
        }
    }
}

fn serve(peer: &mut Peer, worst: Worst, bodies: &Bodies) -> std::io::Result<()> {
    match worst {
        Worst::Events => return flood(peer, true),
        Worst::EventsAlone => return flood(peer, false),
        Worst::Length | Worst::Long => {
            let length = match worst {
                Worst::Length => i32::MAX,
                _ => 100 << 20,
            };
            loop {
                peer.write(&length.to_be_bytes())?;
                for _ in 0..100 {
                    peer.write(&vec![0; MIB])?;
                }
            }
        }
        Worst::Names | Worst::Deep | Worst::Large | Worst::Many => {}
    }
    loop {
        let question = peer.question()?;
        let body = match question.kind {
            CHILDREN => &bodies.children,
            DATA if question.path == "/app" => &bodies.root,
            DATA => &bodies.node,
            _ => &bodies.none,
        };
        peer.answer(&question, body)?;
    }
}

#[test]
fn a_hostile_server_does_not_fill_the_memory_of_a_program_that_follows_zookeeper() {
    let test = "zookeeper_hostile::\
                a_hostile_server_does_not_fill_the_memory_of_a_program_that_follows_zookeeper";
    if let Some(port) = role() {
        let port = port.rsplit(' ').next().unwrap().to_owned();
        return follow(ZooKeeper::prefix("app").address(format!("127.0.0.1:{port}")));
    }
    for worst in ALL {
        let bodies = Bodies::of(worst);
        let server = StandIn::start(move |peer| serve(peer, worst, &bodies));
        let role = format!("{worst:?} {}", server.port);
        let (limit, enough) = match worst {
            Worst::Many => (LIMIT_OF_MANY, 1),
            _ => (LIMIT, 3),
        };
        stays_below(test, role, limit, || {
            let sessions = server.sessions.load(Ordering::SeqCst);
            sessions > enough || server.sent.load(Ordering::SeqCst) > 1500 * MIB
        });
    }
}
