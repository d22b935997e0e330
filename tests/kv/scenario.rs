//! A store, a proxy in front of it, and programs that follow the store through the proxy.

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

/// The longest wait for an expected event.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A client that changes a store without the proxy.
pub(crate) trait Store: Sized + Send + Sync {
    const KIND: Kind;
    /// The size limit of values in bytes.
    const LARGEST: usize;
    /// The least number of connections of a source.
    const CONNECTIONS: usize = 1;

    fn connect(server: &Server) -> Self;
    /// Sets and deletes keys below the prefix `app`, atomically if the store supports it.
    fn change(&self, changes: &[(&str, Option<&[u8]>)]);
    /// Returns a source of a prefix.
    fn prefix(port: u16, prefix: &str) -> Box<dyn Source>;
    /// Returns a source of a prefix in which one key contains a TOML document.
    fn with_document(port: u16, prefix: &str, key: &str) -> Box<dyn Source>;
    /// Returns a source of one key that contains a TOML document.
    fn document(port: u16, key: &str) -> Box<dyn Source>;
    fn of_scope(port: u16, prefix: &str, scope: &Scope) -> Vec<Box<dyn Source>>;
    /// Returns all keys below the prefix `app` with their values.
    fn all(&self) -> BTreeMap<String, String>;
    /// Returns how many readers the server tracks; 0 if it tracks none.
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
    /// Starts a store with some values; `None` if no server is available.
    pub(crate) fn with(values: &[(&str, &str)]) -> Option<Self> {
        let scenario = Self::of(Server::start(S::KIND)?);
        values
            .iter()
            .for_each(|(key, value)| scenario.store.put(key, value));
        Some(scenario)
    }

    /// Uses a running server.
    pub(crate) fn of(server: Server) -> Self {
        Self {
            proxy: Proxy::new(server.port()),
            store: S::connect(&server),
            server,
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        Properties::builder().source(S::prefix(self.proxy.port(), "app"))
    }

    /// Creates a program that follows the prefix `app`.
    pub(crate) fn follow(&self) -> Properties {
        self.builder().build().unwrap()
    }

    /// Returns whether a program has exactly the keys and values of the store.
    pub(crate) fn agrees(&self, props: &Properties) -> bool {
        let all = self.store.all();
        let same = |(key, value): (&String, &String)| {
            let key = key["app/".len()..].replace('/', ".");
            props.get_opt::<String>(&key).unwrap().as_ref() == Some(value)
        };
        props.snapshot().keys().len() == all.len() && all.iter().all(same)
    }

    /// Restarts the server and reconnects the client.
    pub(crate) fn restart(&mut self) {
        assert!(self.server.restart());
        self.store = S::connect(&self.server);
    }
}

/// Returns the health of the store, which is the weakest source.
pub(crate) fn health(props: &Properties) -> SourceHealth {
    props.health().sources.last().unwrap().clone()
}

pub(crate) fn is_up(props: &Properties) -> bool {
    matches!(health(props).status, Status::Up)
}

pub(crate) fn is_stale(props: &Properties) -> bool {
    matches!(health(props).status, Status::Stale { .. })
}

/// Prints a duration with the name of the store.
pub(crate) fn report_time<S: Store>(what: &str, took: Duration) {
    report(format!("{:?}: {what}: {} ms", S::KIND, took.as_millis()));
}

/// Prints a line; in a child, sends it to the parent.
pub(crate) fn report(line: String) {
    match child::role() {
        Some(_) => child::report(line),
        None => println!("{line}"),
    }
}

/// The number of panicked threads of the crate.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if thread
                .name()
                .is_some_and(|name| name.starts_with("liveprops"))
            {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            default_hook(panic);
        }));
    });
}

/// Reads a value continuously during faults of the store.
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

    /// Asserts that a program has recovered: it is up and has the values of the store, no thread
    /// has panicked and no read has waited.
    #[track_caller]
    pub(crate) fn assert_recovered<S: Store>(&self, scenario: &Scenario<S>, props: &Properties) {
        wait_until(SOON, "the source is up", || is_up(props));
        wait_until(SOON, "it holds what the store does", || {
            scenario.agrees(props)
        });
        // A busy machine delays a thread as well, but for less time than a store.
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
