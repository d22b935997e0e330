//! A store of three servers keeps its values when a member fails.

use std::time::{Duration, Instant};

use liveprops::{Properties, Source};

use crate::SECOND;
use crate::cluster::Cluster;
use crate::faults::others_stay;
use crate::scenario::{SOON, Store, is_stale, is_up, report_time, wait_until};

/// The longest delay of a change after the loss of a member, including an election.
const BUDGET: Duration = Duration::from_secs(10);

/// A store of several members.
pub(crate) trait Members: Store {
    /// Whether the gates also carry elections, so that an isolated member is not elected
    /// repeatedly.
    const ELECTS_BY_GATES: bool = true;

    /// Creates everything that a key needs.
    fn prepare(_cluster: &Cluster) {}
    /// Returns a source of the prefix `app` with the addresses of all members.
    fn source(ports: &[u16]) -> Box<dyn Source>;
    /// Sets a key and returns whether the member accepted it.
    fn try_put(cluster: &Cluster, n: usize, key: &str, value: &str) -> bool;
    /// Returns whether a member is the leader.
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

/// Creates a program that connects to one member first.
fn follow<S: Members>(cluster: &Cluster, first: usize) -> Properties {
    let mut ports = cluster.ports();
    ports.rotate_left(first);
    let source = S::source(&ports);
    // Restarted members may need some time.
    let source = source.with(|policy| policy.required_within(SOON));
    Properties::builder().source(source).build().unwrap()
}

/// A cluster of three members and a program that follows it.
struct Three {
    cluster: Cluster,
    props: Properties,
    last: u32,
}

impl Three {
    /// The program connects to the leader first, or last.
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
        // The watch is active.
        three.put::<S>(&[0, 1, 2]);
        wait_until(SOON, "the program follows the store", || three.is_last());
        wait_until(SOON, "the source is up", || is_up(&three.props));
        Some(three)
    }

    /// Sets another key as soon as one of `members` accepts it. A failed attempt may take effect
    /// later, so every attempt uses a new key.
    fn put<S: Members>(&mut self, members: &[usize]) {
        self.last += 1;
        let key = format!("app/step{}", self.last);
        // The other members may have to elect a leader first.
        wait_until(3 * SOON, "one can write", || {
            let mut members = members.iter();
            members.any(|n| S::try_put(&self.cluster, *n, &key, "1"))
        });
    }

    fn is_last(&self) -> bool {
        let key = format!("step{}", self.last);
        self.props.get_opt::<i64>(&key).unwrap() == Some(1) && others_stay(&self.props)
    }

    /// Returns the member that the program is connected to.
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

    /// Applies a fault to a member, changes a value through the others and waits until it arrives.
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

    fn assert_recovered(&self) {
        wait_until(SOON, "the source is up", || is_up(&self.props));
    }
}

pub(crate) fn any_one_of_three_members_may_be_killed_and_a_lost_majority_is_reported<S: Members>() {
    let Some(mut three) = Three::start::<S>(false) else {
        return;
    };
    let first = three.connected();
    three.loses::<S>("the connected member killed", first, |it| it.kill(first));
    three.assert_recovered();
    let second = three.connected();
    assert_ne!(first, second);
    let begun = Instant::now();
    three.cluster.kill(second);
    // A leader continues for a short time. The last member can neither change nor remove values
    // after that.
    let mut stale_since = None;
    wait_until(SOON, "that there is no majority", || {
        assert!(three.is_last());
        stale_since = if is_stale(&three.props) {
            stale_since.or(Some(Instant::now()))
        } else {
            None
        };
        stale_since.is_some_and(|stale_since| stale_since.elapsed() > 3 * SECOND)
    });
    report_time::<S>("no majority: reported", stale_since.unwrap() - begun);
    assert!(stale_since.unwrap() - begun < BUDGET);
    three.cluster.restart(second);
    let begun = Instant::now();
    three.put::<S>(&[second]);
    wait_until(BUDGET, "the change after it", || three.is_last());
    report_time::<S>("a majority again: recovered", begun.elapsed());
    three.assert_recovered();
    three.cluster.restart(first);
    let leader = leader::<S>(&three.cluster);
    three.loses::<S>("the leader killed", leader, |it| it.kill(leader));
    three.assert_recovered();
}

pub(crate) fn a_member_that_is_frozen_or_cut_off_is_left_for_another<S: Members>() {
    let Some(mut three) = Three::start::<S>(true) else {
        return;
    };
    let frozen = three.connected();
    three.loses::<S>("the connected member frozen", frozen, |it| {
        it.servers[frozen].freeze();
    });
    three.assert_recovered();
    three.cluster.servers[frozen].thaw();
    three.put::<S>(&[frozen]);
    wait_until(SOON, "the program follows the store", || three.is_last());
    // An isolated leader stays leader for a while.
    wait_until(
        SOON,
        "the program follows a member that may be isolated",
        || {
            let leader = leader::<S>(&three.cluster);
            let first = leader + usize::from(!S::ELECTS_BY_GATES);
            three.props = follow::<S>(&three.cluster, first % 3);
            S::ELECTS_BY_GATES || three.connected() != leader
        },
    );
    three.assert_recovered();
    let isolated = three.connected();
    three.loses::<S>("the connected member cut off", isolated, |it| {
        it.isolate(isolated)
    });
    three.assert_recovered();
    three.cluster.heal();
    three.put::<S>(&[0, 1, 2]);
    wait_until(SOON, "the program follows the store", || three.is_last());
    three.assert_recovered();
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

    /// The member waits until it has a quorum.
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
