//! The lenient serde deserializer of one value of the tree.
//!
//! `containers`, `scalars` and `duplicates` read the values, `location` makes the faults, `access` leads
//! to the values below. While a failure is diagnosed, a bad value is replaced by a placeholder.

use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, Visitor};

use crate::decode::access::{SingleItem, Variant};
use crate::decode::braces;
use crate::decode::decimal::WrittenFloat;
use crate::decode::diagnose::assumptions::EntryTypes;
use crate::decode::diagnose::collect::or_collect;
use crate::decode::diagnose::fault::Fault;
use crate::decode::diagnose::placeholder::Placeholder;
use crate::decode::diagnose::visit_recorder::VisitRecorder;
use crate::decode::diagnose::wording::type_name;
use crate::decode::diagnose::{trial, untyped};
use crate::decode::forward::forward_similar_methods;
use crate::decode::input::{Input, Path, Segment};
use crate::decode::request::PassContext;
use crate::decode::scalars::{address, visit_int};
use crate::decode::text::{self, AnyInteger};
use crate::value::Value;
use crate::value::key;
use crate::value::origin::Origin;
use crate::value::secret::{SECRET_NAME, buffered};
use crate::value::units::SIZE_NAME;

/// The name of the struct in whose only field `toml::value::Datetime` expects the text of a date.
const TOML_DATE: &str = "$__toml_private_Datetime";

/// The value at one path of the tree.
#[derive(Clone, Copy)]
pub(super) struct ValueDeserializer<'a, 'de> {
    pub(super) input: Input<'a>,
    pub(super) path: &'a Path<'a>,
    pub(super) context: &'a PassContext<'a, 'de>,
    /// The origin of the value, or of the nearest value around it that has one.
    pub(super) origin: Option<&'a Origin>,
    /// Whether errors mask the value, whatever its key is.
    pub(super) masked: bool,
    /// Whether this is the name of an entry, and not its value.
    pub(super) is_name: bool,
    /// An item of JSON text with its JSON type, for a type that accepts any type.
    pub(super) json: Option<&'a Value>,
}

/// Returns the answer of a placeholder, if one replaces the value.
macro_rules! or_placeholder {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        if let Some(placeholder) = $self.placeholder() {
            return placeholder.$method($($arg),*).map_err(|fault| $self.locate(fault));
        }
    };
}

/// The methods of integer types. An integer that fits needs no other function.
macro_rules! integers {
    ($($method:ident $visit:ident $t:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            // The common case, without a detour over 128 bits.
            if let Input::Int(number) = self.input {
                let fits: Option<$t> = number.try_into().ok();
                if let Some(number) = fits {
                    return visitor.$visit(number).map_err(|fault| self.locate(fault));
                }
            }
            or_placeholder!(self.$method(visitor));
            let range = || format!("{} ({} to {})", stringify!($t), $t::MIN, $t::MAX);
            let number = self.integer(stringify!($t), &range).and_then(|number| {
                let number = match number {
                    AnyInteger::Signed(number) => $t::try_from(number).ok(),
                    AnyInteger::Huge(number) => $t::try_from(number).ok(),
                };
                number.ok_or_else(|| self.fault("out of range", range()))
            });
            let number = or_collect!(self, number, placeholder => placeholder.$method(visitor));
            self.record_name(|| number.to_string());
            visitor.$visit(number).map_err(|fault| self.locate(fault))
        }
    )*};
}

/// The methods of scalars that one function reads.
macro_rules! scalars {
    ($($method:ident $visit:ident $read:ident($($arg:expr)?);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            or_placeholder!(self.$method(visitor));
            let value = self.$read($($arg)?);
            let value = or_collect!(self, value, placeholder => placeholder.$method(visitor));
            self.record_name(|| format!("{value:?}"));
            visitor.$visit(value).map_err(|fault| self.locate(fault))
        }
    )*};
}

impl<'de> Deserializer<'de> for ValueDeserializer<'_, 'de> {
    type Error = Fault;

    forward_similar_methods!();

    integers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
    }

    scalars! {
        deserialize_bool visit_bool boolean();
        deserialize_f32 visit_f32 float("f32");
        deserialize_f64 visit_f64 float("f64");
        deserialize_char visit_char character();
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let visitor = VisitRecorder::new(self, visitor);
        match self.context.diagnosis {
            Some(diagnosis) => untyped::visit_any(self, diagnosis, visitor),
            None => self.as_json().visit_plain(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_str(visitor));
        let text = self.input.text();
        let text = text.ok_or_else(|| self.wrong_type(type_name::<V::Value>()));
        let text = or_collect!(self, text, placeholder => placeholder.deserialize_str(visitor));
        if let Some(address) = self.is_name.then(|| address::<V::Value>(&text)).flatten() {
            self.record_name(|| address);
        }
        visitor
            .visit_str(&text)
            .map_err(|fault| self.locate_as::<V::Value>(fault))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_bytes(visitor));
        match self.input {
            Input::Text(text) => visitor
                .visit_bytes(text.as_bytes())
                .map_err(|fault| self.locate(fault)),
            _ => self.seq(None, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_option(visitor));
        let result = match self.input {
            Input::Absent => visitor.visit_none(),
            _ => visitor.visit_some(self),
        };
        result.map_err(|fault| self.locate(fault))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_unit(visitor));
        let empty = match self.input {
            Input::Text(text) => text.trim().is_empty(),
            _ => self.entries().is_some_and(|entries| entries.is_empty()),
        };
        let rejected = || self.wrong_type("nothing but empty text");
        let () = or_collect!(self, empty.then_some(()).ok_or_else(rejected), placeholder => {
            placeholder.deserialize_unit(visitor)
        });
        visitor.visit_unit().map_err(|fault| self.locate(fault))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = if name == SECRET_NAME {
            self.context.reads_secret.set(true);
            self.masked = true;
            if let Some(secret_keys) = self.context.request.secret_keys {
                secret_keys.borrow_mut().push(self.path_text());
            }
            visitor.visit_seq(SingleItem(Some(self)))
        } else if name == SIZE_NAME {
            return self.size(visitor);
        } else {
            visitor.visit_newtype_struct(self)
        };
        result.map_err(|fault| self.locate(fault))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_seq(visitor));
        self.record_entry_types(EntryTypes::Uniform);
        self.record_uniform();
        self.seq(None, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_tuple(len, visitor));
        self.record_entry_types(EntryTypes::Distinct);
        self.seq(Some(len), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_map(visitor));
        self.record_uniform();
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_struct(name, fields, visitor));
        if let (Input::Fields(_), Some((path, _))) = (self.input, self.context.request.substitute) {
            if key::under(&self.path_text(), path) {
                trial::record_fields(fields);
            }
        }
        self.record_entry_types(EntryTypes::Distinct);
        if name == "Duration" && fields == ["secs", "nanos"] {
            return self.duration(visitor);
        }
        if let (Input::Text(text), TOML_DATE, [field]) = (self.input, name, fields) {
            let date = MapDeserializer::new(std::iter::once((*field, text)));
            return visitor.visit_map(date).map_err(|fault| self.locate(fault));
        }
        if let Input::Text(text) = self.input {
            let may_be = text.trim().is_empty() || text.contains('=') || braces::is_braced(text);
            let rejected = || self.fault(text::NO_TABLE, type_name::<V::Value>());
            let () = or_collect!(self, may_be.then_some(()).ok_or_else(rejected), placeholder => {
                placeholder.deserialize_struct(name, fields, visitor)
            });
        }
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        or_placeholder!(self.deserialize_enum(name, variants, visitor));
        let expected = type_name::<V::Value>;
        if let Input::Text(text) = self.input {
            if braces::is_braced(text) && !variants.contains(&text) {
                let fields = self.braced(text, &expected)?;
                let table = ValueDeserializer {
                    input: Input::Fields(&fields),
                    masked: self.masks_fields(&fields),
                    json: None,
                    ..self
                };
                return table.deserialize_enum(name, variants, visitor);
            }
        }
        if let Some(text) = self.input.text() {
            return self.unit_variant(&text, variants, visitor);
        }
        let entries = self.entries().ok_or_else(|| self.wrong_type(expected()));
        let entries = or_collect!(self, entries, placeholder => {
            placeholder.deserialize_enum(name, variants, visitor)
        });
        let null = self.sole_null_entry();
        let child = match (entries.as_slice(), &null) {
            ([child], _) | ([], Some(child)) => child,
            _ => return Err(self.rivals_fault(&entries, "several variants are set", expected())),
        };
        let path = Path::below(self.path, child.segment, None);
        let variant = Variant {
            name: Self::variant(child.name, variants),
            content: child.deserializer(&self, &path),
        };
        visitor
            .visit_enum(variant)
            .map_err(|fault| self.locate(fault))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.context.diagnosis {
            Some(diagnosis) => untyped::visit_identifier(self, diagnosis, visitor),
            None => self.deserialize_str(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit().map_err(|fault| self.locate(fault))
    }
}

impl<'a, 'de> ValueDeserializer<'a, 'de> {
    /// The canonical key of the value.
    pub(super) fn path_text(&self) -> String {
        let mut text = self.context.request.key.to_owned();
        self.path.write(&mut text);
        text
    }

    /// Whether the pass records what it visits.
    #[inline]
    pub(super) fn is_traced(&self) -> bool {
        self.context.request.is_traced
    }

    /// In a traced pass, records that the value is read while the result lives.
    #[inline]
    pub(super) fn reading(&self) -> Option<buffered::Reading> {
        self.context
            .request
            .is_traced
            .then(|| buffered::reading(self.path_text()))
    }

    /// The placeholder that replaces the value.
    #[inline]
    pub(super) fn placeholder(&self) -> Option<Placeholder> {
        match self.input {
            Input::Placeholder(level) => Some(Placeholder::new(level)),
            Input::Failed(_) => self.collect_broken_reference(),
            _ => None,
        }
    }

    /// Collects the fault of a broken reference, while errors are collected.
    #[cold]
    fn collect_broken_reference(&self) -> Option<Placeholder> {
        let diagnosis = self.context.diagnosis?;
        if !diagnosis.borrow().inference.reporting {
            return None;
        }
        let fault = self.wrong_type("");
        diagnosis.borrow_mut().collect_fault(fault);
        Some(Placeholder::new(0))
    }

    /// Records what the name of an entry converts to: no other name of its map may be the same.
    #[inline]
    pub(super) fn record_name(&self, value: impl FnOnce() -> String) {
        if self.is_name {
            self.context.converted_name.set(Some(value()));
        }
    }

    /// Reads a variant that is written as its name alone.
    fn unit_variant<V: Visitor<'de>>(
        self,
        text: &str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text = text.trim();
        if text.is_empty() {
            return Err(self.fault("empty text", type_name::<V::Value>()));
        }
        let name = Self::variant(text, variants);
        // An unknown name is just text, which may be secret.
        let is_known = variants.contains(&name);
        let segment = if is_known {
            Segment::Name(name)
        } else {
            Segment::Hidden
        };
        let path = Path::below(self.path, segment, None);
        let content = ValueDeserializer {
            input: Input::Absent,
            json: None,
            path: &path,
            ..self
        };
        visitor
            .visit_enum(Variant { name, content })
            .map_err(|fault| self.locate(fault))
    }

    /// Visits a text. In a diagnosis, its address distinguishes it from equal texts.
    pub(super) fn visit_text<V: Visitor<'de>>(
        &self,
        text: &str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (Some(diagnosis), Some(arena)) = (self.context.diagnosis, self.context.arena) else {
            return visitor.visit_str(text);
        };
        let kept = arena.keep(text);
        diagnosis.borrow_mut().inference.record_address(kept);
        visitor.visit_borrowed_str(kept)
    }

    /// Visits the value with the type that it is written with.
    pub(super) fn visit_plain<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match self.input.canonical() {
            Input::Bool(value) => visitor.visit_bool(value),
            Input::Int(value) => visitor.visit_i64(value),
            Input::Big(value) => visit_int(value.get(), visitor),
            Input::Float(value) => match self.written().and_then(WrittenFloat::vanished) {
                Some(text) => self.visit_text(text, visitor),
                None => visitor.visit_f64(value),
            },
            Input::Text(text) => self.visit_text(text, visitor),
            Input::List(_) => return self.seq(None, visitor),
            Input::Fields(_) | Input::Table(_) | Input::AbsentTable => return self.map(visitor),
            // A null in a list.
            Input::Absent if self.path.parent.is_some() => visitor.visit_unit(),
            Input::Absent | Input::Failed(_) | Input::Placeholder(_) | Input::Spelled(_) => {
                return Err(self.wrong_type(type_name::<V::Value>()));
            }
        };
        result.map_err(|fault| self.locate_as::<V::Value>(fault))
    }

    /// In a diagnosis, records whether all entries of the container have one type.
    fn record_entry_types(&self, types: EntryTypes) {
        if let Some(diagnosis) = self.context.diagnosis {
            let inference = &mut diagnosis.borrow_mut().inference;
            inference.record_entry_types(self.path, types);
        }
    }
}
