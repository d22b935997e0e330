//! Declares one key: its type and its rules.

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode;
use crate::error::{Error, ErrorKind};
use crate::schema::field::{DeclarationFault, Field, check_value, origin};
use crate::schema::rule::{Limit, Rule, shown_bound};
use crate::schema::shape::Shape;
use crate::sync::discard::Discard;
use crate::sync::panics;
use crate::value::Value;
use crate::value::key::Key;
use crate::value::node::Node;
use crate::value::secret::{self, detect_secret_read};

/// The declaration of one key that holds a `T`; made by [`Schema::key`](crate::Schema::key).
///
/// ```
/// use liveprops::{Properties, Schema};
///
/// let port = Schema::key::<u16>("http.port").range(1024..).default(8080).describe("listens here");
/// let props = Properties::builder().schema(Schema::new().declare(port)).build()?;
/// assert_eq!(props.get::<u16>("http.port")?, 8080);
/// assert!(props.set("http.port", 80).is_err());
/// # Ok::<(), liveprops::Error>(())
/// ```
#[must_use = "a declaration does nothing until `Schema::declare` takes it"]
pub struct Declaration<T> {
    key: Result<Key, Error>,
    rules: Vec<Rule<T>>,
    default: Option<Value>,
    required: bool,
    secret: bool,
    restart_required: bool,
    deprecated: Option<String>,
    description: String,
    faults: Vec<DeclarationFault>,
    /// Whether a secret was read from an allowed value.
    reveals_secret: bool,
}

impl<T: DeserializeOwned + 'static> Declaration<T> {
    pub(super) fn new(key: &str) -> Self {
        let root = || {
            Err(Error::new(
                ErrorKind::InvalidKey,
                "the root cannot be declared",
            ))
        };
        let key = Key::parse(key).and_then(|key| if key.is_root() { root() } else { Ok(key) });
        Self {
            key,
            rules: Vec::new(),
            default: None,
            required: false,
            secret: false,
            restart_required: false,
            deprecated: None,
            description: String::new(),
            faults: Vec::new(),
            reveals_secret: false,
        }
    }

    fn limit(
        mut self,
        limit: Limit,
        reason: &'static str,
        accepts: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        let validator = move |value: &T| {
            if accepts(value) {
                Ok(())
            } else {
                Err(reason.to_owned())
            }
        };
        self.rules.push(Rule::new(limit, validator));
        self
    }

    /// Rejects values outside a range.
    pub fn range(self, range: impl RangeBounds<T> + Send + Sync + 'static) -> Self
    where
        T: PartialOrd + Debug,
    {
        let limit = Limit::Range(
            range.start_bound().map(shown_bound),
            range.end_bound().map(shown_bound),
        );
        self.limit(limit, "out of range", move |value| range.contains(value))
    }

    /// Rejects texts whose number of characters is outside a range.
    pub fn length(self, range: impl RangeBounds<usize> + Send + Sync + 'static) -> Self
    where
        T: AsRef<str>,
    {
        let limit = Limit::Length(range.start_bound().cloned(), range.end_bound().cloned());
        self.limit(limit, "wrong length", move |value| {
            range.contains(&value.as_ref().chars().count())
        })
    }

    /// Rejects values other than a few, which are given as a source would write them.
    pub fn one_of<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self
    where
        T: PartialEq + Send + Sync,
    {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        let key = self.key.as_ref().map_or("", Key::as_str);
        let mut allowed: Vec<T> = Vec::new();
        for value in &values {
            let read = |masked| decode::from_value(key, value, &origin(), masked);
            let (outcome, secret) = detect_secret_read(|| read(false));
            self.reveals_secret |= secret || secret::holds_secret(value);
            match outcome {
                Ok(value) => allowed.push(value),
                Err(plain) => {
                    let masked = read(true).err().unwrap_or_else(|| plain.clone());
                    self.faults.push(DeclarationFault { plain, masked });
                }
            }
        }
        let reason = "not one of the allowed values";
        self.limit(Limit::OneOf(values), reason, move |value| {
            allowed.contains(value)
        })
    }

    /// Rejects values for which `validator` returns an error. The name describes what it accepts, such as
    /// `"a power of two"`: errors and the written schema show it.
    ///
    /// The returned text is the reason in the reported error. It is left out if the key is secret, and
    /// shows `******` in place of each other known secret. A validator runs inside the commit; see
    /// [`Properties`](crate::Properties#inside-validators-and-decoders). Its panic rejects the update.
    ///
    /// ```
    /// use liveprops::{Properties, Schema, sources::Memory};
    ///
    /// let slots = Schema::key::<u32>("slots").validate("a power of two", |slots| {
    ///     if slots.is_power_of_two() {
    ///         Ok(())
    ///     } else {
    ///         Err(format!("{slots} is none"))
    ///     }
    /// });
    /// let error = Properties::builder()
    ///     .source(Memory::from([("slots", 6)]))
    ///     .schema(Schema::new().declare(slots))
    ///     .build()
    ///     .unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "`slots`: 6 is none, expected a power of two, found integer 6 (memory @ 0)"
    /// );
    /// ```
    pub fn validate(
        mut self,
        name: impl Into<String>,
        validator: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.rules
            .push(Rule::new(Limit::Named(name.into()), validator));
        self
    }

    /// The value while no source defines the key, as a source would write it. This is the one place for
    /// the default of a declared key; [`Builder::default`](crate::Builder::default) is for other keys.
    ///
    /// The default is in the weakest layer: every source overrides it, and a handle's
    /// [default](crate::property::PropertyBuilder::default) does not count while it is there. A default
    /// of a key below this one overrides a part of it.
    ///
    /// A key inside a list, such as `hosts.0.port`, cannot have a default:
    /// [`build`](crate::Builder::build) fails with [`ErrorKind::InvalidKey`]. A list of a source
    /// would replace such a default with the whole list.
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// Rejects trees without the key. At the start it must have a value: a key whose reference is
    /// unresolved has none. Later an unresolved reference is accepted, as it is for other keys; see
    /// [`Health::broken_references`](crate::health::Health::broken_references).
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Masks the value of this key and of all keys below it, in every output. This is the one place to
    /// mark a declared key as secret; [`Builder::secret`](crate::Builder::secret) is for other keys.
    ///
    /// The same holds for an undeclared key that may be a misspelling of this one: the declared key that
    /// is nearest to it is secret. [`Builder::not_secret`](crate::Builder::not_secret) shows one that is
    /// not secret.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Keeps the value of the start until the next start, as
    /// [`Builder::restart_required`](crate::Builder::restart_required) does.
    pub fn restart_required(mut self) -> Self {
        self.restart_required = true;
        self
    }

    /// Deprecates the key. The text says what to do instead, such as `"use http.port"`. The written
    /// schema shows it, and [`Properties::deprecated_keys`](crate::Properties::deprecated_keys) does
    /// where the key is set.
    pub fn deprecated(mut self, instead: impl Into<String>) -> Self {
        self.deprecated = Some(instead.into());
        self
    }

    /// Describes the key in the written schema.
    pub fn describe(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// The declaration without its type; `None` if its key is malformed.
    pub(super) fn finish(self, faults: &mut Vec<Error>) -> Option<(Key, Field)> {
        let key = self.key.map_err(|error| faults.push(error)).ok()?;
        if self.default.is_some() {
            faults.extend(default_inside_a_list(&key));
        }
        let rules = self.rules;
        let mut field = Field {
            shape: Shape::of::<T>(),
            limits: rules.iter().map(|rule| rule.limit.clone()).collect(),
            default: self.default,
            required: self.required,
            secret: self.secret,
            secret_keys: Vec::new(),
            secret_paths: Vec::new(),
            reveals_secret: self.reveals_secret,
            restart_required: self.restart_required,
            deprecated: self.deprecated,
            description: self.description,
            faults: self.faults,
            check: Arc::new(move |key, found, is_hidden, generation| {
                check_value(&rules, key, found, is_hidden, generation)
            }),
        };
        for path in decode::secret_paths::<T>() {
            field.add_secret_path(&key, path);
        }
        if let Some(default) = &field.default {
            let node = Node::of(default.clone(), &origin());
            let mut read = decode::SecretKeys::default();
            let decode = || {
                let value =
                    decode::from_node_recording::<T>(key.as_str(), Some(&node), true, &mut read);
                drop(value.map(Discard::new));
            };
            // `default_fault` reports a panic.
            let (_, secret) = detect_secret_read(|| panics::catch(decode));
            field.reveals_secret |= secret || secret::holds_secret(default);
            let read = read.certain.iter().chain(&read.possible);
            let below = read.filter_map(|read| Key::parse(read).ok());
            field.secret_keys.extend(below.filter(|read| *read != key));
        }
        Some((key, field))
    }
}

/// A default is a layer below all others, and a list of any other layer replaces that layer's items
/// as a whole. So a default below an item is lost as soon as there is a list.
fn default_inside_a_list(key: &Key) -> Option<Error> {
    let is_item = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let item = key.segments().skip(1).find(|name| is_item(name))?;
    let detail = format!(
        "a default does not reach into a list, and `{item}` means an item of one; \
         give the default with the type of the list, such as by `#[serde(default)]`"
    );
    Some(Error::new(ErrorKind::InvalidKey, detail).with_key(key))
}

impl<T> fmt::Debug for Declaration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declaration")
            .field("key", &self.key)
            .field("type", &PhantomData::<T>)
            .finish_non_exhaustive()
    }
}
