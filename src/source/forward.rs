//! Wrappers of a source that forward the methods of [`Source`] to it.
//!
//! Clippy rejects a wrapper that lacks a method, also one with a default: a method that is new in the
//! trait cannot be forgotten here.

use std::sync::Arc;

use crate::error::Error;
use crate::source::{
    Credentials, Policy, RejectionScope, Source, SourceContext, Timing, Update, Watching,
    WithPolicy,
};
use crate::value::document::Document;
use crate::value::origin::Origin;

/// Forwards the named methods of a wrapper, which has `#[deny(clippy::missing_trait_methods)]`, to
/// the source in it.
macro_rules! forward {
    ($self:ident => $source:expr; $($method:ident)*) => {
        $(forward!(@$method $self $source);)*
    };
    (@origin $self:ident $source:expr) => {
        fn origin(&$self) -> Origin {
            $source.origin()
        }
    };
    (@load $self:ident $source:expr) => {
        fn load(&$self) -> Result<Document, Error> {
            $source.load()
        }
    };
    (@poll $self:ident $source:expr) => {
        fn poll(&$self, committed: Option<&str>) -> Result<Update, Error> {
            $source.poll(committed)
        }
    };
    (@watching $self:ident $source:expr) => {
        fn watching(&$self) -> Watching {
            $source.watching()
        }
    };
    (@watch $self:ident $source:expr) => {
        fn watch(&$self, updates: &SourceContext) -> Result<(), Error> {
            $source.watch(updates)
        }
    };
    (@rejection_scope $self:ident $source:expr) => {
        fn rejection_scope(&$self) -> RejectionScope {
            $source.rejection_scope()
        }
    };
    (@timing $self:ident $source:expr) => {
        fn timing(&$self) -> Timing {
            $source.timing()
        }
    };
    (@policy $self:ident $source:expr) => {
        fn policy(&$self) -> Policy {
            $source.policy()
        }
    };
    (@credentials $self:ident $source:expr) => {
        fn credentials(&$self) -> Credentials {
            $source.credentials()
        }
    };
    // The wrapper is what gets the policy.
    (@with $self:ident $source:expr) => {
        fn with($self, edit: impl FnOnce(Policy) -> Policy) -> WithPolicy<Self>
        where
            Self: Sized,
        {
            WithPolicy::edited($self, edit)
        }
    };
}
pub(super) use forward;

#[deny(clippy::missing_trait_methods)]
impl<S: Source + ?Sized> Source for Arc<S> {
    forward!(self => (**self);
        origin load poll watching watch rejection_scope timing policy credentials with);
}

#[deny(clippy::missing_trait_methods)]
impl<S: Source + ?Sized> Source for Box<S> {
    forward!(self => (**self);
        origin load poll watching watch rejection_scope timing policy credentials with);
}
