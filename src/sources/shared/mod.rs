//! Shared by several backends: addresses of servers, an HTTP client, TLS, and the key-value stores' common
//! part.

pub(super) mod address;
#[cfg(any(feature = "consul", feature = "etcd", feature = "http"))]
pub(super) mod http_client;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
pub(super) mod kv;
pub(super) mod tls;
