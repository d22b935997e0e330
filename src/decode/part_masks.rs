//! Masks the items and the entries of a text that may hold a secret.
//!
//! A secret that was read out of a text is known by its key: `list.0.code`. Another type may split the same
//! text in another way. The secret is then in a part whose key is neither above nor below that key. So a
//! part is shown only if the known keys say that the text was split in the same way.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::decode::braces;
use crate::decode::deserializer::ValueDeserializer;
use crate::sorted::SortedSet;
use crate::value::key;
use crate::value::table::Table as Fields;

/// Which items of a text errors mask.
pub(super) enum MaskedItems {
    None,
    All,
    /// The items with a known secret mask it themselves. The others may have a secret too.
    Except(SortedSet<usize>),
}

impl MaskedItems {
    fn of(all: bool) -> Self {
        if all { Self::All } else { Self::None }
    }

    pub(super) fn hides(&self, at: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Except(known) => !known.contains(&at),
        }
    }
}

impl ValueDeserializer<'_, '_> {
    /// Which items of a text errors mask. A table in braces masks its own secret fields.
    #[cold]
    pub(super) fn masked_items(&self, items: &[Cow<'_, str>]) -> MaskedItems {
        let path = self.path_text();
        if !items.iter().all(|item| braces::is_braced(item)) {
            return MaskedItems::of(self.is_masked(&path));
        }
        if self.masked || self.is_secret_by_name(&path) {
            return MaskedItems::All;
        }
        let Some(names) = self.secrets_below(&path) else {
            return MaskedItems::All;
        };
        let known: Option<SortedSet<_>> = names.iter().map(|name| key::list_index(name)).collect();
        match known {
            Some(known) if known.is_empty() => MaskedItems::None,
            Some(known) if known.iter().all(|at| *at < items.len()) => MaskedItems::Except(known),
            // The text with the secret was split in another way.
            _ => MaskedItems::All,
        }
    }

    /// Whether errors mask all fields of a text in braces. A secret field masks itself, unless the text with
    /// the secret was split in another way.
    #[cold]
    pub(super) fn masks_fields(&self, fields: &Fields) -> bool {
        let path = self.path_text();
        let is_field = |name: &String| fields.get(name).is_some();
        let is_split_alike = || {
            self.secrets_below(&path)
                .is_some_and(|names| names.iter().all(is_field))
        };
        self.masked || self.is_secret_by_name(&path) || !is_split_alike()
    }

    /// The names of the entries with known secrets; `None` if they are not known.
    fn secrets_below(&self, path: &str) -> Option<BTreeSet<String>> {
        match self.secrets() {
            Some(secrets) => secrets.names_below(path),
            None => Some(BTreeSet::new()),
        }
    }
}
