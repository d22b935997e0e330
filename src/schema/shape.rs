//! The names of types in a written schema.

use std::any::TypeId;
use std::time::Duration;

use crate::value::secret::Secret;
use crate::value::units::ByteSize;

/// A type as a schema shows it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The name, such as `list of u32`.
    pub(super) name: String,
    /// The kind of the value, or of the items of a list.
    pub(super) kind: Kind,
    /// Whether it is a list of values of the kind. A list of anything else is [`Kind::Any`].
    pub(super) is_list: bool,
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// An integer with the bounds of its type.
    Integer(i128, u128),
    F32,
    F64,
    Bool,
    Text,
    Char,
    Duration,
    ByteSize,
    /// Anything else: a struct, an enum, a map.
    Any,
}

impl Shape {
    /// The shape of a type; that of `T` for `Option<T>`, `Secret<T>` and `Option<Secret<T>>`.
    ///
    /// Types are recognized by their ids, because the compiler does not guarantee the text of a type name.
    pub(super) fn of<T: 'static>() -> Self {
        let wanted = TypeId::of::<T>();
        macro_rules! known {
            ($($t:ty, $name:expr, $kind:expr;)*) => {$(
                let (kind, name) = ($kind, $name);
                let is = |other: TypeId| wanted == other;
                let is_list = is(TypeId::of::<Vec<$t>>()) || is(TypeId::of::<Option<Vec<$t>>>());
                let secret = is(TypeId::of::<Secret<$t>>()) || is(TypeId::of::<Option<Secret<$t>>>());
                if is_list || secret || is(TypeId::of::<$t>()) || is(TypeId::of::<Option<$t>>()) {
                    let name = if is_list {
                        format!("list of {name}")
                    } else {
                        name.to_owned()
                    };
                    return Self { name, kind, is_list };
                }
            )*};
        }
        macro_rules! integers {
            ($($t:ident)*) => {
                known! { $($t, stringify!($t), Kind::Integer(<$t>::MIN as i128, <$t>::MAX as u128);)* }
            };
        }
        integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
        known! {
            f32, "f32", Kind::F32;
            f64, "f64", Kind::F64;
            bool, "bool", Kind::Bool;
            String, "string", Kind::Text;
            char, "char", Kind::Char;
            Duration, "duration", Kind::Duration;
            ByteSize, "size", Kind::ByteSize;
        }
        Self {
            name: "any".to_owned(),
            kind: Kind::Any,
            is_list: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names() {
        assert_eq!(Shape::of::<u16>().name, "u16");
        assert_eq!(Shape::of::<Option<u16>>().name, "u16");
        assert_eq!(Shape::of::<Vec<Duration>>().name, "list of duration");
        assert_eq!(Shape::of::<Vec<Vec<u8>>>().name, "any");
        assert_eq!(Shape::of::<Secret<String>>().kind, Kind::Text);
    }
}
