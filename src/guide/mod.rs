//! Chapters about how to use the crate. Start with [`getting_started`].

pub mod getting_started {
    #![doc = include_str!("getting_started.md")]
}
pub mod layering {
    #![doc = include_str!("layering.md")]
}
pub mod conversions {
    #![doc = include_str!("conversions.md")]
}
pub mod changes {
    #![doc = include_str!("changes.md")]
}
pub mod failures {
    #![doc = include_str!("failures.md")]
}
pub mod schema {
    #![doc = include_str!("schema.md")]
}
pub mod stores {
    #![doc = include_str!("stores.md")]
}
