//! When the cache is written, and what survives a kill.

use super::*;

#[test]
fn many_updates_are_few_writes_and_the_last_is_durable() {
    let place = Place::new();
    let (stream, props) = streaming(&place.dir);
    let done = Arc::new(AtomicBool::new(false));
    let (dir, stop) = (place.dir.clone(), Arc::clone(&done));
    // A write is a file of its own, so its number tells.
    let counter = thread::spawn(move || {
        use std::os::unix::fs::MetadataExt;
        let (mut last, mut writes) = ((0, 0), 0);
        while !stop.load(Ordering::SeqCst) {
            let now = files(&dir)
                .iter()
                .filter(|file| file.extension().is_some_and(|e| e == "cache"))
                .find_map(|file| fs::metadata(file).ok())
                .map_or((0, 0), |data| (data.ino(), data.mtime_nsec()));
            writes += usize::from(now != last);
            last = now;
            thread::sleep(Duration::from_millis(1));
        }
        writes
    });
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        sent += 1;
        stream.send(sent);
        let due = Duration::from_millis(sent.unsigned_abs());
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let ended = Instant::now();
    // A process that is killed now has what was read here.
    assert!(eventually(DURABLE, || kept(&place.dir).is_ok_and(|n| n == sent)));
    let durable = ended.elapsed();
    done.store(true, Ordering::SeqCst);
    let writes = counter.join().unwrap();
    println!("{sent} updates in 2 s, {writes} writes, the last durable after {durable:?}");
    assert!(
        sent > 500 && writes <= 5 * 2 + 3,
        "{sent} updates, {writes} writes"
    );
    drop(props);
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_or_the_new() {
    if let Some(dir) = child::role() {
        let (stream, _props) = streaming(Path::new(&dir));
        child::report("ready");
        for n in 1.. {
            stream.send(n);
        }
    }
    let place = Place::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut loaded, mut temporary, mut advanced) = (0, 0, 0);
    let mut last = -1;
    const KILLS: usize = 110;
    for _ in 0..KILLS {
        let child = Child::of("writing::a_kill_at_any_moment_leaves_the_old_or_the_new")
            .role(place.dir.display())
            .start();
        // Half of them are killed about when the first write happens.
        let wait = match random.below(2) {
            0 => 45_000 + random.below(25_000),
            _ => random.below(300_000),
        };
        child.output.recv_timeout(SOON).unwrap();
        thread::sleep(Duration::from_micros(wait));
        child.signal("-KILL");
        drop(child);
        temporary += files(&place.dir)
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "tmp"))
            .count();
        match kept(&place.dir) {
            Ok(n) => {
                advanced += usize::from(n != last);
                (last, loaded) = (n, loaded + 1);
            }
            Err(error) => {
                let none = error.to_string().contains("no values are cached");
                assert!(none && loaded == 0, "{error}");
            }
        }
    }
    let left: Vec<_> = files(&place.dir)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "tmp"))
        .collect();
    println!(
        "{KILLS} kills: {loaded} loaded, {advanced} of them newer, {temporary} half written, \
         {} left",
        left.len()
    );
    assert!(
        loaded >= 60 && advanced >= 5,
        "{loaded} loaded, {advanced} newer"
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_a_cached_source_nothing_is_written() {
    let place = Place::new();
    let store = Store::of(&[("n", 1.into())]);
    let props = Properties::builder()
        .state_dir(&place.dir)
        .source(store)
        .build()
        .unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 1);
    drop(props);
    assert!(files(&place.dir).is_empty());
}

#[test]
fn two_processes_on_one_directory_never_mix() {
    if let Some(role) = child::role() {
        let (dir, first) = role.rsplit_once(' ').unwrap();
        let (stream, _props) = streaming(Path::new(dir));
        let mut n: i64 = first.parse().unwrap();
        child::report("ready");
        loop {
            n += 2;
            stream.send(n);
            thread::sleep(Duration::from_micros(200));
        }
    }
    let place = Place::new();
    let child = |first: i64| {
        let role = format!("{} {first}", place.dir.display());
        let child = Child::of("writing::two_processes_on_one_directory_never_mix")
            .role(role)
            .start();
        child.output.recv_timeout(SOON).unwrap();
        child
    };
    let _writers = [child(0), child(1)];
    assert!(eventually(SOON, || !files(&place.dir).is_empty()));
    let begun = Instant::now();
    let (mut reads, mut odd, mut even) = (0, 0, 0);
    while begun.elapsed() < Duration::from_secs(2) {
        match kept(&place.dir) {
            Ok(n) if n % 2 == 0 => even += 1,
            Ok(_) => odd += 1,
            Err(error) => assert!(
                error.to_string().contains("no values are cached"),
                "{error}"
            ),
        }
        reads += 1;
    }
    println!("{reads} reads, {even} of the one and {odd} of the other");
    assert!(odd > 0 && even > 0);
}

#[test]
fn shutdown_is_short_and_loses_nothing() {
    let place = Place::new();
    let (stream, props) = streaming(&place.dir);
    for n in 1..=50 {
        stream.send(n);
    }
    let begun = Instant::now();
    drop(props);
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(kept(&place.dir).unwrap(), 50);
}
