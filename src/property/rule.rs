//! Decodes the value of a property from a generation.

use std::any::Any;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, MASK};
use crate::sync::discard::{Contained, Discard};
use crate::sync::panics;
use crate::tree::provenance::Provenance;
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Found, Generation};
use crate::value::hamt::Entry;
use crate::value::key::Key;

/// How a slot gets its value from a generation.
pub(crate) enum Rule<T> {
    /// From its one key, without a default or validators, as most slots do.
    Plain(Decoder<T>),
    /// From its keys, as the builder specifies.
    Spec(Box<Spec<T>>),
    /// From another slot.
    Map(Box<Mapped<T>>),
}

/// How a type is read.
pub(crate) struct Decoder<T> {
    /// Whether an absent key reads as an empty table.
    pub(crate) bind: bool,
    /// The length of the prefix in the key: fallbacks of a scoped view are named below its prefix.
    pub(crate) prefix: u16,
    /// Reads the value at a key, which may be absent.
    pub(crate) read: fn(&Generation, &str, Found<'_>) -> Result<T, Error>,
}

impl<T> Clone for Decoder<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Decoder<T> {}

/// What a builder specifies for a property besides its key.
pub(crate) struct Spec<T> {
    pub(crate) decoder: Decoder<T>,
    /// The keys to fall back to.
    pub(crate) fallbacks: Box<[Key]>,
    pub(crate) default: Option<DefaultValue<T>>,
    pub(crate) validators: Box<[Validator<T>]>,
}

/// A default, which is copied for each use.
pub(crate) struct DefaultValue<T> {
    pub(crate) value: Contained<T>,
    pub(crate) copy: fn(&T) -> T,
}

/// How a slot follows another.
pub(crate) struct Mapped<T> {
    /// Computes the value from the version that a commit has decoded for that slot, an `Arc<Version<_>>`.
    pub(crate) from_version: Contained<FromVersion<T>>,
    /// Computes the value from any generation, by that slot's own rule.
    pub(crate) from_generation: Contained<FromGeneration<T>>,
    /// The keys that slot falls back to, whose values may be secrets too.
    pub(crate) fallbacks: Box<[Key]>,
}

/// Computes a value from another slot's version.
pub(crate) type FromVersion<T> = Box<dyn Fn(&dyn Any) -> Option<Decoded<T>> + Send + Sync>;

/// Computes a value from a generation.
pub(crate) type FromGeneration<T> =
    Box<dyn Fn(&Generation) -> Result<Decoded<T>, Error> + Send + Sync>;

/// Returns why a value is not acceptable.
pub(crate) type Validator<T> = Arc<Contained<Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>>>;

/// A value decoded from a generation.
pub(crate) struct Decoded<T> {
    pub(crate) value: T,
    pub(super) leaf: Option<Arc<Entry>>,
    /// See [`Version`](crate::property::Version).
    pub(super) layer: u32,
}

impl<T> Decoded<T> {
    /// A value that is in no layer.
    pub(super) fn default_of(value: T) -> Self {
        Self {
            value,
            leaf: None,
            layer: 0,
        }
    }

    pub(crate) fn map<U>(self, compute: impl FnOnce(&T) -> U) -> Decoded<U>
    where
        T: 'static,
    {
        Decoded {
            value: compute(&Discard::new(self.value)),
            leaf: self.leaf,
            layer: self.layer,
        }
    }
}

impl<T> Rule<T> {
    /// Decodes the value in a generation. A `Deserialize`, a validator or a mapping is user code, so a
    /// panic in it becomes an error.
    pub(crate) fn decode(
        &self,
        key: &Key,
        generation: &Generation,
        parent: Option<&dyn Any>,
    ) -> Result<Decoded<T>, Error>
    where
        T: 'static,
    {
        let decode = || match self {
            Rule::Plain(decoder) => decoder.decode(key, &[], generation, &[], None),
            Rule::Spec(spec) => spec.decoder.decode(
                key,
                &spec.fallbacks,
                generation,
                &spec.validators,
                spec.default.as_ref(),
            ),
            Rule::Map(mapped) => match parent.and_then(&**mapped.from_version) {
                Some(decoded) => Ok(decoded),
                None => (mapped.from_generation)(generation),
            },
        };
        panics::catch(decode).unwrap_or_else(|panic| {
            // The message may quote the value, or any other.
            let message = if generation.hides_any(&self.keys(key)) {
                MASK.to_owned()
            } else {
                without_secrets(panic.message(), &[generation])
            };
            Err(Error::from_panic("decoding or validating", &message).with_key(key))
        })
    }

    /// All keys that the value may come from, the strongest first.
    pub(super) fn keys(&self, key: &Key) -> Vec<Key> {
        let fallbacks = self.fallbacks().iter();
        std::iter::once(key).chain(fallbacks).cloned().collect()
    }

    /// The keys to fall back to.
    pub(crate) fn fallbacks(&self) -> &[Key] {
        match self {
            Rule::Spec(spec) => &spec.fallbacks,
            Rule::Map(mapped) => &mapped.fallbacks,
            Rule::Plain(_) => &[],
        }
    }
}

impl<T> Decoder<T> {
    fn decode(
        &self,
        key: &Key,
        fallbacks: &[Key],
        generation: &Generation,
        validators: &[Validator<T>],
        default: Option<&DefaultValue<T>>,
    ) -> Result<Decoded<T>, Error>
    where
        T: 'static,
    {
        if let Some(usage) = &generation.usage {
            let keys = std::iter::once(key).chain(fallbacks);
            keys.for_each(|key| usage.record(key.as_str()));
        }
        for key in std::iter::once(key).chain(fallbacks) {
            let found = Found::in_tree(&generation.root, key.as_str())?;
            if found.is_nothing() {
                continue;
            }
            let value = Discard::new((self.read)(generation, key.as_str(), found)?);
            validate(validators, &value)
                .map_err(|reason| rejected(reason, key, generation, found))?;
            let Provenance { leaf, layer } = generation.provenance(key.as_str(), found);
            return Ok(Decoded {
                value: value.keep(),
                leaf,
                layer: layer.map_or(0, |at| at as u32 + 1),
            });
        }
        let value = match default {
            Some(default) => (default.copy)(&default.value),
            None => (self.read)(generation, key.as_str(), Found::Nothing)?,
        };
        Ok(Decoded::default_of(value))
    }
}

/// The first error of the validators.
pub(crate) fn validate<T>(validators: &[Validator<T>], value: &T) -> Result<(), String> {
    validators.iter().try_for_each(|validator| validator(value))
}

fn rejected(reason: String, key: &Key, generation: &Generation, found: Found<'_>) -> Error {
    let hidden = generation.hides(key.as_str(), found);
    // The reason may quote the value, or a secret part of it, or any other.
    let reason = if hidden {
        "rejected by a validator of the property".to_owned()
    } else {
        without_secrets(&reason, &[generation])
    };
    let error = Error::new(ErrorKind::Rejected, reason).with_key(key);
    let error = match found.description(hidden) {
        Some(shown) => error.with_found(shown),
        None => error,
    };
    match found.origin() {
        Some(origin) => error.with_origin(origin),
        None => error,
    }
}
