//! Follows a key-value store and prints its changes:
//!
//! ```sh
//! cargo run --example kv_watch --features consul,etcd,nats,zookeeper -- consul://127.0.0.1:8500/config
//! ```
//!
//! The other addresses are `etcd://host:2379/prefix`, `nats://host:4222/bucket/prefix` and
//! `zookeeper://host:2181/path`. The program ends when its input ends.

use std::io::Read;

use liveprops::{Error, ErrorKind, Properties, Source};

/// The source of an address.
fn source(url: &str) -> Result<Box<dyn Source>, Error> {
    let wrong = |why: String| Error::new(ErrorKind::InvalidConfig, why);
    let parts = url.split_once("://");
    let (scheme, rest) = parts.ok_or_else(|| wrong("the address has no scheme".into()))?;
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    let _ = (server, path);
    match scheme {
        #[cfg(feature = "consul")]
        "consul" => {
            let consul = liveprops::sources::Consul::prefix(path);
            Ok(Box::new(consul.address(format!("http://{server}"))))
        }
        #[cfg(feature = "etcd")]
        "etcd" => {
            let etcd = liveprops::sources::Etcd::prefix(path);
            Ok(Box::new(etcd.address(format!("http://{server}"))))
        }
        #[cfg(feature = "nats")]
        "nats" => {
            let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
            let nats = liveprops::sources::Nats::bucket(bucket).prefix(prefix);
            Ok(Box::new(nats.address(format!("nats://{server}"))))
        }
        #[cfg(feature = "zookeeper")]
        "zookeeper" => {
            let zookeeper = liveprops::sources::ZooKeeper::prefix(path);
            Ok(Box::new(zookeeper.address(server)))
        }
        _ => {
            // The error shows neither the user and password nor the path.
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            Err(wrong(format!(
                "`{scheme}://{host}`: no such store, or not built with its feature"
            )))
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("kv_watch URL")?;
    let store = source(&url)?;
    let props = Properties::builder()
        .on_source_event(|event| println!("{}: {:?}", event.name, event.kind))
        // The program also starts while the store is down.
        .source(store.with(|policy| policy.optional()))
        .build()?;
    for key in props.snapshot().keys() {
        println!("{}", props.explain(key.as_str()));
    }
    let _changes = props.on_change_under("", |batch| {
        println!("generation {}:", batch.generation());
        for change in batch.changes() {
            println!("  {change}");
        }
    })?;
    println!("watching");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
