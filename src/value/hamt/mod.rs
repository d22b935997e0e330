//! A persistent hash trie (HAMT) from names to nodes. A clone costs a reference count, and a changed copy
//! shares all but the path to the change.
//!
//! General-purpose tries keep name, value and hash in boxes of their own and spend 311 to 393
//! instructions a look-up. This one has an `Arc<Entry>` for each name, so that a layer and the merged tree
//! share each entry. The shape depends on the names alone, so two maps are compared by walking them side by
//! side and skipping the parts that they share.
//!
//! Each level of the trie looks up one *digit* of the hash, 5 bits. A branch keeps entries and further
//! branches apart, so that the code of a digit alone decides where the look-up continues: 8 instructions a
//! level and 8 bytes a slot, where slots of either kind in one vector took 13 and 16.

use std::mem;
use std::slice;
use std::sync::Arc;

use crate::value::name::Name;
use crate::value::node::Node;
use crate::value::scan::{self, same};

/// A name and its node.
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

/// A level of the trie.
///
/// The slices have no spare capacity: most branches are small, and there are many. This and the smaller
/// slots save some 12 bytes a key, compared with vectors that grow in steps of four.
#[derive(Clone, Debug)]
struct Branch {
    /// The code of each digit: an index into `branches`, [`ENTRY`] and an index into `entries`,
    /// [`NONE`], or [`LIST`]. A byte a digit is 28 bytes more than a bit a digit, and saves counting
    /// bits, which costs 15 instructions a level.
    codes: [u8; DIGITS],
    /// In the order of insertion, as the branches are.
    entries: Box<[Arc<Entry>]>,
    branches: Box<[Arc<Branch>]>,
}

/// The content of a digit.
#[derive(Clone, Copy)]
enum Slot<'a> {
    Entry(&'a Arc<Entry>),
    Branch(&'a Arc<Branch>),
}

/// Called with each name whose entries differ.
type Differ<'a, 'f> = dyn FnMut(Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>) + 'f;

/// The hash function of names: tests make names collide.
type Hash = fn(&[u8]) -> u64;

const DIGIT_BITS: u32 = 5;
const DIGITS: usize = 1 << DIGIT_BITS;
/// The code of an entry has this bit, so that it exceeds the index of any branch: one comparison decides
/// whether the look-up continues, and checks the index.
const ENTRY: u8 = 0x80;
/// The code of a digit without content: it exceeds that of any entry.
const NONE: u8 = ENTRY | 0x7F;
/// All codes of a branch below the last digit, where names whose hashes collide are a list. Only the
/// look-up of a name that was not found compares with it.
const LIST: u8 = ENTRY | 0x7E;

fn digit(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize % DIGITS
}

/// Whether the hash has no more digits at this depth.
fn is_exhausted(shift: u32) -> bool {
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
            let code = usize::from(branch.codes[digit(rest, 0)]);
            if let Some(next) = branch.branches.get(code) {
                branch = next;
                rest >>= DIGIT_BITS;
                continue;
            }
            return match branch.entries.get(code ^ usize::from(ENTRY)) {
                Some(entry) if same(entry.name.as_bytes(), name) => Some(entry),
                // Comparing the code instead would cost an instruction a level, to keep the code.
                _ if branch.is_list() => branch.find_in_list(name),
                _ => None,
            };
        }
    }

    /// The entry of a name for changing in place; branches on the path that other maps share are copied.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Arc<Entry>> {
        self.get_mut_by(scan::hash, name)
    }

    fn get_mut_by(&mut self, hash: Hash, name: &str) -> Option<&mut Arc<Entry>> {
        let mut rest = hash(name.as_bytes());
        self.get_hashed(name.as_bytes(), rest)?;
        let mut branch = Arc::make_mut(&mut self.root);
        loop {
            let code = branch.codes[digit(rest, 0)];
            match branch.branches.get_mut(usize::from(code)) {
                Some(next) => branch = Arc::make_mut(next),
                None if code == LIST => {
                    return branch
                        .entries
                        .iter_mut()
                        .find(|e| e.name.as_bytes() == name.as_bytes());
                }
                None => return branch.entries.get_mut(usize::from(code ^ ENTRY)),
            }
            rest >>= DIGIT_BITS;
        }
    }

    /// Adds an entry and returns the one that it replaces.
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

    /// All entries, in no defined order.
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
            codes: [NONE; DIGITS],
            entries: Box::default(),
            branches: Box::default(),
        }
    }
}

impl Branch {
    fn slot(&self, digit: usize) -> Option<Slot<'_>> {
        let code = self.codes[digit];
        match self.branches.get(usize::from(code)) {
            Some(next) => Some(Slot::Branch(next)),
            None => {
                let entry = self.entries.get(usize::from(code ^ ENTRY))?;
                Some(Slot::Entry(entry))
            }
        }
    }

    fn is_list(&self) -> bool {
        self.codes[0] == LIST
    }

    #[cold]
    fn find_in_list(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|e| e.name.as_bytes() == name)
    }

    /// Adds an entry at a digit without content.
    fn push_entry(&mut self, digit: usize, entry: Arc<Entry>) {
        self.codes[digit] = ENTRY | self.entries.len() as u8;
        push(&mut self.entries, entry);
    }

    /// Adds a branch at a digit without content.
    fn push_branch(&mut self, digit: usize, branch: Branch) {
        self.codes[digit] = self.branches.len() as u8;
        push(&mut self.branches, Arc::new(branch));
    }

    fn take_entry(&mut self, digit: usize) -> Arc<Entry> {
        let code = mem::replace(&mut self.codes[digit], NONE);
        let entry = take(&mut self.entries, usize::from(code ^ ENTRY));
        self.renumber(ENTRY | self.entries.len() as u8, code);
        entry
    }

    fn take_branch(&mut self, digit: usize) {
        let code = mem::replace(&mut self.codes[digit], NONE);
        take(&mut self.branches, usize::from(code));
        self.renumber(self.branches.len() as u8, code);
    }

    /// Gives the last element, which a removal has moved, its new code; none if the last was removed.
    fn renumber(&mut self, last: u8, to: u8) {
        if let Some(code) = self.codes.iter_mut().find(|code| **code == last) {
            *code = to;
        }
    }

    fn insert(&mut self, by: Hash, hash: u64, shift: u32, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let digit = digit(hash, shift);
        let code = self.codes[digit];
        if let Some(next) = self.branches.get_mut(usize::from(code)) {
            return Arc::make_mut(next).insert(by, hash, shift + DIGIT_BITS, entry);
        }
        if code == LIST {
            let old = self.entries.iter_mut().find(|e| e.name == entry.name);
            if let Some(old) = old {
                return Some(mem::replace(old, entry));
            }
            push(&mut self.entries, entry);
            return None;
        }
        match self.entries.get_mut(usize::from(code ^ ENTRY)) {
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

    /// A branch for two entries of one digit, as deep as their hashes are equal.
    fn pair(by: Hash, old: Arc<Entry>, new: Arc<Entry>, new_hash: u64, shift: u32) -> Branch {
        let mut branch = Branch::default();
        if is_exhausted(shift) {
            branch.codes = [LIST; DIGITS];
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
            branch.codes[a] = ENTRY;
            branch.codes[b] = ENTRY | 1;
            branch.entries = Box::new([old, new]);
        }
        branch
    }

    fn remove(&mut self, hash: u64, shift: u32, name: &str) -> Option<Arc<Entry>> {
        let digit = digit(hash, shift);
        let code = self.codes[digit];
        if let Some(next) = self.branches.get_mut(usize::from(code)) {
            let branch = Arc::make_mut(next);
            let removed = branch.remove(hash, shift + DIGIT_BITS, name)?;
            // The last entry of a branch replaces the branch: the shape must depend on the names alone.
            if let ([one], []) = (&*branch.entries, &*branch.branches) {
                let one = Arc::clone(one);
                self.take_branch(digit);
                self.push_entry(digit, one);
            }
            return Some(removed);
        }
        if code == LIST {
            let at = self
                .entries
                .iter()
                .position(|e| e.name.as_bytes() == name.as_bytes())?;
            return Some(take(&mut self.entries, at));
        }
        let entry = self.entries.get(usize::from(code ^ ENTRY))?;
        (entry.name.as_bytes() == name.as_bytes()).then(|| self.take_entry(digit))
    }

    fn diff<'a>(a: &'a Arc<Branch>, b: &'a Arc<Branch>, f: &mut Differ<'a, '_>) {
        if Arc::ptr_eq(a, b) {
            return;
        }
        if a.codes != b.codes {
            for digit in 0..DIGITS {
                Slot::diff(a.slot(digit), b.slot(digit), f);
            }
            return;
        }
        if a.is_list() {
            return Slot::diff_all(Some(Slot::Branch(a)), Some(Slot::Branch(b)), f);
        }
        // No entry was added or removed, so both have the same order: most changes are like this.
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

/// Adds an element to a slice.
fn push<T>(slots: &mut Box<[T]>, slot: T) {
    let mut vec = mem::take(slots).into_vec();
    vec.reserve_exact(1);
    vec.push(slot);
    *slots = vec.into_boxed_slice();
}

/// Removes an element; the last one gets its index.
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

    /// Compares slots of different kinds: looks for each name of either in the other.
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
    /// The rest of the entries of the branch that was reached last.
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
mod tests;
