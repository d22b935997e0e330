//! One decoding request: which value to read, what to mask, and what to record on the way.
//!
//! [`Request::decode`] is the entry of the whole module: it runs a first pass, and starts
//! [`diagnose`](crate::decode::diagnose) if that pass fails.

use std::cell::{Cell, RefCell};

use serde::de::{Deserialize, DeserializeOwned};

use crate::decode::Mask;
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::diagnosis::Diagnosis;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::report;
use crate::decode::diagnose::text_arena::TextArena;
use crate::decode::input::{Input, Path, Segment};
use crate::decode::location::first_origin;
use crate::error::Error;
use crate::value::Value;
use crate::value::key;
use crate::value::origin::Origin;
use crate::value::secret::buffered;

/// What to decode, and how.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) key: &'a str,
    /// The value at the key.
    pub(super) input: Input<'a>,
    pub(super) origin: Option<&'a Origin>,
    pub(super) mask: Mask<'a>,
    /// Receives the keys that the type reads as secrets.
    pub(super) secret_keys: Option<&'a RefCell<Vec<String>>>,
    /// Whether the pass records what it visits; see [`buffered`].
    pub(super) is_traced: bool,
    /// A path, and the value to read there instead of the real one.
    pub(super) substitute: Option<(&'a str, &'a Value)>,
}

/// The state of one pass, which all deserializers of the pass share.
pub(super) struct PassContext<'a, 'de> {
    pub(super) request: &'a Request<'a>,
    /// Whether the type has asked for a secret.
    pub(super) reads_secret: Cell<bool>,
    /// What the entry name that was read last converts to, if the type did not read it as text.
    pub(super) converted_name: Cell<Option<String>>,
    /// What this pass has cost so far.
    pub(super) work: Cell<usize>,
    /// Only while a failure is diagnosed.
    pub(super) diagnosis: Option<&'a RefCell<Diagnosis>>,
    /// Owns the visited texts while a failure is diagnosed.
    pub(super) arena: Option<&'de TextArena>,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        key: &'a str,
        input: Input<'a>,
        origin: Option<&'a Origin>,
        mask: Mask<'a>,
    ) -> Self {
        Self {
            key,
            input,
            origin,
            mask,
            secret_keys: None,
            is_traced: false,
            substitute: None,
        }
    }

    /// The same request, which reads `value` at `path`.
    pub(super) fn substitute<'b>(self, path: &'b str, value: &'b Value) -> Request<'b>
    where
        'a: 'b,
    {
        let input = if path == self.key {
            Input::of_value(value)
        } else {
            self.input
        };
        Request {
            input,
            substitute: Some((path, value)),
            ..self
        }
    }

    /// The same request, which adds the keys of secrets to `secret_keys`.
    pub(super) fn recording_secrets<'b>(self, secret_keys: &'b RefCell<Vec<String>>) -> Request<'b>
    where
        'a: 'b,
    {
        Request {
            secret_keys: Some(secret_keys),
            ..self
        }
    }

    /// The same request, whose passes record what they visit; see [`buffered`].
    pub(super) fn traced(self) -> Self {
        Self {
            is_traced: true,
            ..self
        }
    }

    /// Records that the type reads a secret at a key.
    pub(super) fn record_secret(&self, key: String) {
        if let Some(secret_keys) = self.secret_keys {
            secret_keys.borrow_mut().push(key);
        }
    }

    /// Decodes the value, and diagnoses a failure.
    #[inline]
    pub(super) fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        match self.run(None) {
            Ok(value) => Ok(value),
            Err(fault) => report::diagnose(self, fault),
        }
    }

    /// Runs one pass over the value.
    #[inline]
    pub(super) fn run<'de, T: Deserialize<'de>>(
        &self,
        diagnosis: Option<(&RefCell<Diagnosis>, &'de TextArena)>,
    ) -> Result<T, Fault> {
        let (diagnosis, arena) = diagnosis.unzip();
        self.read(diagnosis, arena, |de| {
            T::deserialize(de).map_err(|fault| de.locate_as::<T>(fault))
        })
    }

    /// Runs one pass over the value by `read`.
    #[inline]
    pub(super) fn read<'de, R>(
        &self,
        diagnosis: Option<&RefCell<Diagnosis>>,
        arena: Option<&'de TextArena>,
        read: impl FnOnce(ValueDeserializer<'_, 'de>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let context = PassContext {
            request: self,
            reads_secret: Cell::new(false),
            converted_name: Cell::new(None),
            work: Cell::new(0),
            diagnosis,
            arena,
        };
        if self.is_traced {
            buffered::begin(self.key);
        }
        let path = Path {
            parent: None,
            segment: Segment::Hidden,
            variant: None,
        };
        let de = ValueDeserializer {
            input: self.input,
            path: &path,
            context: &context,
            origin: self.origin,
            masked: self.mask.all,
            is_name: false,
            json: None,
        };
        let result = read(de);
        if let Some(diagnosis) = diagnosis {
            diagnosis.borrow_mut().budget.count(context.work.get());
        }
        result
    }

    /// The origin of the value at a path; `None` if the value is a table.
    pub(super) fn origin_of(&self, path: &str) -> Option<Origin> {
        self.walk(path).and_then(|(origin, _)| origin)
    }

    /// As [`origin_of`](Self::origin_of); a table has the origin of its first line.
    pub(super) fn first_origin_of(&self, path: &str) -> Option<Origin> {
        let (origin, input) = self.walk(path)?;
        origin.or_else(|| first_origin(input).cloned())
    }

    /// Follows a path. Only the tree itself has origins; a list knows those of its items.
    #[cold]
    fn walk(&self, path: &str) -> Option<(Option<Origin>, Input<'a>)> {
        let depth = key::segments(self.key).count();
        let path = key::segments(path)
            .skip(depth)
            .map(|name| Some(name.ok()?.into_owned()));
        let path: Vec<String> = path.collect::<Option<_>>()?;
        let (mut input, mut origin) = (self.input, self.origin);
        let mut rest = path.as_slice();
        while let (Input::Table(table), Some((name, below))) = (input, rest.split_first()) {
            (input, origin, _) = Input::of_node(&table.get(name)?.node);
            rest = below;
        }
        let of_item = match (input, origin) {
            (Input::List(items), Some(origin)) => origin.of_item(items, rest),
            _ => None,
        };
        Some((of_item.or_else(|| origin.cloned()), input))
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.input, Input::Table(_) | Input::AbsentTable)
    }

    /// Whether further passes could find more than the first one, or even succeed.
    pub(super) fn can_be_diagnosed(&self) -> bool {
        !matches!(self.input, Input::Absent | Input::Failed(_))
    }
}
