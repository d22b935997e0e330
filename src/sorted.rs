//! A stable sort, and sets and maps in sorted vectors.
//!
//! They exist for the time that a build takes. Each type of item makes the compiler translate the sort of std
//! (2,000 lines of intermediate code), and `BTreeMap` or `BTreeSet` (5,000 lines). Here one search and one sort
//! of indices serve all types.
//!
//! An insertion moves what is behind it. So these collections suit what a program bounds: types, sources, files.
//! A collection that grows with a document is collected at once, or a `BTreeMap`.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Deref;

/// Sorts items; equal ones keep their order.
pub(crate) fn sort_by<T>(items: &mut [T], mut order: impl FnMut(&T, &T) -> Ordering) {
    let mut from = sorted_indices(items.len(), &mut |a, b| order(&items[a], &items[b]));
    permute(&mut from, &mut |a, b| items.swap(a, b));
}

/// Sorts items; equal ones keep their order.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Sorts items by a key of each; items with equal keys keep their order.
pub(crate) fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// The indices in the order of their items; none if that order is there.
fn sorted_indices(len: usize, order: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    if (1..len).all(|at| order(at - 1, at).is_le()) {
        return Vec::new();
    }
    let mut indices: Vec<usize> = (0..len).collect();
    indices.sort_by(|a, b| order(*a, *b));
    indices
}

/// Moves the item at `from[to]` to `to`, for all items.
fn permute(from: &mut [usize], swap: &mut dyn FnMut(usize, usize)) {
    for first in 0..from.len() {
        let mut to = first;
        while from[to] != first {
            let next = std::mem::replace(&mut from[to], to);
            swap(to, next);
            to = next;
        }
        from[to] = to;
    }
}

/// The index of an item in a sorted vector, or the index at which to insert it.
fn search(len: usize, order: &mut dyn FnMut(usize) -> Ordering) -> Result<usize, usize> {
    let (mut start, mut end) = (0, len);
    while start < end {
        let middle = start.midpoint(end);
        match order(middle) {
            Ordering::Less => start = middle + 1,
            Ordering::Equal => return Ok(middle),
            Ordering::Greater => end = middle,
        }
    }
    Err(start)
}

/// A map in a sorted vector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K: Ord, V> SortedMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    fn search<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        search(self.0.len(), &mut |at| self.0[at].0.borrow().cmp(key))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        Some(self.get_key_value(key)?.1)
    }

    pub(crate) fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let at = self.search(key).ok()?;
        let (key, value) = &self.0[at];
        Some((key, value))
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.search(key).ok()?;
        Some(&mut self.0[at].1)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.search(key).is_ok()
    }

    /// The value of a key, which is made if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.search(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Inserts or replaces a value.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.search(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Removes a key, and returns its value.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.search(key).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keeps(key, value));
    }
}

impl<K: Ord, V> From<Vec<(K, V)>> for SortedMap<K, V> {
    /// Collects entries; of those with one key the last counts.
    fn from(mut entries: Vec<(K, V)>) -> Self {
        sort_by(&mut entries, |(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        Self(entries)
    }
}

impl<K: Ord, V> SortedMap<K, Vec<V>> {
    /// Collects the values of each key, in their order.
    pub(crate) fn group(mut all: Vec<(K, V)>) -> Self {
        sort_by(&mut all, |(a, _), (b, _)| a.cmp(b));
        let mut groups: Vec<(K, Vec<V>)> = Vec::new();
        for (key, value) in all {
            match groups.last_mut() {
                Some((last, values)) if *last == key => values.push(value),
                _ => groups.push((key, vec![value])),
            }
        }
        Self(groups)
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Deref for SortedMap<K, V> {
    type Target = [(K, V)];

    fn deref(&self) -> &[(K, V)] {
        &self.0
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = &'a (K, V);
    type IntoIter = std::slice::Iter<'a, (K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A set in a sorted vector.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct SortedSet<T>(Vec<T>);

impl<T: Ord> SortedSet<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    fn search<Q: Ord + ?Sized>(&self, item: &Q) -> Result<usize, usize>
    where
        T: Borrow<Q>,
    {
        search(self.0.len(), &mut |at| self.0[at].borrow().cmp(item))
    }

    pub(crate) fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.search(item).is_ok()
    }

    /// Inserts an item. Returns whether it is new.
    pub(crate) fn insert(&mut self, item: T) -> bool {
        let at = self.search(&item);
        if let Err(at) = at {
            self.0.insert(at, item);
        }
        at.is_err()
    }
}

impl<T> Default for SortedSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for SortedSet<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Ord> From<Vec<T>> for SortedSet<T> {
    fn from(mut items: Vec<T>) -> Self {
        sort(&mut items);
        items.dedup();
        Self(items)
    }
}

impl<T: Ord> FromIterator<T> for SortedSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from(Vec::from_iter(items))
    }
}

impl<T: Ord> Extend<T> for SortedSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.insert(item);
        }
    }
}

impl<T> IntoIterator for SortedSet<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a SortedSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sort_is_that_of_std(mut items: Vec<(u8, usize)>) {
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut items, |(key, _)| *key);
            prop_assert_eq!(items, expected);
        }

        #[test]
        fn a_set_is_that_of_std(items: Vec<u8>, more: Vec<u8>, other: u8) {
            let mut set: SortedSet<u8> = items.iter().copied().collect();
            let mut expected: BTreeSet<u8> = items.into_iter().collect();
            for item in more {
                prop_assert_eq!(set.contains(&item), expected.contains(&item));
                prop_assert_eq!(set.insert(item), expected.insert(item));
            }
            prop_assert_eq!(set.contains(&other), expected.contains(&other));
            prop_assert!(set.iter().eq(&expected));
        }

        #[test]
        fn a_map_is_that_of_std(items: Vec<(u8, u8)>, removed: Vec<u8>) {
            let mut map = SortedMap::new();
            let mut expected = BTreeMap::new();
            for (key, value) in items {
                map.insert(key, value);
                expected.insert(key, value);
                *map.get_or_insert_with(value, || key) ^= 1;
                *expected.entry(value).or_insert(key) ^= 1;
            }
            for key in removed {
                prop_assert_eq!(map.get(&key), expected.get(&key));
                prop_assert_eq!(map.remove(&key), expected.remove(&key));
                prop_assert!(!map.contains_key(&key));
            }
            prop_assert!(map.iter().map(|(key, value)| (key, value)).eq(&expected));
        }

        #[test]
        fn of_collected_entries_the_last_of_a_key_counts(entries: Vec<(u8, u8)>) {
            let expected: BTreeMap<u8, u8> = entries.iter().copied().collect();
            let map = SortedMap::from(entries);
            prop_assert!(map.iter().map(|(key, value)| (key, value)).eq(&expected));
        }

        #[test]
        fn a_group_has_the_values_of_its_key_in_their_order(items: Vec<(u8, u8)>) {
            let mut expected: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
            for (key, value) in &items {
                expected.entry(*key).or_default().push(*value);
            }
            let groups = SortedMap::group(items);
            prop_assert!(groups.iter().map(|(key, values)| (key, values)).eq(&expected));
        }
    }
}
