//! Configuration that changes while the program runs.

pub(crate) mod error;
pub(crate) mod format;
pub mod source;
pub mod sources;
pub(crate) mod value;

pub use error::{Error, ErrorKind};
pub use source::{Refusal, Source, Update, Updates, Watching};
pub use value::Value;
pub use value::document::Document;
pub use value::key::Key;
pub use value::origin::Origin;
