//! The deserializer: one place of the tree, asked for one type.

use std::net::{IpAddr, SocketAddr};

use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, Visitor};

use crate::decode::access::{One, Variant};
use crate::decode::braces;
use crate::decode::decimal::Written;
use crate::decode::diagnose::collect::or_collect;
use crate::decode::diagnose::fault::{Fault, type_name};
use crate::decode::diagnose::report;
use crate::decode::diagnose::suspect;
use crate::decode::diagnose::watch::Watch;
use crate::decode::input::{Input, Path, Segment};
use crate::decode::place::De;
use crate::decode::text::{self, Whole};
use crate::value::key;
use crate::value::secret::SECRET_NAME;
use crate::value::units::SIZE_NAME;

/// The struct as which `toml::value::Datetime` asks for the text of a date, in its only field.
const TOML_DATE: &str = "$__toml_private_Datetime";

macro_rules! or_dummy {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        if let Some(dummy) = $self.dummy() {
            return dummy.$method($($arg),*).map_err(|fault| $self.place(fault));
        }
    };
}

macro_rules! integers {
    ($($method:ident $visit:ident $t:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            // The plain case, without a detour over 128 bits.
            if let Input::Int(number) = self.input {
                let fits: Option<$t> = number.try_into().ok();
                if let Some(number) = fits {
                    return visitor.$visit(number).map_err(|fault| self.place(fault));
                }
            }
            or_dummy!(self.$method(visitor));
            let range = || format!("{} ({} to {})", stringify!($t), $t::MIN, $t::MAX);
            let number = self.whole(stringify!($t), &range).and_then(|number| {
                let number = match number {
                    Whole::Signed(number) => $t::try_from(number).ok(),
                    Whole::Huge(number) => $t::try_from(number).ok(),
                };
                number.ok_or_else(|| self.fault("out of range", range()))
            });
            let number = or_collect!(self, number, dummy => dummy.$method(visitor));
            self.convert(|| number.to_string());
            visitor.$visit(number).map_err(|fault| self.place(fault))
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_, 'de> {
    type Error = Fault;

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

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.context.any.set(true);
        let visitor = Watch::new(self, visitor);
        match self.context.slow {
            Some(slow) => report::any(self, slow, visitor),
            None => self.as_json().plain_any(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_bool(visitor));
        let value = match self.input.canonical() {
            Input::Bool(value) => Ok(value),
            Input::Text(text) if !text.trim().is_empty() => {
                text::boolean(text).ok_or_else(|| self.fault("not a boolean", "bool"))
            }
            _ => Err(self.refuse("bool")),
        };
        let value = or_collect!(self, value, dummy => dummy.deserialize_bool(visitor));
        self.convert(|| value.to_string());
        visitor.visit_bool(value).map_err(|fault| self.place(fault))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_f32(visitor));
        let value = self.float::<f32>("f32");
        let value = or_collect!(self, value, dummy => dummy.deserialize_f32(visitor));
        self.convert(|| format!("{value:?}"));
        visitor.visit_f32(value).map_err(|fault| self.place(fault))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_f64(visitor));
        let value = self.float::<f64>("f64");
        let value = or_collect!(self, value, dummy => dummy.deserialize_f64(visitor));
        self.convert(|| format!("{value:?}"));
        visitor.visit_f64(value).map_err(|fault| self.place(fault))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_char(visitor));
        let only = |text: &str| {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        let c = match self.input.text() {
            Some(text) if text.is_empty() => Err(self.fault("empty text", "char")),
            Some(text) => only(&text)
                .or_else(|| only(text.trim()))
                .ok_or_else(|| self.fault("not a single character", "char")),
            None => Err(self.refuse("char")),
        };
        let c = or_collect!(self, c, dummy => dummy.deserialize_char(visitor));
        self.convert(|| c.to_string());
        visitor.visit_char(c).map_err(|fault| self.place(fault))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_str(visitor));
        let text = self.input.text();
        let text = text.ok_or_else(|| self.refuse(type_name::<V::Value>()));
        let text = or_collect!(self, text, dummy => dummy.deserialize_str(visitor));
        if let Some(address) = self.name.then(|| address::<V::Value>(&text)).flatten() {
            self.convert(|| address);
        }
        visitor
            .visit_str(&text)
            .map_err(|fault| self.place_as::<V::Value>(fault))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_bytes(visitor));
        match self.input {
            Input::Text(text) => visitor
                .visit_bytes(text.as_bytes())
                .map_err(|fault| self.place(fault)),
            _ => self.seq(None, visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_option(visitor));
        let result = match self.input {
            Input::Absent => visitor.visit_none(),
            _ => visitor.visit_some(self),
        };
        result.map_err(|fault| self.place(fault))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_unit(visitor));
        let empty = match self.input {
            Input::Text(text) => text.trim().is_empty(),
            _ => self.entries().is_some_and(|entries| entries.is_empty()),
        };
        let refused = || self.refuse("nothing but empty text");
        let () = or_collect!(self, empty.then_some(()).ok_or_else(refused), dummy => {
            dummy.deserialize_unit(visitor)
        });
        visitor.visit_unit().map_err(|fault| self.place(fault))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = if name == SECRET_NAME {
            self.context.secret.set(true);
            self.masked = true;
            if let Some(notes) = self.context.notes {
                notes.borrow_mut().push(self.path_text());
            }
            visitor.visit_seq(One(Some(self)))
        } else if name == SIZE_NAME {
            return self.size(visitor);
        } else {
            visitor.visit_newtype_struct(self)
        };
        result.map_err(|fault| self.place(fault))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_seq(visitor));
        self.note_kind(true);
        self.note_repeating();
        self.seq(None, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_tuple(len, visitor));
        self.note_kind(false);
        self.seq(Some(len), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_map(visitor));
        self.note_repeating();
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        or_dummy!(self.deserialize_struct(name, fields, visitor));
        if let Some((path, _)) = self.context.instead {
            if key::under(&self.path_text(), path) {
                suspect::note_fields(fields);
            }
        }
        self.note_kind(false);
        if name == "Duration" && fields == ["secs", "nanos"] {
            return self.duration(visitor);
        }
        if let (Input::Text(text), TOML_DATE, [field]) = (self.input, name, fields) {
            let date = MapDeserializer::new(std::iter::once((*field, text)));
            return visitor.visit_map(date).map_err(|fault| self.place(fault));
        }
        if let Input::Text(text) = self.input {
            let may_be = text.trim().is_empty() || text.contains('=') || braces::is_braced(text);
            let refused = || self.fault(text::NO_TABLE, type_name::<V::Value>());
            let () = or_collect!(self, may_be.then_some(()).ok_or_else(refused), dummy => {
                dummy.deserialize_struct(name, fields, visitor)
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
        or_dummy!(self.deserialize_enum(name, variants, visitor));
        let wanted = type_name::<V::Value>;
        if let Input::Text(text) = self.input {
            if braces::is_braced(text) && !variants.contains(&text) {
                let fields = self.braced(text, &wanted)?;
                let table = De {
                    input: Input::Fields(&fields),
                    masked: self.masks_fields(&fields),
                    json: None,
                    ..self
                };
                return table.deserialize_enum(name, variants, visitor);
            }
        }
        if let Some(text) = self.input.text() {
            let text = text.trim();
            if text.is_empty() {
                return Err(self.fault("empty text", wanted()));
            }
            let variant = Self::variant(text, variants);
            let path = Path {
                parent: Some(self.path),
                // An unknown name is just text, which may be secret.
                segment: if variants.contains(&variant) {
                    Segment::Name(variant)
                } else {
                    Segment::Hidden
                },
                variant: None,
            };
            let content = De {
                input: Input::Absent,
                json: None,
                path: &path,
                ..self
            };
            return visitor
                .visit_enum(Variant {
                    name: variant,
                    content,
                })
                .map_err(|fault| self.place(fault));
        }
        let entries = self.entries().ok_or_else(|| self.refuse(wanted()));
        let entries = or_collect!(self, entries, dummy => {
            dummy.deserialize_enum(name, variants, visitor)
        });
        let null = self.only_null();
        let child = match (entries.as_slice(), &null) {
            ([child], _) | ([], Some(child)) => child,
            _ => return Err(self.rivals(&entries, "several variants are set", wanted())),
        };
        let path = Path {
            parent: Some(self.path),
            segment: child.segment,
            variant: None,
        };
        visitor
            .visit_enum(Variant {
                name: Self::variant(child.name, variants),
                content: child.de(&self, &path),
            })
            .map_err(|fault| self.place(fault))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.context.slow {
            Some(slow) => report::identifier(self, slow, visitor),
            None => self.deserialize_str(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit().map_err(|fault| self.place(fault))
    }
}

impl<'de> De<'_, 'de> {
    /// Hands over a text. In the second pass its address tells it from equal ones.
    pub(super) fn text_any<V: Visitor<'de>>(
        &self,
        text: &str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (Some(slow), Some(texts)) = (self.context.slow, self.context.texts) else {
            return visitor.visit_str(text);
        };
        let kept = texts.keep(text);
        slow.borrow_mut().learned.identify(kept);
        visitor.visit_borrowed_str(kept)
    }

    /// Hands over what there is, text as text.
    pub(super) fn plain_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match self.input.canonical() {
            Input::Bool(value) => visitor.visit_bool(value),
            Input::Int(value) => visitor.visit_i64(value),
            Input::Big(value) => visit_int(value.get(), visitor),
            Input::Float(value) => match self.written().and_then(Written::vanished) {
                Some(text) => self.text_any(text, visitor),
                None => visitor.visit_f64(value),
            },
            Input::Text(text) => self.text_any(text, visitor),
            Input::List(_) => return self.seq(None, visitor),
            Input::Fields(_) | Input::Table(_) | Input::Nothing => return self.map(visitor),
            // A null in a list.
            Input::Absent if self.path.parent.is_some() => visitor.visit_unit(),
            Input::Absent | Input::Failed(_) | Input::Dummy(_) | Input::Spelled(_) => {
                return Err(self.refuse(type_name::<V::Value>()));
            }
        };
        result.map_err(|fault| self.place_as::<V::Value>(fault))
    }

    /// Notes for later passes whether all entries of this have one type.
    fn note_kind(&self, homogeneous: bool) {
        if let Some(slow) = self.context.slow {
            let learned = &mut slow.borrow_mut().learned;
            learned.note_kind(self.path, homogeneous);
        }
    }

    pub(super) fn list_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.seq(None, visitor)
    }
}

/// The canonical text of an address of the standard library.
fn address<T>(text: &str) -> Option<String> {
    if !std::any::type_name::<T>().starts_with("core::net::") {
        return None;
    }
    let ip = text.parse().map(|ip: IpAddr| ip.to_string()).ok();
    ip.or_else(|| text.parse().map(|at: SocketAddr| at.to_string()).ok())
}

/// Hands an integer over in the smallest form: serde's buffer knows only 64 bits.
pub(super) fn visit_int<'de, V: Visitor<'de>>(value: i128, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(small) = i64::try_from(value) {
        visitor.visit_i64(small)
    } else if let Ok(small) = u64::try_from(value) {
        visitor.visit_u64(small)
    } else {
        visitor.visit_i128(value)
    }
}
