//! What key-value stores have in common: where one is (`endpoints`, `locator`), which of its keys are
//! meant and what they are called (`mapping`), what a store holds as one document (`mirror`), and the
//! options that all have (`options`).

pub(crate) mod endpoints;
pub(crate) mod locator;
pub(crate) mod mapping;
pub(crate) mod mirror;
pub(crate) mod options;
