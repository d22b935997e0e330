//! The places that values come from.
//!
//! Each is a [`Source`](crate::Source) that a program hands to the builder. Files and directories
//! share one private room, `disk`, which reads safely and watches.

mod dir;
mod disk;
mod file;

pub use dir::Dir;
pub use file::File;
