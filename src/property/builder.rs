//! Builds a handle: default, validators, fallback keys.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Weak};

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::property::handle::{DynamicProperty, untyped};
use crate::property::inline;
use crate::property::registry::{Host, Registry, Shared};
use crate::property::slot::{Rule, Slot, Spec, Validator};
use crate::tree::snapshot::{Found, Generation};
use crate::value::coerce;
use crate::value::key::Key;

/// Builds a [`DynamicProperty`]; made by [`Properties::property`](crate::Properties::property) and
/// [`Properties::bind`](crate::Properties::bind).
#[must_use = "a builder does nothing until `build` is called"]
pub struct PropertyBuilder<T> {
    host: Weak<dyn Host>,
    prefix: Key,
    keys: Vec<Result<Key, Error>>,
    default: Option<Arc<dyn Fn() -> T + Send + Sync>>,
    validators: Vec<Validator<T>>,
    bind: bool,
}

impl<T: DeserializeOwned + Send + Sync + 'static> PropertyBuilder<T> {
    pub(crate) fn new(host: Weak<dyn Host>, prefix: Key, key: &str, bind: bool) -> Self {
        let first = Key::parse(key).and_then(|key| prefix.join(&key));
        Self {
            host,
            prefix,
            keys: vec![first],
            default: None,
            validators: Vec::new(),
            bind,
        }
    }

    /// The value while no layer defines the key. It counts for an absent key only, never in place
    /// of a malformed value.
    pub fn default(mut self, value: T) -> Self
    where
        T: Clone,
    {
        self.default = Some(Arc::new(move || value.clone()));
        self
    }

    /// A key to fall back to while the ones before it are absent; may be given several times. The
    /// property follows it: a change of the fallback alone is a change of the property.
    pub fn or_key(mut self, key: &str) -> Self {
        self.keys
            .push(Key::parse(key).and_then(|key| self.prefix.join(&key)));
        self
    }

    /// Refuses values for which `accept` is false: the update that brings one is refused and the
    /// last good value stays.
    pub fn validate(self, accept: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.validate_with(move |value| match accept(value) {
            true => Ok(()),
            false => Err("refused by the property's validator".to_owned()),
        })
    }

    /// As [`validate`](Self::validate), with the reason in words.
    pub fn validate_with(
        mut self,
        check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validators.push(Arc::new(check));
        self
    }

    /// Builds the handle.
    ///
    /// The key need not exist: with a default, or if `T` is an `Option`, the handle is valid at
    /// once and follows the key when it appears. Without either, a live handle needs its key: an
    /// update that takes it away is refused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Missing`] if the key is absent and nothing stands in for it,
    /// [`ErrorKind::Mismatch`] if its value cannot become a `T`, [`ErrorKind::Refused`] if a
    /// validator refuses the value or the default, [`ErrorKind::InvalidKey`] for a malformed key,
    /// [`ErrorKind::Closed`] if the properties are gone, [`ErrorKind::Reentrant`] if called from
    /// inside a validator.
    pub fn build(self) -> Result<DynamicProperty<T>, Error> {
        let keys: Box<[Key]> = self.keys.into_iter().collect::<Result<_, _>>()?;
        let absent: fn(&str) -> Result<T, Error> = match self.bind {
            true => |key| coerce::decode_table(key, None, false),
            false => |key| coerce::decode(key, None, false),
        };
        let spec = Spec {
            keys,
            bind: self.bind,
            decode: decode::<T>,
            absent,
            default: self.default,
            validators: self.validators,
        };
        build(spec, &self.host)
    }
}

impl<T> fmt::Debug for PropertyBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropertyBuilder")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn decode<T: DeserializeOwned>(
    generation: &Generation,
    key: &str,
    found: Found<'_>,
) -> Result<T, Error> {
    generation.decode_noting(key, found)
}

/// A handle like the one on `slot` with one more key before its default.
pub(crate) fn with_fallback<T: Send + Sync + 'static>(
    slot: &Slot<T>,
    key: &str,
) -> Result<DynamicProperty<T>, Error> {
    let Rule::Spec(spec) = &slot.rule else {
        let detail =
            "a property made by `map` has no keys of its own; add the fallback before mapping";
        return Err(Error::new(ErrorKind::Other, detail).with_key(&slot.keys[0]));
    };
    let mut keys = spec.keys.to_vec();
    keys.push(Key::parse(key)?);
    let spec = Spec {
        keys: keys.into(),
        bind: spec.bind,
        decode: spec.decode,
        absent: spec.absent,
        default: spec.default.clone(),
        validators: spec.validators.clone(),
    };
    build(spec, &slot.host)
}

fn build<T: Send + Sync + 'static>(
    spec: Spec<T>,
    host: &Weak<dyn Host>,
) -> Result<DynamicProperty<T>, Error> {
    if let Some(default) = &spec.default {
        spec.validate(&default()).map_err(|reason| {
            Error::new(
                ErrorKind::Refused,
                format!("the default is not acceptable: {reason}"),
            )
            .with_key(&spec.keys[0])
        })?;
    }
    let host_now = host.upgrade().ok_or_else(closed)?;
    let spec = Arc::new(spec);
    let mut outcome = Err(closed());
    host_now.between_commits(&mut |generation, registry| {
        outcome = match sharable(&spec, registry) {
            Some(slot) => Ok(DynamicProperty { slot }),
            None => fresh(&spec, host, generation, registry),
        };
    })?;
    outcome
}

fn fresh<T: Send + Sync + 'static>(
    spec: &Arc<Spec<T>>,
    host: &Weak<dyn Host>,
    generation: &Generation,
    registry: &mut Registry,
) -> Result<DynamicProperty<T>, Error> {
    let slot = Slot::new(
        spec.keys.clone(),
        Rule::Spec(Arc::clone(spec)),
        Weak::clone(host),
        generation,
    )?;
    registry.add(&spec.keys, || {
        let typed: Weak<Slot<T>> = Arc::downgrade(&slot);
        Shared {
            kind: TypeId::of::<T>(),
            slot: untyped(&slot),
            typed,
        }
    });
    Ok(DynamicProperty { slot })
}

/// A live slot that was built on the same terms.
///
/// Validators cannot be compared, and neither can defaults of unknown types: such slots are not
/// shared.
fn sharable<T: Send + Sync + 'static>(spec: &Spec<T>, registry: &Registry) -> Option<Arc<Slot<T>>> {
    if !spec.validators.is_empty() {
        return None;
    }
    registry
        .at(&spec.keys[0])
        .iter()
        .filter(|shared| shared.kind == TypeId::of::<T>())
        .find_map(|shared| {
            let any: Arc<dyn Any + Send + Sync> = shared.typed.upgrade()?;
            let slot: Arc<Slot<T>> = any.downcast().ok()?;
            let Rule::Spec(other) = &slot.rule else {
                return None;
            };
            let same_default = match (&spec.default, &other.default) {
                (None, None) => true,
                (Some(a), Some(b)) => inline::plain_eq(&a(), &b()) == Some(true),
                _ => false,
            };
            let same = same_default
                && other.validators.is_empty()
                && other.keys == spec.keys
                && other.bind == spec.bind;
            same.then_some(slot)
        })
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the properties this belongs to are gone")
}
