//! Reads lists, tables and structs in each of their notations.

use std::borrow::Cow;
use std::cell::Cell;

use serde::de::{Deserializer, Visitor};

use crate::decode::access::{Child, EntryAccess, ItemAccess};
use crate::decode::deserializer::ValueDeserializer;
use crate::decode::diagnose::collect::or_collect;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::form::TableShape;
use crate::decode::diagnose::wording::{shorten, type_name};
use crate::decode::input::{Input, Segment};
use crate::decode::location::first_origin;
use crate::decode::text::{self, Pair};
use crate::decode::{braces, gaps};
use crate::error::MASK;
use crate::sorted;
use crate::value::Value;
use crate::value::key::{self, MAX_DEPTH};
use crate::value::table::Table;

/// The entries of a text, while they are read.
pub(super) enum SplitEntries<'a> {
    None,
    Pairs(Vec<Pair<'a>>),
    Table(Table),
}

/// The items of a text, while they are read.
#[derive(Default)]
struct SplitItems<'a> {
    texts: Vec<Cow<'a, str>>,
    /// The same items, if the text is JSON.
    json: Option<Box<[Value]>>,
}

impl<'a, 'de> ValueDeserializer<'a, 'de> {
    /// Splits a text into items or entries. The depth of a tree is limited where it is built, that of text
    /// only here.
    fn split<P>(
        &self,
        text: &'a str,
        split_text: &dyn Fn(&'a str) -> Result<Vec<P>, &'static str>,
        expected: &dyn Fn() -> String,
    ) -> Result<Vec<P>, Fault> {
        self.count(text.len());
        let parts = if self.path.depth() < MAX_DEPTH {
            split_text(text)
        } else {
            Err("nested too deep")
        };
        parts.map_err(|detail| self.fault(detail, expected()))
    }

    /// The items of a list in any of its notations. `storage` keeps the items of a text.
    fn items<'b>(
        &self,
        storage: &'b mut SplitItems<'a>,
        expected: &dyn Fn() -> String,
    ) -> Result<Vec<Child<'b>>, Fault>
    where
        'a: 'b,
    {
        match self.input {
            Input::List(items) => {
                let children = items.iter().enumerate();
                Ok(children
                    .map(|(at, v)| Child::item(at, Input::of_value(v)))
                    .collect())
            }
            Input::Text(text) => self.text_items(text, storage, expected),
            Input::Table(_) | Input::Fields(_) | Input::AbsentTable => self.indexed_items(expected),
            _ => Err(self.wrong_type(expected())),
        }
    }

    /// The items of a text. `storage` keeps them.
    fn text_items<'b>(
        &self,
        text: &'a str,
        storage: &'b mut SplitItems<'a>,
        expected: &dyn Fn() -> String,
    ) -> Result<Vec<Child<'b>>, Fault>
    where
        'a: 'b,
    {
        storage.texts = self.split(text, &text::items, expected)?;
        let json = braces::json_list(text);
        storage.json = json.filter(|json| json.len() == storage.texts.len());
        // An item of a secret text is secret. Nobody sees the errors of a pass that records secrets.
        let shows_errors = self.context.request.secret_keys.is_none();
        let masks = shows_errors.then(|| self.masked_items(&storage.texts));
        let json = storage.json.as_deref();
        let item = |(at, text)| {
            let (input, json) = match json.and_then(|json| json.get(at)) {
                Some(Value::Unset) => (Input::Absent, None),
                json => (Input::Text(text), json),
            };
            Child {
                masked: masks.as_ref().is_some_and(|masks| masks.hides(at)),
                json,
                ..Child::item(at, input)
            }
        };
        let texts = storage.texts.iter().map(|text| &**text);
        Ok(texts.enumerate().map(item).collect())
    }

    /// The items of a table whose names are the indexes of a list.
    fn indexed_items(&self, expected: &dyn Fn() -> String) -> Result<Vec<Child<'a>>, Fault> {
        let children = self.entries().unwrap_or_default();
        let mut items = Vec::with_capacity(children.len());
        for child in children {
            let Some(at) = key::list_index(child.name) else {
                return Err(self.not_an_index(&child, expected()));
            };
            items.push((at, child));
        }
        sorted::sort_by_key(&mut items, |(at, _)| *at);
        if items.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(self.fault("two names with the same number", expected()));
        }
        if let Some(detail) = gaps::detail(&items) {
            return Err(self.fault(&detail, expected()));
        }
        Ok(items.into_iter().map(|(_, child)| child).collect())
    }

    /// The fault of a table that is no list, since a name is no index.
    #[cold]
    fn not_an_index(&self, child: &Child<'_>, expected: String) -> Fault {
        let path = self.path_text();
        let mut below = path.clone();
        key::push_segment(&mut below, child.name);
        let hidden = child.masked || self.is_masked(&path) || self.is_masked(&below);
        let name = if hidden {
            MASK.to_owned()
        } else {
            shorten(child.name).replace('"', "`")
        };
        let detail = format!(
            "wrong type: {name} is not an index; a table is a list if its names are `0`, `1` and so on"
        );
        let mut fault = self.fault(&detail, expected);
        let origin = child.origin.or_else(|| first_origin(child.input));
        if let (Some(location), Some(origin)) = (&mut fault.0.location, origin) {
            location.origin = Some(origin.clone());
        }
        fault
    }

    /// The table of a text in braces.
    pub(super) fn braced(
        &self,
        text: &'a str,
        expected: &dyn Fn() -> String,
    ) -> Result<Table, Fault> {
        let split_text = |text: &'a str| Ok(vec![braces::table(text)?]);
        let tables = self.split(text, &split_text, expected)?;
        Ok(tables.into_iter().next().unwrap_or_default())
    }

    /// An item of JSON text with its JSON type; any other value as it is.
    pub(super) fn as_json(self) -> Self {
        match self.json {
            Some(value) => ValueDeserializer {
                input: Input::of_value(value),
                json: None,
                ..self
            },
            None => self,
        }
    }

    /// What the names of a table allow to read it as.
    pub(super) fn shape(&self) -> TableShape {
        let entries = self.entries().unwrap_or_default();
        if entries.is_empty() && self.sole_null_entry().is_some() {
            TableShape::Null
        } else if entries.is_empty() {
            TableShape::Empty
        } else {
            TableShape::of_names(entries.iter().map(|child| child.name))
        }
    }

    /// The entries of a table by name; `None` if this is no table.
    pub(super) fn entries(&self) -> Option<Vec<Child<'a>>> {
        let children = match self.input {
            Input::AbsentTable => return Some(Vec::new()),
            Input::Fields(fields) => fields
                .iter()
                .map(|(name, value)| Child::of_value(name, value))
                .filter(Child::is_set)
                .collect(),
            Input::Table(table) => table
                .map()
                .sorted()
                .into_iter()
                .map(|entry| Child::of_node(&entry.name, &entry.node))
                .filter(Child::is_set)
                .collect(),
            _ => return None,
        };
        Some(children)
    }

    /// The only entry of a table if it is null, as in `- Start:`.
    pub(super) fn sole_null_entry(&self) -> Option<Child<'a>> {
        match self.input {
            Input::Fields(fields) if fields.len() == 1 => {
                let (name, value) = fields.iter().next()?;
                Some(Child::of_value(name, value))
            }
            Input::Table(table) if table.len() == 1 => {
                let entry = table.map().iter().next()?;
                Some(Child::of_node(&entry.name, &entry.node))
            }
            _ => None,
        }
    }

    /// The entries of a table, or of text such as `a=1, b=2`, `{a = 1}` or `{"a": 1}`. `storage` keeps the
    /// entries of a text.
    pub(super) fn pairs<'b>(
        &self,
        storage: &'b mut SplitEntries<'a>,
        expected: &dyn Fn() -> String,
    ) -> Result<Vec<Child<'b>>, Fault>
    where
        'a: 'b,
    {
        if let Some(entries) = self.entries() {
            return Ok(entries);
        }
        let Input::Text(text) = self.input else {
            return Err(self.wrong_type(expected()));
        };
        if braces::is_braced(text) {
            *storage = SplitEntries::Table(self.braced(text, expected)?);
        } else {
            *storage = SplitEntries::Pairs(self.split(text, &text::pairs, expected)?);
        }
        // A name in a secret text is part of the secret, so no path shows it. A table in braces that has a
        // secret field is not secret itself.
        let masked = match storage {
            SplitEntries::Table(fields) => self.masks_fields(fields),
            SplitEntries::None | SplitEntries::Pairs(_) => self.is_masked(&self.path_text()),
        };
        let mut entries: Vec<_> = match storage {
            SplitEntries::None => Vec::new(),
            SplitEntries::Pairs(pairs) => {
                let of = |(name, value): &'b Pair<'a>| Child::entry(name, Input::Text(value));
                pairs.iter().map(of).collect()
            }
            SplitEntries::Table(fields) => fields
                .iter()
                .map(|(name, value)| Child::of_value(name, value))
                .filter(Child::is_set)
                .collect(),
        };
        if masked {
            for child in &mut entries {
                child.segment = Segment::Hidden;
                child.masked = true;
            }
        }
        Ok(entries)
    }

    /// Reads a list, or a tuple of `len` items.
    pub(super) fn seq<V: Visitor<'de>>(
        self,
        len: Option<usize>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut storage = SplitItems::default();
        let items = self.items(&mut storage, &type_name::<V::Value>);
        let items = items.and_then(|items| match len {
            Some(len) if items.len() != len => {
                let detail = format!("{} items instead of {len}", items.len());
                Err(self.fault(&detail, type_name::<V::Value>()))
            }
            _ => Ok(items),
        });
        let items = or_collect!(self, items, placeholder => match len {
            Some(len) => placeholder.deserialize_tuple(len, visitor),
            None => placeholder.deserialize_seq(visitor),
        });
        visitor
            .visit_seq(ItemAccess::new(self, items))
            .map_err(|fault| self.locate(fault))
    }

    /// Reads a table.
    pub(super) fn map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut storage = SplitEntries::None;
        let entries = self.pairs(&mut storage, &type_name::<V::Value>);
        let entries =
            or_collect!(self, entries, placeholder => placeholder.deserialize_map(visitor));
        self.visit_entries(entries, visitor)
    }

    fn visit_entries<V: Visitor<'de>>(
        self,
        entries: Vec<Child<'_>>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let last = Cell::new(None);
        visitor
            .visit_map(EntryAccess::new(self, entries, &last))
            .map_err(|fault| self.locate_duplicate(fault, last.get()))
    }

    /// Reads a struct. Two fields come in the order of the struct: an adjacently tagged enum then reads its
    /// tag before its content, and serde need not buffer the content.
    pub(super) fn fields<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut storage = SplitEntries::None;
        let entries = self.pairs(&mut storage, &type_name::<V::Value>);
        let mut entries = or_collect!(self, entries, placeholder => placeholder.deserialize_struct("", names, visitor));
        // The name of a field of the struct is no part of a secret.
        for child in &mut entries {
            if names.contains(&child.name) {
                child.segment = Segment::Name(child.name);
            }
        }
        if let ([first, second], [a, b]) = (names, entries.as_mut_slice()) {
            if a.name == *second && b.name == *first {
                std::mem::swap(a, b);
            }
        }
        self.visit_entries(entries, visitor)
    }
}
