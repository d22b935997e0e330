//! Three servers that are one store, each of which can be killed, frozen or cut off from the others.
//!
//! What they say to each other goes through gates, which find out by the system's tables whose
//! connection it is: so one member can be parted from the others, whoever called whom.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::proxy::Proxy;
use crate::server::{Kind, Server};

const COUNT: usize = 3;
const NOBODY: usize = usize::MAX;
/// How long the members may take to be a cluster before they are started again, and how often they are.
const PATIENCE: Duration = Duration::from_secs(30);
const STARTS: usize = 3;
/// Where a member of Consul says that it is: there its gates are, on the ports of its own.
const SHOWN: [&str; COUNT] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    /// Before each member, for the clients.
    pub(crate) proxies: Vec<Proxy>,
    links: Arc<Links>,
    gates: Vec<SocketAddr>,
    _alone: MutexGuard<'static, ()>,
}

/// What goes on between the members.
struct Links {
    /// Who is cut off.
    apart: AtomicUsize,
    ended: AtomicBool,
    ids: Mutex<[Option<u32>; COUNT]>,
    open: Mutex<Vec<Link>>,
}

struct Link {
    from: usize,
    to: usize,
    streams: [TcpStream; 2],
}

impl Links {
    fn is_cut(&self, from: usize, to: usize) -> bool {
        let apart = self.apart.load(Ordering::SeqCst);
        from != to && (from == apart || to == apart)
    }

    fn cut(&self, which: impl Fn(&Link) -> bool) {
        self.open.lock().unwrap().retain(|link| {
            let cut = which(link);
            if cut {
                for stream in &link.streams {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            !cut
        });
    }

    /// Which member has called a gate.
    fn caller(&self, stream: &TcpStream) -> Option<usize> {
        let (there, here) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let socket = format!("socket:[{}]", inode(there.port(), here.port())?);
        let ids = *self.ids.lock().unwrap();
        ids.iter().position(|id| {
            id.is_some_and(|id| {
                let files = fs::read_dir(format!("/proc/{id}/fd"));
                let mut files = files.into_iter().flatten().flatten();
                files
                    .any(|file| fs::read_link(file.path()).is_ok_and(|at| at == Path::new(&socket)))
            })
        })
    }
}

/// The number of the socket at one end of a connection of this machine.
fn inode(port: u16, other: u16) -> Option<String> {
    let (port, other) = (format!(":{port:04X}"), format!(":{other:04X}"));
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            let table = fs::read_to_string(table).ok()?;
            table.lines().find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let found = words.get(1)?.ends_with(&port) && words.get(2)?.ends_with(&other);
                found.then(|| words.get(9).map(ToString::to_string))?
            })
        })
}

/// Opens a gate before a port of a member.
fn gate(links: &Arc<Links>, to: usize, host: &str, port: u16, target: u16) -> SocketAddr {
    let listener = TcpListener::bind((host, port)).unwrap();
    let address = listener.local_addr().unwrap();
    let links = Arc::clone(links);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if links.ended.load(Ordering::SeqCst) {
                return;
            }
            let links = Arc::clone(&links);
            thread::spawn(move || join(&links, to, stream, target));
        }
    });
    address
}

fn join(links: &Arc<Links>, to: usize, client: TcpStream, target: u16) {
    let from = links.caller(&client).unwrap_or(NOBODY - 1);
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let clone = |stream: &TcpStream| stream.try_clone().unwrap();
    links.open.lock().unwrap().push(Link {
        from,
        to,
        streams: [clone(&client), clone(&server)],
    });
    let (back, forth) = (Arc::clone(links), Arc::clone(links));
    let (to_client, from_server) = (clone(&client), clone(&server));
    thread::spawn(move || pump(&back, (from, to), from_server, to_client));
    pump(&forth, (from, to), client, server);
}

/// Passes on what comes; swallows it while one of the two is cut off.
fn pump(links: &Links, (one, other): (usize, usize), mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !links.is_cut(one, other) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Passes on the gossip of members of Consul, so that each seems to be where it says it is.
fn gossip(links: &Arc<Links>, ports: Vec<u16>) {
    let bind = |(n, port): (usize, &u16)| {
        let socket = UdpSocket::bind((SHOWN[n], *port)).unwrap();
        let wake = Duration::from_millis(200);
        socket.set_read_timeout(Some(wake)).unwrap();
        socket
    };
    let sockets: Arc<Vec<UdpSocket>> = Arc::new(ports.iter().enumerate().map(bind).collect());
    for to in 0..COUNT {
        let (links, sockets, ports) = (Arc::clone(links), Arc::clone(&sockets), ports.clone());
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while !links.ended.load(Ordering::SeqCst) {
                let Ok((length, address)) = sockets[to].recv_from(&mut buffer) else {
                    continue;
                };
                let from = ports.iter().position(|port| *port == address.port());
                if let Some(from) = from.filter(|from| !links.is_cut(*from, to)) {
                    let _ = sockets[from].send_to(&buffer[..length], ("127.0.0.1", ports[to]));
                }
            }
        });
    }
}

impl Cluster {
    /// Three members that have found each other; `None` where no server can be had.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        // They are heavy: one at a time.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let links = Arc::new(Links {
            apart: AtomicUsize::new(NOBODY),
            ended: AtomicBool::new(false),
            ids: Mutex::default(),
            open: Mutex::default(),
        });
        let mut servers: Vec<Server> = (0..COUNT).map(|_| Server::prepare(kind, &[])).collect();
        let mut gates = Vec::new();
        for (n, server) in servers.iter().enumerate() {
            let [_, second, third, fourth] = server.ports();
            // NATS has its monitor on the second.
            let (host, port, target) = match kind {
                Kind::Consul => {
                    gates.push(gate(&links, n, SHOWN[n], third, third));
                    (SHOWN[n], second, second)
                }
                Kind::Etcd | Kind::ZooKeeper => ("127.0.0.1", 0, second),
                Kind::Nats => ("127.0.0.1", 0, fourth),
            };
            gates.push(gate(&links, n, host, port, target));
        }
        if kind == Kind::Consul {
            gossip(&links, servers.iter().map(|it| it.ports()[2]).collect());
        }
        for (n, server) in servers.iter_mut().enumerate() {
            let arguments = arguments(kind, n, server, &gates);
            server.add_arguments(arguments);
        }
        let all: Vec<[u16; 4]> = servers.iter().map(Server::ports).collect();
        if kind == Kind::ZooKeeper {
            for (n, server) in servers.iter_mut().enumerate() {
                fs::create_dir_all(server.dir().join("data")).unwrap();
                fs::write(server.dir().join("data/myid"), (n + 1).to_string()).unwrap();
                // Its own ports are those it listens on; those of the others are their gates.
                let lines = all
                    .iter()
                    .enumerate()
                    .map(|(other, [_, second, third, _])| {
                        let port = match other == n {
                            true => *second,
                            false => gates[other].port(),
                        };
                        format!("server.{}=127.0.0.1:{port}:{third}", other + 1)
                    });
                let lines: Vec<String> = lines.collect();
                server.add_arguments(lines);
            }
        }
        for server in &mut servers {
            if !server.begin() {
                return None;
            }
        }
        let proxies = servers.iter().map(|it| Proxy::before(it.port())).collect();
        let mut cluster = Self {
            servers,
            proxies,
            links,
            gates,
            _alone: alone,
        };
        cluster.know();
        // Members of NATS that call each other at once may refuse each other's routes again and again.
        for _ in 0..STARTS {
            if cluster
                .servers
                .iter_mut()
                .all(|it| it.is_ready_within(PATIENCE))
            {
                break;
            }
            cluster.begin_again();
        }
        cluster.servers.iter_mut().for_each(Server::wait);
        Some(cluster)
    }

    /// Ends all members and starts them again, on the data that are there.
    fn begin_again(&mut self) {
        (0..COUNT).for_each(|n| self.kill(n));
        for server in &mut self.servers {
            assert!(server.begin());
        }
        self.know();
    }

    /// Takes down which process is which member.
    fn know(&self) {
        let ids = std::array::from_fn(|n| self.servers[n].id());
        *self.links.ids.lock().unwrap() = ids;
    }

    /// Where the clients find the members.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.proxies.iter().map(Proxy::port).collect()
    }

    /// The other members.
    pub(crate) fn others(&self, one: usize) -> Vec<usize> {
        (0..COUNT).filter(|n| *n != one).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, n: usize) {
        self.servers[n].kill();
        // What they had open goes with it.
        self.links.cut(|link| link.from == n || link.to == n);
    }

    /// Starts one again, and waits until it and all that run are ready.
    pub(crate) fn restart(&mut self, n: usize) {
        assert!(self.servers[n].begin());
        self.know();
        let running = self.servers.iter_mut().filter(|it| it.id().is_some());
        running.for_each(Server::wait);
    }

    /// Parts one from the others, who hear nothing of it.
    pub(crate) fn part(&self, n: usize) {
        self.links.apart.store(n, Ordering::SeqCst);
    }

    /// Joins it to them again, by new connections.
    pub(crate) fn heal(&self) {
        let apart = self.links.apart.swap(NOBODY, Ordering::SeqCst);
        self.links
            .cut(|link| link.from == apart || link.to == apart);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
        self.links.ended.store(true, Ordering::SeqCst);
        self.links.cut(|_| true);
        for gate in &self.gates {
            let _ = TcpStream::connect(gate);
        }
    }
}

/// What makes a server a member; of ZooKeeper, further lines of its configuration.
fn arguments(kind: Kind, n: usize, server: &Server, gates: &[SocketAddr]) -> Vec<String> {
    let [.., fourth] = server.ports();
    let list = |of: &dyn Fn(usize, &SocketAddr) -> String| -> String {
        let all = gates.iter().enumerate().map(|(n, gate)| of(n, gate));
        all.collect::<Vec<String>>().join(",")
    };
    match kind {
        Kind::Etcd => vec![
            "--name".to_owned(),
            format!("m{n}"),
            "--initial-advertise-peer-urls".to_owned(),
            format!("http://{}", gates[n]),
            "--initial-cluster".to_owned(),
            list(&|n, gate| format!("m{n}=http://{gate}")),
        ],
        Kind::Nats => vec![
            "--name".to_owned(),
            format!("m{n}"),
            "--cluster_name".to_owned(),
            "three".to_owned(),
            "--cluster".to_owned(),
            format!("nats://127.0.0.1:{fourth}"),
            "--cluster_advertise".to_owned(),
            gates[n].to_string(),
            "--routes".to_owned(),
            list(&|_, gate| format!("nats-route://{gate}")),
        ],
        Kind::ZooKeeper => vec!["initLimit=20".to_owned(), "syncLimit=4".to_owned()],
        Kind::Consul => {
            let mut all = vec![
                "-bootstrap-expect=3".to_owned(),
                "-node".to_owned(),
                format!("m{n}"),
                "-advertise".to_owned(),
                SHOWN[n].to_owned(),
                "-retry-interval=1s".to_owned(),
            ];
            // The gates before what they tell each other who is there.
            for gate in gates.iter().step_by(2) {
                all.extend(["-retry-join".to_owned(), gate.to_string()]);
            }
            all
        }
    }
}
