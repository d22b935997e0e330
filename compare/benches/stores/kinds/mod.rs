//! One bare client per store.

pub(crate) mod consul;
pub(crate) mod etcd;
pub(crate) mod nats;
pub(crate) mod zookeeper;
