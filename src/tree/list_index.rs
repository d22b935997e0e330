//! Names of a table as indexes of the list that they override.

use crate::sorted::SortedMap;
use crate::value::key;

/// What some tables have for the items of a list, each with the strongest table first.
#[derive(Debug)]
pub(super) struct IndexedItems<'a, V> {
    pub(super) by_index: SortedMap<usize, Vec<V>>,
    /// The names that are decimal and no index, such as `01`.
    pub(super) others: SortedMap<&'a str, Vec<V>>,
}

impl<'a, V> IndexedItems<'a, V> {
    pub(super) fn new(views: Vec<(&'a str, V)>) -> Self {
        let mut by_index = Vec::new();
        let mut others = Vec::new();
        for (name, view) in views {
            match canonical_index(name) {
                Some(at) => by_index.push((at, view)),
                None => others.push((name, view)),
            }
        }
        Self {
            by_index: SortedMap::group(by_index),
            others: SortedMap::group(others),
        }
    }
}

/// Whether a name has digits alone, so that it means an item where a lower layer has a list.
pub(super) fn is_decimal(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The item that a name of a table overrides. Each item has one name, so that no two names override it.
fn canonical_index(name: &str) -> Option<usize> {
    let is_canonical = is_decimal(name) && (name == "0" || !name.starts_with('0'));
    is_canonical.then(|| name.parse().ok()).flatten()
}

/// Why a decimal name overrides no item.
pub(super) fn why_no_index(name: &str) -> String {
    match key::list_index(name) {
        Some(at) => format!("is ignored: `{name}` is not an index of a list; write `{at}`"),
        None => format!("is ignored: `{name}` is not an index of a list; it is too large"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_decimal_is_an_index() {
        for (name, at) in [("0", 0), ("7", 7), ("10", 10)] {
            assert_eq!(canonical_index(name), Some(at));
        }
        for name in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            "1_0",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(canonical_index(name), None, "{name}");
        }
        assert!(is_decimal("00") && !is_decimal("") && !is_decimal("+1"));
    }
}
