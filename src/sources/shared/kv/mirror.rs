//! What a store holds, as one document that is kept up to date key by key.
//!
//! The document shares what did not change with the one before, so handing over all of it after each
//! change costs what changed. A key that cannot be read affects no other key. The document leaves it
//! out and reports it, and the properties keep the value that they accepted last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::source::Update;
use crate::sources::fs::watch::read::Digest;
use crate::sources::shared::kv::mapping::{Mapping, Place};
use crate::value::Value;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::origin::Origin;
use crate::value::unread::Unread;

/// What a key takes besides its name and its value.
pub(crate) const KEY_BYTES: usize = 32;

/// What single changes may add up to. More than may be in force is held, so that what has become less
/// again is known without reading everything.
pub(crate) const MAX_HELD: usize = 2 * MAX_DOCUMENT_BYTES;

/// As many keys are in force at most, since a small one takes some 700 bytes of memory. Twice as many are
/// held, for the same reason as with [`MAX_HELD`].
pub(crate) const MAX_KEYS: usize = 150_000;

/// As many keys are held at most.
pub(crate) const MAX_KEYS_HELD: usize = 2 * MAX_KEYS;

/// So many problems are told one by one.
const MAX_TOLD: usize = 100;

/// One value of the store.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) revision: u64,
}

/// What a store holds.
#[derive(Debug)]
pub(crate) struct Mirror {
    mapping: Mapping,
    /// The last readable values of the store's keys. Those of keys in `faults` are not in the document,
    /// because the properties may have rejected them.
    items: BTreeMap<Arc<str>, Item>,
    /// What is wrong with the newest value of keys.
    faults: BTreeMap<Arc<str>, Error>,
    /// The keys of `faults` as a document names them; none if they have changed since.
    unread: Option<Unread>,
    /// Keys that another key of the store stands in the way of.
    clashes: BTreeMap<Arc<str>, Error>,
    /// Which key of the store a property is from.
    owners: BTreeMap<Key, Arc<str>>,
    document: Document,
    digest: Digest,
    /// What `items` and `faults` hold.
    bytes: usize,
    /// Something was not kept, so all has to be read.
    incomplete: bool,
    /// Keys that are changed and not yet in the document; all of it, if that is simpler.
    dirty: BTreeSet<Arc<str>>,
    anew: bool,
    changed: bool,
    /// Whether the store has ever had one of the keys.
    was_there: bool,
}

#[derive(Clone, Debug)]
struct Item {
    revision: u64,
    digest: u64,
    /// What it holds, name and all.
    bytes: usize,
    says: Says,
}

#[derive(Clone, Debug)]
enum Says {
    Value(Key, Value, Origin),
    Document(Key, Document),
}

impl Mirror {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self {
            mapping,
            items: BTreeMap::new(),
            faults: BTreeMap::new(),
            unread: None,
            clashes: BTreeMap::new(),
            owners: BTreeMap::new(),
            document: Document::new(),
            digest: Digest::default(),
            bytes: 0,
            incomplete: false,
            dirty: BTreeSet::new(),
            anew: false,
            changed: false,
            was_there: false,
        }
    }

    #[allow(dead_code)] // by some stores only
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The revision of a key's value, if it is one of ours.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn revision_of(&self, key: &str) -> Option<u64> {
        self.items.get(key).map(|item| item.revision)
    }

    /// The keys that begin with `first` and of which something is known.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn known_from(&self, first: &str) -> Vec<&str> {
        let after = (Bound::Included(first), Bound::Unbounded);
        let items = self.items.range::<str, _>(after).map(|(key, _)| &**key);
        let faults = self.faults.range::<str, _>(after).map(|(key, _)| &**key);
        let items = items.take_while(|key| key.starts_with(first));
        let faults = faults.take_while(|key| key.starts_with(first));
        items.chain(faults).collect()
    }

    /// A key was set.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn put(&mut self, entry: &Entry<'_>) {
        self.put_within(entry, MAX_HELD);
    }

    /// A key was set; it is not kept if more than `limit` would be held then.
    fn put_within(&mut self, entry: &Entry<'_>, limit: usize) {
        let Some(place) = self.mapping.place(entry.key) else {
            return;
        };
        self.was_there = true;
        let known = self.items.get_key_value(entry.key);
        let key: Arc<str> = known.map_or_else(|| entry.key.into(), |(key, _)| Arc::clone(key));
        let origin = self.origin(entry);
        match place.and_then(|place| self.read(entry, place, &origin)) {
            Err(fault) => {
                // What is wrong in a document has a line and a column there.
                let fault = match fault.origin() {
                    None => fault.with_origin(&origin),
                    Some(_) => fault,
                };
                self.fault(key, fault, limit);
            }
            Ok(says) => {
                self.unfault(&key);
                let known = self.items.get(&key).map_or(0, |item| item.bytes);
                let bytes = cost(&key) + entry.bytes.len();
                let held = self.bytes - known + bytes;
                let is_full = known == 0 && self.count() >= MAX_KEYS_HELD;
                if is_full || bytes > known && held > limit {
                    self.incomplete = true;
                    return;
                }
                let item = Item {
                    revision: entry.revision,
                    digest: self.digest.of(entry.bytes),
                    bytes,
                    says,
                };
                self.bytes = held;
                self.anew |= matches!(item.says, Says::Document(..));
                self.items.insert(Arc::clone(&key), item);
                self.dirty.insert(key);
            }
        }
    }

    /// A key was deleted.
    pub(crate) fn delete(&mut self, key: &str) {
        self.unfault(key);
        if let Some((key, item)) = self.items.remove_entry(key) {
            self.bytes -= item.bytes;
            self.anew |= matches!(item.says, Says::Document(..));
            self.dirty.insert(key);
        }
    }

    /// The store does not let a key be read: it keeps the value it had.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn refuse(&mut self, key: &str, fault: Error) {
        if self.mapping.place(key).is_some() {
            let known = self.items.get_key_value(key);
            let key: Arc<str> = known.map_or_else(|| key.into(), |(key, _)| Arc::clone(key));
            self.fault(key, fault, MAX_HELD);
        }
    }

    /// Something is wrong with a key.
    fn fault(&mut self, key: Arc<str>, fault: Error, limit: usize) {
        let known = self.faults.contains_key(&key);
        let bytes = if known { 0 } else { cost(&key) };
        let is_full = self.count() >= MAX_KEYS_HELD;
        if !known && (is_full || self.bytes + bytes > limit) {
            self.incomplete = true;
            return;
        }
        self.bytes += bytes;
        let text = fault.to_string();
        if !known {
            self.mark(&key);
        }
        let old = self.faults.insert(key, fault);
        self.unread = self.unread.take().filter(|_| old.is_some());
        self.changed |= old.is_none_or(|old| old.to_string() != text);
    }

    /// Nothing is wrong with a key any more.
    fn unfault(&mut self, key: &str) {
        if self.faults.remove(key).is_some() {
            self.mark(key);
            self.unread = None;
            self.bytes -= cost(key);
            self.changed = true;
        }
    }

    /// Marks the last readable value of a key, if there is one, to be added to the document or removed.
    fn mark(&mut self, key: &str) {
        if let Some((key, item)) = self.items.get_key_value(key) {
            self.anew |= matches!(item.says, Says::Document(..));
            self.dirty.insert(Arc::clone(key));
        }
    }

    /// This is all there is.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn replace<'a>(&mut self, all: impl IntoIterator<Item = Entry<'a>>) {
        self.replace_but(all, |_| false);
    }

    /// This is all there is, but for keys that are `hidden`: what is known of those stays.
    pub(crate) fn replace_but<'a>(
        &mut self,
        all: impl IntoIterator<Item = Entry<'a>>,
        hidden: impl Fn(&str) -> bool,
    ) {
        let mut gone: BTreeSet<Arc<str>> = self
            .items
            .keys()
            .chain(self.faults.keys())
            .filter(|key| !hidden(key))
            .cloned()
            .collect();
        self.incomplete = false;
        for entry in all {
            gone.remove(entry.key);
            // A store that was reset may use a revision again.
            let known = self.items.get(entry.key);
            let fine = !self.faults.contains_key(entry.key);
            let same = |item: &Item| {
                item.revision == entry.revision && item.digest == self.digest.of(entry.bytes)
            };
            if !(fine && known.is_some_and(same)) {
                // How much is read at once is limited where it is read.
                self.put_within(&entry, usize::MAX);
            }
        }
        gone.iter().for_each(|key| self.delete(key));
    }

    /// Whether everything has to be read again: there was too much to keep, and now it may fit. Until
    /// then there is no update.
    #[allow(dead_code)] // by some stores only
    pub(crate) fn wants_all(&self) -> bool {
        self.incomplete && self.fits()
    }

    /// How many keys are held, readable or not.
    fn count(&self) -> usize {
        self.items.len() + self.faults.len()
    }

    /// Whether no more is held than may be in force.
    fn fits(&self) -> bool {
        self.bytes <= MAX_DOCUMENT_BYTES && self.count() <= MAX_KEYS
    }

    /// All of it as an update, if anything is new since the last one was taken.
    ///
    /// # Errors
    ///
    /// If it is too large; the values in force stay.
    pub(crate) fn update(
        &mut self,
        revision: impl Into<Arc<str>>,
    ) -> Result<Option<Update>, Error> {
        // A single document has a limit of its own.
        let limited = !self.mapping.is_document();
        if self.incomplete || limited && !self.fits() {
            // There may be no end to what comes until it fits.
            self.dirty.clear();
            (self.anew, self.changed) = (true, true);
            return Err(self.too_large());
        }
        if self.mapping.is_document() {
            // It is all or nothing.
            if let Some(fault) = self.faults.values().next() {
                return Err(fault.clone());
            }
            // A document that is deleted takes its values away, as any key does.
            if !self.was_there {
                return Err(self.absent());
            }
        }
        if self.dirty.is_empty() && !self.changed {
            return Ok(None);
        }
        self.settle();
        Ok(Some(Update::full(self.reported()).at_revision(revision)))
    }

    /// All of it, whether anything is new or not.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub(crate) fn whole(&mut self, revision: impl Into<Arc<str>>) -> Result<Document, Error> {
        self.update("")?;
        let mut document = self.reported();
        document.set_revision(revision);
        Ok(document)
    }

    /// The error of a document that the store has never had.
    fn absent(&self) -> Error {
        let detail = "the key does not exist; create it, or start without it by \
                      `.with(|policy| policy.optional())`";
        let origin = Origin::new(self.mapping.kind, self.mapping.wanted());
        Error::new(ErrorKind::Unavailable, detail).with_origin(origin)
    }

    /// The hint that a prefix has no keys.
    fn empty_prefix(&self) -> Option<Error> {
        let is_empty = self.count() == 0 && !self.mapping.is_document();
        let detail = match self.mapping.wanted() {
            "" => "the store has no keys".to_owned(),
            prefix => format!("no key of the store begins with `{prefix}`"),
        };
        let origin = Origin::new(self.mapping.kind, self.mapping.wanted());
        is_empty.then(|| Error::new(ErrorKind::NotFound, detail).with_origin(origin))
    }

    fn too_large(&self) -> Error {
        let wanted = self.mapping.wanted();
        let more = if self.incomplete { "more than " } else { "" };
        let detail = if self.wants_all() {
            format!("held too much below `{wanted}`, and is to be read again")
        } else if self.count() > MAX_KEYS {
            format!(
                "holds {more}{} keys below `{wanted}`, and {MAX_KEYS} is the most that is taken; name a \
                 longer prefix, or put several values into one document",
                self.count(),
            )
        } else {
            format!(
                "holds {more}{} bytes below `{wanted}`, names and all, and {MAX_DOCUMENT_BYTES} is the \
                 most that is taken",
                self.bytes,
            )
        };
        Error::new(ErrorKind::TooLarge, detail)
    }

    fn origin(&self, entry: &Entry<'_>) -> Origin {
        Origin::new(self.mapping.kind, entry.key).revision(entry.revision)
    }

    /// Makes out what a value says.
    fn read(&self, entry: &Entry<'_>, place: Place, origin: &Origin) -> Result<Says, Error> {
        let (length, limit) = (entry.bytes.len(), Mapping::limit(&place));
        if length > limit {
            let detail = format!("{length} bytes are more than {limit}");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        match place {
            Place::Document(key) => {
                let format = self.mapping.format_of(entry.key)?;
                let document =
                    format.parse(entry.bytes, &Origin::new(self.mapping.kind, entry.key))?;
                Ok(Says::Document(key, document))
            }
            Place::Value(key) => match std::str::from_utf8(entry.bytes) {
                Ok(text) => Ok(Says::Value(key, Value::from(text), origin.clone())),
                Err(fault) => {
                    let at = fault.valid_up_to();
                    let detail =
                        format!("its value is not text: byte {at} of {length} is not UTF-8");
                    Err(Error::new(ErrorKind::Malformed, detail).with_key(&key))
                }
            },
        }
    }

    /// Brings the document up to date.
    fn settle(&mut self) {
        self.changed = false;
        let dirty = std::mem::take(&mut self.dirty);
        // Where keys are in each other's way, what is removed may show another.
        if !self.anew && self.clashes.is_empty() && dirty.iter().all(|key| self.place(key)) {
            return;
        }
        self.anew = false;
        (self.document, self.owners) = (Document::new(), BTreeMap::new());
        self.clashes.clear();
        // What stands deeper wins: there is more of it.
        let items = self.items.iter().rev();
        let items = items.map(|(key, item)| (Arc::clone(key), item.says.clone()));
        // A document wins over single keys: it is there as a whole or not at all.
        let (documents, values): (Vec<_>, Vec<_>) =
            items.partition(|(_, says)| matches!(says, Says::Document(..)));
        for (key, says) in documents.into_iter().chain(values) {
            if let Err(clash) = self.set(&key, says) {
                self.clashes.insert(key, clash);
            }
        }
    }

    /// Brings one key of the store up to date; `false` where another is in its way.
    fn place(&mut self, key: &Arc<str>) -> bool {
        match self.items.get(key) {
            Some(item) => {
                let says = item.says.clone();
                self.set(key, says).is_ok()
            }
            None => {
                let Some(Ok(Place::Value(property))) = self.mapping.place(key) else {
                    return false;
                };
                // It may have come and gone since the last update.
                if self.owners.get(&property) == Some(key) {
                    self.owners.remove(&property);
                    self.document.remove_key(&property);
                }
                true
            }
        }
    }

    fn set(&mut self, key: &Arc<str>, says: Says) -> Result<(), Error> {
        let (property, value, origin) = match says {
            Says::Value(property, value, origin) => (property, value, origin),
            Says::Document(property, document) => return self.mount(key, &property, document),
        };
        let owned = self.owns(key, &property, &origin)?;
        // An unreadable key still keeps others from its property.
        if self.faults.contains_key(key) {
            self.document.remove_key(&property);
        } else {
            self.document.set_key(&property, value, &origin)?;
        }
        if !owned {
            self.owners.insert(property, Arc::clone(key));
        }
        Ok(())
    }

    /// Whether a property is a key's already; an error if it is another's, or lies below another's.
    fn owns(&self, key: &Arc<str>, property: &Key, origin: &Origin) -> Result<bool, Error> {
        let mut owned = false;
        for at in property.lineage() {
            let Some(owner) = self.owners.get(at) else {
                continue;
            };
            let same = at == property.as_str();
            if same && owner == key {
                owned = true;
                continue;
            }
            let detail = match same {
                true => format!("is ignored: `{owner}` is the same property"),
                false => format!("is ignored: `{owner}` stands above it"),
            };
            let clash = Error::new(ErrorKind::InvalidKey, detail);
            return Err(clash.with_key(property).with_origin(origin));
        }
        // The document shows what stands below, but not the unreadable keys.
        if !self.faults.is_empty() && self.has_owner_below(property) {
            let detail = "would be both a value and a table: other keys stand below it";
            let clash = Error::new(ErrorKind::InvalidKey, detail);
            return Err(clash.with_key(property).with_origin(origin));
        }
        Ok(owned)
    }

    fn has_owner_below(&self, property: &Key) -> bool {
        let first = format!("{property}.");
        let after = (Bound::Included(first.as_str()), Bound::Unbounded);
        let mut below = self.owners.range::<str, _>(after);
        below
            .next()
            .is_some_and(|(key, _)| key.as_str().starts_with(&first))
    }

    /// Puts a document where its key stands.
    fn mount(&mut self, key: &Arc<str>, at: &Key, document: Document) -> Result<(), Error> {
        let is_unread = self.faults.contains_key(key);
        if at.is_root() {
            if !is_unread {
                self.document = document;
            }
            return Ok(());
        }
        let origin = Origin::new(self.mapping.kind, &**key);
        self.owns(key, at, &origin)?;
        if is_unread {
            self.owners.insert(at.clone(), Arc::clone(key));
            return Ok(());
        }
        let (root, report) = document.into_parts();
        self.document.mount(at, root, &origin)?;
        let problems = report.problems.into_iter();
        problems.for_each(|problem| self.document.warn(problem));
        self.owners.insert(at.clone(), Arc::clone(key));
        Ok(())
    }

    /// The document with its problems and the keys that could not be read.
    fn reported(&mut self) -> Document {
        let faults = &self.faults;
        let kind = self.mapping.kind;
        let unread = self.unread.get_or_insert_with(|| {
            let mut unread = Unread::default();
            for key in faults.keys() {
                unread.add_fragment(&Origin::new(kind, &**key));
            }
            unread
        });
        let mut document = self.document.clone();
        document.set_unread(unread.clone());
        for problem in self.problems() {
            document.warn(problem);
        }
        if let Some(hint) = self.empty_prefix() {
            document.hint(hint);
        }
        document
    }

    fn problems(&self) -> Vec<Error> {
        let all = || self.faults.values().chain(self.clashes.values());
        let mut told: Vec<Error> = all().take(MAX_TOLD).cloned().collect();
        let more = all().count() - told.len();
        if more > 0 {
            let detail = format!("{more} more keys cannot be used");
            told.push(Error::new(ErrorKind::Malformed, detail));
        }
        told
    }
}

/// What a key takes without its value.
fn cost(key: &str) -> usize {
    KEY_BYTES + key.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::sources::shared::kv::mapping::MAX_VALUE_BYTES;

    fn mirror() -> Mirror {
        Mirror::new(Mapping::prefix("test", '/', "app"))
    }

    fn put(mirror: &mut Mirror, key: &str, value: &[u8], revision: u64) {
        mirror.put(&Entry {
            key,
            bytes: value,
            revision,
        });
    }

    /// A line is a name and a value; one that is neither breaks the document.
    fn lines() -> Format {
        Format::new("lines", |text, origin| {
            let mut document = Document::new();
            for (number, line) in (1..).zip(text.lines()) {
                let (name, value) = line
                    .split_once('=')
                    .ok_or_else(|| Error::new(ErrorKind::Malformed, "no value"))?;
                document.set(name, value, origin.at(number, 1))?;
            }
            Ok(document)
        })
    }

    /// What a program has after it starts with what is kept of a run before.
    fn completed(mirror: &mut Mirror, kept: &Document) -> Vec<String> {
        let mut document = mirror.whole("1").unwrap();
        document.keep_last_good(kept.root());
        let all = document.iter();
        all.map(|(key, value, _)| format!("{key} = {value}"))
            .collect()
    }

    #[test]
    fn a_key_that_cannot_be_read_keeps_its_kept_value_and_a_deleted_one_does_not() {
        let mut before = mirror();
        for (key, value) in [("app/a", "1"), ("app/b", "2"), ("app/c", "3")] {
            put(&mut before, key, value.as_bytes(), 1);
        }
        let kept = before.whole("1").unwrap();
        let mut now = mirror();
        put(&mut now, "app/a", b"10", 2);
        put(&mut now, "app/b", &[0xff], 2);
        assert_eq!(completed(&mut now, &kept), ["a = \"10\"", "b = \"2\""]);
        // More faults than are reported one by one.
        for key in 0..2 * MAX_TOLD {
            put(&mut now, &format!("app/0{key}"), &[0xff], 3);
        }
        assert_eq!(completed(&mut now, &kept), ["a = \"10\"", "b = \"2\""]);
        now.delete("app/b");
        assert_eq!(completed(&mut now, &kept), ["a = \"10\""]);
    }

    #[test]
    fn a_key_that_cannot_be_read_keeps_the_accepted_value_and_not_a_rejected_one() {
        for documents in [&[][..], &["x"]] {
            let mut mirror = mirror_with(documents);
            let (good, bad) = if documents.is_empty() {
                ("1", "many")
            } else {
                ("a=1", "a=many")
            };
            put(&mut mirror, "app/x", good.as_bytes(), 1);
            put(&mut mirror, "app/y", b"1", 1);
            let accepted = mirror.whole("1").unwrap();
            // The properties reject this value and keep the one before.
            put(&mut mirror, "app/x", bad.as_bytes(), 2);
            mirror.whole("2").unwrap();
            put(&mut mirror, "app/x", &[0xff], 3);
            put(&mut mirror, "app/y", b"2", 3);
            let values = completed(&mut mirror, &accepted);
            assert!(values.contains(&"y = \"2\"".to_owned()), "{values:?}");
            let values = values.concat();
            assert!(
                values.contains("= \"1\"") && !values.contains("many"),
                "{values}"
            );
            // The same text again, which may be acceptable by now.
            put(&mut mirror, "app/x", bad.as_bytes(), 4);
            let values = completed(&mut mirror, &accepted).concat();
            assert!(values.contains("many"), "{values}");
        }
    }

    #[test]
    fn what_an_unreadable_key_hides_stays_hidden() {
        for (hidden, key) in [
            ("app/a.b", "app/a/b"),
            ("app/a", "app/a/b"),
            ("app/d/x", "app/d"),
            ("app/d", "app/d/x/y"),
        ] {
            let mut mirror = mirror_with(&["d", "d/x/y"]);
            put(&mut mirror, key, b"c=1", 1);
            let accepted = mirror.whole("1").unwrap();
            put(&mut mirror, hidden, b"c=2", 2);
            let before = completed(&mut mirror, &accepted);
            put(&mut mirror, key, b"\xff", 3);
            assert_eq!(completed(&mut mirror, &accepted), before, "{hidden} {key}");
            // A key that stands in the way only now.
            let mut mirror = mirror_with(&["d", "d/x/y"]);
            put(&mut mirror, key, b"c=1", 1);
            put(&mut mirror, key, b"\xff", 2);
            put(&mut mirror, hidden, b"c=2", 3);
            assert_eq!(completed(&mut mirror, &accepted), before, "{hidden} {key}");
        }
    }

    fn mirror_with(documents: &[&str]) -> Mirror {
        let mut mapping = Mapping::prefix("test", '/', "app");
        for key in documents {
            mapping.add_document(key, lines());
        }
        Mirror::new(mapping)
    }

    /// The problems in force.
    fn told(mirror: &mut Mirror) -> Vec<String> {
        let document = mirror.whole("1").unwrap();
        document
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// What is in force, and how many problems there are.
    fn says(mirror: &mut Mirror) -> (Vec<String>, usize) {
        let document = mirror.whole("1").unwrap();
        let lines = document
            .iter()
            .map(|(key, value, _)| format!("{key}={value}"));
        (lines.collect(), document.problems().len())
    }

    #[test]
    fn a_document_that_was_never_there_is_an_error_and_one_that_is_deleted_is_not() {
        let mut mapping = Mapping::document("test", '/', "app.lines");
        mapping.set_format(lines());
        let mut mirror = Mirror::new(mapping);
        for _ in 0..2 {
            mirror.replace([]);
            let error = mirror.whole("1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let told = error.to_string();
            for part in ["does not exist", "policy.optional()", "test app.lines"] {
                assert!(told.contains(part), "{told}");
            }
            assert!(mirror.update("1").is_err());
        }
        put(&mut mirror, "app.lines", b"a=1", 2);
        assert_eq!(says(&mut mirror).0.len(), 1);
        mirror.delete("app.lines");
        assert_eq!(says(&mut mirror).0.len(), 0);
        assert!(mirror.update("3").unwrap().is_none());
    }

    #[test]
    fn a_prefix_without_keys_is_a_hint_until_there_is_one() {
        let hints = |mirror: &mut Mirror| -> Vec<String> {
            let document = mirror.whole("1").unwrap();
            assert!(document.problems().is_empty());
            document.hints().iter().map(ToString::to_string).collect()
        };
        let mut mirror = mirror();
        let wanted = "no key of the store begins with `app/` (test app/)";
        assert_eq!(hints(&mut mirror), [wanted]);
        put(&mut mirror, "apple/a", b"1", 1);
        assert_eq!(hints(&mut mirror), [wanted]);
        put(&mut mirror, "app/a", b"1", 1);
        assert_eq!(hints(&mut mirror), Vec::<String>::new());
        mirror.delete("app/a");
        assert_eq!(hints(&mut mirror), [wanted]);
        let mut whole = Mirror::new(Mapping::prefix("test", '/', ""));
        assert_eq!(hints(&mut whole), ["the store has no keys (test)"]);
    }

    #[test]
    fn nothing_new_is_no_update() {
        let mut mirror = mirror();
        assert!(mirror.update("1").unwrap().is_none());
        put(&mut mirror, "app/a", b"1", 1);
        put(&mut mirror, "other", b"1", 1);
        assert!(mirror.update("1").unwrap().is_some());
        assert!(mirror.update("1").unwrap().is_none());
        let all = [("app/a", 1), ("other", 7)];
        mirror.replace(all.map(|(key, revision)| Entry {
            key,
            bytes: b"1",
            revision,
        }));
        assert!(mirror.update("2").unwrap().is_none());
        mirror.replace([]);
        assert!(mirror.update("3").unwrap().is_some());
    }

    #[test]
    fn a_value_that_is_not_text_is_refused_alone_and_the_old_one_stays() {
        let mut mirror = mirror();
        for n in 0..9 {
            put(&mut mirror, &format!("app/good{n}"), b"1", 1);
        }
        put(&mut mirror, "app/k", b"old", 1);
        assert_eq!(says(&mut mirror).1, 0);
        let accepted = mirror.whole("1").unwrap();
        put(&mut mirror, "app/k", b"\xff\xfe", 2);
        put(&mut mirror, "app/large", &vec![b'x'; (1 << 20) + 1], 2);
        put(&mut mirror, "app/a//b", b"1", 2);
        assert_eq!(says(&mut mirror).1, 3);
        let lines = completed(&mut mirror, &accepted);
        assert_eq!(lines.len(), 10);
        assert!(lines.contains(&"k = \"old\"".to_owned()), "{lines:?}");
        let told = mirror.whole("1").unwrap().problems()[1].to_string();
        assert!(
            told.contains("app/k") && told.contains("byte 0 of 2"),
            "{told}"
        );
        for key in ["app/k", "app/large", "app/a//b"] {
            mirror.delete(key);
        }
        assert_eq!(says(&mut mirror).1, 0);
    }

    #[test]
    fn what_may_not_be_read_stays_with_all_below_it_until_it_may_or_is_gone() {
        let mut mirror = mirror();
        let all = ["app/a", "app/dir/b", "app/dirs"].map(|key| Entry {
            key,
            bytes: b"1",
            revision: 1,
        });
        mirror.replace(all.clone());
        mirror.replace_but([], |key| key.starts_with("app/dir/"));
        mirror.refuse("app/dir", Error::new(ErrorKind::Unavailable, "closed"));
        assert_eq!(says(&mut mirror), (vec!["dir.b=\"1\"".to_owned()], 1));
        mirror.refuse("other", Error::new(ErrorKind::Unavailable, "closed"));
        assert!(mirror.update("2").unwrap().is_none());
        // The same revision as before it was closed.
        mirror.replace(all.clone());
        mirror.refuse("app/a", Error::new(ErrorKind::Unavailable, "closed"));
        assert_eq!(says(&mut mirror).1, 1);
        mirror.replace(all);
        assert_eq!(says(&mut mirror).1, 0);
        assert_eq!(says(&mut mirror).0.len(), 3);
    }

    #[test]
    fn of_two_keys_for_one_property_one_counts_and_the_other_is_reported_until_it_goes() {
        let mut mirror = mirror();
        put(&mut mirror, "app/a.b", b"dot", 1);
        put(&mut mirror, "app/a/b", b"slash", 1);
        assert_eq!(says(&mut mirror), (vec!["a.b=\"slash\"".to_owned()], 1));
        mirror.delete("app/a/b");
        assert_eq!(says(&mut mirror), (vec!["a.b=\"dot\"".to_owned()], 0));
        // A value where others stand below it.
        put(&mut mirror, "app/a", b"up", 2);
        assert_eq!(says(&mut mirror), (vec!["a.b=\"dot\"".to_owned()], 1));
        mirror.delete("app/a.b");
        assert_eq!(says(&mut mirror), (vec!["a=\"up\"".to_owned()], 0));
    }

    #[test]
    fn too_much_is_refused_as_a_whole_until_it_is_less() {
        let mut mirror = mirror();
        let large = vec![b'x'; 1 << 20];
        for n in 0..9 {
            put(&mut mirror, &format!("app/{n}"), &large, 1);
        }
        put(&mut mirror, "app/names-count", &large[1000..], 1);
        assert!(mirror.update("1").unwrap().is_some());
        put(&mut mirror, "app/more", &large[..1000], 2);
        let error = mirror.update("2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        mirror.delete("app/0");
        assert!(mirror.update("3").unwrap().is_some());
    }

    #[cfg(feature = "toml")]
    #[test]
    fn a_document_is_a_subtree_or_everything_and_the_last_good_one_stays() {
        let mut mapping = Mapping::prefix("test", '/', "app");
        mapping.add_document("limits", Format::toml());
        let mut mirror = Mirror::new(mapping);
        put(&mut mirror, "app/limits", b"qps = 1\n[deep]\nx = 2", 1);
        put(&mut mirror, "app/other", b"3", 1);
        let all = ["limits.deep.x=2", "limits.qps=1", "other=\"3\""];
        assert_eq!(says(&mut mirror), (all.map(str::to_owned).to_vec(), 0));
        let origin = mirror
            .whole("1")
            .unwrap()
            .origin("limits.qps")
            .unwrap()
            .to_string();
        assert!(origin.contains("app/limits:1:7"), "{origin}");
        let accepted = mirror.whole("1").unwrap();
        put(&mut mirror, "app/limits", b"qps = ", 2);
        assert_eq!(says(&mut mirror).1, 1);
        let all = ["limits.deep.x = 2", "limits.qps = 1", "other = \"3\""];
        assert_eq!(completed(&mut mirror, &accepted), all);
        mirror.delete("app/limits");
        assert_eq!(says(&mut mirror), (vec!["other=\"3\"".to_owned()], 0));

        let mut mirror = Mirror::new(Mapping::document("test", '/', "app.toml"));
        put(&mut mirror, "app.toml", b"a = 1", 1);
        assert!(mirror.update("1").unwrap().is_some());
        put(&mut mirror, "app.toml", b"a = ", 2);
        assert!(mirror.update("2").is_err());
        put(&mut mirror, "app.toml", b"a = 3", 3);
        assert!(mirror.update("3").unwrap().is_some());
        assert_eq!(says(&mut mirror).0, ["a=3"]);
    }

    #[test]
    fn a_key_inside_a_document_is_a_clash_and_the_document_stays() {
        let whole = ["limits.burst=\"2\"", "limits.qps=\"1\""].map(str::to_owned);
        for lone in ["app/limits/qps", "app/limits.qps", "app/limits/other"] {
            let mut mirror = mirror_with(&["limits"]);
            put(&mut mirror, "app/limits", b"qps=1\nburst=2", 1);
            assert_eq!(says(&mut mirror), (whole.to_vec(), 0));
            put(&mut mirror, lone, b"9", 2);
            assert_eq!(says(&mut mirror), (whole.to_vec(), 1), "{lone}");
            let told = told(&mut mirror).remove(0);
            assert!(
                told.contains(lone) && told.contains("`app/limits`"),
                "{told}"
            );
            put(&mut mirror, "app/else", b"1", 3);
            assert_eq!(says(&mut mirror).1, 1);
            mirror.delete("app/else");
            mirror.delete(lone);
            assert_eq!(says(&mut mirror), (whole.to_vec(), 0), "{lone}");
            // It counts as soon as the document is gone, and the document as soon as it is there.
            put(&mut mirror, lone, b"9", 4);
            mirror.delete("app/limits");
            let (left, problems) = says(&mut mirror);
            assert_eq!((left.len(), problems), (1, 0), "{left:?}");
            put(&mut mirror, "app/limits", b"qps=1\nburst=2", 5);
            assert_eq!(says(&mut mirror), (whole.to_vec(), 1), "{lone}");
        }
    }

    #[test]
    fn a_document_clashes_with_what_stands_above_it_and_with_other_documents() {
        let mut mirror = mirror_with(&["a/b", "a/b/c", "a.b"]);
        put(&mut mirror, "app/a/b", b"", 1);
        put(&mut mirror, "app/a", b"up", 1);
        put(&mut mirror, "app/a/b/x", b"in an empty one", 1);
        assert_eq!(says(&mut mirror), (vec![], 2));
        mirror.delete("app/a");
        mirror.delete("app/a/b/x");
        assert_eq!(says(&mut mirror), (vec![], 0));
        put(&mut mirror, "app/a.b", b"x=1", 2);
        put(&mut mirror, "app/a/b/c", b"y=1", 2);
        assert_eq!(says(&mut mirror), (vec!["a.b.c.y=\"1\"".to_owned()], 2));
    }

    #[test]
    fn another_reason_is_told_and_the_same_one_is_not_told_again() {
        let mut mirror = mirror();
        put(&mut mirror, "app/k", b"\xff", 1);
        assert!(mirror.update("1").unwrap().is_some());
        put(&mut mirror, "app/k", b"\xff", 1);
        assert!(mirror.update("2").unwrap().is_none());
        put(&mut mirror, "app/k", &vec![b'x'; MAX_VALUE_BYTES + 1], 2);
        assert!(mirror.update("3").unwrap().is_some());
        let closed = || Error::new(ErrorKind::Unavailable, "closed");
        mirror.refuse("app/k", closed());
        assert!(mirror.update("4").unwrap().is_some());
        mirror.refuse("app/k", closed());
        assert!(mirror.update("5").unwrap().is_none());
        assert!(told(&mut mirror)[0].contains("closed"));
    }

    #[test]
    fn far_too_much_is_not_kept_and_has_to_be_read_again() {
        let mut mirror = mirror();
        put(&mut mirror, "app/first", b"1", 1);
        assert!(mirror.update("1").unwrap().is_some());
        let large = vec![b'x'; 1 << 20];
        for n in 0..40 {
            put(&mut mirror, &format!("app/{n}"), &large, 2);
            let _ = mirror.update("2");
            let held: usize = mirror.items.values().map(|item| item.bytes).sum();
            assert!(held == mirror.bytes && held <= MAX_HELD, "{held}");
            assert!(!mirror.wants_all());
        }
        let error = |mirror: &mut Mirror| mirror.update("3").unwrap_err().kind();
        assert_eq!(error(&mut mirror), ErrorKind::TooLarge);
        // What is not known to be there may still be too much.
        (10..40).for_each(|n| mirror.delete(&format!("app/{n}")));
        assert_eq!(error(&mut mirror), ErrorKind::TooLarge);
        assert!(!mirror.wants_all());
        // Now all may fit, but nobody knows what it is.
        mirror.delete("app/0");
        assert_eq!(error(&mut mirror), ErrorKind::TooLarge);
        assert!(mirror.whole("3").is_err() && mirror.wants_all());
        let all = ["app/first", "app/35"].map(|key| Entry {
            key,
            bytes: b"2",
            revision: 3,
        });
        mirror.replace(all);
        assert!(!mirror.wants_all());
        assert_eq!(says(&mut mirror).0, ["35=\"2\"", "first=\"2\""]);
        assert!(mirror.bytes < 200, "{}", mirror.bytes);
    }

    #[test]
    fn names_count_even_of_keys_that_say_nothing_of_use() {
        let long = "x".repeat(500);
        for value in [&b""[..], b"\xff"] {
            let mut mirror = mirror();
            for n in 0..50_000 {
                put(&mut mirror, &format!("app/{n}.{long}"), value, 1);
            }
            let kept = mirror.items.len() + mirror.faults.len();
            assert!(kept * 500 <= MAX_HELD, "{kept}");
            assert_eq!(mirror.update("1").unwrap_err().kind(), ErrorKind::TooLarge);
            mirror.replace([]);
            assert_eq!((mirror.bytes, says(&mut mirror)), (0, (vec![], 0)));
        }
    }

    #[test]
    fn more_keys_than_are_taken_are_refused_until_they_are_less() {
        let mut mirror = mirror();
        let key = |n: usize| format!("app/{n}");
        (0..MAX_KEYS).for_each(|n| put(&mut mirror, &key(n), b"", 1));
        assert!(mirror.update("1").unwrap().is_some());
        put(&mut mirror, &key(MAX_KEYS), b"", 2);
        let error = mirror.update("2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("150001 keys"), "{error}");
        mirror.delete(&key(0));
        assert!(mirror.update("3").unwrap().is_some());
        // Twice as many are held, and of more it is known that there are some.
        for n in 0..MAX_KEYS_HELD + 10 {
            put(&mut mirror, &key(n), b"", 4);
        }
        assert_eq!(mirror.count(), MAX_KEYS_HELD);
        assert!(mirror.update("4").is_err() && !mirror.wants_all());
        (MAX_KEYS..MAX_KEYS_HELD + 10).for_each(|n| mirror.delete(&key(n)));
        assert!(mirror.update("5").is_err() && mirror.wants_all());
    }

    #[test]
    fn while_there_is_too_much_what_comes_and_goes_leaves_nothing() {
        let mut mirror = mirror();
        let large = vec![b'x'; 1 << 20];
        for n in 0..11 {
            put(&mut mirror, &format!("app/{n}"), &large, 1);
        }
        for n in 0..1000 {
            put(&mut mirror, &format!("app/brief{n}"), b"1", 2);
            mirror.delete(&format!("app/brief{n}"));
            assert!(mirror.update("2").is_err());
        }
        assert!(mirror.dirty.len() <= 1);
        (0..10).for_each(|n| mirror.delete(&format!("app/{n}")));
        assert!(mirror.update("3").unwrap().is_some());
        assert_eq!(says(&mut mirror).0.len(), 1);
    }

    #[test]
    fn random_changes_lead_to_what_a_fresh_mirror_of_the_same_store_says() {
        use proptest::prelude::*;

        let documents = ["b", "d", "x/y"];
        let keys = [
            "app/a",
            "app/a/b",
            "app/a.b",
            "app/b/c",
            "app/b",
            "app/b/c/d",
            "app/b/new",
            "app/d",
            "app/d/c",
            "app/x",
            "app/x/y",
            "app/x.y",
            "app/x/y/z",
            "app/x/other",
        ];
        let values = ["", "1", "2", "c=1\nz=2", "c.d=1", "\u{fffd}"];
        let bytes = |value: &'static str| match value {
            "\u{fffd}" => &b"\xff"[..],
            text => text.as_bytes(),
        };
        let is_broken = |key: &str, value: &str| {
            let key = key.trim_start_matches("app/");
            let is_document = documents.contains(&key);
            value == "\u{fffd}" || is_document && value.len() == 1
        };
        let change = (0..keys.len(), prop::option::of(0..values.len()));
        let batches = prop::collection::vec(prop::collection::vec(change, 1..4), 1..12);
        proptest!(|(batches in batches)| {
            let mut mirror = mirror_with(&documents);
            // What is broken leaves what was good before it.
            let (mut store, mut good) = (BTreeMap::new(), BTreeMap::new());
            for (revision, batch) in (1..).zip(batches) {
                for (key, value) in batch {
                    let key = keys[key];
                    match value {
                        Some(value) => {
                            let value = values[value];
                            store.insert(key, (value, revision));
                            if !is_broken(key, value) {
                                good.insert(key, (value, revision));
                            }
                            put(&mut mirror, key, bytes(value), revision);
                        }
                        None => {
                            store.remove(key);
                            good.remove(key);
                            mirror.delete(key);
                        }
                    }
                }
                mirror.update("1").unwrap();
                let mut fresh = mirror_with(&documents);
                for all in [&good, &store] {
                    fresh.replace(all.iter().map(|(key, (value, revision))| Entry {
                        key,
                        bytes: bytes(value),
                        revision: *revision,
                    }));
                }
                prop_assert_eq!(says(&mut mirror), says(&mut fresh));
                prop_assert_eq!(told(&mut mirror), told(&mut fresh));
                prop_assert_eq!(mirror.bytes, fresh.bytes);
            }
        });
    }
}
