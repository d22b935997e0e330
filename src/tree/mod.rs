//! Layers become one tree: merge, follow references, find changes, explain.

mod arguments;
mod broken_secrets;
pub(crate) mod change;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod found;
pub(crate) mod interpolate;
pub(crate) mod items;
pub(crate) mod layer;
mod list_index;
mod masking;
pub(crate) mod merge;
pub(crate) mod missing;
pub(crate) mod provenance;
pub(crate) mod quoted;
pub(crate) mod rivals;
pub(crate) mod similar_key;
pub(crate) mod snapshot;
pub(crate) mod usage;
