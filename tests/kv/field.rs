//! A store, a proxy before it, and a program that follows the store through the proxy.

use std::time::{Duration, Instant};

use liveprops::health::{SourceHealth, Status};
use liveprops::source::Scope;
use liveprops::{Builder, Format, Properties, Source};

use crate::proxy::Proxy;
use crate::server::{Kind, Server};

/// How long anything may take that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What a test does to a store, past the proxy.
pub(crate) trait Store: Sized + Send + Sync {
    const KIND: Kind;

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

    fn put(&self, key: &str, value: impl AsRef<[u8]>) {
        self.change(&[(key, Some(value.as_ref()))]);
    }

    fn delete(&self, key: &str) {
        self.change(&[(key, None)]);
    }
}

pub(crate) struct Field<S> {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) store: S,
}

impl<S: Store> Field<S> {
    /// A store with some values; `None` where no server can be had.
    pub(crate) fn with(values: &[(&str, &str)]) -> Option<Self> {
        let server = Server::start(S::KIND)?;
        let field = Self {
            proxy: Proxy::before(server.port()),
            store: S::connect(&server),
            server,
        };
        values
            .iter()
            .for_each(|(key, value)| field.store.put(key, value));
        Some(field)
    }

    pub(crate) fn builder(&self) -> Builder {
        Properties::builder().source(S::prefix(self.proxy.port(), "app"))
    }

    /// A program that follows the prefix `app`.
    pub(crate) fn follow(&self) -> Properties {
        self.builder().build().unwrap()
    }

    /// Starts the server again, and a client of it.
    pub(crate) fn restart(&mut self) {
        assert!(self.server.restart());
        self.store = S::connect(&self.server);
    }
}

/// How long it took until something held.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
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
    println!("{:?}: {what}: {} ms", S::KIND, took.as_millis());
}

#[allow(dead_code)] // by some stores only
pub(crate) fn toml() -> Format {
    Format::toml()
}
