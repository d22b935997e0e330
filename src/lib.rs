//! Configuration that changes while the program runs: layered sources become one tree of typed,
//! live properties.
//!
//! ```
//! use liveprops::{Properties, sources::Memory};
//!
//! let config = Memory::from([("ratelimit.qps", 100)]); // in place of a file, the environment, ...
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
//! New users start with [`guide::getting_started`]. Other chapters of the [`guide`] explain
//! [layering](guide::layering), [conversions](guide::conversions), [changes](guide::changes),
//! [failures](guide::failures), [schemas](guide::schema) and [stores](guide::stores).
//!
//! # Overview
//!
//! | to | use |
//! |---|---|
//! | load and layer sources | [`Properties::builder`], [`sources`], [`Layer`] |
//! | read a value once | [`Properties::get`], [`get_or`](Properties::get_or), [`get_opt`](Properties::get_opt) |
//! | follow a key, or a table as a struct | [`Properties::property`], [`Properties::bind`]; both give a [`DynamicProperty`] |
//! | react to changes | [`on_change`](DynamicProperty::on_change), [`on_change_under`](Properties::on_change_under), [`changed`](DynamicProperty::changed) |
//! | read many keys of one generation | [`Properties::snapshot`] |
//! | write several keys as one | [`Properties::transaction`] |
//! | learn why a key has its value | [`Properties::explain`] |
//! | learn what is wrong | [`Properties::health`], [`Properties::status`], [`on_source_event`](Properties::on_source_event) |
//! | say what a program expects of a source | [`Source::with`], [`Policy`] |
//! | declare keys | [`Schema`] |
//! | compare, go back, try out | [`Properties::history`], [`rollback_to`](Properties::rollback_to), [`check`](Properties::check) |
//! | fix what must not change | [`Builder::bootstrap`], [`Builder::restart_required`] |
//! | write a source | [`Source`], [`source::conformance`] |
//!
//! # Features
//!
//! Each feature compiles alone, and changes nothing until its source or format is used.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `toml` | yes | TOML |
//! | `watch` | yes | file events; without them, files are polled |
//! | `json`, `yaml`, `properties`, `dotenv` | no | these formats |
//! | `http` | no | documents on web servers: [`sources`]`::Http` |
//! | `consul` | no | Consul's key-value store: [`sources`]`::Consul` |
//! | `etcd` | no | etcd 3.4 or newer: [`sources`]`::Etcd` |
//! | `nats` | no | key-value buckets of NATS JetStream: [`sources`]`::Nats` |
//! | `zookeeper` | no | ZooKeeper 3.6 or newer: [`sources`]`::ZooKeeper` |
//! | `test-util` | no | a clock that a test moves by hand: `test_util::ManualClock` |
//!
//! Each of the four stores also adds [`sources`]`::Locator`, which finds the address of a store.

// Shows on docs.rs which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod decode;
mod engine;
mod error;
mod format;
mod properties;
mod sorted;
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
        Health, PendingRestart, Rejected, SourceEvent, SourceEventKind, SourceHealth,
        StaleProperty, Status, WithheldRemoval,
    };
}

#[cfg(feature = "test-util")]
pub mod test_util {
    //! What the tests of a program that uses this crate may need.
    pub use crate::engine::manual_clock::ManualClock;
}

pub use error::{Error, ErrorKind};
pub use format::{Format, MAX_DOCUMENT_BYTES};
pub use properties::builder::Builder;
pub use properties::scoped::Scoped;
pub use properties::transaction::Transaction;
pub use properties::{DryRun, Properties};
pub use property::handle::DynamicProperty;
pub use schema::Schema;
pub use source::{CommitOutcome, Policy, RejectionScope, Source, SourceContext, Update, Watching};
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
