//! ZooKeeper with `zookeeper-client`: a persistent recursive watch. Its events contain no values, so
//! each event causes a read.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use liveprops::Source;
use tokio::runtime::Runtime;
use zookeeper_client::{Acls, AddWatchMode, Client, CreateMode, CreateOptions};

use crate::arrival::Arrival;
use crate::runtime;
use crate::server::Kind;
use crate::store::{All, Store};

pub(crate) struct ZooKeeper {
    runtime: Runtime,
    client: Client,
}

/// The most reads at a time.
const WINDOW: usize = 256;

const OPTIONS: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

async fn open(port: u16) -> Client {
    Client::connect(&format!("127.0.0.1:{port}")).await.unwrap()
}

impl Store for ZooKeeper {
    const KIND: Kind = Kind::ZooKeeper;
    const NAME: &'static str = "ZooKeeper";
    const BARE: &'static str = "`zookeeper-client`, recursive watch, and the read of the node";
    const READ: &'static str = "`zookeeper-client`, children, and 256 reads at a time";
    const APART: Duration = Duration::from_millis(20);

    fn connect(port: u16) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(open(port));
        Self { runtime, client }
    }

    fn put(&mut self, key: &str, value: &str) {
        let path = format!("/{key}");
        let put = self.client.set_data(&path, value.as_bytes(), None);
        self.runtime.block_on(put).unwrap();
    }

    fn fill(&mut self, all: &[(String, String)]) {
        self.runtime.block_on(async {
            for some in all.chunks(500) {
                let folder = some[0].0.rsplit_once('/').map(|(folder, _)| folder);
                let folder = format!("/{}", folder.unwrap());
                self.client.mkdir(&folder, &OPTIONS).await.unwrap();
                let mut writer = self.client.new_multi_writer();
                for (key, value) in some {
                    let path = format!("/{key}");
                    writer
                        .add_create(&path, value.as_bytes(), &OPTIONS)
                        .unwrap();
                }
                writer.commit().await.unwrap();
            }
        });
    }

    fn source(port: u16, prefix: &str) -> Box<dyn Source> {
        let zookeeper = liveprops::sources::ZooKeeper::prefix(prefix);
        Box::new(zookeeper.address(format!("127.0.0.1:{port}")))
    }

    fn watch(port: u16, prefix: &str, arrival: Arc<Arrival>) {
        let path = format!("/{prefix}");
        let (send, ready) = channel();
        thread::spawn(move || {
            runtime().block_on(async {
                let client = open(port).await;
                let mode = AddWatchMode::PersistentRecursive;
                let mut watcher = client.watch(&path, mode).await.unwrap();
                send.send(()).unwrap();
                loop {
                    let event = watcher.changed().await;
                    arrival.record_event();
                    match client.get_data(&event.path).await {
                        Ok((value, _)) => arrival.record(&value),
                        Err(_) => return,
                    }
                }
            });
        });
        ready.recv().unwrap();
    }

    fn read(port: u16, prefix: &str) -> All {
        let path = format!("/{prefix}");
        runtime().block_on(async {
            let client = open(port).await;
            let (names, _) = client.get_children(&path).await.unwrap();
            let values = stream::iter(names).map(|name| {
                let data = client.get_data(&format!("{path}/{name}"));
                async { (name, data.await.unwrap().0) }
            });
            values.buffer_unordered(WINDOW).collect().await
        })
    }
}
