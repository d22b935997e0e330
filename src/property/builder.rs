//! Builds a handle: default, validators, fallback keys.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::property::handle::DynamicProperty;
use crate::property::inline;
use crate::property::registry::{Host, HostRef, Registry};
use crate::property::slot::{
    AnySlot, Decoder, DefaultValue, Rule, Slot, Spec, Validator, Version, validate,
};
use crate::sync::discard::{Contained, Discard};
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Found, Generation};
use crate::value::fields::fields_of;
use crate::value::key::Key;

/// Builds a [`DynamicProperty`]; made by [`Properties::property`](crate::Properties::property) and
/// [`Properties::bind`](crate::Properties::bind).
#[must_use = "a builder does nothing until `build` is called"]
pub struct PropertyBuilder<T> {
    host: HostRef,
    prefix: Key,
    keys: Vec<Result<Key, Error>>,
    default: Option<DefaultValue<T>>,
    validators: Vec<Validator<T>>,
    bind: bool,
}

impl<T: DeserializeOwned + Send + Sync + 'static> PropertyBuilder<T> {
    pub(crate) fn new(host: HostRef, prefix: Key, key: &str, bind: bool) -> Self {
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
    /// of a malformed value. A key whose reference is unresolved is not absent: no handle can be built
    /// on it, and a live handle keeps its last good value, which
    /// [`Health::stale_properties`](crate::health::Health::stale_properties) lists.
    pub fn default(mut self, value: T) -> Self
    where
        T: Clone,
    {
        self.default = Some(DefaultValue {
            value: Contained::new(value),
            copy: T::clone,
        });
        self
    }

    /// A key to fall back to while the ones before it are absent; may be given several times. A key
    /// whose reference is unresolved is not absent. In a
    /// [scoped view](crate::Scoped) it is named below the view's prefix, as the first key is. The
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

    /// As [`validate`](Self::validate), with the reason in words. They are left out if the key is secret,
    /// and otherwise show `******` in place of each known secret.
    pub fn validate_with(
        mut self,
        check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validators
            .push(Arc::new(Contained::new(Box::new(check))));
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
    /// [`ErrorKind::NotFound`] if the key is absent and nothing stands in for it,
    /// [`ErrorKind::Mismatch`] if its value cannot become a `T`, [`ErrorKind::Rejected`] if a
    /// validator refuses the value or the default, [`ErrorKind::InvalidKey`] for a malformed key,
    /// [`ErrorKind::Closed`] if the properties are gone, [`ErrorKind::Reentrant`] if called from
    /// inside a validator.
    pub fn build(self) -> Result<DynamicProperty<T>, Error> {
        let mut keys = self.keys.into_iter().collect::<Result<Vec<_>, _>>()?;
        let read = keys.clone();
        let fallbacks = keys.split_off(1).into();
        let terms = Spec {
            decoder: Decoder {
                bind: self.bind,
                // A key is shorter.
                prefix: u16::try_from(self.prefix.as_str().len()).unwrap_or_default(),
                read: match self.bind {
                    true => read_table,
                    false => read_key,
                },
            },
            fallbacks,
            default: self.default,
            validators: self.validators.into(),
        };
        let built = build(keys.remove(0), terms, &self.host)?;
        note_read::<T>(&read, &self.host);
        Ok(built)
    }
}

/// Has the engine compare the keys that a handle reads with those that are set.
fn note_read<T: DeserializeOwned>(keys: &[Key], host: &HostRef) {
    let Some(host) = host.upgrade().filter(|host| host.records_reads()) else {
        return;
    };
    let fields = fields_of::<T>();
    let below = |key: &Key| {
        let fields = fields.iter();
        let read = fields.filter_map(|field| key.join(&Key::from_segments(&field.path).ok()?).ok());
        read.collect::<Vec<Key>>()
    };
    host.note_read(keys.iter().flat_map(below).collect());
}

impl<T> fmt::Debug for PropertyBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropertyBuilder")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn read_key<T: DeserializeOwned>(
    generation: &Generation,
    key: &str,
    found: Found<'_>,
) -> Result<T, Error> {
    let read = generation.decode_noting(key, found);
    read.map_err(|error| generation.explain_missing_of::<T>(key, error))
}

fn read_table<T: DeserializeOwned>(
    generation: &Generation,
    key: &str,
    found: Found<'_>,
) -> Result<T, Error> {
    let read = match found {
        Found::Nothing => generation.decode_absent(key),
        found => generation.decode_noting(key, found),
    };
    read.map_err(|error| generation.explain_missing(error))
}

/// A handle like the one on `slot` with one more key before its default.
pub(crate) fn with_fallback<T: Send + Sync + 'static>(
    slot: &Slot<T>,
    key: &str,
) -> Result<DynamicProperty<T>, Error> {
    let (decoder, default, validators) = match &slot.rule {
        Rule::Plain(decoder) => (*decoder, None, Box::default()),
        Rule::Spec(spec) => {
            let again = |default: &DefaultValue<T>| DefaultValue {
                value: Contained::new((default.copy)(&default.value)),
                copy: default.copy,
            };
            let default = spec.default.as_ref().map(again);
            (spec.decoder, default, spec.validators.clone())
        }
        Rule::Map(_) => {
            let detail =
                "a property made by `map` has no keys of its own; add the fallback before mapping";
            return Err(Error::new(ErrorKind::InvalidConfig, detail).with_key(&slot.key));
        }
    };
    let mut fallbacks = slot.rule.fallbacks().to_vec();
    let prefix = slot.key.as_str().get(..usize::from(decoder.prefix));
    let prefix = Key::parse(prefix.unwrap_or_default())?;
    fallbacks.push(prefix.join(&Key::parse(key)?)?);
    let terms = Spec {
        decoder,
        fallbacks: fallbacks.into(),
        default,
        validators,
    };
    build(slot.key.clone(), terms, slot.host())
}

fn build<T: Send + Sync + 'static>(
    key: Key,
    terms: Spec<T>,
    host: &HostRef,
) -> Result<DynamicProperty<T>, Error> {
    if let Some(default) = &terms.default {
        validate(&terms.validators, &default.value)
            .map_err(|reason| refused_default(&key, &reason, host))?;
    }
    let host_now = host.upgrade().ok_or_else(closed)?;
    let mut terms = Some(terms);
    let mut outcome = Err(closed());
    host_now.between_commits(&mut |generation, registry| {
        // A slot that keeps its last good value would give a new handle a value that is not in force.
        let is_broken = |terms: &Spec<T>| {
            let mut keys = std::iter::once(&key).chain(&terms.fallbacks);
            keys.any(|key| generation.has_broken_reference(key.as_str()))
        };
        outcome = match terms
            .as_ref()
            .filter(|terms| !is_broken(terms))
            .and_then(|terms| sharable(&key, terms, registry))
        {
            Some(slot) => Ok(DynamicProperty { slot }),
            None => {
                note_missing(&key, terms.as_ref(), generation, &*host_now);
                fresh(&key, &mut terms, host, generation, registry)
            }
        };
    })?;
    outcome
}

/// The error of a default that a validator refuses. The reason may quote the default.
fn refused_default(key: &Key, reason: &str, host: &HostRef) -> Error {
    let mut shown = None;
    if let Some(host) = host.upgrade() {
        // In vain where a call may not wait: then nothing is known, and nothing shown.
        let _ = host.between_commits(&mut |generation, _| {
            let hidden = generation.hides_any(std::slice::from_ref(key));
            shown = (!hidden).then(|| without_secrets(reason, &[generation]));
        });
    }
    let detail = match shown {
        Some(reason) => format!("the default is not acceptable: {reason}"),
        None => "the default is not acceptable".to_owned(),
    };
    Error::new(ErrorKind::Rejected, detail).with_key(key)
}

/// Has the engine compare a key that is missing with those that are set.
fn note_missing<T>(key: &Key, terms: Option<&Spec<T>>, generation: &Generation, host: &dyn Host) {
    let fallbacks = terms.map(|terms| &*terms.fallbacks).unwrap_or_default();
    let mut keys = std::iter::once(key).chain(fallbacks);
    let is_missing = |key: &Key| {
        let found = Found::in_tree(&generation.root, key.as_str());
        found.is_ok_and(|found| found.is_nothing())
    };
    if keys.all(is_missing) {
        let is_table = terms.is_some_and(|terms| terms.decoder.bind);
        host.note_missing(key, is_table);
    }
}

fn fresh<T: Send + Sync + 'static>(
    key: &Key,
    left: &mut Option<Spec<T>>,
    host: &HostRef,
    generation: &Generation,
    registry: &mut Registry,
) -> Result<DynamicProperty<T>, Error> {
    let Some(terms) = left.take() else {
        return Err(closed());
    };
    let plain =
        terms.fallbacks.is_empty() && terms.default.is_none() && terms.validators.is_empty();
    let rule = match plain {
        true => Rule::Plain(terms.decoder),
        false => Rule::Spec(Box::new(terms)),
    };
    let drawn = match rule.draw(key, generation, None) {
        Ok(drawn) => drawn,
        Err(error) => {
            // Dropped by the caller, once the lock is released.
            if let Rule::Spec(terms) = rule {
                *left = Some(*terms);
            }
            return Err(error);
        }
    };
    let version = Version::new(drawn, Arc::clone(&generation.stamp));
    let slot = Slot::with(key.clone(), rule, Arc::clone(host), version);
    let untyped: Arc<dyn AnySlot> = Arc::<Slot<T>>::clone(&slot);
    registry.add(&untyped);
    Ok(DynamicProperty { slot })
}

/// The slots of one key that a new handle is compared with.
const MAX_COMPARED: usize = 32;

/// A live slot that was built on the same terms.
///
/// Validators cannot be compared, and neither can defaults of unknown types: such slots are not
/// shared.
fn sharable<T: Send + Sync + 'static>(
    key: &Key,
    terms: &Spec<T>,
    registry: &Registry,
) -> Option<Arc<Slot<T>>> {
    if !terms.validators.is_empty() {
        return None;
    }
    // Sharing saves room where many handles are alike. Where they are not, looking at all of them
    // for each new one would be quadratic.
    registry
        .at(key.as_str())
        .take(MAX_COMPARED)
        .find_map(|slot| {
            let any = Discard::new(slot.any());
            let slot: Discard<Arc<Slot<T>>> = Discard::new(Arc::clone(&*any).downcast().ok()?);
            let (decoder, default, validators) = match &slot.rule {
                Rule::Plain(decoder) => (*decoder, None, &[][..]),
                Rule::Spec(spec) => (spec.decoder, spec.default.as_ref(), &*spec.validators),
                Rule::Map(_) => return None,
            };
            let same_default = match (&terms.default, default) {
                (None, None) => true,
                (Some(a), Some(b)) => inline::plain_eq(&*a.value, &*b.value) == Some(true),
                _ => false,
            };
            let same = same_default
                && validators.is_empty()
                && slot.key == *key
                && *slot.rule.fallbacks() == *terms.fallbacks
                && decoder.bind == terms.decoder.bind
                && decoder.prefix == terms.decoder.prefix;
            same.then(|| slot.keep())
        })
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the properties this belongs to are gone")
}
