//! One program follows four stores while each one has every fault, all at the same time.
#![cfg(all(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liveprops::health::Status;
use liveprops::sources::Memory;
use liveprops::{Properties, Source};

use crate::SECOND;
use crate::proxy::Mode;
use crate::scenario::{SOON, Scenario, Store, wait_until};
use crate::support::Random;

const KEYS: usize = 10;

/// The operations on a store of any kind.
trait Victim {
    fn name(&self) -> String;
    fn source(&self) -> Box<dyn Source>;
    fn put(&mut self, n: usize, value: i64);
    fn begin(&mut self, fault: Fault);
    fn end(&mut self, fault: Fault);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Cut,
    Refuse,
    Reset,
    HalfOpen,
    Stall,
    Freeze,
    Kill,
}

impl Fault {
    const ALL: [Fault; 7] = [
        Fault::Cut,
        Fault::Refuse,
        Fault::Reset,
        Fault::HalfOpen,
        Fault::Stall,
        Fault::Freeze,
        Fault::Kill,
    ];

    /// Whether the store itself does not answer.
    fn is_of_the_store(self) -> bool {
        matches!(self, Fault::Freeze | Fault::Kill)
    }
}

impl<S: Store> Victim for Scenario<S> {
    fn name(&self) -> String {
        format!("{:?}", S::KIND).to_lowercase()
    }

    fn source(&self) -> Box<dyn Source> {
        S::prefix(self.proxy.port(), "app")
    }

    fn put(&mut self, n: usize, value: i64) {
        let key = format!("app/{}/n{n}", self.name());
        self.store.put(&key, value.to_string());
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::Refuse => self.proxy.set(Mode::Refuse),
            Fault::Reset => self.proxy.set(Mode::Reset),
            Fault::HalfOpen => self.proxy.set(Mode::HalfOpen),
            Fault::Stall => self.proxy.set(Mode::Stall),
            Fault::Freeze => self.server.freeze(),
            Fault::Kill => self.server.kill(),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Freeze => self.server.thaw(),
            Fault::Kill => self.restart(),
            _ => self.proxy.set(Mode::Pass),
        }
    }
}

/// Replaces the last value that was seen, which no later one is below.
fn check(
    props: &Properties,
    key: &str,
    what: &str,
    last: &mut i64,
    now: i64,
) -> Result<(), String> {
    if now < *last {
        return Err(format!(
            "{what} of {key} went from {last} to {now}\n{}\n{:#?}",
            props.explain(key),
            props.health().sources
        ));
    }
    *last = now;
    Ok(())
}

fn start<S: Store + 'static>() -> Option<Box<dyn Victim>> {
    let mut scenario = Scenario::<S>::with(&[])?;
    (0..KEYS).for_each(|n| Victim::put(&mut scenario, n, 0));
    Some(Box::new(scenario))
}

#[test]
fn thirty_seconds_of_faults_in_four_stores_change_no_value() {
    let victims = [
        start::<crate::consul::Client>(),
        start::<crate::etcd::Client>(),
        start::<crate::nats::Client>(),
        start::<crate::zookeeper::Client>(),
    ];
    let Some(mut victims) = victims.into_iter().collect::<Option<Vec<_>>>() else {
        return;
    };
    let names: Vec<String> = victims.iter().map(|victim| victim.name()).collect();
    let names = &names;
    // The weakest layer: its values show if another layer loses its own.
    let defaults = names
        .iter()
        .flat_map(|name| (0..KEYS).map(move |n| (format!("{name}.n{n}"), -1)));
    let props = Properties::builder()
        .source(Memory::from_iter(defaults))
        .sources(victims.iter().map(|victim| victim.source()))
        .build()
        .unwrap();
    let mut values = vec![0; names.len()];
    let mut random = Random::new("four stores");
    let ended = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    let mut stale: BTreeMap<String, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let handles: Vec<_> = names
                .iter()
                .flat_map(|name| (0..KEYS).map(move |n| format!("{name}.n{n}")))
                .map(|key| props.property::<i64>(&key).build().unwrap())
                .collect();
            // A handle changes shortly before the tree, so each is compared with its own last
            // value.
            let mut seen = vec![(0, 0); handles.len()];
            let mut slowest = Duration::ZERO;
            while !ended.load(Ordering::SeqCst) {
                for (handle, (seen, read)) in handles.iter().zip(&mut seen) {
                    let key = handle.key().to_string();
                    let begun = Instant::now();
                    let now = handle.get();
                    slowest = slowest.max(begun.elapsed());
                    check(&props, &key, "the handle", seen, now)?;
                    check(&props, &key, "a read", read, props.get(&key).unwrap())?;
                    reads.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok::<_, String>(slowest)
        });
        let mut faults: Vec<Option<(Fault, Instant)>> = vec![None; victims.len()];
        // Each store has each fault once, and random ones afterwards.
        let mut first: Vec<Vec<Fault>> = vec![Fault::ALL.to_vec(); victims.len()];
        first.iter_mut().for_each(|all| random.shuffle(all));
        let mut count = 0;
        let begun = Instant::now();
        while begun.elapsed() < 30 * SECOND || faults.iter().any(Option::is_some) {
            for (n, victim) in victims.iter_mut().enumerate() {
                match faults[n] {
                    Some((fault, until)) if Instant::now() >= until => {
                        victim.end(fault);
                        faults[n] = None;
                    }
                    Some(_) => {}
                    None if begun.elapsed() < 30 * SECOND && random.index(40) == 0 => {
                        let any = Fault::ALL[random.index(Fault::ALL.len())];
                        let fault = first[n].pop().unwrap_or(any);
                        let time = Duration::from_millis(300 + random.below(4000));
                        victim.begin(fault);
                        faults[n] = Some((fault, Instant::now() + time));
                        count += 1;
                    }
                    None => {}
                }
                let is_there = faults[n].is_none_or(|(fault, _)| !fault.is_of_the_store());
                if is_there && random.index(5) == 0 {
                    values[n] += 1;
                    victim.put(random.index(KEYS), values[n]);
                }
            }
            for source in props.health().sources {
                if matches!(source.status, Status::Stale { .. }) {
                    *stale.entry(source.name.to_string()).or_default() += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let over = Instant::now();
        for (victim, value) in victims.iter_mut().zip(&values) {
            (0..KEYS).for_each(|n| victim.put(n, value + 1));
        }
        wait_until(SOON, "the last values", || {
            names.iter().zip(&values).all(|(name, value)| {
                let last = |n| props.get::<i64>(&format!("{name}.n{n}")).unwrap() == value + 1;
                (0..KEYS).all(last)
            })
        });
        let took = over.elapsed();
        wait_until(SOON, "all changes are reported", || {
            let sources = props.health().sources;
            sources.iter().all(|it| matches!(it.status, Status::Up))
        });
        ended.store(true, Ordering::SeqCst);
        let slowest = match reader.join().unwrap() {
            Ok(slowest) => slowest,
            Err(fallen) => panic!("{fallen}"),
        };
        println!(
            "four stores: {count} faults, {} reads, the slowest {} us, all converged after {} ms; \
             stale: {stale:?}",
            reads.load(Ordering::SeqCst),
            slowest.as_micros(),
            took.as_millis()
        );
        assert!(took < 10 * SECOND, "{took:?}");
    });
    assert_eq!(stale.len(), names.len(), "each one was stale: {stale:?}");
}
