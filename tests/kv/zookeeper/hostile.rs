//! Servers that are broken or hostile: what they send may not fill the memory of a program.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use liveprops::sources::ZooKeeper;

use crate::child::role;
use crate::memory::{follow, stays_below};
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
    /// A message that never ends.
    Length,
    /// As many children as a message can name.
    Names,
    /// Each node has children, with long names.
    Deep,
    /// Each node has as much data as a message can have.
    Large,
    /// As many nodes as a tree may have.
    Many,
}

const ALL: [Worst; 7] = [
    Worst::Events,
    Worst::EventsAlone,
    Worst::Length,
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

fn serve(peer: &mut Peer, worst: Worst) -> std::io::Result<()> {
    match worst {
        Worst::Events => return flood(peer, true),
        Worst::EventsAlone => return flood(peer, false),
        Worst::Length => {
            peer.question()?;
            peer.write(&(i32::MAX).to_be_bytes())?;
            loop {
                peer.write(&vec![0; MIB])?;
            }
        }
        Worst::Names | Worst::Deep | Worst::Large | Worst::Many => {}
    }
    let (small, empty) = (data(b"1", 1), Vec::new());
    let large = data(&vec![b'x'; 10 * MIB], 1);
    let many = names((0..400_000).map(|n| format!("{n:x}")));
    let leaf = data(b"1", 0);
    let all = names((0..900_000).map(|n| format!("{n:x}")));
    let long = names((0..500).map(|n| format!("{n:0>200}")));
    loop {
        let question = peer.question()?;
        let body = match (worst, question.kind) {
            (Worst::Names, CHILDREN) => &all,
            (Worst::Many, CHILDREN) => &many,
            (_, CHILDREN) => &long,
            (Worst::Large, DATA) => &large,
            (Worst::Many, DATA) if question.path != "/app" => &leaf,
            (_, DATA) => &small,
            _ => &empty,
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
        let server = StandIn::start(move |peer| serve(peer, worst));
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
