//! The places that values come from: one file or folder a backend.
//!
//! Each is a [`Source`](crate::Source) that a program hands to the builder. Files and directories
//! share one private room, `disk`, which reads safely and watches; `Http` reads by it too.

mod args;
#[cfg(feature = "consul")]
mod consul;
mod dir;
mod disk;
mod env;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
#[cfg(feature = "http")]
mod http;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
mod kv;
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "http",
    feature = "nats",
    feature = "zookeeper"
))]
mod trust;
#[cfg(any(feature = "consul", feature = "etcd", feature = "http"))]
mod web;
#[cfg(feature = "zookeeper")]
mod zookeeper;

pub use args::Args;
#[cfg(feature = "consul")]
pub use consul::Consul;
pub use dir::Dir;
pub use env::Env;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use file::File;
#[cfg(feature = "http")]
pub use http::Http;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
pub use kv::locator::{Found, Location, Locator};
pub use memory::Memory;
#[cfg(feature = "nats")]
pub use nats::Nats;
#[cfg(feature = "zookeeper")]
pub use zookeeper::ZooKeeper;
