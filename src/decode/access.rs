//! Walking into lists, tables and variants.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::decode::diagnose::fault::{Fault, type_name};
use crate::decode::input::{Input, Path, Segment};
use crate::decode::place::De;
use crate::value::Value;
use crate::value::node::Node;
use crate::value::origin::Origin;

/// What stands below a place.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub(super) name: &'a str,
    pub(super) segment: Segment<'a>,
    pub(super) input: Input<'a>,
    /// `None` when it was written where its parent was.
    pub(super) origin: Option<&'a Origin>,
    pub(super) masked: bool,
    /// An item of JSON text, as JSON has it.
    pub(super) json: Option<&'a Value>,
}

impl<'a> Child<'a> {
    pub(super) fn of_value(name: &'a str, value: &'a Value) -> Self {
        Self {
            name,
            segment: Segment::Name(name),
            input: Input::of_value(value),
            origin: None,
            masked: false,
            json: None,
        }
    }

    pub(super) fn item(at: usize, input: Input<'a>) -> Self {
        Self {
            name: "",
            segment: Segment::Index(at),
            input,
            origin: None,
            masked: false,
            json: None,
        }
    }

    pub(super) fn of_text(name: &'a str, text: &'a str) -> Self {
        Self {
            name,
            segment: Segment::Name(name),
            input: Input::Text(text),
            origin: None,
            masked: false,
            json: None,
        }
    }

    pub(super) fn is_set(&self) -> bool {
        !matches!(self.input, Input::Absent)
    }

    pub(super) fn de<'b, 'de>(&self, parent: &De<'b, 'de>, path: &'b Path<'b>) -> De<'b, 'de>
    where
        'a: 'b,
    {
        let mut de = De {
            input: self.input,
            path,
            context: parent.context,
            origin: self.origin.or(parent.origin),
            masked: self.masked || parent.masked,
            name: false,
            json: self.json,
        };
        if let Some(slow) = parent.context.slow {
            de.count_entries(1);
            let instead = parent.context.instead;
            let instead = instead.filter(|(at, _)| *at == de.path_text());
            if let Some((_, value)) = instead {
                (de.input, de.json) = (Input::of_value(value), None);
            } else if let Some(level) = slow.borrow().level(|| de.path_text()) {
                (de.input, de.json) = (Input::Dummy(level), None);
            }
        }
        de
    }
}

impl<'a> Child<'a> {
    /// An entry of a table; `name` may live shorter than the tree does.
    pub(super) fn of_node<'b>(name: &'b str, node: &'a Node) -> Child<'b>
    where
        'a: 'b,
    {
        let (input, origin, masked) = Input::of_node(node);
        Child {
            name,
            segment: Segment::Name(name),
            input,
            origin,
            masked,
            json: None,
        }
    }
}

/// The items of a list.
pub(super) struct Seq<'a, 'de> {
    parent: De<'a, 'de>,
    items: std::vec::IntoIter<Child<'a>>,
}

impl<'a, 'de> Seq<'a, 'de> {
    pub(super) fn new(parent: De<'a, 'de>, mut items: Vec<Child<'a>>) -> Self {
        if let Some(slow) = parent.context.slow {
            parent.count_entries(items.len());
            slow.borrow_mut().learned.enter_list(&parent, &mut items);
        }
        Self {
            parent,
            items: items.into_iter(),
        }
    }
}

impl<'de> SeqAccess<'de> for Seq<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(child) = self.items.next() else {
            return Ok(None);
        };
        let path = Path {
            parent: Some(self.parent.path),
            segment: child.segment,
            variant: None,
        };
        let de = child.de(&self.parent, &path);
        let _reading = de.reading();
        match seed.deserialize(de) {
            Ok(value) => Ok(Some(value)),
            Err(fault) => Err(de.place_as::<S::Value>(fault)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A list of one, which is how a secret is handed over.
pub(super) struct One<'a, 'de>(pub(super) Option<De<'a, 'de>>);

impl<'de> SeqAccess<'de> for One<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(de) = self.0.take() else {
            return Ok(None);
        };
        match seed.deserialize(de) {
            Ok(value) => Ok(Some(value)),
            Err(fault) => Err(de.place_as::<S::Value>(fault)),
        }
    }
}

/// The entries of a table, and in the second pass the fields that it lacks.
pub(super) struct Map<'a, 'de> {
    parent: De<'a, 'de>,
    entries: std::vec::IntoIter<Child<'a>>,
    current: Option<Child<'a>>,
    variant: Option<Cow<'a, str>>,
    /// The entries whose names were no text, by what the names converted to.
    given: Option<HashMap<String, Child<'a>>>,
    /// Tells who made this the name that was read last.
    last: &'a Cell<Option<&'a str>>,
}

impl<'a, 'de> Map<'a, 'de> {
    pub(super) fn new(
        parent: De<'a, 'de>,
        mut entries: Vec<Child<'a>>,
        last: &'a Cell<Option<&'a str>>,
    ) -> Self {
        let mut variant = None;
        if let Some(slow) = parent.context.slow {
            parent.count_entries(entries.len());
            let mut slow = slow.borrow_mut();
            variant = slow.learned.enter_table(&parent, &mut entries);
            let path = parent.path_text();
            entries.retain(|child| !slow.is_skipped(&path, child.name));
            for name in slow.missing_at(&path) {
                entries.push(Child {
                    name,
                    segment: Segment::Name(name),
                    input: Input::Absent,
                    origin: None,
                    masked: false,
                    json: None,
                });
            }
        }
        Self {
            parent,
            entries: entries.into_iter(),
            current: None,
            variant,
            given: None,
            last,
        }
    }
}

impl<'de> MapAccess<'de> for Map<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        self.current = self.entries.next();
        let Some(child) = &self.current else {
            return Ok(None);
        };
        self.last.set(Some(child.name));
        let path = Path {
            parent: Some(self.parent.path),
            segment: child.segment,
            variant: self.variant.as_deref(),
        };
        let de = De {
            input: Input::Text(child.name),
            path: &path,
            context: self.parent.context,
            origin: child.origin.or(self.parent.origin),
            masked: child.masked || self.parent.masked,
            name: true,
            json: None,
        };
        let converted = &self.parent.context.converted;
        converted.take();
        match seed.deserialize(de) {
            Ok(value) => {
                let given = &mut self.given;
                let add = |name| given.get_or_insert_default().insert(name, *child);
                match converted.take().and_then(add) {
                    Some(first) => Err(self.parent.given_twice(first, *child)),
                    None => Ok(Some(value)),
                }
            }
            // The struct says it with the names it knows: let the fault travel up to it.
            Err(fault) if fault.0.unknown.is_some() => Err(fault),
            Err(fault) => Err(de.place(fault)),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some(child) = self.current.take() else {
            return Err(<Fault as serde::de::Error>::custom(
                "a value without a name",
            ));
        };
        let path = Path {
            parent: Some(self.parent.path),
            segment: child.segment,
            variant: self.variant.as_deref(),
        };
        let de = child.de(&self.parent, &path);
        if let (Some(slow), Input::Dummy(_)) = (de.context.slow, de.input) {
            let wanted = || type_name::<S::Value>();
            slow.borrow_mut().note_wanted(&de.path_text(), wanted);
        }
        let _reading = de.reading();
        seed.deserialize(de)
            .map_err(|fault| de.place_as::<S::Value>(fault))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The variant of an enum and what it holds.
pub(super) struct Variant<'a, 'de> {
    pub(super) name: &'a str,
    pub(super) content: De<'a, 'de>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = Fault;
    type Variant = Content<'a, 'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'a, 'de>), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        let variant = seed.deserialize(name)?;
        // What serde derives to tell variants apart is an enum; another type may be none.
        let is_key = self.content.name;
        if is_key && std::any::type_name::<S::Value>().ends_with("::__Field") {
            let variant = std::mem::discriminant(&variant);
            self.content.convert(|| format!("{variant:?}"));
        }
        Ok((variant, Content(self.content)))
    }
}

/// What a variant holds.
pub(super) struct Content<'a, 'de>(De<'a, 'de>);

impl<'de> VariantAccess<'de> for Content<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.0.input {
            Input::Absent => Ok(()),
            _ => serde::Deserialize::deserialize(self.0),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let de = self.0;
        seed.deserialize(de).map_err(|fault| de.place(fault))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
