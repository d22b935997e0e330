//! Where values come from: one file or folder a backend.

mod args;
mod env;
mod memory;

pub use args::Args;
pub use env::Env;
pub use memory::Memory;
