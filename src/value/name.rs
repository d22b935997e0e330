//! The name of an entry, stored in the entry itself if it is short, as most names are.

use std::fmt;
use std::ops::Deref;

/// The inline capacity: with it, a name takes 24 bytes, as a box with a discriminant does.
const CAPACITY: usize = 22;

/// A name. One of up to 22 bytes needs no box. That saves an allocation and some 32 bytes for each key,
/// and one memory access when a key is read or dropped.
#[derive(Clone)]
pub(crate) enum Name {
    Short(u8, [u8; CAPACITY]),
    Long(Box<str>),
}

impl Name {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            // The length is at most the capacity.
            Name::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Name::Long(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        let mut bytes = [0; CAPACITY];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(target), Ok(length)) => {
                target.copy_from_slice(text.as_bytes());
                Name::Short(length, bytes)
            }
            _ => Name::Long(text.into()),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            // The bytes are UTF-8; checking so few again is cheap.
            Name::Short(..) => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Name::Long(text) => text,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_takes_24_bytes() {
        assert_eq!(size_of::<Name>(), 24);
    }

    proptest! {
        #[test]
        fn a_name_is_its_text(a in "(?s).{0,30}", b in "(?s).{0,3}") {
            let (name, other) = (Name::from(&*a), Name::from(&*b));
            prop_assert_eq!(&*name, &*a);
            prop_assert_eq!(name.as_bytes(), a.as_bytes());
            prop_assert_eq!(name == other, a == b);
            prop_assert_eq!(name.clone(), name);
        }
    }
}
