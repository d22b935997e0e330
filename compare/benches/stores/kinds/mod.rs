//! The stores.

pub(crate) mod consul;
pub(crate) mod etcd;
pub(crate) mod nats;
pub(crate) mod zookeeper;
