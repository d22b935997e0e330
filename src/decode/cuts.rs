//! What is masked of the parts that were cut out of a text.
//!
//! A secret that was read out of a text is known by its place: `list.0.code`. Another type may cut the same
//! text in another way, and the secret is then a part of something whose place is neither above nor below
//! that one. So a part is shown only if the known places tell that the text was cut in the same way.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::decode::braces;
use crate::decode::place::De;
use crate::value::key;
use crate::value::table::Table as Fields;

/// Which items that were cut out of a text may not be shown.
pub(super) enum MaskedItems {
    None,
    All,
    /// Those that hold a known secret mask it themselves. Others may be like them.
    Except(BTreeSet<usize>),
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

impl De<'_, '_> {
    /// Which items that were cut out of a text may not be shown. Of tables in braces, each masks its own
    /// secret fields.
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
        let known: Option<BTreeSet<_>> = names.iter().map(|name| key::list_index(name)).collect();
        match known {
            Some(known) if known.is_empty() => MaskedItems::None,
            Some(known) if known.iter().all(|at| *at < items.len()) => MaskedItems::Except(known),
            // The secret was cut out of the text in another way.
            _ => MaskedItems::All,
        }
    }

    /// Whether nothing of the fields that were cut out of a text in braces may be shown. Each masks itself
    /// if it is secret, unless the secret was cut out of the text in another way.
    #[cold]
    pub(super) fn masks_fields(&self, fields: &Fields) -> bool {
        let path = self.path_text();
        let is_field = |name: &String| fields.get(name).is_some();
        let is_cut_so = || {
            self.secrets_below(&path)
                .is_some_and(|names| names.iter().all(is_field))
        };
        self.masked || self.is_secret_by_name(&path) || !is_cut_so()
    }

    /// The names below which something is known as secret; `None` if that is not known.
    fn secrets_below(&self, path: &str) -> Option<BTreeSet<String>> {
        match self.context.secrets {
            Some(secrets) => secrets.names_below(path),
            None => Some(BTreeSet::new()),
        }
    }
}
