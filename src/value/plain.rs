//! The fast path of reading: a number as a number, or text as text, without the deserializer.

use std::any::Any;

use crate::value::Value;
use crate::value::scalar::{Number, Repr};

/// The value as a `T`, if both are the same plain kind and it is in range; `None` leaves the
/// answer, which may be an error, to the deserializer.
///
/// The compiler decides the type tests: what remains is a match and a conversion.
#[inline(always)]
pub(crate) fn plain<T: 'static>(value: &Value) -> Option<T> {
    let mut answer: Option<T> = None;
    macro_rules! integers {
        ($value:expr, $($t:ty)*) => {$(
            if let Some(answer) = (&mut answer as &mut dyn Any).downcast_mut::<Option<$t>>() {
                *answer = <$t>::try_from($value).ok();
            }
        )*};
    }
    match value {
        Value::Number(Number(Repr::Int(value))) => {
            integers!(*value, u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
        }
        Value::Bool(value) => {
            if let Some(answer) = (&mut answer as &mut dyn Any).downcast_mut::<Option<bool>>() {
                *answer = Some(value.get());
            }
        }
        Value::Number(Number(Repr::Float(value))) => {
            if let Some(answer) = (&mut answer as &mut dyn Any).downcast_mut::<Option<f64>>() {
                *answer = Some(*value);
            }
        }
        Value::Text(value) => {
            if let Some(answer) = (&mut answer as &mut dyn Any).downcast_mut::<Option<String>>() {
                *answer = Some(String::from(&**value));
            }
        }
        _ => {}
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_same_kind_and_in_range_is_read() {
        assert_eq!(plain::<u32>(&Value::from(7)), Some(7));
        assert_eq!(plain::<i64>(&Value::from(-7)), Some(-7));
        assert_eq!(plain::<u8>(&Value::from(256)), None);
        assert_eq!(plain::<u64>(&Value::from(-1)), None);
        assert_eq!(plain::<f64>(&Value::from(0.5)), Some(0.5));
        assert_eq!(plain::<bool>(&Value::from(true)), Some(true));
        assert_eq!(plain::<bool>(&Value::from(1)), None);
        assert_eq!(plain::<u32>(&Value::from("7")), None);
        assert_eq!(plain::<String>(&Value::from("7")).as_deref(), Some("7"));
        assert_eq!(plain::<String>(&Value::from(7)), None);
    }
}
