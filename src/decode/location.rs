//! Faults at a position of the tree: which key, value and origin an error shows, and what it masks.

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::fault::{EMPTY_VARIABLE, Fault, Location};
use crate::decode::diagnose::rejection::Reported;
use crate::decode::diagnose::wording::{is_serde_internal, type_name};
use crate::decode::input::{Input, Segment};
use crate::error::ErrorKind;
use crate::value::key;
use crate::value::malformed_case;
use crate::value::origin::Origin;
use crate::value::secret::{self, Secrets, looks_secret};

/// The detail of a null in a list.
pub(crate) const NULL_ITEM: &str = "the item is null; write a value, or leave the item out";

/// The origin of a table: the first line on which one of its values is written.
pub(super) fn first_origin(input: Input<'_>) -> Option<&Origin> {
    let Input::Table(table) = input else {
        return None;
    };
    let entries = table.map().sorted().into_iter();
    let origins = entries.filter_map(|entry| {
        let (input, origin, _) = Input::of_node(&entry.node);
        origin.or_else(|| first_origin(input))
    });
    origins.reduce(|first, origin| {
        if first.line() <= origin.line() {
            first
        } else {
            origin
        }
    })
}

impl<'a, 'de> ValueDeserializer<'a, 'de> {
    /// The known secret keys.
    pub(super) fn secrets(&self) -> Option<&'a Secrets> {
        self.context.request.mask.secrets
    }

    /// Whether the key of the value is secret.
    pub(super) fn is_secret_by_name(&self, path: &str) -> bool {
        let by_name = || looks_secret(path);
        self.secrets().map_or_else(by_name, |it| it.is_secret(path))
    }

    /// Whether errors mask the value.
    pub(super) fn is_masked(&self, path: &str) -> bool {
        let by_name = || match self.secrets() {
            Some(secrets) if self.input.is_container() => secrets.is_secret(path),
            // A text may spell a table with a secret key.
            Some(secrets) => secrets.hides(path),
            None => looks_secret(path),
        };
        let is_plain = || self.secrets().is_some_and(|it| it.form_is_plain(path));
        let by_form = || match self.input {
            Input::Text(text) => {
                self.count_search(text);
                secret::value_text_holds_secret(text)
            }
            _ => false,
        };
        self.masked || by_name() || (by_form() && !is_plain())
    }

    /// The location of the value, for an error.
    pub(super) fn location(&self) -> Location {
        let path = self.path_text();
        Location {
            description: match self.input {
                Input::Absent | Input::AbsentTable => None,
                input => Some(input.description()),
            },
            origin: self
                .item_origin()
                .or_else(|| self.origin.cloned())
                .or_else(|| first_origin(self.input).cloned()),
            masked: self.is_masked(&path),
            may_quote: false,
            is_name: self.is_name,
            is_variable: self.is_variable(),
            path,
        }
    }

    /// The origin of the value, if it is in a list.
    #[cold]
    fn item_origin(&self) -> Option<Origin> {
        match self.leaf_around()? {
            (Input::List(items), origin, path) => origin.of_item(items, &path),
            _ => None,
        }
    }

    /// Whether the value is the whole text of an environment variable, and not a part of it.
    #[cold]
    fn is_variable(&self) -> bool {
        let is_env = |origin: &Origin| origin.kind() == "env";
        match self.leaf_around() {
            Some((Input::List(items), origin, path)) => {
                origin.of_item(items, &path).is_some_and(|it| is_env(&it))
                    && origin.is_of_one_item(items, &path)
            }
            Some((_, origin, path)) => path.is_empty() && is_env(origin),
            None => false,
        }
    }

    /// The leaf of the tree that the value is in, its origin, and the path of the value inside it.
    #[cold]
    fn leaf_around(&self) -> Option<(Input<'a>, &'a Origin, Vec<String>)> {
        let mut path = self.path.segments()?;
        let request = self.context.request;
        let (mut input, mut origin) = (request.input, request.origin);
        let mut depth = 0;
        while let Input::Table(table) = input {
            (input, origin, _) = Input::of_node(&table.get(path.get(depth)?)?.node);
            depth += 1;
        }
        Some((input, origin?, path.split_off(depth)))
    }

    /// Gives this location to a fault that has none yet.
    #[cold]
    pub(super) fn locate(&self, mut fault: Fault) -> Fault {
        let inner = &mut *fault.0;
        // The struct that does not know a name locates the fault, one level up.
        if inner.location.is_some() || (self.is_name && inner.unknown_field.is_some()) {
            return fault;
        }
        let mut location = self.location();
        if self.input.is_container() && (inner.custom || inner.rejection.is_some()) {
            // serde may quote any value below.
            let holds_secret = self.context.reads_secret.get()
                || self.secrets().is_some_and(|it| it.hides(&location.path))
                || self.input.holds_secret();
            location.may_quote |= holds_secret;
            let found = inner
                .rejection
                .as_ref()
                .map(|rejection| &rejection.reported);
            if let Some(found) = found.and_then(Reported::description) {
                location.description = Some(found);
                location.masked |= holds_secret;
            }
        }
        if inner.missing_field.is_some() {
            location.description = None;
            // A missing field is written nowhere, so the origin of a sibling would mislead.
            if self.origin.is_none() && self.item_origin().is_none() {
                location.origin = None;
            }
        }
        let below = match (inner.missing_field, &inner.unknown_field) {
            (Some(field), _) => Some(field),
            (None, Some(field)) if !location.masked => Some(&**field),
            _ => None,
        };
        if let Some(field) = below {
            key::push_segment(&mut location.path, field);
            if let Some((input, origin)) = self.entry(field) {
                let path = location.path.as_str();
                let by_name = || looks_secret(path);
                let is_secret = self.secrets().map_or_else(by_name, |it| it.hides(path));
                location.masked |= is_secret || input.holds_secret();
                location.description = Some(input.description());
                location.origin = origin.or(self.origin).cloned();
            }
        }
        inner.location = Some(location);
        fault
    }

    /// As [`locate`](Self::locate); names the type if the message of a user's type does not.
    #[cold]
    pub(super) fn locate_as<T>(&self, fault: Fault) -> Fault {
        self.locate_as_type(fault, type_name::<T>)
    }

    fn locate_as_type(&self, mut fault: Fault, type_name: fn() -> String) -> Fault {
        let inner = &mut *fault.0;
        let location = inner.location.as_ref();
        if location.is_none() && inner.custom && inner.expected.is_none() {
            inner.expected = Some(type_name());
            inner.expected_from_type = true;
        }
        let is_here = || location.is_none_or(|location| location.path == self.path_text());
        let is_inside = inner.expected.as_deref().is_some_and(is_serde_internal);
        if is_inside && inner.field_type.is_none() && is_here() {
            inner.field_type = Some(type_name()).filter(|name| !is_serde_internal(name));
        }
        self.locate(fault)
    }

    /// The entry of a table.
    fn entry(&self, name: &str) -> Option<(Input<'a>, Option<&'a Origin>)> {
        match self.input {
            Input::Table(table) => {
                let (input, origin, _) = Input::of_node(&table.get(name)?.node);
                Some((input, origin))
            }
            Input::Fields(fields) => Some((Input::of_value(fields.get(name)?), None)),
            _ => None,
        }
    }

    /// The fault of the value.
    #[cold]
    pub(super) fn fault(&self, detail: &str, expected: impl Into<String>) -> Fault {
        if detail == "empty text" && self.is_variable() {
            return self.locate(Fault::mismatch(EMPTY_VARIABLE, expected));
        }
        self.locate(Fault::mismatch(detail, expected))
    }

    /// The fault of a value of another type than expected.
    #[cold]
    pub(super) fn wrong_type(&self, expected: impl Into<String>) -> Fault {
        match self.input {
            Input::Absent | Input::AbsentTable => {
                let is_item = matches!(self.path.segment, Segment::Index(_));
                let mut fault =
                    Fault::mismatch(if is_item { NULL_ITEM } else { "not set" }, expected);
                fault.0.kind = ErrorKind::NotFound;
                self.locate(fault)
            }
            Input::Failed(error) => {
                // Text in the form of a reference may be a part of a secret.
                let masked = error.is_unresolved() && self.is_masked(&self.path_text());
                let masked = masked.then(|| error.without(&|_| true)).flatten();
                self.locate(Fault::complete(masked.unwrap_or_else(|| error.clone())))
            }
            Input::Text(text) if text.trim().is_empty() => self.fault("empty text", expected),
            Input::List(items) => {
                let masked = self.is_masked(&self.path_text());
                match malformed_case(items).filter(|_| !masked) {
                    Some(malformed) => self.fault(&format!("wrong type: {malformed}"), expected),
                    None => self.fault("wrong type", expected),
                }
            }
            _ => self.fault("wrong type", expected),
        }
    }
}
