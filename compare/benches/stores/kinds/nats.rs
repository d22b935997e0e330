//! NATS with the bucket watch of `async-nats`.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use futures_util::StreamExt;
use futures_util::stream;
use liveprops::Source;
use tokio::runtime::Runtime;

use crate::arrival::Arrival;
use crate::runtime;
use crate::server::Kind;
use crate::store::{All, Store, Watch};

pub(crate) struct Nats {
    runtime: Runtime,
    store: kv::Store,
}

/// Connects and opens the bucket.
async fn open(port: u16) -> kv::Store {
    let client = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
    let context = jetstream::new(client.unwrap());
    context.get_key_value("config").await.unwrap()
}

fn name(key: &str) -> String {
    key.replace('/', ".")
}

/// Follows a prefix and passes each value to `receive`.
pub(crate) async fn follow(
    port: u16,
    prefix: &str,
    ready: impl FnOnce(),
    mut receive: impl FnMut(&[u8]),
) {
    let mut watch = open(port).await.watch(format!("{prefix}.>")).await.unwrap();
    ready();
    while let Some(Ok(entry)) = watch.next().await {
        receive(&entry.value);
    }
}

impl Nats {
    /// Like [`watch`](Store::watch), but passes each value to another thread.
    fn watch_by_channel(port: u16, prefix: &str, arrival: Arc<Arrival>) {
        let (hand_over, values) = channel::<Vec<u8>>();
        thread::spawn(move || values.iter().for_each(|value| arrival.record(&value)));
        Self::watch_with(port, prefix, move |value| {
            let _ = hand_over.send(value.to_vec());
        });
    }

    fn watch_with(port: u16, prefix: &str, receive: impl FnMut(&[u8]) + Send + 'static) {
        let prefix = prefix.to_owned();
        let (send, ready) = channel();
        thread::spawn(move || {
            let ready = || send.send(()).unwrap();
            runtime().block_on(follow(port, &prefix, ready, receive));
        });
        ready.recv().unwrap();
    }
}

impl Store for Nats {
    const KIND: Kind = Kind::Nats;
    const NAME: &'static str = "NATS";
    const BARE: &'static str = "`async-nats`, `kv::Store::watch`";
    const READ: &'static str = "`async-nats`, `watch_with_history` to its end";
    const APART: Duration = Duration::from_millis(100);
    const OTHER: Option<Watch> = Some(Self::watch_by_channel);

    fn connect(port: u16) -> Self {
        let runtime = runtime();
        let store = runtime.block_on(async {
            let client = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
            let config = kv::Config {
                bucket: "config".to_owned(),
                ..kv::Config::default()
            };
            let context = jetstream::new(client.unwrap());
            context.create_key_value(config).await.unwrap()
        });
        Self { runtime, store }
    }

    fn put(&mut self, key: &str, value: &str) {
        let put = self.store.put(name(key), value.to_owned().into());
        self.runtime.block_on(put).unwrap();
    }

    fn fill(&mut self, all: &[(String, String)]) {
        let store = &self.store;
        let puts = stream::iter(all).map(|(key, value)| {
            let put = store.put(name(key), value.to_owned().into());
            async { put.await.map(drop).unwrap() }
        });
        let all = puts.buffer_unordered(100).collect::<Vec<()>>();
        self.runtime.block_on(all);
    }

    fn source(port: u16, prefix: &str) -> Box<dyn Source> {
        let nats = liveprops::sources::Nats::bucket("config").prefix(prefix);
        Box::new(nats.address(format!("nats://127.0.0.1:{port}")))
    }

    fn watch(port: u16, prefix: &str, arrival: Arc<Arrival>) {
        Self::watch_with(port, prefix, move |value| arrival.record(value));
    }

    fn read(port: u16, prefix: &str) -> All {
        runtime().block_on(async {
            let store = open(port).await;
            let watch = store.watch_with_history(format!("{prefix}.>")).await;
            let mut watch = watch.unwrap();
            let mut all = All::new();
            while let Some(entry) = watch.next().await {
                let entry = entry.unwrap();
                all.insert(entry.key, entry.value.to_vec());
                if entry.delta == 0 {
                    break;
                }
            }
            all
        })
    }
}
