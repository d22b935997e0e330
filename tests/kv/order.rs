//! Order, delay and completeness of many changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::DirEntry;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use liveprops::source::Scope;
use liveprops::{Properties, Source, Value};

use crate::SECOND;
use crate::proxy::Mode;
use crate::scenario::{SOON, Scenario, Store, health, is_stale, is_up, report_time, wait_until};
use crate::support::Random;

fn scenario<S: Store>(count: usize) -> Option<Scenario<S>> {
    let scenario = Scenario::<S>::with(&[])?;
    let keys: Vec<String> = (0..count).map(|n| format!("app/n{n}")).collect();
    for some in keys.chunks(64) {
        let all: Vec<(&str, Option<&[u8]>)> = some
            .iter()
            .map(|key| (key.as_str(), Some(&b"0"[..])))
            .collect();
        scenario.store.change(&all);
    }
    Some(scenario)
}

pub(crate) fn fifty_cuts_amid_ten_thousand_writes_lose_and_revert_nothing<S: Store>() {
    const WRITERS: usize = 4;
    const WRITES: usize = 10_000;
    const KEYS: usize = 10;
    const LAST: i64 = (WRITES / WRITERS / KEYS) as i64;
    let Some(scenario) = scenario::<S>(WRITERS * KEYS) else {
        return;
    };
    let props = scenario.follow();
    let seen: Mutex<BTreeMap<String, Vec<i64>>> = Mutex::default();
    let seen = std::sync::Arc::new(seen);
    let log = std::sync::Arc::clone(&seen);
    let _guard = props.on_change_under("", move |batch| {
        let mut seen = log.lock().unwrap();
        for change in batch.changes() {
            let Some(Value::Text(value)) = change.new_value() else {
                panic!("{change:?}");
            };
            let all = seen.entry(change.key().to_string()).or_default();
            all.push(value.parse().unwrap());
        }
    });
    let before = props.generation();
    let done = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = S::connect(&scenario.server);
            let done = &done;
            scope.spawn(move || {
                let keys: Vec<String> = (0..KEYS)
                    .map(|n| format!("app/n{}", writer * KEYS + n))
                    .collect();
                // Several changes per transaction: a transaction with a disk write needs 4 ms.
                for n in 1..=LAST {
                    let value = n.to_string();
                    let all: Vec<(&str, Option<&[u8]>)> = keys
                        .iter()
                        .map(|key| (key.as_str(), Some(value.as_bytes())))
                        .collect();
                    store.change(&all);
                    done.fetch_add(KEYS, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        for cut in 1..=50 {
            wait_until(3 * SOON, "the writers go on", || {
                done.load(Ordering::SeqCst) >= cut * WRITES / 51
            });
            // After many failures the back-off may last seconds.
            let waits = Instant::now() + Duration::from_millis(200);
            while scenario.proxy.open() == 0 && Instant::now() < waits {
                std::thread::sleep(Duration::from_millis(1));
            }
            scenario.proxy.cut();
        }
    });
    let wrote = begun.elapsed();
    let took = wait_until(SOON, "the last values", || {
        (0..WRITERS * KEYS).all(|n| props.get::<i64>(&format!("n{n}")).unwrap() == LAST)
    });
    let generations = props.generation() - before;
    println!(
        "{:?}: {WRITES} writes in {} ms, {} connections: {generations} generations, the last after \
         {} ms",
        S::KIND,
        wrote.as_millis(),
        scenario.proxy.connections().len(),
        took.as_millis()
    );
    wait_until(SOON, "all changes are reported", || {
        let seen = seen.lock().unwrap();
        seen.len() == WRITERS * KEYS
            && (0..WRITERS * KEYS).all(|n| seen[&format!("n{n}")].last() == Some(&LAST))
    });
    for (key, values) in &*seen.lock().unwrap() {
        assert!(values.is_sorted(), "{key}: {values:?}");
    }
    wait_until(SOON, "the source is up", || is_up(&props));
}

pub(crate) fn five_hundred_random_changes_are_each_seen_at_once<S: Store>() {
    const KEYS: usize = 100;
    let Some(scenario) = scenario::<S>(KEYS) else {
        return;
    };
    let props = scenario.follow();
    wait_until(SOON, "the source is up", || is_up(&props));
    let mut random = Random::new(&format!("{:?}", S::KIND));
    let (send, made) = channel::<(String, Option<i64>, Instant)>();
    let watching = props.clone();
    let observer = std::thread::spawn(move || {
        let seen = |key: &str, wanted: Option<i64>| {
            let now = watching.get_opt::<i64>(key).unwrap();
            match (now, wanted) {
                (Some(now), Some(wanted)) => now >= wanted,
                (now, wanted) => now.is_some() == wanted.is_some(),
            }
        };
        let (mut waits, mut left, mut took) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let more = made.recv_timeout(Duration::from_millis(1));
            let ended = more == Err(std::sync::mpsc::RecvTimeoutError::Disconnected);
            waits.extend(more);
            waits.extend(made.try_iter());
            // A received value confirms all earlier changes of the same key.
            let mut over = BTreeSet::new();
            for (key, wanted, at) in waits.iter().rev() {
                let waited: Duration = at.elapsed();
                assert!(waited < SOON, "{key} never was {wanted:?}");
                if over.contains(key) || seen(key, *wanted) {
                    over.insert(key.clone());
                    took.push(waited);
                } else {
                    left.push((key.clone(), *wanted, *at));
                }
            }
            waits.clear();
            waits.extend(left.drain(..).rev());
            if ended && waits.is_empty() {
                return took;
            }
        }
    });
    let mut there = [true; KEYS];
    let mut value = 0;
    // A key changes again only after half of the other keys, so that each change is visible.
    let mut order: Vec<usize> = (0..KEYS).collect();
    for _ in 0..5 {
        random.shuffle(&mut order[..KEYS / 2]);
        random.shuffle(&mut order[KEYS / 2..]);
        for &n in &order {
            value += 1;
            let stays = !there[n] || random.index(4) > 0;
            there[n] = stays;
            let (key, wanted) = (format!("app/n{n}"), stays.then_some(value));
            let at = Instant::now();
            match stays {
                true => scenario.store.put(&key, value.to_string()),
                false => scenario.store.delete(&key),
            }
            send.send((format!("n{n}"), wanted, at)).unwrap();
            std::thread::sleep(Duration::from_millis(random.below(21)));
        }
    }
    drop(send);
    let mut took: Vec<Duration> = observer.join().unwrap();
    took.sort();
    assert_eq!(took.len(), 500);
    report_time::<S>("500 random changes: median", took[250]);
    report_time::<S>("500 random changes: 99 of 100", took[495]);
    report_time::<S>("500 random changes: worst", took[499]);
    assert!(took[499] < 10 * SECOND, "{:?}", took[499]);
    assert!(took[250] < Duration::from_millis(200), "{:?}", took[250]);
    let left = there.iter().filter(|there| **there).count();
    assert_eq!(props.snapshot().keys().len(), left);
}

pub(crate) fn a_key_that_is_created_later_is_followed<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[]) else {
        return;
    };
    let source = S::prefix(scenario.proxy.port(), "one/two/three");
    let props = Properties::builder().source(source).build().unwrap();
    wait_until(SOON, "the source is up", || is_up(&props));
    assert!(props.snapshot().keys().is_empty());
    // The watch has to be active before the key is created.
    std::thread::sleep(SECOND / 2);
    let begun = Instant::now();
    scenario.store.put("one/two/three/deep/n", "1");
    wait_until(SOON, "the new key", || {
        props.get_opt::<i64>("deep.n").unwrap() == Some(1)
    });
    let took = begun.elapsed();
    report_time::<S>("created three levels deep", took);
    assert!(took < SECOND, "{took:?}");
}

pub(crate) fn the_values_of_a_wiped_prefix_stay<S: Store>() {
    let Some(scenario) = scenario::<S>(30) else {
        return;
    };
    let props = scenario.follow();
    wait_until(SOON, "the source is up", || is_up(&props));
    let keys: Vec<String> = (0..30).map(|n| format!("app/n{n}")).collect();
    let all: Vec<(&str, Option<&[u8]>)> = keys.iter().map(|key| (key.as_str(), None)).collect();
    scenario.store.change(&all);
    let took = wait_until(SOON, "an update is withheld", || {
        health(&props).withheld.is_some()
    });
    report_time::<S>("a wiped prefix: withheld", took);
    let until = Instant::now() + SECOND;
    while Instant::now() < until {
        assert!((0..30).all(|n| props.get::<i64>(&format!("n{n}")).is_ok()));
        std::thread::sleep(Duration::from_millis(5));
    }
    // A new connection reports the same.
    scenario.proxy.cut();
    wait_until(SOON, "it is connected again", || scenario.proxy.open() > 0);
    wait_until(SOON, "it is still withheld", || {
        let health = health(&props);
        health.withheld.is_some() && health.age.is_some_and(|age| age < SECOND)
    });
    assert_eq!(props.snapshot().keys().len(), 30);
    // They come back one by one.
    for (back, key) in (1..30).zip(&keys) {
        scenario.store.put(key, "7");
        wait_until(SOON, "the program has seen the key", || {
            health(&props)
                .withheld
                .is_some_and(|it| it.removed == 30 - back)
        });
        assert_eq!(props.snapshot().keys().len(), 30, "{back} are back");
    }
    scenario.store.put(&keys[29], "7");
    wait_until(SOON, "nothing is withheld any more", || is_up(&props));
    assert!(health(&props).withheld.is_none());
    assert!((0..30).all(|n| props.get::<i64>(&format!("n{n}")).unwrap() == 7));
}

pub(crate) fn a_start_waits_for_a_late_store_or_continues_without_it<S: Store>() {
    const LATE: Duration = Duration::from_secs(3);
    let Some(scenario) = scenario::<S>(2) else {
        return;
    };
    scenario.proxy.set(Mode::Refuse);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LATE);
            scenario.proxy.set(Mode::Pass);
        });
        let source = || S::prefix(scenario.proxy.port(), "app");
        let optional = source().with(|policy| policy.optional());
        let without = Properties::builder().source(optional).build().unwrap();
        assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
        assert!(without.get_opt::<i64>("n1").unwrap().is_none());
        let late = source().with(|policy| policy.required_within(10 * SECOND));
        let with = Properties::builder().source(late).build().unwrap();
        let took = begun.elapsed();
        report_time::<S>("a start that waits for a store that is 3 s late", took);
        assert!(took >= LATE && took < LATE + 6 * SECOND, "{took:?}");
        assert_eq!(with.get::<i64>("n1").unwrap(), 0);
        wait_until(6 * SECOND, "the source is up", || {
            without.get_opt::<i64>("n1").unwrap() == Some(0)
        });
    });
}

pub(crate) fn a_start_without_the_store_uses_the_cache<S: Store>() {
    let Some(mut scenario) = scenario::<S>(20) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let start = |scenario: &Scenario<S>| {
        let source = S::prefix(scenario.proxy.port(), "app").with(|policy| policy.cached());
        let props = Properties::builder().source(source).state_dir(dir.path());
        props.build().unwrap()
    };
    let props = start(&scenario);
    wait_until(SOON, "the first values are kept", || {
        !files(dir.path()).is_empty()
    });
    let first = files(dir.path());
    scenario.store.put("app/n1", "7");
    wait_until(SOON, "a change", || props.get::<i64>("n1").unwrap() == 7);
    // Shutdown does not wait for a slow disk.
    wait_until(SOON, "the change is kept", || files(dir.path()) != first);
    drop(props);
    scenario.server.kill();
    let begun = Instant::now();
    let props = start(&scenario);
    report_time::<S>("a start without the store", begun.elapsed());
    assert_eq!(props.get::<i64>("n1").unwrap(), 7);
    assert_eq!(props.snapshot().keys().len(), 20);
    assert!(is_stale(&props) && health(&props).cached.is_some());
    scenario.restart();
    scenario.store.put("app/n1", "8");
    wait_until(SOON, "the change", || props.get::<i64>("n1").unwrap() == 8);
    wait_until(SOON, "the source is up", || {
        is_up(&props) && health(&props).cached.is_none()
    });
}

/// Returns the complete files of a state directory with their contents.
fn files(dir: &Path) -> Vec<(OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap();
    let read = |entry: std::io::Result<DirEntry>| {
        let name = entry.unwrap().file_name();
        // A temporary file may have been deleted.
        let content = std::fs::read(dir.join(&name)).ok()?;
        let complete = name.to_str()?.ends_with(".cache");
        complete.then_some((name, content))
    };
    entries.filter_map(read).collect()
}

pub(crate) fn scopes_with_more_fields_are_stronger_in_their_order<S: Store>() {
    let scope = Scope::app("shop").profile("prod").profile("eu");
    let names = ["common", "common-prod", "common-eu"];
    let own = ["shop", "shop-prod", "shop-eu"];
    let names: Vec<&str> = names.into_iter().chain(own).collect();
    let Some(scenario) = Scenario::<S>::with(&[]) else {
        return;
    };
    for (n, name) in names.iter().enumerate() {
        scenario
            .store
            .put(&format!("conf/{name}/qps"), n.to_string());
        for stays in 0..9 {
            scenario
                .store
                .put(&format!("conf/{name}/stays{stays}"), "1");
        }
    }
    let sources = S::of_scope(scenario.proxy.port(), "conf", &scope);
    let props = Properties::builder().sources(sources).build().unwrap();
    let qps = props.property::<u32>("qps").default(99).build().unwrap();
    for (n, name) in names.iter().enumerate().rev() {
        wait_until(SOON, "the next layer shows", || qps.get() == n as u32);
        scenario.store.delete(&format!("conf/{name}/qps"));
    }
    wait_until(SOON, "the default is left", || qps.get() == 99);
}
