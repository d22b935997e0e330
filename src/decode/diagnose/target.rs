//! The type that is decoded, as a trait object.
//!
//! The diagnosis is much code. With a type parameter it would be compiled again for each type that a program
//! reads.

use std::cell::{Cell, RefCell};

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::secret_paths::{SecretPaths, SiteTrial, secret_paths_with};
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::request::Request;

/// A type by its name, and by a function of its own, since two types may have one name.
pub(super) type TypeOf = (&'static str, usize);

/// The type that a request decodes.
pub(crate) trait Target {
    /// Runs a pass. Its value stays in the target.
    fn run_pass(
        &self,
        request: &Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        arena: &TextArena,
    ) -> Result<(), Fault>;

    /// Drops the value of the last pass.
    fn drop_value(&self);

    /// Leaks the value of the last pass.
    fn forget_value(&self);

    /// Keeps the value of the last pass while further passes run.
    fn keep_value(&self);

    fn identity(&self) -> TypeOf;

    /// The secret paths of the type. Leaks the values that it makes of placeholders.
    fn secret_paths(&self) -> SecretPaths;

    /// Reads a value at a path of the type, and nothing else. Leaks the value that the type makes of it.
    fn run_trial(&self, trial: &SiteTrial<'_>) -> Result<(), Fault>;
}

/// The only [`Target`].
pub(super) struct TargetType<T> {
    last: Cell<Option<T>>,
    kept: Cell<Option<T>>,
}

impl<T> TargetType<T> {
    pub(super) fn new() -> Self {
        Self {
            last: Cell::new(None),
            kept: Cell::new(None),
        }
    }

    pub(super) fn into_value(self) -> Option<T> {
        self.kept.into_inner()
    }
}

impl<T: DeserializeOwned> Target for TargetType<T> {
    fn run_pass(
        &self,
        request: &Request<'_>,
        diagnosis: &RefCell<Diagnosis>,
        arena: &TextArena,
    ) -> Result<(), Fault> {
        let value = request.run(Some((diagnosis, arena)))?;
        self.last.set(Some(value));
        Ok(())
    }

    fn drop_value(&self) {
        self.last.take();
    }

    fn forget_value(&self) {
        std::mem::forget(self.last.take());
    }

    fn keep_value(&self) {
        self.kept.set(self.last.take());
    }

    fn identity(&self) -> TypeOf {
        let own: fn(fn(T)) -> SecretPaths = secret_paths_with::<T>;
        (std::any::type_name::<T>(), own as usize)
    }

    fn secret_paths(&self) -> SecretPaths {
        secret_paths_with(std::mem::forget::<T>)
    }

    fn run_trial(&self, trial: &SiteTrial<'_>) -> Result<(), Fault> {
        trial.run::<T>()
    }
}
