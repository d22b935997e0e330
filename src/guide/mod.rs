//! Pages to read: how the crate behaves where several of its parts meet. They hold no code.

pub mod conversions {
    #![doc = include_str!("conversions.md")]
}
