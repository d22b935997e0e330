//! What several backends need: an HTTP client, TLS, and what stores of keys and values have in common.

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
