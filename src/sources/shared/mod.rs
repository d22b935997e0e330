//! Shared by several backends: digests of content, addresses of servers, an HTTP client, TLS, and the
//! key-value stores' common part.

#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "http",
    feature = "nats",
    feature = "zookeeper"
))]
pub(super) mod address;
pub(super) mod digest;
#[cfg(any(feature = "consul", feature = "etcd", feature = "http"))]
pub(super) mod http_client;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
pub(super) mod kv;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "http",
    feature = "nats",
    feature = "zookeeper"
))]
pub(super) mod tls;
