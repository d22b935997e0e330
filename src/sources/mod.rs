//! The backends: one file or folder for each.
//!
//! Each is a [`Source`](crate::Source) that a program gives to the builder. Files and directories share
//! `fs::watch`, which reads files safely and watches them; `Http` reads `file:` addresses by it too. The
//! parts that backends of several kinds need are in `shared`.

mod args;
#[cfg(feature = "consul")]
mod consul;
mod env;
#[cfg(feature = "etcd")]
mod etcd;
mod fs;
#[cfg(feature = "http")]
mod http;
mod memory;
#[cfg(feature = "nats")]
mod nats;
mod shared;
#[cfg(feature = "zookeeper")]
mod zookeeper;

#[cfg(feature = "http")]
pub use self::http::Http;
pub use args::Args;
#[cfg(feature = "consul")]
pub use consul::Consul;
pub use env::Env;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use fs::dir::Dir;
pub use fs::file::File;
pub use memory::Memory;
#[cfg(feature = "nats")]
pub use nats::Nats;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
pub use shared::kv::locator::{Location, LocationPart, Locator};
#[cfg(feature = "zookeeper")]
pub use zookeeper::ZooKeeper;
