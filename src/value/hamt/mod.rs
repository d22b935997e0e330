//! A persistent hash trie from names to nodes: cloned for the price of a reference count, and a
//! changed copy shares all but the path to the change.
//!
//! General-purpose tries keep name, value and hash in boxes of their own and spend 311 to 393
//! instructions a look-up; this one holds what the tree needs, an `Arc<Entry>` a name, so that a
//! layer and the merged tree share each entry. The shape depends on the names alone, so two maps
//! are compared by walking them side by side and skipping what they share.
//!
//! A branch keeps entries and further branches apart, so that a digit's byte alone tells where to
//! go on: 8 instructions a level and 8 bytes a slot, where slots of either kind in one vector took
//! 13 and 16.

use std::mem;
use std::slice;
use std::sync::Arc;

use crate::value::name::Name;
use crate::value::node::Node;
use crate::value::scan::{self, same};

/// One name and what it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) node: Node,
}

/// A persistent map from names to [`Entry`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    root: Arc<Branch>,
    len: usize,
}

/// The slices have no room to spare: most branches are small, and there are many. This and the
/// smaller slots are some 12 bytes a key less than vectors that grow in steps of four.
#[derive(Clone, Debug)]
struct Branch {
    /// What stands at each hash digit: an index into `branches`, [`ENTRY`] and an index into
    /// `entries`, [`NONE`], or [`LIST`]. A byte a digit is 28 bytes more than a bit a digit, and
    /// saves counting bits, which costs 15 instructions a level.
    places: [u8; DIGITS],
    /// In the order they came, as the branches are.
    entries: Box<[Arc<Entry>]>,
    branches: Box<[Arc<Branch>]>,
}

/// What stands at a digit.
#[derive(Clone, Copy)]
enum Slot<'a> {
    Entry(&'a Arc<Entry>),
    Branch(&'a Arc<Branch>),
}

/// Called with each name whose entries differ.
type Differ<'a, 'f> = dyn FnMut(Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>) + 'f;

/// What a name is hashed with: tests make names clash.
type Hash = fn(&[u8]) -> u64;

const DIGIT_BITS: u32 = 5;
const DIGITS: usize = 1 << DIGIT_BITS;
/// The place of an entry has this bit, so that it is beyond any branch: one comparison tells both
/// whether to go on and that the index is good.
const ENTRY: u8 = 0x80;
/// Nothing stands there: beyond any entry.
const NONE: u8 = ENTRY | 0x7F;
/// All places of a branch below the last digit, where names whose hashes are equal are just a
/// list. Only a name that was not found needs to ask for it.
const LIST: u8 = ENTRY | 0x7E;

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
        self.get_hashed(name.as_bytes(), scan::hash(name.as_bytes()))
    }

    /// As [`get`](Self::get), for a name that has been hashed already.
    #[inline]
    pub(crate) fn get_hashed(&self, name: &[u8], hash: u64) -> Option<&Arc<Entry>> {
        let mut branch = &self.root;
        let mut rest = hash;
        loop {
            let place = usize::from(branch.places[digit(rest, 0)]);
            if let Some(next) = branch.branches.get(place) {
                branch = next;
                rest >>= DIGIT_BITS;
                continue;
            }
            return match branch.entries.get(place ^ usize::from(ENTRY)) {
                Some(entry) if same(entry.name.as_bytes(), name) => Some(entry),
                // Asking for the place instead would cost an instruction a level to keep it.
                _ if branch.is_list() => branch.listed(name),
                _ => None,
            };
        }
    }

    /// The entry of a name for changing in place; what other maps share of the way is copied.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Arc<Entry>> {
        self.get_mut_by(scan::hash, name)
    }

    fn get_mut_by(&mut self, hash: Hash, name: &str) -> Option<&mut Arc<Entry>> {
        let mut rest = hash(name.as_bytes());
        self.get_hashed(name.as_bytes(), rest)?;
        let mut branch = Arc::make_mut(&mut self.root);
        loop {
            let place = branch.places[digit(rest, 0)];
            match branch.branches.get_mut(usize::from(place)) {
                Some(next) => branch = Arc::make_mut(next),
                None if place == LIST => {
                    return branch
                        .entries
                        .iter_mut()
                        .find(|e| e.name.as_bytes() == name.as_bytes());
                }
                None => return branch.entries.get_mut(usize::from(place ^ ENTRY)),
            }
            rest >>= DIGIT_BITS;
        }
    }

    /// Puts an entry in and hands back the one it replaces.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.insert_by(scan::hash, entry)
    }

    fn insert_by(&mut self, hash: Hash, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let old = Arc::make_mut(&mut self.root).insert(hash, hash(entry.name.as_bytes()), 0, entry);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<Entry>> {
        self.remove_by(scan::hash, name)
    }

    fn remove_by(&mut self, hash: Hash, name: &str) -> Option<Arc<Entry>> {
        let hash = hash(name.as_bytes());
        self.get_hashed(name.as_bytes(), hash)?;
        let old = Arc::make_mut(&mut self.root).remove(hash, 0, name);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All entries, in an order of no meaning.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Slot::Branch(&self.root).iter()
    }

    /// All entries by name.
    pub(crate) fn sorted(&self) -> Vec<&Arc<Entry>> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        all
    }

    /// Calls `f` with each name whose entry is not the very same in both.
    pub(crate) fn diff<'a>(&'a self, other: &'a Map, f: &mut Differ<'a, '_>) {
        Branch::diff(&self.root, &other.root, f);
    }
}

impl Default for Branch {
    fn default() -> Self {
        Self {
            places: [NONE; DIGITS],
            entries: Box::default(),
            branches: Box::default(),
        }
    }
}

impl Branch {
    fn slot(&self, digit: usize) -> Option<Slot<'_>> {
        let place = self.places[digit];
        match self.branches.get(usize::from(place)) {
            Some(next) => Some(Slot::Branch(next)),
            None => {
                let entry = self.entries.get(usize::from(place ^ ENTRY))?;
                Some(Slot::Entry(entry))
            }
        }
    }

    fn is_list(&self) -> bool {
        self.places[0] == LIST
    }

    #[cold]
    fn listed(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|e| e.name.as_bytes() == name)
    }

    /// Puts an entry where nothing stands.
    fn push_entry(&mut self, digit: usize, entry: Arc<Entry>) {
        self.places[digit] = ENTRY | self.entries.len() as u8;
        push(&mut self.entries, entry);
    }

    /// Puts a branch where nothing stands.
    fn push_branch(&mut self, digit: usize, branch: Branch) {
        self.places[digit] = self.branches.len() as u8;
        push(&mut self.branches, Arc::new(branch));
    }

    fn take_entry(&mut self, digit: usize) -> Arc<Entry> {
        let place = mem::replace(&mut self.places[digit], NONE);
        let entry = take(&mut self.entries, usize::from(place ^ ENTRY));
        self.moved(ENTRY | self.entries.len() as u8, place);
        entry
    }

    fn take_branch(&mut self, digit: usize) {
        let place = mem::replace(&mut self.places[digit], NONE);
        take(&mut self.branches, usize::from(place));
        self.moved(self.branches.len() as u8, place);
    }

    /// The last of its kind stands where the one that was taken stood, unless that was the last.
    fn moved(&mut self, last: u8, to: u8) {
        if let Some(place) = self.places.iter_mut().find(|place| **place == last) {
            *place = to;
        }
    }

    fn insert(&mut self, by: Hash, hash: u64, shift: u32, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let digit = digit(hash, shift);
        let place = self.places[digit];
        if let Some(next) = self.branches.get_mut(usize::from(place)) {
            return Arc::make_mut(next).insert(by, hash, shift + DIGIT_BITS, entry);
        }
        if place == LIST {
            let old = self.entries.iter_mut().find(|e| e.name == entry.name);
            if let Some(old) = old {
                return Some(mem::replace(old, entry));
            }
            push(&mut self.entries, entry);
            return None;
        }
        match self.entries.get_mut(usize::from(place ^ ENTRY)) {
            None => self.push_entry(digit, entry),
            Some(old) if old.name == entry.name => return Some(mem::replace(old, entry)),
            Some(_) => {
                let old = self.take_entry(digit);
                let pair = Branch::pair(by, old, entry, hash, shift + DIGIT_BITS);
                self.push_branch(digit, pair);
            }
        }
        None
    }

    /// Two entries of one digit, pushed down to where their hashes differ.
    fn pair(by: Hash, old: Arc<Entry>, new: Arc<Entry>, new_hash: u64, shift: u32) -> Branch {
        let mut branch = Branch::default();
        if spent(shift) {
            branch.places = [LIST; DIGITS];
            branch.entries = Box::new([old, new]);
            return branch;
        }
        let (a, b) = (
            digit(by(old.name.as_bytes()), shift),
            digit(new_hash, shift),
        );
        if a == b {
            let next = Branch::pair(by, old, new, new_hash, shift + DIGIT_BITS);
            branch.push_branch(a, next);
        } else {
            branch.places[a] = ENTRY;
            branch.places[b] = ENTRY | 1;
            branch.entries = Box::new([old, new]);
        }
        branch
    }

    fn remove(&mut self, hash: u64, shift: u32, name: &str) -> Option<Arc<Entry>> {
        let digit = digit(hash, shift);
        let place = self.places[digit];
        if let Some(next) = self.branches.get_mut(usize::from(place)) {
            let branch = Arc::make_mut(next);
            let gone = branch.remove(hash, shift + DIGIT_BITS, name)?;
            // A branch with a single entry left folds into its place: the shape must depend on the
            // names alone.
            if let ([one], []) = (&*branch.entries, &*branch.branches) {
                let one = Arc::clone(one);
                self.take_branch(digit);
                self.push_entry(digit, one);
            }
            return Some(gone);
        }
        if place == LIST {
            let at = self
                .entries
                .iter()
                .position(|e| e.name.as_bytes() == name.as_bytes())?;
            return Some(take(&mut self.entries, at));
        }
        let entry = self.entries.get(usize::from(place ^ ENTRY))?;
        (entry.name.as_bytes() == name.as_bytes()).then(|| self.take_entry(digit))
    }

    fn diff<'a>(a: &'a Arc<Branch>, b: &'a Arc<Branch>, f: &mut Differ<'a, '_>) {
        if Arc::ptr_eq(a, b) {
            return;
        }
        if a.places != b.places {
            for digit in 0..DIGITS {
                Slot::diff(a.slot(digit), b.slot(digit), f);
            }
            return;
        }
        if a.is_list() {
            return Slot::diff_all(Some(Slot::Branch(a)), Some(Slot::Branch(b)), f);
        }
        // Nothing came or went, so all stand in the same order: most of all changes.
        for (x, y) in a.entries.iter().zip(&b.entries) {
            if !Arc::ptr_eq(x, y) {
                Slot::diff(Some(Slot::Entry(x)), Some(Slot::Entry(y)), f);
            }
        }
        for (x, y) in a.branches.iter().zip(&b.branches) {
            Branch::diff(x, y, f);
        }
    }
}

/// Makes room for one more.
fn push<T>(slots: &mut Box<[T]>, slot: T) {
    let mut vec = mem::take(slots).into_vec();
    vec.reserve_exact(1);
    vec.push(slot);
    *slots = vec.into_boxed_slice();
}

/// Takes one out; the last one moves to its place.
fn take<T>(slots: &mut Box<[T]>, at: usize) -> T {
    let mut vec = mem::take(slots).into_vec();
    let slot = vec.swap_remove(at);
    *slots = vec.into_boxed_slice();
    slot
}

impl<'a> Slot<'a> {
    fn diff(a: Option<Slot<'a>>, b: Option<Slot<'a>>, f: &mut Differ<'a, '_>) {
        match (a, b) {
            (None, None) => {}
            (Some(Slot::Entry(x)), Some(Slot::Entry(y))) if x.name == y.name => {
                if !Arc::ptr_eq(x, y) {
                    f(Some(x), Some(y));
                }
            }
            (Some(Slot::Branch(x)), Some(Slot::Branch(y))) => Branch::diff(x, y, f),
            (a, b) => Slot::diff_all(a, b, f),
        }
    }

    /// Looks for each name of either in the other.
    fn diff_all(a: Option<Slot<'a>>, b: Option<Slot<'a>>, f: &mut Differ<'a, '_>) {
        let all = |slot: Option<Slot<'a>>| slot.into_iter().flat_map(Slot::iter);
        for x in all(a) {
            match all(b).find(|y| y.name == x.name) {
                Some(y) if Arc::ptr_eq(x, y) => {}
                y => f(Some(x), y),
            }
        }
        for y in all(b) {
            if !all(a).any(|x| x.name == y.name) {
                f(None, Some(y));
            }
        }
    }

    fn iter(self) -> Iter<'a> {
        match self {
            Slot::Entry(entry) => Iter {
                entries: slice::from_ref(entry).iter(),
                stack: Vec::new(),
            },
            Slot::Branch(branch) => Iter {
                entries: branch.entries.iter(),
                stack: vec![branch.branches.iter()],
            },
        }
    }
}

/// Walks all entries of a map.
pub(crate) struct Iter<'a> {
    /// Those of the branch that was reached last.
    entries: slice::Iter<'a, Arc<Entry>>,
    stack: Vec<slice::Iter<'a, Arc<Branch>>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(entry);
            }
            match self.stack.last_mut()?.next() {
                None => drop(self.stack.pop()),
                Some(branch) => {
                    self.entries = branch.entries.iter();
                    if !branch.branches.is_empty() {
                        self.stack.push(branch.branches.iter());
                    }
                }
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
        let leaf = Leaf::new(Value::from(value), Origin::new("test", ""));
        Arc::new(Entry {
            name: name.into(),
            node: Node::Leaf(leaf),
        })
    }

    fn value(entry: &Entry) -> i64 {
        match &entry.node {
            Node::Leaf(leaf) => leaf.value.as_i64().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Four hashes for all names: two that clash, since no digit reaches the last four bits, one
    /// that differs from them in the last digit, and one in the first.
    fn clashing(name: &[u8]) -> u64 {
        [0, 0xF << 60, 1 << 55, 1][name.len() % 4]
    }

    fn hashes() -> impl Strategy<Value = Hash> {
        prop::sample::select(vec![scan::hash as Hash, clashing])
    }

    fn build(hash: Hash, model: &BTreeMap<String, i64>) -> Map {
        let mut map = Map::default();
        for (name, value) in model {
            map.insert_by(hash, entry(name, *value));
        }
        map
    }

    fn get<'a>(hash: Hash, map: &'a Map, name: &str) -> Option<&'a Arc<Entry>> {
        map.get_hashed(name.as_bytes(), hash(name.as_bytes()))
    }

    fn shape(map: &Map) -> String {
        fn of(branch: &Branch) -> String {
            if branch.is_list() {
                assert!(branch.branches.is_empty() && branch.entries.len() > 1);
                return format!("clash{}", branch.entries.len());
            }
            let slots: Vec<_> = (0..DIGITS)
                .filter_map(|digit| branch.slot(digit))
                .map(|slot| match slot {
                    Slot::Entry(entry) => entry.name.to_string(),
                    Slot::Branch(next) => of(next),
                })
                .collect();
            assert_eq!(slots.len(), branch.entries.len() + branch.branches.len());
            format!("({})", slots.join(" "))
        }
        of(&map.root)
    }

    proptest! {
        #[test]
        fn a_map_answers_as_a_btreemap_does(
            hash in hashes(),
            steps in prop::collection::vec(("[a-f]{0,3}", prop::option::weighted(0.7, 0i64..5)), 0..400)
        ) {
            let mut model = BTreeMap::new();
            let mut map = Map::default();
            for (name, step) in steps {
                let before = map.clone();
                let kept: Vec<_> = before.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
                let old = match step {
                    Some(v) => (map.insert_by(hash, entry(&name, v)).map(|e| value(&e)), model.insert(name.clone(), v)),
                    None => (map.remove_by(hash, &name).map(|e| value(&e)), model.remove(&name)),
                };
                prop_assert_eq!(old.0, old.1);
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(get(hash, &map, &name).map(|e| value(e)), model.get(&name).copied());
                let mut copy = map.clone();
                let held = copy.get_mut_by(hash, &name);
                let held = held.map(|e| value(&mem::replace::<Arc<Entry>>(e, entry(&name, 9))));
                prop_assert_eq!(held, model.get(&name).copied());
                prop_assert_eq!(get(hash, &copy, &name).map(|e| value(e)), held.map(|_| 9));
                prop_assert_eq!(get(hash, &map, &name).map(|e| value(e)), held);
                let still: Vec<_> = before.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
                prop_assert_eq!(kept, still, "an older copy changed");
            }
            let all: Vec<_> = map.sorted().into_iter().map(|e| (e.name.to_string(), value(e))).collect();
            prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(shape(&map), shape(&build(hash, &model)), "the shape depends on history");
        }

        #[test]
        fn diff_names_what_differs_and_nothing_else(
            hash in hashes(),
            base in prop::collection::btree_map("[a-f]{0,3}", 0i64..5, 0..200),
            edits in prop::collection::vec(("[a-f]{0,3}", prop::option::of(0i64..5)), 0..40),
        ) {
            let old = build(hash, &base);
            let mut new = old.clone();
            for (name, edit) in edits {
                match edit {
                    Some(v) => drop(new.insert_by(hash, entry(&name, v))),
                    None => drop(new.remove_by(hash, &name)),
                }
            }
            let mut told = BTreeSet::new();
            old.diff(&new, &mut |x, y| {
                let name = x.or(y).map(|e| e.name.to_string()).unwrap_or_default();
                assert_eq!(x.map(|e| value(e)), get(hash, &old, &name).map(|e| value(e)));
                assert_eq!(y.map(|e| value(e)), get(hash, &new, &name).map(|e| value(e)));
                assert!(told.insert(name), "told twice");
            });
            for entry in old.iter().chain(new.iter()) {
                let same = match (get(hash, &old, &entry.name), get(hash, &new, &entry.name)) {
                    (Some(x), Some(y)) => Arc::ptr_eq(x, y),
                    _ => false,
                };
                prop_assert_eq!(told.contains(&*entry.name), !same, "{}", entry.name);
            }
        }
    }
}
