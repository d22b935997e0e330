//! Configuration that changes while the program runs.

mod engine;
mod error;
mod format;
mod properties;
mod sync;
mod transaction;
mod tree;
mod value;

pub mod source;
pub mod sources;

pub mod property;

pub mod explain {
    //! Why a key has the value it has.
    pub use crate::tree::explain::{Explanation, LayerView, Says};
}

pub mod health {
    //! How the sources are doing.
    pub use crate::engine::health::{Health, SourceEvent, SourceEventKind, SourceHealth, Status};
}

pub use error::{Error, ErrorKind};
pub use format::{Format, MAX_DOCUMENT_BYTES};
pub use properties::{Builder, Properties, Scoped};
pub use property::handle::DynamicProperty;
pub use source::{Applied, Refusal, Source, Update, Updates, Watching};
pub use transaction::Transaction;
pub use tree::layer::{Layer, SourceId};
pub use tree::snapshot::Snapshot;
pub use value::Value;
pub use value::document::Document;
pub use value::key::{Key, MAX_DEPTH, MAX_KEY_BYTES};
pub use value::origin::Origin;
pub use value::secret::Secret;
pub use value::units::ByteSize;
