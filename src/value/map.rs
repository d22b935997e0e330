//! A persistent hash trie from names to nodes: cloned for the price of a reference count, and a
//! changed copy shares all but the path to the change.
//!
//! General-purpose tries keep name, value and hash in boxes of their own and spend 311 to 393
//! instructions a look-up; this one holds what the tree needs, an `Arc<Entry>` a name, so that a
//! layer and the merged tree share each entry. The shape depends on the names alone, so two maps
//! are compared by walking them side by side and skipping what they share.

use std::sync::Arc;

use crate::value::node::Node;
use crate::value::scan::{hash, same};

/// One name and what it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    pub(crate) node: Node,
}

/// A persistent map from names to [`Entry`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    root: Arc<Branch>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Branch {
    /// Where the slot of each hash digit stands, or [`NONE`]. A byte a digit is 28 bytes more than a
    /// bit a digit, and saves counting bits, which costs 15 instructions a level.
    places: [u8; DIGITS],
    /// In the order they came.
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
enum Slot {
    Entry(Arc<Entry>),
    Branch(Arc<Branch>),
    /// Names whose whole hashes are equal.
    Clash(Arc<Vec<Arc<Entry>>>),
}

const DIGIT_BITS: u32 = 5;
const DIGITS: usize = 1 << DIGIT_BITS;
/// No slot stands there.
const NONE: u8 = u8::MAX;

fn digit(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize % DIGITS
}

/// Whether the hash has no more digits at this depth.
fn spent(shift: u32) -> bool {
    shift >= 60
}

impl Map {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.get_hashed(name.as_bytes(), hash(name))
    }

    /// As [`get`](Self::get), for a name that has been hashed already.
    #[inline]
    pub(crate) fn get_hashed(&self, name: &[u8], hash: u64) -> Option<&Arc<Entry>> {
        let mut branch = &self.root;
        let mut rest = hash;
        loop {
            match branch.slot(digit(rest, 0))? {
                Slot::Entry(entry) => return same(entry.name.as_bytes(), name).then_some(entry),
                Slot::Branch(next) => branch = next,
                Slot::Clash(entries) => {
                    return entries.iter().find(|e| e.name.as_bytes() == name);
                }
            }
            rest >>= DIGIT_BITS;
        }
    }

    /// The entry of a name for changing in place; what other maps share of the way is copied.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Arc<Entry>> {
        self.get(name)?;
        let mut branch = Arc::make_mut(&mut self.root);
        let mut rest = hash(name);
        loop {
            let at = branch.places[digit(rest, 0)];
            match branch.slots.get_mut(usize::from(at))? {
                Slot::Entry(entry) => return Some(entry),
                Slot::Branch(next) => branch = Arc::make_mut(next),
                Slot::Clash(entries) => {
                    return Arc::make_mut(entries).iter_mut().find(|e| *e.name == *name);
                }
            }
            rest >>= DIGIT_BITS;
        }
    }

    /// Puts an entry in and hands back the one it replaces.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let hash = hash(&entry.name);
        let old = Arc::make_mut(&mut self.root).insert(hash, 0, entry);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<Entry>> {
        self.get(name)?;
        let old = Arc::make_mut(&mut self.root).remove(hash(name), 0, name);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All entries, in an order of no meaning.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter {
            stack: vec![self.root.slots.iter()],
            clash: [].iter(),
        }
    }

    /// All entries by name.
    pub(crate) fn sorted(&self) -> Vec<&Arc<Entry>> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Calls `f` with each name whose entry is not the very same in both.
    pub(crate) fn diff<'a>(
        &'a self,
        other: &'a Map,
        f: &mut dyn FnMut(Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>),
    ) {
        Branch::diff(&self.root, &other.root, f);
    }
}

impl Default for Branch {
    fn default() -> Self {
        Self {
            places: [NONE; DIGITS],
            slots: Vec::new(),
        }
    }
}

impl Branch {
    #[inline]
    fn slot(&self, digit: usize) -> Option<&Slot> {
        // Where no slot stands, the place is beyond any.
        self.slots.get(usize::from(self.places[digit]))
    }

    /// Puts a slot where none stands.
    fn push(&mut self, digit: usize, slot: Slot) {
        self.places[digit] = self.slots.len() as u8;
        if self.slots.len() == self.slots.capacity() {
            // Doubling would waste more than it saves: most branches are small, and there are many.
            self.slots.reserve_exact(4);
        }
        self.slots.push(slot);
    }

    /// Takes a slot out; the last one moves to its place.
    fn take(&mut self, digit: usize) {
        let at = std::mem::replace(&mut self.places[digit], NONE);
        self.slots.swap_remove(usize::from(at));
        let last = self.slots.len() as u8;
        if let Some(moved) = self.places.iter_mut().find(|place| **place == last) {
            *moved = at;
        }
    }

    fn insert(&mut self, hash: u64, shift: u32, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let digit = digit(hash, shift);
        let at = usize::from(self.places[digit]);
        if self.places[digit] == NONE {
            self.push(digit, Slot::Entry(entry));
            return None;
        }
        match &mut self.slots[at] {
            Slot::Entry(old) if old.name == entry.name => Some(std::mem::replace(old, entry)),
            Slot::Entry(old) => {
                let old = Arc::clone(old);
                self.slots[at] = Slot::pair(old, entry, hash, shift + DIGIT_BITS);
                None
            }
            Slot::Branch(next) => Arc::make_mut(next).insert(hash, shift + DIGIT_BITS, entry),
            Slot::Clash(entries) => {
                let entries = Arc::make_mut(entries);
                match entries.iter_mut().find(|e| e.name == entry.name) {
                    Some(old) => Some(std::mem::replace(old, entry)),
                    None => {
                        entries.push(entry);
                        None
                    }
                }
            }
        }
    }

    fn remove(&mut self, hash: u64, shift: u32, name: &str) -> Option<Arc<Entry>> {
        let digit = digit(hash, shift);
        if self.places[digit] == NONE {
            return None;
        }
        let at = usize::from(self.places[digit]);
        let (gone, left) = match &mut self.slots[at] {
            Slot::Entry(old) if *old.name == *name => (Arc::clone(old), None),
            Slot::Entry(_) => return None,
            Slot::Branch(next) => {
                let branch = Arc::make_mut(next);
                let gone = branch.remove(hash, shift + DIGIT_BITS, name)?;
                // A branch with a single entry left folds into its place: the shape must depend
                // on the names alone.
                let fold = match branch.slots.as_slice() {
                    [Slot::Branch(_)] => return Some(gone),
                    [one] => one.clone(),
                    _ => return Some(gone),
                };
                (gone, Some(fold))
            }
            Slot::Clash(entries) => {
                let entries = Arc::make_mut(entries);
                let found = entries.iter().position(|e| *e.name == *name)?;
                let gone = entries.remove(found);
                let left = match entries.as_slice() {
                    [one] => Slot::Entry(Arc::clone(one)),
                    _ => return Some(gone),
                };
                (gone, Some(left))
            }
        };
        match left {
            Some(slot) => self.slots[at] = slot,
            None => self.take(digit),
        }
        Some(gone)
    }

    fn diff<'a>(
        a: &'a Arc<Branch>,
        b: &'a Arc<Branch>,
        f: &mut dyn FnMut(Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>),
    ) {
        if Arc::ptr_eq(a, b) {
            return;
        }
        if a.places == b.places {
            // Nothing came or went, so the slots stand in the same order: most of all changes.
            for (x, y) in a.slots.iter().zip(&b.slots) {
                if !x.is(y) {
                    Slot::diff(Some(x), Some(y), f);
                }
            }
            return;
        }
        for digit in 0..DIGITS {
            Slot::diff(a.slot(digit), b.slot(digit), f);
        }
    }
}

impl Slot {
    fn diff<'a>(
        a: Option<&'a Slot>,
        b: Option<&'a Slot>,
        f: &mut dyn FnMut(Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>),
    ) {
        match (a, b) {
            (None, None) => {}
            (Some(x), Some(y)) if x.is(y) => {}
            (Some(Slot::Entry(x)), Some(Slot::Entry(y))) if x.name == y.name => {
                if !Arc::ptr_eq(x, y) {
                    f(Some(x), Some(y));
                }
            }
            (Some(Slot::Branch(x)), Some(Slot::Branch(y))) => Branch::diff(x, y, f),
            (old, new) => {
                let find = |slot: Option<&'a Slot>, name: &str| {
                    slot.into_iter()
                        .flat_map(Slot::iter)
                        .find(|e| *e.name == *name)
                };
                for x in old.into_iter().flat_map(Slot::iter) {
                    match find(new, &x.name) {
                        Some(y) if Arc::ptr_eq(x, y) => {}
                        y => f(Some(x), y),
                    }
                }
                for y in new.into_iter().flat_map(Slot::iter) {
                    if find(old, &y.name).is_none() {
                        f(None, Some(y));
                    }
                }
            }
        }
    }

    /// Whether both share what they hold, which needs no look inside.
    #[inline]
    fn is(&self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Entry(a), Slot::Entry(b)) => Arc::ptr_eq(a, b),
            (Slot::Branch(a), Slot::Branch(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Two entries of one slot, pushed down to where their hashes differ.
    fn pair(old: Arc<Entry>, new: Arc<Entry>, new_hash: u64, shift: u32) -> Slot {
        if spent(shift) {
            return Slot::Clash(Arc::new(vec![old, new]));
        }
        let old_hash = hash(&old.name);
        let (a, b) = (digit(old_hash, shift), digit(new_hash, shift));
        let mut branch = Branch::default();
        if a == b {
            branch.push(a, Slot::pair(old, new, new_hash, shift + DIGIT_BITS));
        } else {
            branch.push(a, Slot::Entry(old));
            branch.push(b, Slot::Entry(new));
        }
        Slot::Branch(Arc::new(branch))
    }

    fn iter(&self) -> Iter<'_> {
        Iter {
            stack: vec![std::slice::from_ref(self).iter()],
            clash: [].iter(),
        }
    }
}

/// Walks all entries of a map.
pub(crate) struct Iter<'a> {
    stack: Vec<std::slice::Iter<'a, Slot>>,
    clash: std::slice::Iter<'a, Arc<Entry>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.clash.next() {
                return Some(entry);
            }
            match self.stack.last_mut()?.next() {
                None => {
                    self.stack.pop();
                }
                Some(Slot::Entry(entry)) => return Some(entry),
                Some(Slot::Branch(branch)) => self.stack.push(branch.slots.iter()),
                Some(Slot::Clash(entries)) => self.clash = entries.iter(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::value::Value;
    use crate::value::node::Leaf;
    use crate::value::origin::Origin;

    fn entry(name: &str, value: i64) -> Arc<Entry> {
        let leaf = Leaf::new(Value::Int(value), Origin::new("test", ""));
        Arc::new(Entry {
            name: name.into(),
            node: Node::Leaf(leaf),
        })
    }

    fn value(entry: &Entry) -> i64 {
        match &entry.node {
            Node::Leaf(Leaf {
                value: Value::Int(value),
                ..
            }) => *value,
            other => panic!("{other:?}"),
        }
    }

    fn build(model: &BTreeMap<String, i64>) -> Map {
        let mut map = Map::default();
        for (name, value) in model {
            map.insert(entry(name, *value));
        }
        map
    }

    fn shape(map: &Map) -> String {
        fn of(branch: &Branch) -> String {
            let slots = (0..DIGITS).filter_map(|digit| branch.slot(digit));
            let slots = slots.map(|slot| match slot {
                Slot::Entry(entry) => entry.name.to_string(),
                Slot::Branch(next) => of(next),
                Slot::Clash(entries) => format!("clash{}", entries.len()),
            });
            format!("({})", slots.collect::<Vec<_>>().join(" "))
        }
        of(&map.root)
    }

    proptest! {
        #[test]
        fn a_map_answers_as_a_btreemap_does(
            steps in prop::collection::vec(("[a-f]{0,3}", prop::option::weighted(0.7, 0i64..5)), 0..400)
        ) {
            let mut model = BTreeMap::new();
            let mut map = Map::default();
            for (name, step) in steps {
                let before = map.clone();
                let kept: Vec<_> = before.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
                let old = match step {
                    Some(v) => (map.insert(entry(&name, v)).map(|e| value(&e)), model.insert(name.clone(), v)),
                    None => (map.remove(&name).map(|e| value(&e)), model.remove(&name)),
                };
                prop_assert_eq!(old.0, old.1);
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&name).map(|e| value(e)), model.get(&name).copied());
                let still: Vec<_> = before.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
                prop_assert_eq!(kept, still, "an older copy changed");
            }
            let all: Vec<_> = map.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
            prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(shape(&map), shape(&build(&model)), "the shape depends on history");
        }

        #[test]
        fn diff_names_what_differs_and_nothing_else(
            base in prop::collection::btree_map("[a-f]{0,3}", 0i64..5, 0..200),
            edits in prop::collection::vec(("[a-f]{0,3}", prop::option::of(0i64..5)), 0..40),
        ) {
            let old = build(&base);
            let mut new = old.clone();
            for (name, edit) in edits {
                match edit {
                    Some(v) => drop(new.insert(entry(&name, v))),
                    None => drop(new.remove(&name)),
                }
            }
            let mut told = BTreeSet::new();
            old.diff(&new, &mut |x, y| {
                let name = x.or(y).map(|e| e.name.to_string()).unwrap_or_default();
                assert_eq!(x.map(|e| value(e)), old.get(&name).map(|e| value(e)));
                assert_eq!(y.map(|e| value(e)), new.get(&name).map(|e| value(e)));
                assert!(told.insert(name), "told twice");
            });
            for entry in old.iter().chain(new.iter()) {
                let same = match (old.get(&entry.name), new.get(&entry.name)) {
                    (Some(x), Some(y)) => Arc::ptr_eq(x, y),
                    _ => false,
                };
                prop_assert_eq!(told.contains(&*entry.name), !same, "{}", entry.name);
            }
        }
    }
}
