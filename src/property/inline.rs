//! Small values as the bits of one word, which a reader loads from one atomic.
//!
//! The compiler decides the type tests below: for a given `T` each function is either a conversion or
//! returns `None`.

use std::any::Any;

/// Calls `$m!` for every type that fits a word.
macro_rules! for_each_small {
    ($m:ident) => {
        $m!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
    };
}

/// The value as bits, for the types that fit.
#[inline]
pub(crate) fn to_bits<T: 'static>(value: &T) -> Option<u64> {
    let any = value as &dyn Any;
    macro_rules! integers {
        ($($t:ty)*) => {$(
            if let Some(value) = any.downcast_ref::<$t>() {
                return Some(*value as u64);
            }
        )*};
    }
    for_each_small!(integers);
    if let Some(value) = any.downcast_ref::<bool>() {
        return Some(u64::from(*value));
    }
    if let Some(value) = any.downcast_ref::<f64>() {
        return Some(value.to_bits());
    }
    if let Some(value) = any.downcast_ref::<f32>() {
        return Some(u64::from(value.to_bits()));
    }
    if let Some(value) = any.downcast_ref::<char>() {
        return Some(u64::from(*value));
    }
    None
}

/// The value back from its bits; `None` for the types that do not fit.
#[inline(always)]
pub(crate) fn from_bits<T: Clone + 'static>(bits: u64) -> Option<T> {
    macro_rules! integers {
        ($($t:ty)*) => {$(
            if let Some(value) = (&(bits as $t) as &dyn Any).downcast_ref::<T>() {
                return Some(value.clone());
            }
        )*};
    }
    for_each_small!(integers);
    if let Some(value) = (&(bits != 0) as &dyn Any).downcast_ref::<T>() {
        return Some(value.clone());
    }
    if let Some(value) = (&f64::from_bits(bits) as &dyn Any).downcast_ref::<T>() {
        return Some(value.clone());
    }
    if let Some(value) = (&f32::from_bits(bits as u32) as &dyn Any).downcast_ref::<T>() {
        return Some(value.clone());
    }
    if is::<char, T>() {
        let value = char::from_u32(bits as u32).unwrap_or(char::REPLACEMENT_CHARACTER);
        return (&value as &dyn Any).downcast_ref::<T>().cloned();
    }
    None
}

/// Whether two values of a common plain type are the same; `None` for all other types.
pub(crate) fn plain_eq<T: 'static>(a: &T, b: &T) -> Option<bool> {
    if let (Some(a), Some(b)) = (to_bits(a), to_bits(b)) {
        return Some(a == b);
    }
    macro_rules! compare {
        ($($t:ty)*) => {$(
            if let (Some(a), Some(b)) = ((a as &dyn Any).downcast_ref::<$t>(), (b as &dyn Any).downcast_ref::<$t>()) {
                return Some(a == b);
            }
        )*};
    }
    compare!(String std::time::Duration Vec<String> Option<String>);
    None
}

fn is<A: 'static, B: 'static>() -> bool {
    std::any::TypeId::of::<A>() == std::any::TypeId::of::<B>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_round_trip<T: Clone + PartialEq + std::fmt::Debug + 'static>(values: &[T]) {
        for value in values {
            let bits = to_bits(value).unwrap();
            assert_eq!(from_bits::<T>(bits).as_ref(), Some(value));
        }
    }

    #[test]
    fn a_value_of_each_small_type_is_read_back_from_its_bits() {
        check_round_trip(&[u8::MIN, u8::MAX]);
        check_round_trip(&[u16::MIN, u16::MAX]);
        check_round_trip(&[u32::MIN, u32::MAX]);
        check_round_trip(&[u64::MIN, u64::MAX]);
        check_round_trip(&[usize::MIN, usize::MAX]);
        check_round_trip(&[i8::MIN, -1, i8::MAX]);
        check_round_trip(&[i16::MIN, -1, i16::MAX]);
        check_round_trip(&[i32::MIN, -1, i32::MAX]);
        check_round_trip(&[i64::MIN, -1, i64::MAX]);
        check_round_trip(&[isize::MIN, -1, isize::MAX]);
        check_round_trip(&[true, false]);
        check_round_trip(&['a', char::MAX, '\0']);
        check_round_trip(&[0.0f32, -1.5, f32::MAX, f32::INFINITY]);
        check_round_trip(&[0.0f64, -1.5, f64::MIN_POSITIVE, f64::NEG_INFINITY]);
    }

    #[test]
    fn other_types_have_no_bits() {
        assert_eq!(to_bits(&String::new()), None);
        assert_eq!(to_bits(&Some(1u32)), None);
        assert_eq!(from_bits::<String>(7), None);
        assert_eq!(from_bits::<u128>(7), None);
    }
}
