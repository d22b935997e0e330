//! Where values come from: one file or folder a backend.

mod args;
mod memory;

pub use args::Args;
pub use memory::Memory;
