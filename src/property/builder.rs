//! Builds a handle: its default, validators and fallback keys.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::property::draft::AnySlot;
use crate::property::handle::DynamicProperty;
use crate::property::inline;
use crate::property::registry::{EngineRef, PropertyEngine, Registry};
use crate::property::rule::{Decoder, DefaultValue, Rule, Spec, Validator, validate};
use crate::property::slot::Slot;
use crate::property::version::Version;
use crate::sync::discard::{Contained, Discard};
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Found, Generation};
use crate::value::fields::fields_of;
use crate::value::key::Key;

/// Builds a [`DynamicProperty`]; made by [`Properties::property`](crate::Properties::property) and
/// [`Properties::bind`](crate::Properties::bind).
///
/// ```
/// use liveprops::{Properties, sources::Memory};
///
/// let memory = Memory::from([("http.timeout", 30)]);
/// let props = Properties::builder().source(memory.clone()).build()?;
/// let timeout = props
///     .property::<u32>("login.timeout")
///     .or_key("http.timeout")
///     .default(60)
///     .build()?;
/// assert_eq!(timeout.get(), 30);
/// memory.set("login.timeout", 10)?;
/// assert_eq!(timeout.get(), 10);
/// memory.replace([("other", 1)])?;
/// assert_eq!(timeout.get(), 60);
/// # Ok::<(), liveprops::Error>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct PropertyBuilder<T> {
    engine_ref: EngineRef,
    prefix: Key,
    keys: Vec<Result<Key, Error>>,
    default: Option<DefaultValue<T>>,
    validators: Vec<Validator<T>>,
    bind: bool,
}

impl<T: DeserializeOwned + Send + Sync + 'static> PropertyBuilder<T> {
    pub(crate) fn new(engine_ref: EngineRef, prefix: Key, key: &str, bind: bool) -> Self {
        let first = Key::parse(key).and_then(|key| prefix.join(&key));
        Self {
            engine_ref,
            prefix,
            keys: vec![first],
            default: None,
            validators: Vec::new(),
            bind,
        }
    }

    /// Sets the value while no layer defines any of the keys. It is the weakest default: the one of the
    /// [schema](crate::schema::Declaration::default) or of the [builder](crate::Builder::default)
    /// defines a key.
    ///
    /// It counts for an absent key only, never in place of a malformed value. A key whose reference is
    /// unresolved is not absent: no handle can be built on it, and a live handle keeps its last good
    /// value, which [`Health::stale_properties`](crate::health::Health::stale_properties) lists.
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

    /// Adds a key to fall back to while the ones before it are absent. A key whose reference is
    /// unresolved is not absent. In a [scoped view](crate::Scoped) it is named below the prefix of the
    /// view, as the first key is. A change of the fallback alone is a change of the property.
    pub fn or_key(mut self, key: &str) -> Self {
        self.keys
            .push(Key::parse(key).and_then(|key| self.prefix.join(&key)));
        self
    }

    /// Rejects values for which `validator` returns an error: an update that brings one is rejected,
    /// and the last good value stays. A property can have several validators, and the first error
    /// counts.
    ///
    /// The returned text is the reason in the reported error. It is left out if the key is secret, and
    /// shows `******` in place of each other known secret. A validator runs inside the commit; see
    /// [`Properties`](crate::Properties#inside-validators-and-decoders). Its panic rejects the update.
    ///
    /// ```
    /// use liveprops::{ErrorKind, Properties, sources::Memory};
    ///
    /// let memory = Memory::from([("qps", 100)]);
    /// let props = Properties::builder().source(memory.clone()).build()?;
    /// let qps = props
    ///     .property::<u32>("qps")
    ///     .validate(|qps| match qps {
    ///         0 => Err("must not be 0".into()),
    ///         _ => Ok(()),
    ///     })
    ///     .build()?;
    /// let error = memory.set("qps", 0).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Rejected);
    /// assert_eq!(error.to_string(), "`qps`: must not be 0, found integer 0 (memory @ 1)");
    /// assert_eq!(qps.get(), 100);
    /// # Ok::<(), liveprops::Error>(())
    /// ```
    pub fn validate(
        mut self,
        validator: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validators
            .push(Arc::new(Contained::new(Box::new(validator))));
        self
    }

    /// Builds the handle.
    ///
    /// The key need not exist: with a default, or if `T` is an `Option`, the handle is valid at
    /// once and follows the key when it appears. Without either, a live handle needs its key: an
    /// update that removes it is rejected.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if all keys are absent and there is no default.
    /// - [`ErrorKind::Mismatch`] if the value cannot become a `T`.
    /// - [`ErrorKind::Reference`] if a reference in it is unresolved or broken.
    /// - [`ErrorKind::Rejected`] if a validator rejects the value or the default, and
    ///   [`ErrorKind::Panicked`] if it panics.
    /// - [`ErrorKind::InvalidKey`] for a malformed key.
    /// - [`ErrorKind::Reentrant`] inside a validator, and [`ErrorKind::Closed`] once the properties are
    ///   dropped, and in a fork.
    pub fn build(self) -> Result<DynamicProperty<T>, Error> {
        let mut keys = self.keys.into_iter().collect::<Result<Vec<_>, _>>()?;
        let all = keys.clone();
        let fallbacks = keys.split_off(1).into();
        let spec = Spec {
            decoder: Decoder {
                bind: self.bind,
                // A key is shorter than 64 KiB.
                prefix: u16::try_from(self.prefix.as_str().len()).unwrap_or_default(),
                read: if self.bind { read_table } else { read_key },
            },
            fallbacks,
            default: self.default,
            validators: self.validators.into(),
        };
        let built = build(keys.remove(0), spec, &self.engine_ref)?;
        note_read::<T>(&all, &self.engine_ref);
        Ok(built)
    }
}

/// Has the engine compare the keys that a handle reads with those that are set.
fn note_read<T: DeserializeOwned>(keys: &[Key], engine_ref: &EngineRef) {
    let Some(engine) = engine_ref.upgrade().filter(|engine| engine.records_reads()) else {
        return;
    };
    let fields = fields_of::<T>();
    let below = |key: &Key| {
        let fields = fields.iter();
        let read = fields.filter_map(|field| key.join(&Key::from_segments(&field.path).ok()?).ok());
        read.collect::<Vec<Key>>()
    };
    engine.note_read(keys.iter().flat_map(below).collect());
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
    let read = generation.decode_recording(key, found);
    read.map_err(|error| generation.explain_missing_of::<T>(key, error))
}

fn read_table<T: DeserializeOwned>(
    generation: &Generation,
    key: &str,
    found: Found<'_>,
) -> Result<T, Error> {
    let read = match found {
        Found::Nothing => generation.decode_absent(key),
        found => generation.decode_recording(key, found),
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
            let copied = |default: &DefaultValue<T>| DefaultValue {
                value: Contained::new((default.copy)(&default.value)),
                copy: default.copy,
            };
            let default = spec.default.as_ref().map(copied);
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
    let spec = Spec {
        decoder,
        fallbacks: fallbacks.into(),
        default,
        validators,
    };
    build(slot.key.clone(), spec, slot.engine())
}

fn build<T: Send + Sync + 'static>(
    key: Key,
    spec: Spec<T>,
    engine_ref: &EngineRef,
) -> Result<DynamicProperty<T>, Error> {
    if let Some(default) = &spec.default {
        validate(&spec.validators, &default.value)
            .map_err(|reason| rejected_default(&key, &reason, engine_ref))?;
    }
    let engine = engine_ref.upgrade().ok_or_else(Error::closed)?;
    let mut spec = Some(spec);
    let mut outcome = Err(Error::closed());
    engine.between_commits(&mut |generation, registry| {
        // A shared slot may keep a last good value that is not in force, which a new handle must not get.
        let is_broken = |spec: &Spec<T>| {
            let mut keys = std::iter::once(&key).chain(&spec.fallbacks);
            keys.any(|key| generation.has_broken_reference(key.as_str()))
        };
        outcome = match spec
            .as_ref()
            .filter(|spec| !is_broken(spec))
            .and_then(|spec| find_sharable(&key, spec, registry))
        {
            Some(slot) => Ok(DynamicProperty { slot }),
            None => {
                note_missing(&key, spec.as_ref(), generation, &*engine);
                new_slot(&key, &mut spec, engine_ref, generation, registry)
            }
        };
    })?;
    outcome
}

/// The error of a default that a validator rejects. The reason may quote the default.
fn rejected_default(key: &Key, reason: &str, engine_ref: &EngineRef) -> Error {
    let mut shown = None;
    if let Some(engine) = engine_ref.upgrade() {
        // Where the call may not wait, the secrets are unknown and the reason is left out.
        let _ = engine.between_commits(&mut |generation, _| {
            let hidden = generation.hides_any(std::slice::from_ref(key));
            shown = (!hidden).then(|| without_secrets(reason, &[generation]));
        });
    }
    let detail = match shown {
        Some(reason) => format!("invalid default: {reason}"),
        None => "invalid default".to_owned(),
    };
    Error::new(ErrorKind::Rejected, detail).with_key(key)
}

/// Has the engine compare a key that is missing with those that are set.
fn note_missing<T>(
    key: &Key,
    spec: Option<&Spec<T>>,
    generation: &Generation,
    engine: &dyn PropertyEngine,
) {
    let fallbacks = spec.map(|spec| &*spec.fallbacks).unwrap_or_default();
    let mut keys = std::iter::once(key).chain(fallbacks);
    let is_missing = |key: &Key| {
        let found = Found::in_tree(&generation.root, key.as_str());
        found.is_ok_and(|found| found.is_nothing())
    };
    if keys.all(is_missing) {
        let is_table = spec.is_some_and(|spec| spec.decoder.bind);
        engine.note_missing(key, is_table);
    }
}

fn new_slot<T: Send + Sync + 'static>(
    key: &Key,
    unused_spec: &mut Option<Spec<T>>,
    engine_ref: &EngineRef,
    generation: &Generation,
    registry: &mut Registry,
) -> Result<DynamicProperty<T>, Error> {
    let Some(spec) = unused_spec.take() else {
        return Err(Error::closed());
    };
    let is_plain =
        spec.fallbacks.is_empty() && spec.default.is_none() && spec.validators.is_empty();
    let rule = if is_plain {
        Rule::Plain(spec.decoder)
    } else {
        Rule::Spec(Box::new(spec))
    };
    let decoded = match rule.decode(key, generation, None) {
        Ok(decoded) => decoded,
        Err(error) => {
            // Dropped by the caller, once the lock is released.
            if let Rule::Spec(spec) = rule {
                *unused_spec = Some(*spec);
            }
            return Err(error);
        }
    };
    let version = Version::new(decoded, Arc::clone(&generation.stamp));
    let slot = Slot::with(key.clone(), rule, Arc::clone(engine_ref), version);
    let untyped: Arc<dyn AnySlot> = Arc::<Slot<T>>::clone(&slot);
    registry.add(&untyped);
    Ok(DynamicProperty { slot })
}

/// Limits the slots of one key that a new handle is compared with. Sharing saves memory where many
/// handles are alike; where they are not, comparing all would be quadratic.
const MAX_COMPARED: usize = 32;

/// A live slot that was built from an equal spec.
///
/// Validators cannot be compared, and neither can defaults of unknown types: such slots are not
/// shared.
fn find_sharable<T: Send + Sync + 'static>(
    key: &Key,
    spec: &Spec<T>,
    registry: &Registry,
) -> Option<Arc<Slot<T>>> {
    if !spec.validators.is_empty() {
        return None;
    }
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
            let same_default = match (&spec.default, default) {
                (None, None) => true,
                (Some(a), Some(b)) => inline::plain_eq(&*a.value, &*b.value) == Some(true),
                _ => false,
            };
            let same = same_default
                && validators.is_empty()
                && slot.key == *key
                && *slot.rule.fallbacks() == *spec.fallbacks
                && decoder.bind == spec.decoder.bind
                && decoder.prefix == spec.decoder.prefix;
            same.then(|| slot.keep())
        })
}
