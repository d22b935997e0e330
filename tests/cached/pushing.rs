//! Sources that push, or report a part of their document, with a cache.

use super::*;

/// A polled source of documents that lack a part now and then.
struct Parts(Arc<Fill>);

type Fill = dyn Fn(&mut Document) -> Result<(), Error> + Send + Sync;

impl Source for Parts {
    fn origin(&self) -> Origin {
        Origin::new("parts", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        (self.0)(&mut document)?;
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_millis(20))
    }
}

#[test]
fn any_source_that_reports_a_part_keeps_its_values_while_it_runs_and_across_a_restart() {
    let problem = || Error::new(ErrorKind::Malformed, "cannot be read");
    let ways: [(&str, Error); 3] = [
        ("its key", problem().with_key("b".parse::<Key>().unwrap())),
        (
            "its origin",
            problem().with_origin(Origin::new("part", "two").at(3, 1)),
        ),
        ("nothing of it", problem()),
    ];
    for (way, problem) in ways {
        let place = Place::new();
        let broken = Arc::new(AtomicBool::new(false));
        let start = || {
            let (broken, problem) = (Arc::clone(&broken), problem.clone());
            let source = Parts(Arc::new(move |document| {
                document.set("a", 1, Origin::new("part", "one"))?;
                if broken.load(Ordering::SeqCst) {
                    document.report_unreadable(problem.clone());
                } else {
                    document.set("b.x", 2, Origin::new("part", "two").at(1, 5))?;
                }
                Ok(())
            }));
            let builder = Properties::builder().state_dir(&place.dir);
            builder
                .source(source.with(|policy| policy.cached()))
                .build()
                .unwrap()
        };
        let props = start();
        let (events, _guard) = diary(&props);
        broken.store(true, Ordering::SeqCst);
        assert!(eventually(SOON, || !props.health().is_up()), "{way}");
        assert_eq!(props.get::<i64>("b.x").unwrap(), 2, "{way}");
        let count = |which: fn(&SourceEventKind) -> bool| {
            let events = events.lock().unwrap();
            events.iter().filter(|kind| which(kind)).count()
        };
        let rejected = || count(|kind| matches!(kind, SourceEventKind::Rejected(_)));
        assert!(eventually(SOON, || rejected() == 1), "{way}");
        // Each poll repeats it, which is no event.
        let answered = first_source(&props).last_success;
        assert!(eventually(SOON, || first_source(&props).last_success > answered));
        assert_eq!(
            (rejected(), first_source(&props).rejections),
            (1, 1),
            "{way}"
        );
        assert_eq!(props.health().rejected.len(), 1, "{way}");
        drop(props);
        for _ in 0..2 {
            let props = start();
            assert_eq!(props.get::<i64>("b.x").unwrap(), 2, "{way}");
            assert!(!props.health().is_up(), "{way}");
            assert!(
                first_source(&props).cached.is_some(),
                "{way}: a value comes from disk"
            );
        }
        let props = start();
        let (events, _guard) = diary(&props);
        broken.store(false, Ordering::SeqCst);
        assert!(eventually(SOON, || props.health().is_up()), "{way}");
        let is_recovered = |kind: &SourceEventKind| matches!(kind, SourceEventKind::Recovered);
        let recovered = || events.lock().unwrap().iter().any(is_recovered);
        assert!(eventually(SOON, recovered), "{way}");
    }
}

#[test]
fn a_source_that_warns_is_not_up_and_loses_the_keys_that_it_omits() {
    let place = Place::new();
    let warns = Arc::new(AtomicBool::new(false));
    let start = || {
        let warns = Arc::clone(&warns);
        let source = Parts(Arc::new(move |document| {
            document.set("a", 1, Origin::new("part", "one"))?;
            if warns.load(Ordering::SeqCst) {
                let problem = Error::new(ErrorKind::Unavailable, "the token expires soon");
                document.report_problem(problem);
            } else {
                document.set("b", 2, Origin::new("part", "two"))?;
            }
            Ok(())
        }));
        let builder = Properties::builder().state_dir(&place.dir);
        let source = source.with(|policy| policy.cached());
        builder.source(source).build().unwrap()
    };
    let values = |props: &Properties| ["a", "b"].map(|key| props.get_opt::<i64>(key).unwrap());
    let props = start();
    assert_eq!(values(&props), [Some(1), Some(2)]);
    warns.store(true, Ordering::SeqCst);
    assert!(eventually(SOON, || values(&props) == [Some(1), None]));
    assert!(matches!(first_source(&props).status, Status::Stale { .. }));
    assert_eq!(props.health().rejected.len(), 1);
    drop(props);
    assert_eq!(values(&start()), [Some(1), None]);
}

/// A source that pushes, with a watch that the test supplies.
#[derive(Clone)]
struct Pusher {
    watch: Arc<Watch>,
    way: Watching,
}

type Watch = dyn Fn(&SourceContext) -> Result<(), Error> + Send + Sync;

impl Pusher {
    fn new(watch: impl Fn(&SourceContext) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self {
            watch: Arc::new(watch),
            way: Watching::Push,
        }
    }

    fn document(n: i64) -> Document {
        let mut document = Document::new();
        document.set("n", n, Origin::new("pusher", "")).unwrap();
        document
    }

    fn start(&self, place: &Place) -> Result<Properties, Error> {
        let source = self.clone().with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(source).build()
    }
}

impl Source for Pusher {
    fn origin(&self) -> Origin {
        Origin::new("pusher", "")
    }

    fn load(&self) -> Result<Document, Error> {
        Err(Error::new(ErrorKind::Unavailable, "the pusher is down"))
    }

    fn watching(&self) -> Watching {
        self.way
    }

    fn watch(&self, updates: &SourceContext) -> Result<(), Error> {
        (self.watch)(updates)
    }
}

/// A place where the value 1 of the pusher is kept.
fn pushed() -> Place {
    let place = Place::new();
    let good = Pusher::new(|updates| updates.send(Update::full(Pusher::document(1))).map(drop));
    drop(good.start(&place).unwrap());
    place
}

#[test]
fn a_source_whose_watch_fails_at_the_start_starts_from_the_cache_and_retries() {
    for way in [Watching::Push, Watching::Stream] {
        let place = pushed();
        let down = Arc::new(AtomicBool::new(true));
        let is_down = Arc::clone(&down);
        let mut pusher = Pusher::new(move |updates| {
            if is_down.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "the pusher is down"));
            }
            updates.send(Update::full(Pusher::document(2)))?;
            if way == Watching::Stream {
                updates.wait(SOON);
            }
            Ok(())
        });
        pusher.way = way;
        let props = pusher.start(&place).unwrap();
        assert_eq!(props.get::<i64>("n").unwrap(), 1, "{way:?}");
        let health = first_source(&props);
        assert!(health.cached.is_some(), "{way:?}: {health:?}");
        assert!(
            matches!(health.status, Status::Stale { .. }),
            "{way:?}: {health:?}"
        );
        let (events, _guard) = diary(&props);
        down.store(false, Ordering::SeqCst);
        let n = || props.get::<i64>("n").unwrap();
        assert!(
            eventually(SOON, || n() == 2),
            "{way:?}: {:?}",
            first_source(&props)
        );
        assert!(eventually(SOON, || props.health().is_up()), "{way:?}");
        assert!(first_source(&props).cached.is_none());
        let is_back = |kind: &SourceEventKind| matches!(kind, SourceEventKind::Reconnected);
        assert!(eventually(SOON, || events
            .lock()
            .unwrap()
            .iter()
            .any(is_back)));
    }
}

#[test]
fn a_source_that_has_not_pushed_yet_starts_from_the_cache_which_stays_as_it_is() {
    let place = pushed();
    let way_in: Arc<Mutex<Option<SourceContext>>> = Arc::default();
    let keeps = Arc::clone(&way_in);
    let pusher = Pusher::new(move |updates| {
        *keeps.lock().unwrap() = Some(updates.clone());
        Ok(())
    });
    // The first one ends without a push, which leaves the cache to the second.
    for _ in 0..2 {
        let props = pusher.start(&place).unwrap();
        assert_eq!(props.get::<i64>("n").unwrap(), 1);
        assert!(matches!(first_source(&props).status, Status::Stale { .. }));
    }
    let props = pusher.start(&place).unwrap();
    let updates = way_in.lock().unwrap().clone().unwrap();
    updates.send(Update::full(Pusher::document(2))).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 2);
    assert!(props.health().is_up() && first_source(&props).cached.is_none());
    drop(props);
    // One that pushes at once replaces what was kept, with all that belongs to it.
    let good = Pusher::new(|updates| updates.send(Update::full(Pusher::document(3))).map(drop));
    let props = good.start(&place).unwrap();
    assert_eq!(props.get::<i64>("n").unwrap(), 3);
    assert!(props.health().is_up() && first_source(&props).cached.is_none());
}

#[test]
fn a_source_that_pushes_less_at_the_start_than_was_kept_is_guarded_against() {
    let place = Place::new();
    let with = |keys: i64| {
        let pusher = Pusher::new(move |updates| {
            let mut document = Document::new();
            for key in 0..keys {
                document.set(&format!("k{key}"), key, Origin::new("pusher", ""))?;
            }
            // The source goes on although the update is withheld.
            let _ = updates.send(Update::full(document));
            Ok(())
        });
        let source = pusher.with(|policy| policy.cached().guarded(RemovalGuard::new()));
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(source).build().unwrap()
    };
    drop(with(20));
    let props = with(1);
    assert_eq!(props.snapshot().keys().len(), 20);
    assert!(
        first_source(&props).withheld.is_some(),
        "{:?}",
        first_source(&props)
    );
    assert!(!props.health().is_up());
}

#[test]
fn a_start_goes_on_without_an_optional_source_that_cannot_begin_to_push() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let pusher = Pusher::new(move |updates| match is_down.load(Ordering::SeqCst) {
        true => Err(Error::new(ErrorKind::Unavailable, "the pusher is down")),
        false => updates.send(Update::full(Pusher::document(2))).map(drop),
    });
    let start = |optional: bool| {
        let source = pusher.clone().with(|policy| match optional {
            true => policy.optional(),
            false => policy,
        });
        Properties::builder().source(source).build()
    };
    assert_eq!(start(false).unwrap_err().kind(), ErrorKind::Unavailable);
    let props = start(true).unwrap();
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    down.store(false, Ordering::SeqCst);
    assert!(eventually(SOON, || props.get_opt::<i64>("n").unwrap() == Some(2)));
    assert!(eventually(SOON, || props.health().is_up()));
}
