//! A store of three servers keeps its values when a member fails.

use std::time::{Duration, Instant};

use liveprops::{Properties, Source};

use crate::cluster::Cluster;
use crate::faults::others_stay;
use crate::scenario::{SOON, Store, is_stale, is_up, tell, wait_until};

const SECOND: Duration = Duration::from_secs(1);
/// How long a change may take from the moment a member went, an election included.
const BUDGET: Duration = Duration::from_secs(10);

/// A store of several members.
pub(crate) trait Members: Store {
    /// Whether the gates are in the way of elections too, so that a member that is cut off cannot be
    /// elected again and again.
    const ELECTS_BY_GATES: bool = true;

    /// Makes what has to be there before a key can be set.
    fn prepare(_cluster: &Cluster) {}
    /// The source of the prefix `app`, with the address of each member.
    fn source(ports: &[u16]) -> Box<dyn Source>;
    /// Sets a key, if the member can do that now.
    fn try_put(cluster: &Cluster, n: usize, key: &str, value: &str) -> bool;
    /// Whether a member is the one that leads.
    fn leads(cluster: &Cluster, n: usize) -> bool;
}

fn leader<S: Members>(cluster: &Cluster) -> usize {
    let mut found = None;
    wait_until(SOON, "one leads", || {
        found = (0..3).find(|n| S::leads(cluster, *n));
        found.is_some()
    });
    found.unwrap()
}

/// A program that asks one member first.
fn follow<S: Members>(cluster: &Cluster, first: usize) -> Properties {
    let mut ports = cluster.ports();
    ports.rotate_left(first);
    let source = S::source(&ports);
    // Members that have just come back may ask for a moment.
    let source = source.with(|policy| policy.required_within(SOON));
    Properties::builder().source(source).build().unwrap()
}

/// Three members, and a program that follows them.
struct Three {
    cluster: Cluster,
    props: Properties,
    last: u32,
}

impl Three {
    /// The program asks the member that leads first, or last.
    fn start<S: Members>(leader_first: bool) -> Option<Self> {
        let cluster = Cluster::start(S::KIND)?;
        S::prepare(&cluster);
        for n in 0..20 {
            let (key, value) = (format!("app/n{n}"), n.to_string());
            wait_until(SOON, "it can be written to", || {
                S::try_put(&cluster, 0, &key, &value)
            });
        }
        let first = leader::<S>(&cluster) + usize::from(!leader_first);
        let props = follow::<S>(&cluster, first % 3);
        let mut three = Self {
            cluster,
            props,
            last: 0,
        };
        // The watch is set.
        three.put::<S>(&[0, 1, 2]);
        wait_until(SOON, "it is followed", || three.is_last());
        wait_until(SOON, "it is told", || is_up(&three.props));
        Some(three)
    }

    /// Sets one more key, as soon as one of some members can do that. What was given up may be done
    /// later, and must not undo what came after it: so it is another key each time.
    fn put<S: Members>(&mut self, members: &[usize]) {
        self.last += 1;
        let key = format!("app/step{}", self.last);
        // The others may elect a leader first.
        wait_until(3 * SOON, "one can write", || {
            let mut members = members.iter();
            members.any(|n| S::try_put(&self.cluster, *n, &key, "1"))
        });
    }

    fn is_last(&self) -> bool {
        let key = format!("step{}", self.last);
        self.props.get_opt::<i64>(&key).unwrap() == Some(1) && others_stay(&self.props)
    }

    /// The member that the program is connected to.
    fn connected(&self) -> usize {
        let mut found = None;
        wait_until(SOON, "it is connected to one", || {
            let open: Vec<usize> = (0..3)
                .filter(|n| self.cluster.proxies[*n].open() > 0)
                .collect();
            found = open.first().copied();
            open.len() == 1
        });
        found.unwrap()
    }

    /// Does something to a member, changes a value by way of the others, and waits until it is seen.
    fn loses<S: Members>(&mut self, what: &str, member: usize, how: impl FnOnce(&mut Cluster)) {
        let begun = Instant::now();
        how(&mut self.cluster);
        let others = self.cluster.others(member);
        self.put::<S>(&others);
        let wrote = begun.elapsed();
        wait_until(SOON, what, || self.is_last());
        let took = begun.elapsed();
        println!(
            "{:?}: {what}: seen after {} ms, of which {} until the others took it",
            S::KIND,
            took.as_millis(),
            wrote.as_millis()
        );
        assert!(took - wrote < BUDGET, "{what}: {took:?}");
    }

    fn is_well(&self) {
        wait_until(SOON, "it is told", || is_up(&self.props));
    }
}

pub(crate) fn any_one_of_three_members_may_be_killed_and_a_lost_majority_is_reported<S: Members>() {
    let Some(mut three) = Three::start::<S>(false) else {
        return;
    };
    let first = three.connected();
    three.loses::<S>("the connected member killed", first, |it| it.kill(first));
    three.is_well();
    let second = three.connected();
    assert_ne!(first, second);
    let begun = Instant::now();
    three.cluster.kill(second);
    // A leader goes on for a moment. Whatever the last one answers after that is neither believed,
    // nor are the values given up.
    let mut told = None;
    wait_until(SOON, "that there is no majority", || {
        assert!(three.is_last());
        told = match is_stale(&three.props) {
            true => told.or(Some(Instant::now())),
            false => None,
        };
        told.is_some_and(|told| told.elapsed() > 3 * SECOND)
    });
    tell::<S>("no majority: told", told.unwrap() - begun);
    assert!(told.unwrap() - begun < BUDGET);
    three.cluster.restart(second);
    let begun = Instant::now();
    three.put::<S>(&[second]);
    wait_until(BUDGET, "the change after it", || three.is_last());
    tell::<S>("a majority again: seen", begun.elapsed());
    three.is_well();
    three.cluster.restart(first);
    let leader = leader::<S>(&three.cluster);
    three.loses::<S>("the leader killed", leader, |it| it.kill(leader));
    three.is_well();
}

pub(crate) fn a_member_that_is_frozen_or_cut_off_is_left_for_another<S: Members>() {
    let Some(mut three) = Three::start::<S>(true) else {
        return;
    };
    let frozen = three.connected();
    three.loses::<S>("the connected member frozen", frozen, |it| {
        it.servers[frozen].freeze();
    });
    three.is_well();
    three.cluster.servers[frozen].thaw();
    three.put::<S>(&[frozen]);
    wait_until(SOON, "it is followed", || three.is_last());
    // One that leads takes itself for the leader for a while.
    wait_until(SOON, "one is followed that may be cut off", || {
        let leader = leader::<S>(&three.cluster);
        let first = leader + usize::from(!S::ELECTS_BY_GATES);
        three.props = follow::<S>(&three.cluster, first % 3);
        S::ELECTS_BY_GATES || three.connected() != leader
    });
    three.is_well();
    let apart = three.connected();
    three.loses::<S>("the connected member cut off", apart, |it| it.part(apart));
    three.is_well();
    three.cluster.heal();
    three.put::<S>(&[0, 1, 2]);
    wait_until(SOON, "it is followed", || three.is_last());
    three.is_well();
}

#[cfg(any(feature = "consul", feature = "etcd"))]
fn ask(request: ureq::RequestBuilder<ureq::typestate::WithBody>, body: &str) -> Option<String> {
    let request = request.config().timeout_global(Some(2 * SECOND)).build();
    request.send(body).ok()?.body_mut().read_to_string().ok()
}

#[cfg(feature = "consul")]
impl Members for crate::consul::Client {
    fn source(ports: &[u16]) -> Box<dyn Source> {
        let all = ports.iter().map(|port| format!("http://127.0.0.1:{port}"));
        Box::new(liveprops::sources::Consul::prefix("app").addresses(all))
    }

    fn try_put(cluster: &Cluster, n: usize, key: &str, value: &str) -> bool {
        let port = cluster.servers[n].port();
        let request = ureq::put(format!("http://127.0.0.1:{port}/v1/kv/{key}"));
        ask(request, value).is_some_and(|answer| answer.contains("true"))
    }

    fn leads(cluster: &Cluster, n: usize) -> bool {
        let [port, second, ..] = cluster.servers[n].ports();
        let request = ureq::get(format!("http://127.0.0.1:{port}/v1/status/leader"));
        let answer = request.call().ok();
        let answer = answer.and_then(|mut it| it.body_mut().read_to_string().ok());
        answer.is_some_and(|leader| leader.contains(&format!(":{second}\"")))
    }
}

#[cfg(feature = "etcd")]
impl Members for crate::etcd::Client {
    fn source(ports: &[u16]) -> Box<dyn Source> {
        let all = ports.iter().map(|port| format!("http://127.0.0.1:{port}"));
        Box::new(liveprops::sources::Etcd::prefix("app").addresses(all))
    }

    fn try_put(cluster: &Cluster, n: usize, key: &str, value: &str) -> bool {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let port = cluster.servers[n].port();
        let body = format!(
            "{{\"key\":\"{}\",\"value\":\"{}\"}}",
            encode(key),
            encode(value)
        );
        let request = ureq::post(format!("http://127.0.0.1:{port}/v3/kv/put"));
        ask(request, &body).is_some_and(|answer| answer.contains("revision"))
    }

    fn leads(cluster: &Cluster, n: usize) -> bool {
        let port = cluster.servers[n].port();
        let request = ureq::post(format!("http://127.0.0.1:{port}/v3/maintenance/status"));
        let Some(answer) = ask(request, "{}") else {
            return false;
        };
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["leader"].is_string() && answer["leader"] == answer["header"]["member_id"]
    }
}

#[cfg(feature = "nats")]
impl Members for crate::nats::Client {
    fn prepare(cluster: &Cluster) {
        crate::nats::cluster::make(cluster.servers[0].port());
    }

    fn source(ports: &[u16]) -> Box<dyn Source> {
        let all = ports.iter().map(|port| format!("nats://127.0.0.1:{port}"));
        let nats = liveprops::sources::Nats::bucket("config").prefix("app");
        Box::new(nats.addresses(all))
    }

    fn try_put(cluster: &Cluster, n: usize, key: &str, value: &str) -> bool {
        let port = cluster.servers[n].port();
        let answer = crate::nats::cluster::ask(port, &crate::nats::subject(key), value);
        answer.is_some_and(|answer| answer.contains("\"seq\":"))
    }

    fn leads(cluster: &Cluster, n: usize) -> bool {
        let port = cluster.servers[n].port();
        let answer = crate::nats::cluster::ask(port, "$JS.API.STREAM.INFO.KV_config", "");
        answer.is_some_and(|answer| answer.contains(&format!("\"leader\":\"m{n}\"")))
    }
}

#[cfg(feature = "zookeeper")]
impl Members for crate::zookeeper::Client {
    const ELECTS_BY_GATES: bool = false;

    fn source(ports: &[u16]) -> Box<dyn Source> {
        let all = ports.iter().map(|port| format!("127.0.0.1:{port}"));
        Box::new(liveprops::sources::ZooKeeper::prefix("app").addresses(all))
    }

    /// It waits until the member has the others.
    fn try_put(cluster: &Cluster, n: usize, key: &str, value: &str) -> bool {
        let server = &cluster.servers[n];
        server.is_ready() && Self::try_put(server, key, value)
    }

    fn leads(cluster: &Cluster, n: usize) -> bool {
        use std::io::{Read, Write};
        let port = cluster.servers[n].port();
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
            return false;
        };
        let mut answer = String::new();
        let _ = stream.write_all(b"srvr");
        let _ = stream.read_to_string(&mut answer);
        answer.contains("Mode: leader")
    }
}
