//! The files of the cache: damaged, of others, on file systems that fail.

use super::*;

#[test]
fn damage_anywhere_is_rejected_with_a_reason() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into()), ("text", "good".into())]);
    let good = fs::read(&file).unwrap();
    let flips = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cuts = (0..good.len()).map(|at| good[..at].to_vec());
    let longer = [[&good[..], b"\0"].concat()];
    let mut tried = 0;
    for bytes in flips.chain(cuts).chain(longer) {
        fs::write(&file, bytes).unwrap();
        let error = place.start(&Store::down("test")).unwrap_err().to_string();
        let rejected = ["damaged", "cut short", "not a cache", "of format version"];
        let why = rejected.iter().any(|reason| error.contains(reason));
        assert!(why && error.contains("the store is down"), "{error}");
        tried += 1;
    }
    println!("{tried} damaged files of {} bytes rejected", good.len());
    assert!(tried > 200);

    // An optional source starts without it, and a store that answers is preferred to it.
    let optional = Store::down("test").with(|policy| policy.optional().cached());
    let props = Properties::builder()
        .state_dir(&place.dir)
        .source(optional)
        .build()
        .unwrap();
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|it| it.error.to_string().contains("damaged"))
    );
    drop(props);
    let props = place.start(&Store::of(&[("n", 3.into())])).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 3);
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|it| it.error.to_string().contains("damaged"))
    );
    drop(props);
    fs::write(&file, &good).unwrap();
    assert!(place.start(&Store::down("test")).is_ok());
}

#[test]
fn a_cache_file_of_another_owner_or_version_is_rejected() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    let good = fs::read(&file).unwrap();
    let error = place.start(&Store::down("other")).unwrap_err().to_string();
    assert!(error.contains("no values are cached"), "{error}");

    let mut foreign = good.clone();
    let owner = foreign
        .windows(4)
        .position(|bytes| bytes == b"test")
        .unwrap();
    foreign[owner] = b'b';
    seal(&mut foreign);
    fs::write(&file, foreign).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err().to_string();
    assert!(
        error.contains("of another source, \"store best\""),
        "{error}"
    );

    let mut newer = good;
    newer[8] = 3;
    seal(&mut newer);
    fs::write(&file, newer).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err().to_string();
    assert!(error.contains("of format version 3"), "{error}");
}

#[test]
fn cached_texts_of_another_encoding_are_not_used() {
    let start = |place: &Place, store: &Store, is_literal: bool| {
        let source = store.clone().with(|policy| match is_literal {
            true => policy.cached().without_references(),
            false => policy.cached(),
        });
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(source).build()
    };
    for was_literal in [false, true] {
        let place = Place::new();
        let greeting = || Store::of(&[("greeting", "x${y:z}w".into())]);
        drop(start(&place, &greeting(), was_literal).unwrap());
        let props = start(&place, &Store::down("test"), was_literal).unwrap();
        let read = if was_literal { "x${y:z}w" } else { "xzw" };
        assert_eq!(props.get::<String>("greeting").unwrap(), read);
        drop(props);
        let error = start(&place, &Store::down("test"), !was_literal).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("Policy::without_references"), "{error}");
        assert!(!error.contains("y:z"), "{error}");

        // Where nothing looks like a reference, both forms are the same.
        let place = Place::new();
        let plain = Store::of(&[("n", 1.into()), ("price", "$5 {net}".into())]);
        drop(start(&place, &plain, was_literal).unwrap());
        let props = start(&place, &Store::down("test"), !was_literal).unwrap();
        assert_eq!(props.get::<String>("price").unwrap(), "$5 {net}");
    }
}

#[test]
fn a_link_at_a_path_of_the_cache_is_never_followed() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    let treasure = place.dir.with_file_name("treasure");
    fs::write(&treasure, b"gold").unwrap();
    // What an attacker may have seen once: every name that a first write could have.
    for process in [std::process::id(), 1] {
        for n in 0..8 {
            let name = format!(".liveprops-{process}-0000000000000000-{n}.tmp");
            symlink(&treasure, place.dir.join(name)).unwrap();
        }
    }
    fs::rename(&file, place.dir.with_file_name("aside")).unwrap();
    symlink(place.dir.with_file_name("aside"), &file).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let kept = fs::read(place.dir.with_file_name("aside")).unwrap();

    fs::remove_file(&file).unwrap();
    symlink(&treasure, &file).unwrap();
    drop(place.start(&Store::of(&[("n", 2.into())])).unwrap());
    assert_eq!(fs::read(&treasure).unwrap(), b"gold");
    assert_eq!(fs::read(place.dir.with_file_name("aside")).unwrap(), kept);
    assert!(
        fs::symlink_metadata(&file).unwrap().is_file(),
        "the link itself was replaced"
    );
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
}

#[test]
fn only_files_without_a_possible_owner_are_removed() {
    let place = Place::new();
    fs::create_dir(&place.dir).unwrap();
    let at = |name: &str| place.dir.join(name);
    let (old, new) = (at(".liveprops-1-aa-0.tmp"), at(".liveprops-2-aa-0.tmp"));
    let foreign = at("notes.tmp");
    for path in [&old, &new, &foreign] {
        fs::write(path, b"half").unwrap();
    }
    let hour = SystemTime::now() - Duration::from_secs(3_600);
    for path in [&old, &foreign] {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(hour).unwrap();
    }
    drop(place.start(&Store::of(&[("n", 1.into())])).unwrap());
    assert!(!old.exists());
    assert!(new.exists() && foreign.exists());
    assert_eq!(files(&place.dir).len(), 3);
}

/// Two containers on one directory: each is process 1 of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_start_in_one_container_leaves_the_file_that_another_container_writes() {
    const TEST: &str =
        "file_system::a_start_in_one_container_leaves_the_file_that_another_container_writes";
    if let Some(role) = child::role() {
        let (dir, what) = role.rsplit_once(' ').unwrap();
        if what == "starts" {
            let props = Place::at(dir)
                .start(&Store::of(&[("n", 1.into())]))
                .unwrap();
            drop(props);
            return child::report("started");
        }
        let (stream, props) = streaming(Path::new(dir));
        let (events, _guard) = diary(&props);
        child::report("ready");
        let (closed, is_closed) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            let _ = closed.send(());
        });
        for n in 1.. {
            stream.send_large(n);
            if is_closed.try_recv().is_ok() {
                break;
            }
        }
        let failed = |kind: &SourceEventKind| matches!(kind, SourceEventKind::Degraded(_));
        assert!(!events.lock().unwrap().iter().any(failed), "a write failed");
        return;
    }
    let place = Place::new();
    for wrapper in [
        &["unshare", "--pid", "--fork"][..],
        &["unshare", "--pid", "--fork", "--mount-proc"],
    ] {
        let child = |what: &str| {
            let child = Child::of(TEST).role(format!("{} {what}", place.dir.display()));
            child.under(wrapper)
        };
        let Some(writer) = child("writes") else {
            eprintln!("skipped: {wrapper:?} is not allowed here");
            continue;
        };
        let mut writer = writer.start();
        writer.output.recv_timeout(SOON).unwrap();
        let mut seen = 0;
        let begun = Instant::now();
        // Starts meet files that are being written, again and again.
        while seen < 5 && begun.elapsed() < Duration::from_secs(20) {
            let is_aside = |path: &PathBuf| path.extension().is_some_and(|it| it == "tmp");
            let before: Vec<_> = files(&place.dir).into_iter().filter(is_aside).collect();
            if before.is_empty() {
                continue;
            }
            seen += 1;
            let starter = child("starts").unwrap().start();
            starter.output.recv_timeout(SOON).unwrap();
        }
        assert!(seen > 0, "no file was seen while it was written");
        assert!(writer.exits_successfully(), "{wrapper:?}");
    }
}

#[test]
fn an_unwritable_cache_directory_is_reported_once_and_changes_nothing_else() {
    let place = Place::new();
    // A directory cannot be made below a file.
    fs::write(&place.dir, b"in the way").unwrap();
    let store = Store::of(&[("n", 1.into())]);
    let props = place.start(&store).unwrap();
    let (events, _guard) = diary(&props);
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    let reason = first_source(&props).degraded.unwrap().to_string();
    assert!(reason.contains("cannot be cached"), "{reason}");
    assert!(props.health().is_up());
    store.set("n", 2);
    assert!(eventually(SOON, || props.get::<i64>("n").unwrap() == 2));
    thread::sleep(Duration::from_millis(800));
    let told = events.lock().unwrap();
    let told = told
        .iter()
        .filter(|kind| matches!(kind, SourceEventKind::Degraded(_)));
    assert!(told.count() <= 1);

    fs::remove_file(&place.dir).unwrap();
    assert!(eventually(SOON, || first_source(&props).degraded.is_none()));
    drop(props);
    let props = place.start(&Store::down("test")).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
}

#[test]
fn a_rename_that_fails_leaves_nothing_behind() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(file.join("in the way"), b"").unwrap();
    let props = place.start(&Store::of(&[("n", 2.into())])).unwrap();
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    assert_eq!(files(&place.dir), [file]);
}

/// A small file system of its own, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let dir = dir.to_owned();
        let mut mount = Command::new("mount");
        let mount = mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&dir);
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then_some(Self(dir))
    }

    fn again(&self, options: &str) {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", options]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_or_read_only_file_system_keeps_nothing_from_working() {
    let place = Place::new();
    let Some(mounted) = Mounted::new(&place.dir, "size=16k,mode=700") else {
        println!("SKIPPED: no file system can be mounted here");
        return;
    };
    let store = Store::of(&[("n", 1.into())]);
    let props = place.start(&store).unwrap();
    assert!(eventually(SOON, || !files(&place.dir).is_empty()));
    let file = place.file();
    store.set("large", "x".repeat(30_000));
    store.set("n", 2);
    assert!(eventually(SOON, || props.get::<i64>("n").unwrap() == 2));
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    assert_eq!(
        files(&place.dir),
        *std::slice::from_ref(&file),
        "nothing half written stays"
    );
    assert!(props.health().is_up());
    let old = {
        let copy = Place::new();
        fs::create_dir(&copy.dir).unwrap();
        fs::copy(&file, copy.dir.join(file.file_name().unwrap())).unwrap();
        copy.start(&Store::down("test"))
            .unwrap()
            .get::<i64>("n")
            .unwrap()
    };
    assert_eq!(old, 1, "the old file is still whole");

    store.values.lock().unwrap().remove("large");
    assert!(eventually(SOON, || first_source(&props).degraded.is_none()));

    mounted.again("remount,ro");
    store.set("n", 3);
    assert!(eventually(SOON, || first_source(&props).degraded.is_some()));
    assert_eq!(props.get::<i64>("n").unwrap(), 3);
    mounted.again("remount,rw");
    assert!(eventually(SOON, || first_source(&props).degraded.is_none()));
    assert_eq!(files(&place.dir), [file]);
    drop(props);
    assert_eq!(
        place
            .start(&Store::down("test"))
            .unwrap()
            .get::<i64>("n")
            .unwrap(),
        3
    );
}

#[test]
fn only_the_user_may_read_whatever_the_umask() {
    if let Some(dir) = child::role() {
        let place = PathBuf::from(dir);
        let (stream, props) = streaming(&place);
        stream.send(1);
        drop(props);
        child::report("kept");
        return;
    }
    let test = "file_system::only_the_user_may_read_whatever_the_umask";
    for umask in ["000", "022", "077"] {
        let place = Place::new();
        let shell = format!("umask {umask}; exec \"$@\"");
        let child = Child::of(test).role(place.dir.display());
        child.under(&["sh", "-c", &shell, "sh"]).unwrap().succeeds();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&place.dir), 0o700, "umask {umask}");
        assert_eq!(mode(&place.file()), 0o600, "umask {umask}");
        assert_eq!(kept(&place.dir).unwrap(), 1);
    }
    // A directory that is there stays as it is.
    let place = Place::new();
    fs::DirBuilder::new()
        .mode(0o750)
        .create(&place.dir)
        .unwrap();
    place.keep(&[("n", 1.into())]);
    let mode = fs::metadata(&place.dir).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o750);
}

#[test]
fn a_cache_file_that_others_may_write_is_not_used() {
    let place = Place::new();
    let file = place.keep(&[("n", 1.into())]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let error = place.start(&Store::down("test")).unwrap_err();
    assert!(error.to_string().contains("writable by others"), "{error}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    drop(place.start(&Store::down("test")).unwrap());
    if Command::new("chown")
        .arg("65534")
        .arg(&file)
        .status()
        .is_ok_and(|done| done.success())
    {
        let error = place.start(&Store::down("test")).unwrap_err();
        assert!(error.to_string().contains("another user"), "{error}");
    }
}

#[test]
fn a_good_cache_is_used_whatever_the_others_hold() {
    let place = Place::new();
    let store = |name: &str, value: i64| {
        let mut store = Store::of(&[(name, value.into())]);
        store.name = name.to_owned();
        store
    };
    let start = |down: bool, most: i64| {
        let mut builder = Properties::builder().state_dir(&place.dir);
        for (name, value) in [("a", 1), ("b", 5), ("c", 5)] {
            let store = store(name, value);
            store.is_down(down);
            let optional = name != "a";
            builder = builder.source(store.with(move |policy| match optional {
                true => policy.optional().cached(),
                false => policy.cached(),
            }));
        }
        let schema = ["a", "b", "c"].iter().fold(Schema::new(), |schema, key| {
            let key = Schema::key::<i64>(key);
            schema.declare(key.validate("too much", move |n| {
                (*n <= most)
                    .then_some(())
                    .ok_or_else(|| "not accepted".into())
            }))
        });
        builder.schema(schema).build()
    };
    drop(start(false, 9).unwrap());
    let props = start(true, 2).unwrap();
    assert_eq!(props.get::<i64>("a").unwrap(), 1);
    assert_eq!(props.get_opt::<i64>("b").unwrap(), None);
    assert!(
        props
            .health()
            .rejected
            .iter()
            .any(|rejected| rejected.error.to_string().contains("too much"))
    );
}

#[test]
fn a_start_uses_the_cache_while_the_store_sends_nonsense() {
    let place = Place::new();
    place.keep(&[("n", 1.into()), ("other", 1.into())]);
    let rule = |view: &liveprops::Snapshot| match view.get::<i64>("n").unwrap_or_default() {
        n if n > 9 => Err(format!("{n} is too much")),
        _ => Ok(()),
    };
    let store = Store::of(&[("n", 99.into()), ("other", 2.into())]);
    let source = store.clone().with(|policy| policy.cached());
    let builder = Properties::builder().state_dir(&place.dir).validate(rule);
    let props = builder.source(source).build().unwrap();
    let both = || {
        (
            props.get::<i64>("n").unwrap(),
            props.get::<i64>("other").unwrap(),
        )
    };
    assert_eq!(both(), (1, 1));
    let health = first_source(&props);
    assert!(health.cached.is_some(), "{health:?}");
    let Status::Stale { reason, .. } = health.status else {
        panic!("{health:?}");
    };
    let told = reason.to_string();
    assert!(
        told.contains("99 is too much") && told.contains("test"),
        "{told}"
    );
    store.set("n", 5);
    assert!(eventually(SOON, || both() == (5, 2)));
    assert!(eventually(SOON, || first_source(&props).cached.is_none()
        && props.health().is_up()));
    drop(props);

    // Without a cache, one that the program can do without is done without.
    let bad = Store::of(&[("n", 99.into())]);
    let start = |optional: bool| {
        let source = bad.clone().with(|policy| match optional {
            true => policy.optional(),
            false => policy,
        });
        Properties::builder().validate(rule).source(source).build()
    };
    assert!(start(false).is_err());
    let props = start(true).unwrap();
    assert_eq!(props.get_opt::<i64>("n").unwrap(), None);
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    bad.set("n", 3);
    assert!(eventually(SOON, || props.get_opt::<i64>("n").unwrap() == Some(3)));
    assert!(eventually(SOON, || props.health().is_up()));
}
