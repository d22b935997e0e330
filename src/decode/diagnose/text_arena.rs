//! Texts that differ by their addresses in memory, even if they are equal.
//!
//! serde's buffer keeps a borrowed text as it is, and an error about it quotes that very text. So the
//! address identifies the one of several equal texts that a type has rejected.

use std::cell::{Cell, OnceCell};

/// The capacity of the first part; each further part has twice as much.
const FIRST_CAPACITY: usize = 16;

/// Owns the visited texts of one pass.
pub(crate) struct TextArena {
    texts: Vec<OnceCell<Box<str>>>,
    used: Cell<usize>,
    next: OnceCell<Box<TextArena>>,
}

/// Follows each text, so that an empty one has an address of its own.
const END: char = '\0';

impl TextArena {
    pub(crate) fn new() -> Self {
        Self::of(FIRST_CAPACITY)
    }

    fn of(len: usize) -> Self {
        Self {
            texts: std::iter::repeat_with(OnceCell::new).take(len).collect(),
            used: Cell::new(0),
            next: OnceCell::new(),
        }
    }

    /// A copy of a text at an address that no other text has.
    pub(crate) fn keep(&self, text: &str) -> &str {
        let at = self.used.get();
        let Some(slot) = self.texts.get(at) else {
            let len = self.texts.len() * 2;
            let next = self.next.get_or_init(|| Box::new(Self::of(len)));
            return next.keep(text);
        };
        self.used.set(at + 1);
        let kept = slot.get_or_init(|| format!("{text}{END}").into_boxed_str());
        kept.strip_suffix(END).unwrap_or(kept)
    }
}

/// The address of a text.
pub(crate) fn address(text: &str) -> usize {
    text.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_different_addresses() {
        let texts = TextArena::new();
        let kept: Vec<&str> = (0..100).map(|_| texts.keep("")).collect();
        let addresses: std::collections::HashSet<_> = kept.iter().map(|it| address(it)).collect();
        assert_eq!(addresses.len(), 100);
        assert!(kept.iter().all(|text| text.is_empty()));
        assert_eq!(texts.keep("a\0"), "a\0");
    }
}
