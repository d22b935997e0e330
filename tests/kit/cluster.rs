//! Three servers that form one store. Tests kill, freeze or isolate each of them.
//!
//! Connections between members pass through gates. A gate identifies the connecting member by the
//! system's tables, so it can isolate a member in both directions.

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
const NO_MEMBER: usize = usize::MAX;
const UNKNOWN_MEMBER: usize = usize::MAX - 1;
/// How long the members may take to form a cluster before they are restarted.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the members are restarted.
const RESTARTS: usize = 3;
/// The addresses that members of Consul advertise: those of their gates, with the members' own ports.
const ADVERTISED: [&str; COUNT] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    /// One proxy per member, between clients and the member.
    pub(crate) proxies: Vec<Proxy>,
    links: Arc<Links>,
    gates: Vec<SocketAddr>,
    _exclusive: MutexGuard<'static, ()>,
}

/// The connections between members.
struct Links {
    /// The isolated member, or [`NO_MEMBER`].
    isolated: AtomicUsize,
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
        let isolated = self.isolated.load(Ordering::SeqCst);
        from != to && (from == isolated || to == isolated)
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

    /// Returns the member at the other end of a connection to a gate.
    fn connecting_member(&self, stream: &TcpStream) -> Option<usize> {
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

/// Returns the inode of the socket at one end of a local connection.
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

/// Opens a gate in front of a port of a member.
fn open_gate(links: &Arc<Links>, to: usize, host: &str, port: u16, target: u16) -> SocketAddr {
    let listener = TcpListener::bind((host, port)).unwrap();
    let address = listener.local_addr().unwrap();
    let links = Arc::clone(links);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if links.ended.load(Ordering::SeqCst) {
                return;
            }
            let links = Arc::clone(&links);
            thread::spawn(move || forward(&links, to, stream, target));
        }
    });
    address
}

fn forward(links: &Arc<Links>, to: usize, client: TcpStream, target: u16) {
    let from = links.connecting_member(&client).unwrap_or(UNKNOWN_MEMBER);
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

/// Forwards bytes; discards them while one of the two members is isolated.
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

/// Forwards the gossip of members of Consul, so that each one seems to use its advertised address.
fn forward_gossip(links: &Arc<Links>, ports: Vec<u16>) {
    let bind = |(n, port): (usize, &u16)| {
        let socket = UdpSocket::bind((ADVERTISED[n], *port)).unwrap();
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
    /// Starts three members and waits until they form a cluster; `None` if no server is available.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        // A machine runs one cluster at a time.
        static RUNNING: Mutex<()> = Mutex::new(());
        let exclusive = RUNNING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let links = Arc::new(Links {
            isolated: AtomicUsize::new(NO_MEMBER),
            ended: AtomicBool::new(false),
            ids: Mutex::default(),
            open: Mutex::default(),
        });
        let mut servers: Vec<Server> = (0..COUNT).map(|_| Server::prepare(kind, &[])).collect();
        let mut gates = Vec::new();
        for (n, server) in servers.iter().enumerate() {
            let [_, second, third, fourth] = server.ports();
            // NATS uses the second port for monitoring.
            let (host, port, target) = match kind {
                Kind::Consul => {
                    gates.push(open_gate(&links, n, ADVERTISED[n], third, third));
                    (ADVERTISED[n], second, second)
                }
                Kind::Etcd | Kind::ZooKeeper => ("127.0.0.1", 0, second),
                Kind::Nats => ("127.0.0.1", 0, fourth),
            };
            gates.push(open_gate(&links, n, host, port, target));
        }
        if kind == Kind::Consul {
            forward_gossip(&links, servers.iter().map(|it| it.ports()[2]).collect());
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
                // The member listens on its own ports and connects to the gates of the others.
                let lines = all
                    .iter()
                    .enumerate()
                    .map(|(other, [_, second, third, _])| {
                        let port = if other == n {
                            *second
                        } else {
                            gates[other].port()
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
        let proxies = servers.iter().map(|it| Proxy::new(it.port())).collect();
        let mut cluster = Self {
            servers,
            proxies,
            links,
            gates,
            _exclusive: exclusive,
        };
        cluster.update_process_ids();
        // Members of NATS that connect at the same time may keep rejecting each other's routes.
        for _ in 0..RESTARTS {
            if cluster
                .servers
                .iter_mut()
                .all(|it| it.is_ready_within(START_TIMEOUT))
            {
                break;
            }
            cluster.restart_all();
        }
        cluster.servers.iter_mut().for_each(Server::wait);
        Some(cluster)
    }

    /// Restarts all members with their present data.
    fn restart_all(&mut self) {
        (0..COUNT).for_each(|n| self.kill(n));
        for server in &mut self.servers {
            assert!(server.begin());
        }
        self.update_process_ids();
    }

    /// Records the process of each member.
    fn update_process_ids(&self) {
        let ids = std::array::from_fn(|n| self.servers[n].id());
        *self.links.ids.lock().unwrap() = ids;
    }

    /// Returns the ports for clients, one per member.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.proxies.iter().map(Proxy::port).collect()
    }

    /// Returns all members but one.
    pub(crate) fn others(&self, one: usize) -> Vec<usize> {
        (0..COUNT).filter(|n| *n != one).collect()
    }

    /// Kills a member with `SIGKILL`.
    pub(crate) fn kill(&mut self, n: usize) {
        self.servers[n].kill();
        self.links.cut(|link| link.from == n || link.to == n);
    }

    /// Starts a member again, and waits until it and all running members are ready.
    pub(crate) fn restart(&mut self, n: usize) {
        assert!(self.servers[n].begin());
        self.update_process_ids();
        let running = self.servers.iter_mut().filter(|it| it.id().is_some());
        running.for_each(Server::wait);
    }

    /// Isolates a member: its connections stay open, but transfer nothing.
    pub(crate) fn isolate(&self, n: usize) {
        self.links.isolated.store(n, Ordering::SeqCst);
    }

    /// Ends the isolation and closes the connections of the isolated member.
    pub(crate) fn heal(&self) {
        let isolated = self.links.isolated.swap(NO_MEMBER, Ordering::SeqCst);
        self.links
            .cut(|link| link.from == isolated || link.to == isolated);
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

/// Returns the arguments of a member; for ZooKeeper, lines of its configuration.
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
                ADVERTISED[n].to_owned(),
                "-retry-interval=1s".to_owned(),
            ];
            // Members discover each other through these gates.
            for gate in gates.iter().step_by(2) {
                all.extend(["-retry-join".to_owned(), gate.to_string()]);
            }
            all
        }
    }
}
