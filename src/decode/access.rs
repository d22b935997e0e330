//! Reads the parts of a container: the items of a list, the entries of a table, the content of a variant.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::wording::type_name;
use crate::decode::forward::forward_fields_of_variant;
use crate::decode::input::{Input, Path, Segment};
use crate::value::Value;
use crate::value::node::Node;
use crate::value::origin::Origin;

/// An item of a list or an entry of a table.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub(super) name: &'a str,
    pub(super) segment: Segment<'a>,
    pub(super) input: Input<'a>,
    /// `None` if the value is written where its container is.
    pub(super) origin: Option<&'a Origin>,
    pub(super) masked: bool,
    /// An item of JSON text with its JSON type.
    pub(super) json: Option<&'a Value>,
}

impl<'a> Child<'a> {
    /// An entry that is written where its table is.
    pub(super) fn entry(name: &'a str, input: Input<'a>) -> Self {
        Self {
            name,
            segment: Segment::Name(name),
            input,
            origin: None,
            masked: false,
            json: None,
        }
    }

    pub(super) fn of_value(name: &'a str, value: &'a Value) -> Self {
        Self::entry(name, Input::of_value(value))
    }

    pub(super) fn item(at: usize, input: Input<'a>) -> Self {
        Self {
            segment: Segment::Index(at),
            ..Self::entry("", input)
        }
    }

    /// An entry of a table; `name` may live shorter than the tree does.
    pub(super) fn of_node<'b>(name: &'b str, node: &'a Node) -> Child<'b>
    where
        'a: 'b,
    {
        let (input, origin, masked) = Input::of_node(node);
        Child {
            origin,
            masked,
            ..Child::entry(name, input)
        }
    }

    pub(super) fn is_set(&self) -> bool {
        !matches!(self.input, Input::Absent)
    }

    /// The deserializer of the value. In a diagnosis, a substitute or a placeholder may replace the value.
    pub(super) fn deserializer<'b, 'de>(
        &self,
        parent: &ValueDeserializer<'b, 'de>,
        path: &'b Path<'b>,
    ) -> ValueDeserializer<'b, 'de>
    where
        'a: 'b,
    {
        let mut de = ValueDeserializer {
            input: self.input,
            path,
            context: parent.context,
            origin: self.origin.or(parent.origin),
            masked: self.masked || parent.masked,
            is_name: false,
            json: self.json,
        };
        if let Some(diagnosis) = parent.context.diagnosis {
            de.count_entries(1);
            let substitute = parent.context.request.substitute;
            let substitute = substitute.filter(|(at, _)| *at == de.path_text());
            if let Some((_, value)) = substitute {
                (de.input, de.json) = (Input::of_value(value), None);
            } else if let Some(level) = diagnosis.borrow().placeholder_level(|| de.path_text()) {
                (de.input, de.json) = (Input::Placeholder(level), None);
            }
        }
        de
    }
}

/// The items of a list.
pub(super) struct ItemAccess<'a, 'de> {
    parent: ValueDeserializer<'a, 'de>,
    items: std::vec::IntoIter<Child<'a>>,
}

impl<'a, 'de> ItemAccess<'a, 'de> {
    pub(super) fn new(parent: ValueDeserializer<'a, 'de>, mut items: Vec<Child<'a>>) -> Self {
        if let Some(diagnosis) = parent.context.diagnosis {
            parent.count_entries(items.len());
            diagnosis
                .borrow_mut()
                .inference
                .enter_list(&parent, &mut items);
        }
        Self {
            parent,
            items: items.into_iter(),
        }
    }
}

impl<'de> SeqAccess<'de> for ItemAccess<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(child) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::below(self.parent.path, child.segment, None);
        let de = child.deserializer(&self.parent, &path);
        let _reading = de.reading();
        let value = seed.deserialize(de).map(Some);
        value.map_err(|fault| de.locate_as::<S::Value>(fault))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A list of one item, as which a secret reads its value.
pub(super) struct SingleItem<'a, 'de>(pub(super) Option<ValueDeserializer<'a, 'de>>);

impl<'de> SeqAccess<'de> for SingleItem<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(de) = self.0.take() else {
            return Ok(None);
        };
        let value = seed.deserialize(de).map(Some);
        value.map_err(|fault| de.locate_as::<S::Value>(fault))
    }
}

/// The entries of a table, and in a diagnosis also the missing fields.
pub(super) struct EntryAccess<'a, 'de> {
    parent: ValueDeserializer<'a, 'de>,
    entries: std::vec::IntoIter<Child<'a>>,
    current: Option<Child<'a>>,
    variant: Option<Cow<'a, str>>,
    /// The entries whose names are not read as text, by what the names converted to.
    converted_names: Option<HashMap<String, Child<'a>>>,
    /// Receives the name that was read last, for the fault of a field that is set twice.
    last_name: &'a Cell<Option<&'a str>>,
}

impl<'a, 'de> EntryAccess<'a, 'de> {
    pub(super) fn new(
        parent: ValueDeserializer<'a, 'de>,
        mut entries: Vec<Child<'a>>,
        last_name: &'a Cell<Option<&'a str>>,
    ) -> Self {
        let mut variant = None;
        if let Some(diagnosis) = parent.context.diagnosis {
            parent.count_entries(entries.len());
            let mut diagnosis = diagnosis.borrow_mut();
            variant = diagnosis.inference.enter_table(&parent, &mut entries);
            let path = parent.path_text();
            entries.retain(|child| !diagnosis.is_skipped(&path, child.name));
            let added = diagnosis.missing_at(&path).into_iter();
            let added = added.filter(|name| !diagnosis.inference.is_omitted(&path, name));
            entries.extend(added.map(|name| Child::entry(name, Input::Absent)));
        }
        Self {
            parent,
            entries: entries.into_iter(),
            current: None,
            variant,
            converted_names: None,
            last_name,
        }
    }
}

impl<'de> MapAccess<'de> for EntryAccess<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        self.current = self.entries.next();
        let Some(child) = &self.current else {
            return Ok(None);
        };
        self.last_name.set(Some(child.name));
        let path = Path::below(self.parent.path, child.segment, self.variant.as_deref());
        let de = ValueDeserializer {
            input: Input::Text(child.name),
            path: &path,
            context: self.parent.context,
            origin: child.origin.or(self.parent.origin),
            masked: child.masked || self.parent.masked,
            is_name: true,
            json: None,
        };
        let converted = &self.parent.context.converted_name;
        converted.take();
        match seed.deserialize(de) {
            Ok(value) => {
                let converted_names = &mut self.converted_names;
                let add = |name| converted_names.get_or_insert_default().insert(name, *child);
                match converted.take().and_then(add) {
                    Some(first) => Err(self.parent.duplicate_key_fault(first, *child)),
                    None => Ok(Some(value)),
                }
            }
            // The struct locates the fault: it knows its names.
            Err(fault) if fault.0.unknown_field.is_some() => Err(fault),
            Err(fault) => Err(de.locate(fault)),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some(child) = self.current.take() else {
            return Err(<Fault as serde::de::Error>::custom(
                "a value without a name",
            ));
        };
        let path = Path::below(self.parent.path, child.segment, self.variant.as_deref());
        let de = child.deserializer(&self.parent, &path);
        if let (Some(diagnosis), Input::Placeholder(_)) = (de.context.diagnosis, de.input) {
            let expected = || type_name::<S::Value>();
            diagnosis
                .borrow_mut()
                .record_missing_type(&de.path_text(), expected);
        }
        let _reading = de.reading();
        seed.deserialize(de)
            .map_err(|fault| de.locate_as::<S::Value>(fault))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The variant of an enum with its content.
pub(super) struct Variant<'a, 'de> {
    pub(super) name: &'a str,
    pub(super) content: ValueDeserializer<'a, 'de>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = Fault;
    type Variant = VariantContent<'a, 'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, VariantContent<'a, 'de>), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        let variant = seed.deserialize(name)?;
        // `__Field` is the enum that serde derives for the names of variants.
        let is_key = self.content.is_name;
        if is_key && std::any::type_name::<S::Value>().ends_with("::__Field") {
            let variant = std::mem::discriminant(&variant);
            self.content.record_name(|| format!("{variant:?}"));
        }
        Ok((variant, VariantContent(self.content)))
    }
}

/// The content of a variant.
pub(super) struct VariantContent<'a, 'de>(ValueDeserializer<'a, 'de>);

impl<'de> VariantAccess<'de> for VariantContent<'_, 'de> {
    type Error = Fault;

    forward_fields_of_variant!(0);

    fn unit_variant(self) -> Result<(), Fault> {
        match self.0.input {
            Input::Absent => Ok(()),
            _ => serde::Deserialize::deserialize(self.0),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let de = self.0;
        seed.deserialize(de).map_err(|fault| de.locate(fault))
    }
}
