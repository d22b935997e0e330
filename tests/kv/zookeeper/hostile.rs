//! ZooKeeper: the messages of a broken or hostile server need bounded memory.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use liveprops::sources::ZooKeeper;

use crate::process_memory::{follow, stays_below};
use crate::support::child::role;
use crate::zookeeper_standin::{CHILDREN, DATA, Peer, Question, StandIn, data, event, names};

/// The memory bounds in MiB: of a tree too large to be stored, and of a stored tree that is too
/// large for a layer.
const LIMIT: usize = 100;
const LIMIT_OF_MANY: usize = 400;
const MIB: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
enum Worst {
    /// Endless events of other nodes, each with a large value.
    Events,
    /// The same events from a server without answers.
    EventsAlone,
    /// A message of two GiB.
    Length,
    /// Endless messages of the largest size.
    Long,
    /// As many children as a message contains.
    Names,
    /// Every node has children with long names.
    Deep,
    /// Every node has the largest value.
    Large,
    /// The largest number of nodes.
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

/// The answers, created before the first request.
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
