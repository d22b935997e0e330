//! A store, a proxy before it, and a program that follows the store through the proxy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use liveprops::health::{SourceHealth, Status};
use liveprops::source::Scope;
use liveprops::{Builder, Format, Properties, Source};

use crate::proxy::Proxy;
use crate::server::{Kind, Server};
use crate::support::child;
pub(crate) use crate::support::wait_until;

/// How long anything may take that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What a test does to a store, past the proxy.
pub(crate) trait Store: Sized + Send + Sync {
    const KIND: Kind;
    /// How many bytes the largest value has that the server takes.
    const LARGEST: usize;
    /// How many connections a source that follows the store has at least.
    const CONNECTIONS: usize = 1;

    fn connect(server: &Server) -> Self;
    /// Sets and deletes keys below the prefix `app`, all at once where the store can.
    fn change(&self, changes: &[(&str, Option<&[u8]>)]);
    /// The source of a prefix.
    fn prefix(port: u16, prefix: &str) -> Box<dyn Source>;
    /// The source of a prefix with a document in TOML in one of its keys.
    fn with_document(port: u16, prefix: &str, key: &str) -> Box<dyn Source>;
    /// The source of one key that holds a document in TOML.
    fn document(port: u16, key: &str) -> Box<dyn Source>;
    fn of_scope(port: u16, prefix: &str, scope: &Scope) -> Vec<Box<dyn Source>>;
    /// All that is there below the prefix `app`.
    fn all(&self) -> BTreeMap<String, String>;
    /// How many of its readers the server keeps books of, where it does.
    fn readers(&self) -> usize {
        0
    }

    fn put(&self, key: &str, value: impl AsRef<[u8]>) {
        self.change(&[(key, Some(value.as_ref()))]);
    }

    fn delete(&self, key: &str) {
        self.change(&[(key, None)]);
    }
}

pub(crate) struct Scenario<S> {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) store: S,
}

impl<S: Store> Scenario<S> {
    /// A store with some values; `None` where no server can be had.
    pub(crate) fn with(values: &[(&str, &str)]) -> Option<Self> {
        let scenario = Self::of(Server::start(S::KIND)?);
        values
            .iter()
            .for_each(|(key, value)| scenario.store.put(key, value));
        Some(scenario)
    }

    /// With a server that runs.
    pub(crate) fn of(server: Server) -> Self {
        Self {
            proxy: Proxy::before(server.port()),
            store: S::connect(&server),
            server,
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        Properties::builder().source(S::prefix(self.proxy.port(), "app"))
    }

    /// A program that follows the prefix `app`.
    pub(crate) fn follow(&self) -> Properties {
        self.builder().build().unwrap()
    }

    /// Whether a program holds what the store does, no more and no less.
    pub(crate) fn agrees(&self, props: &Properties) -> bool {
        let all = self.store.all();
        let same = |(key, value): (&String, &String)| {
            let key = key["app/".len()..].replace('/', ".");
            props.get_opt::<String>(&key).unwrap().as_ref() == Some(value)
        };
        props.snapshot().keys().len() == all.len() && all.iter().all(same)
    }

    /// Starts the server again, and a client of it.
    pub(crate) fn restart(&mut self) {
        assert!(self.server.restart());
        self.store = S::connect(&self.server);
    }
}

/// The store's health: it is the weakest source.
pub(crate) fn health(props: &Properties) -> SourceHealth {
    props.health().sources.last().unwrap().clone()
}

pub(crate) fn is_up(props: &Properties) -> bool {
    matches!(health(props).status, Status::Up)
}

pub(crate) fn is_stale(props: &Properties) -> bool {
    matches!(health(props).status, Status::Stale { .. })
}

/// Prints a figure, with the store it is of.
pub(crate) fn tell<S: Store>(what: &str, took: Duration) {
    say(format!("{:?}: {what}: {} ms", S::KIND, took.as_millis()));
}

/// Prints a line, also from a child.
pub(crate) fn say(line: String) {
    match child::role() {
        Some(_) => child::say(line),
        None => println!("{line}"),
    }
}

/// So many threads of the crate's have panicked.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if thread
                .name()
                .is_some_and(|name| name.starts_with("liveprops"))
            {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            tell(panic);
        }));
    });
}

/// Reads a value all the time, whatever becomes of the store.
pub(crate) struct Reader {
    longest: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Reader {
    pub(crate) fn of(props: &Properties) -> Self {
        count_panics();
        let reader = Self {
            longest: Arc::default(),
            ended: Arc::default(),
        };
        let handle = props.property::<i64>("n1").default(-1).build().unwrap();
        let (longest, ended) = (Arc::clone(&reader.longest), Arc::clone(&reader.ended));
        std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let _ = handle.get();
                longest.fetch_max(begun.elapsed().as_millis() as u64, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        reader
    }

    /// A fault is over: the program is up and holds what the store does, nothing has panicked and
    /// no read has waited.
    #[track_caller]
    pub(crate) fn is_well<S: Store>(&self, scenario: &Scenario<S>, props: &Properties) {
        wait_until(SOON, "it is up", || is_up(props));
        wait_until(SOON, "it holds what the store does", || {
            scenario.agrees(props)
        });
        // A machine that is busy makes a thread wait, but not for as long as a store does.
        let longest = self.longest.load(Ordering::SeqCst);
        assert!(longest < 500, "a read took {longest} ms");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

#[allow(dead_code)] // by some stores only
pub(crate) fn toml() -> Format {
    Format::toml()
}
