//! One declared key: its type and its rules, first with the type and then without.

use std::any::Any;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode::{self, Way};
use crate::error::{Error, ErrorKind, MASK};
use crate::schema::Schema;
use crate::schema::shape::{Kind, Shape};
use crate::sync::discard::{Contained, Discard};
use crate::sync::panics;
use crate::tree::quoted::without_secrets;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::Node;
use crate::value::origin::Origin;
use crate::value::secret::{self, noticing};
use crate::value::units::ByteSize;

/// What is declared of one key that holds a `T`; made by [`Schema::key`](crate::Schema::key).
#[must_use = "a declaration does nothing until `Schema::declare` takes it"]
pub struct Declaration<T> {
    key: Result<Key, Error>,
    rules: Vec<Rule<T>>,
    default: Option<Value>,
    required: bool,
    secret: bool,
    restart: bool,
    deprecated: Option<String>,
    description: String,
    faults: Vec<Fault>,
    /// Whether a secret was read from a value that is allowed.
    leaks: bool,
}

/// A rule with how it is told.
struct Rule<T> {
    limit: Limit,
    holds: Contained<Holds<T>>,
}

/// Whether a value keeps a rule.
type Holds<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// What a rule asks for, to be shown.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    Range(Side, Side),
    Length(Bound<usize>, Bound<usize>),
    OneOf(Vec<Value>),
    Check(String),
}

/// What is wrong with the declaration itself; which of the texts is told hangs on whether its key
/// is hidden, and that is known when all is declared.
#[derive(Clone)]
pub(super) struct Fault {
    pub(super) open: Error,
    pub(super) masked: Error,
}

/// One end of a range as text.
pub(super) type Side = Bound<String>;

/// A declared key whatever its type.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) limits: Vec<Limit>,
    pub(super) default: Option<Value>,
    pub(super) required: bool,
    /// Whether the key is secret with all below it.
    pub(super) secret: bool,
    /// Where the type, or the default, has secrets below the key.
    pub(super) marks: Vec<Key>,
    /// Where the type has secrets whose names depend on the value.
    pub(super) ways: Vec<Way>,
    /// Whether the default or an allowed value has a secret in it, wherever.
    pub(super) leaks: bool,
    pub(super) restart: bool,
    pub(super) deprecated: Option<String>,
    pub(super) description: String,
    pub(super) faults: Vec<Fault>,
    judge: Judge,
}

/// Whether a key is hidden, asked when something is to be told of it.
type Hidden<'a> = &'a dyn Fn() -> bool;

/// Reads what stands at a key as the declared type and asks the rules; the generation is `None` for
/// a default that is in no tree yet.
type Judge = Arc<
    dyn Fn(&str, Found<'_>, Hidden<'_>, Option<&Generation>) -> Result<(), Error> + Send + Sync,
>;

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
            restart: false,
            deprecated: None,
            description: String::new(),
            faults: Vec::new(),
            leaks: false,
        }
    }

    fn rule(mut self, limit: Limit, holds: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        let holds = Contained::new(Box::new(holds) as Holds<T>);
        self.rules.push(Rule { limit, holds });
        self
    }

    /// Wants the value to be within a range.
    pub fn range(self, range: impl RangeBounds<T> + Send + Sync + 'static) -> Self
    where
        T: PartialOrd + Debug,
    {
        let limit = Limit::Range(
            range.start_bound().map(shown_bound),
            range.end_bound().map(shown_bound),
        );
        self.rule(limit, move |value| range.contains(value))
    }

    /// Wants a text to have so many characters.
    pub fn length(self, range: impl RangeBounds<usize> + Send + Sync + 'static) -> Self
    where
        T: AsRef<str>,
    {
        let limit = Limit::Length(range.start_bound().cloned(), range.end_bound().cloned());
        self.rule(limit, move |value| {
            range.contains(&value.as_ref().chars().count())
        })
    }

    /// Wants the value to be one of a few, which are given as a source would write them.
    pub fn one_of<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self
    where
        T: PartialEq + Send + Sync,
    {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        let key = self.key.as_ref().map_or("", Key::as_str);
        let mut allowed: Vec<T> = Vec::new();
        for value in &values {
            let read = |masked| decode::from_value(key, value, &origin(), masked);
            let (outcome, secret) = noticing(|| read(false));
            self.leaks |= secret || secret::holds_secret(value);
            match outcome {
                Ok(value) => allowed.push(value),
                Err(open) => {
                    let masked = read(true).err().unwrap_or_else(|| open.clone());
                    self.faults.push(Fault { open, masked });
                }
            }
        }
        self.rule(Limit::OneOf(values), move |value| allowed.contains(value))
    }

    /// Wants `holds` to say yes; `name` tells of it, such as `"a power of two"`.
    pub fn check(
        self,
        name: impl Into<String>,
        holds: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rule(Limit::Check(name.into()), holds)
    }

    /// The value while no source defines the key, as a source would write it. What is given to
    /// [`Builder::default`](crate::Builder::default) comes before it.
    ///
    /// A key inside a list, such as `hosts.0.port`, cannot have a default:
    /// [`build`](crate::Builder::build) fails with [`ErrorKind::InvalidKey`]. A list of a source
    /// would replace such a default with the whole list.
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// Wants the key to be there. At the start that means a value: a key whose reference is unresolved
    /// has none. Later an unresolved reference is accepted, as it is for other keys; see
    /// [`Health::broken_references`](crate::health::Health::broken_references).
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Never shows the value of this key and of all keys below it, as
    /// [`Builder::secret`](crate::Builder::secret) does. The same holds for an undeclared key that may be
    /// a misspelling of this one: the declared key that is nearest to it is secret.
    /// [`Builder::not_secret`](crate::Builder::not_secret) shows one that is none.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Says that a change takes effect with the next start only, as
    /// [`Builder::restart_required`](crate::Builder::restart_required) does.
    pub fn restart_required(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Says that the key should not be used any more, and what to do about it, such as
    /// `"use http.port"`. Shown where the schema is written out, and by
    /// [`Properties::deprecated_keys`](crate::Properties::deprecated_keys) where the key is set.
    pub fn deprecated(mut self, instead: impl Into<String>) -> Self {
        self.deprecated = Some(instead.into());
        self
    }

    /// Says what the key is for.
    pub fn describe(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// The declaration without its type, if its key is one.
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
            marks: Vec::new(),
            ways: Vec::new(),
            leaks: self.leaks,
            restart: self.restart,
            deprecated: self.deprecated,
            description: self.description,
            faults: self.faults,
            judge: Arc::new(move |key, found, hidden, generation| {
                judge(&rules, key, found, hidden, generation)
            }),
        };
        for way in decode::secret_places::<T>() {
            field.mark(&key, way);
        }
        if let Some(default) = &field.default {
            let node = Node::of(default.clone(), &origin());
            let mut read = decode::Places::default();
            let decode = || {
                let value =
                    decode::from_node_noting::<T>(key.as_str(), Some(&node), true, &mut read);
                drop(value.map(Discard::new));
            };
            // A panic is told with the verdict on the default.
            let (_, secret) = noticing(|| panics::catch(decode));
            field.leaks |= secret || secret::holds_secret(default);
            let read = read.certain.iter().chain(&read.possible);
            let below = read.filter_map(|read| Key::parse(read).ok());
            field.marks.extend(below.filter(|read| *read != key));
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

impl Field {
    /// Notes a place in the type where a secret is read.
    fn mark(&mut self, key: &Key, mut way: Way) {
        // A list of secrets is one.
        while way.last().is_some_and(Option::is_none) {
            way.pop();
        }
        let names: Option<Vec<&str>> = way.iter().copied().collect();
        match names {
            Some(names) if names.is_empty() => self.secret = true,
            Some(names) => {
                let below = Key::from_segments(names).and_then(|below| key.join(&below));
                self.marks.extend(below);
            }
            None => self.ways.push(way),
        }
    }

    /// What is wrong with the default; it is in no tree yet.
    pub(super) fn fault_of_default(&self, key: &Key, hidden: Hidden<'_>) -> Option<Error> {
        let default = self.default.as_ref().filter(|value| !value.may_refer())?;
        let entry = Arc::new(Entry {
            name: "default".into(),
            node: Node::of(default.clone(), &origin()),
        });
        let hidden = || self.leaks || hidden();
        self.ask(key.as_str(), Found::Entry(&entry), &hidden, None)
            .err()
    }

    /// What is wrong with what stands at the key in a generation.
    pub(super) fn fault(
        &self,
        key: &Key,
        generation: &Generation,
        schema: &Schema,
    ) -> Option<Error> {
        let found = match Found::in_tree(&generation.root, key.as_str()) {
            Ok(found) => found,
            Err(error) => return Some(error),
        };
        if !found.is_nothing() {
            let hidden = || generation.hides(key.as_str(), found);
            let verdict = self.ask(key.as_str(), found, &hidden, Some(generation));
            // A start from the cache lacks the secrets that others refer to.
            let is_fault = |error: &Error| self.required || !error.is_unresolved();
            return verdict.err().filter(is_fault);
        }
        if !self.required {
            return None;
        }
        let mut detail = String::from("required, and no layer defines it");
        let below = || match self.shape.kind {
            Kind::Any => generation.spelled_below(key.as_str()),
            _ => None,
        };
        let spelled = generation.spelled_otherwise(key.as_str()).or_else(below);
        if let Some(spelled) = spelled.filter(|spelled| !schema.has(spelled.key.as_str())) {
            detail.push_str(&format!("; {}", spelled.advice()));
            let missing = Error::new(ErrorKind::NotFound, detail).with_key(key);
            return Some(missing.with_expected(self.shape.name.clone()));
        }
        let near = generation.nearest(key.as_str());
        if let Some(near) = near.filter(|near| !schema.has(near)) {
            detail.push_str(&format!(" (`{near}` is there)"));
        }
        let missing = Error::new(ErrorKind::NotFound, detail).with_key(key);
        Some(missing.with_expected(self.shape.name.clone()))
    }

    /// What the type and the rules say; both may be the user's code.
    fn ask(
        &self,
        key: &str,
        found: Found<'_>,
        hidden: Hidden<'_>,
        generation: Option<&Generation>,
    ) -> Result<(), Error> {
        let ask = || (self.judge)(key, found, hidden, generation);
        let (verdict, read) = noticing(|| panics::catch(ask));
        verdict.unwrap_or_else(|panic| {
            // What it panicked with may quote the value, or any part of it.
            let masked = read || hidden() || holds_secret(found, generation);
            let message = if masked {
                MASK.to_owned()
            } else {
                without_secrets(panic.message(), generation.as_slice())
            };
            let error = Error::from_panic("a rule of the schema", &message);
            Err(placed(error, key, found))
        })
    }
}

fn judge<T: DeserializeOwned + 'static>(
    rules: &[Rule<T>],
    key: &str,
    found: Found<'_>,
    hidden: Hidden<'_>,
    generation: Option<&Generation>,
) -> Result<(), Error> {
    let (value, read) = noticing(|| match generation {
        Some(generation) => generation.decode_noting(key, found),
        None => found
            .decode(key, false.into())
            .or_else(|_| found.decode(key, hidden().into())),
    });
    let value: Discard<T> = Discard::new(value?);
    let Some(broken) = rules.iter().find(|rule| !(rule.holds)(&value)) else {
        return Ok(());
    };
    let masked = read || hidden();
    let error = Error::new(ErrorKind::Rejected, broken.limit.fault());
    let error = error.with_expected(broken.limit.shown(masked));
    let error = match found.shown(masked) {
        Some(shown) => error.with_found(shown),
        None => error,
    };
    Err(placed(error, key, found))
}

/// Whether something in what was found looks secret, or was made from a secret.
fn holds_secret(found: Found<'_>, generation: Option<&Generation>) -> bool {
    let (Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry)) = found else {
        return false;
    };
    let mut derived = false;
    if let (Some(generation), Some(table)) = (generation, entry.node.table()) {
        table.walk(&mut String::new(), &mut |_, entry| {
            derived |= generation.derives_from_secret(entry);
        });
    }
    derived || secret::node_holds_secret(&entry.node)
}

fn placed(error: Error, key: &str, found: Found<'_>) -> Error {
    let error = error.with_key_text(key);
    match found.origin() {
        Some(origin) => error.with_origin(origin),
        None => error,
    }
}

pub(super) fn origin() -> Origin {
    Origin::new("schema", "")
}

fn shown_bound<T: Debug + 'static>(value: &T) -> String {
    let any = value as &dyn Any;
    let optional = || any.downcast_ref::<Option<ByteSize>>()?.as_ref();
    if let Some(size) = any.downcast_ref::<ByteSize>().or_else(optional) {
        return size.to_string();
    }
    let text = format!("{value:?}");
    // What is not there is not asked for its range.
    let inside = text
        .strip_prefix("Some(")
        .and_then(|rest| rest.strip_suffix(')'));
    inside.map(str::to_owned).unwrap_or(text)
}

impl Limit {
    fn fault(&self) -> &'static str {
        match self {
            Limit::Range(..) => "out of range",
            Limit::Length(..) => "not of the right length",
            Limit::OneOf(_) => "not one of the allowed values",
            Limit::Check(_) => "does not pass the check of the schema",
        }
    }

    /// The rule as text; what is said of the values of a secret is not shown.
    pub(super) fn shown(&self, masked: bool) -> String {
        match self {
            Limit::Range(..) if masked => "a range".to_owned(),
            Limit::Range(start, end) => shown_range(start, end),
            Limit::Length(start, end) => format!("length {}", shown_range(start, end)),
            Limit::OneOf(values) if masked || values.iter().any(secret::holds_secret) => {
                "one of a few".to_owned()
            }
            Limit::OneOf(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                format!("one of {}", values.join(", "))
            }
            Limit::Check(name) => name.clone(),
        }
    }
}

pub(super) fn shown_range<B: fmt::Display>(start: &Bound<B>, end: &Bound<B>) -> String {
    let start = match start {
        Bound::Included(start) => start.to_string(),
        Bound::Excluded(start) => format!("{start}<"),
        Bound::Unbounded => String::new(),
    };
    match end {
        Bound::Included(end) => format!("{start}..={end}"),
        Bound::Excluded(end) => format!("{start}..{end}"),
        Bound::Unbounded => format!("{start}.."),
    }
}
