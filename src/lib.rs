//! Configuration that changes while the program runs: layered sources become one tree of typed,
//! live properties.
//!
//! ```
//! use liveprops::{Properties, sources::Memory};
//!
//! let config = Memory::from([("ratelimit.qps", 100)]); // stands for a file, the environment, ...
//! let props = Properties::builder().source(config.clone()).build()?;
//!
//! let qps = props.property::<u32>("ratelimit.qps").default(10).build()?;
//! assert_eq!(qps.get(), 100);
//!
//! config.set("ratelimit.qps", 500)?; // somebody changes the configuration
//! assert_eq!(qps.get(), 500);
//! # Ok::<(), liveprops::Error>(())
//! ```
//!
//! # The tour
//!
//! - [`Properties`] is the whole: build it from [`sources`], read by name with
//!   [`get`](Properties::get), ask [`explain`](Properties::explain) and
//!   [`health`](Properties::health).
//! - [`DynamicProperty`] is a handle on one key, or on a struct
//!   ([`bind`](Properties::bind)). Reading it costs about an atomic load.
//! - [`on_change`](DynamicProperty::on_change) and
//!   [`on_change_under`](Properties::on_change_under) subscribe;
//!   [`property::Subscription`] is the guard.
//! - [`Snapshot`] reads many keys of one generation, [`Transaction`] writes several as one.
//! - [`Source`] is what to implement for a place of one's own; [`Source::with`] says what the program
//!   wants of one: required or not, how stale, what to hold.
//! - [`Properties::history`], [`rollback_to`](Properties::rollback_to),
//!   [`check`](Properties::check) and [`Snapshot::changes_since`] compare and go back;
//!   [`Builder::bootstrap`] and [`Builder::restart_required`] fix what must not change.
//! - [`guide`] has chapters on layering, changes, failures, schemas and stores.
//! - [`guide::conversions`] says how text becomes numbers, durations, lists, structs and enums, what
//!   `${references}` do, and how lists of several layers make one.
//! - [`Schema`] declares keys with their types and rules; what breaks it is told all at once.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `toml` | yes | TOML |
//! | `watch` | yes | file events; without it files are polled |
//! | `json`, `yaml`, `properties`, `dotenv` | no | these formats |
//! | `http` | no | documents on web servers: [`sources`]`::Http` |
//! | `consul` | no | Consul's key-value store: [`sources`]`::Consul` |
//! | `etcd` | no | etcd, by its JSON gateway: [`sources`]`::Etcd` |
//! | `nats` | no | buckets of NATS JetStream: [`sources`]`::Nats` |
//! | `zookeeper` | no | ZooKeeper's tree: [`sources`]`::ZooKeeper` |
//!
//! With any of the four stores there is [`sources`]`::Locator`, too, which finds where a store is.

mod decode;
mod engine;
mod error;
mod format;
mod properties;
mod sync;
mod tree;
mod value;

pub mod guide;
pub mod property;
pub mod schema;
pub mod source;
pub mod sources;

pub mod explain {
    //! Why a key has the value it has.
    pub use crate::tree::explain::{Absence, Explanation, LayerValue, LayerView};
}

pub mod health {
    //! How the sources are doing.
    pub use crate::engine::health::{
        Health, Held, PendingRestart, Refused, SourceEvent, SourceEventKind, SourceHealth,
        StaleProperty, Status,
    };
}

pub use error::{Error, ErrorKind};
pub use format::{Format, MAX_DOCUMENT_BYTES};
pub use properties::builder::Builder;
pub use properties::scoped::Scoped;
pub use properties::transaction::Transaction;
pub use properties::{DryRun, Properties};
pub use property::handle::DynamicProperty;
pub use schema::Schema;
pub use source::{CommitOutcome, Policy, Refusal, Source, SourceContext, Update, Watching};
pub use tree::layer::{Layer, SourceId};
pub use tree::snapshot::{Pinned, Snapshot};
pub use value::Value;
pub use value::document::Document;
pub use value::key::{Key, MAX_DEPTH, MAX_KEY_BYTES};
pub use value::origin::Origin;
pub use value::scalar::{Bool, Number};
pub use value::secret::Secret;
pub use value::table::Table;
pub use value::units::ByteSize;

// The README's code is compiled and run with the doc tests.
#[cfg(all(doctest, feature = "toml"))]
#[doc = include_str!("../README.md")]
struct Readme;
