//! Checks a candidate tree against the schema.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::error::{Error, ErrorKind};
use crate::schema::Schema;
use crate::schema::field::Field;
use crate::schema::nearest::BUDGET;
use crate::tree::diff::LeafChange;
use crate::tree::snapshot::Generation;
use crate::value::key::{Key, under};

/// Undeclared keys beyond this number are reported as a count.
const MAX_REPORTED: usize = 100;

impl Schema {
    /// The faults of a generation, each with the changed keys that led to it. Checks the keys of
    /// `changes`, or all keys without them.
    pub(crate) fn faults(
        &self,
        generation: &Generation,
        changes: Option<&[LeafChange]>,
    ) -> Vec<(Error, Vec<Key>)> {
        let mut faults = Vec::new();
        // Computed for the first fault: most commits have none.
        let mut changed: Option<BTreeSet<Key>> = None;
        let mut check = |key: &Key, field: &Field| {
            let Some(error) = field.fault(key, generation, self) else {
                return;
            };
            let changed = changed.get_or_insert_with(|| {
                let changes = changes.unwrap_or_default().iter();
                changes.map(|change| change.key.clone()).collect()
            });
            let above = key.lineage().filter_map(|above| changed.get(above));
            let below = below(changed.range::<str, _>(after(key.as_str())), key.as_str());
            let keys: Vec<Key> = above.chain(below).cloned().collect();
            // The error of a struct names each bad field.
            faults.extend(error.iter().map(|error| (error.clone(), keys.clone())));
        };
        match changes {
            None => self
                .fields
                .iter()
                .for_each(|(key, field)| check(key, field)),
            Some(changes) => {
                for key in self.affected_by(changes) {
                    if let Some(field) = self.fields.get(&key) {
                        check(&key, field);
                    }
                }
            }
        }
        if self.deny_unknown {
            self.deny(generation, changes, &mut faults);
        }
        faults
    }

    /// The declared keys at, above and below changed keys, each once.
    fn affected_by(&self, changes: &[LeafChange]) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for change in changes.iter().filter(|change| !change.moved) {
            let above = change.key.lineage();
            keys.extend(
                above.filter_map(|above| Some(self.fields.get_key_value(above)?.0.clone())),
            );
            keys.extend(self.below(change.key.as_str()).cloned());
            if keys.len() == self.fields.len() {
                break;
            }
        }
        keys
    }

    /// The declared keys below a key.
    pub(super) fn below<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Key> {
        let fields = self.fields.range::<str, _>(after(key));
        below(fields.map(|(key, _)| key), key)
    }

    /// Reports undeclared keys.
    fn deny(
        &self,
        generation: &Generation,
        changes: Option<&[LeafChange]>,
        faults: &mut Vec<(Error, Vec<Key>)>,
    ) {
        let mut unknown = match changes {
            None => self.undeclared(generation),
            Some(changes) => changes
                .iter()
                .filter(|change| !change.moved && self.is_strict(&change.key))
                .filter_map(|change| Some((change.key.clone(), change.new.as_ref()?)))
                .filter(|(key, entry)| !self.declares(key.as_str(), entry))
                .collect(),
        };
        let more = unknown.split_off(unknown.len().min(MAX_REPORTED));
        let mut budget = BUDGET;
        for (key, entry) in unknown {
            let mut detail = String::from("not declared in the schema");
            if let Some(near) = self.nearest(key.as_str(), &mut budget) {
                detail.push_str(&format!("; did you mean `{near}`?"));
            }
            let error = Error::new(ErrorKind::Rejected, detail).with_key(&key);
            let error = match entry.node.origin() {
                Some(origin) => error.with_origin(origin),
                None => error,
            };
            faults.push((error, vec![key]));
        }
        if let Some((first, _)) = more.first() {
            let detail = format!("not declared in the schema, one of {} more", more.len());
            let error = Error::new(ErrorKind::Rejected, detail).with_key(first);
            faults.push((error, more.into_iter().map(|(key, _)| key).collect()));
        }
    }
}

/// The range of the keys after a key.
fn after(key: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Excluded(key), Bound::Unbounded)
}

/// The keys below a key, of those after it in order.
fn below<'a>(after: impl Iterator<Item = &'a Key>, key: &str) -> impl Iterator<Item = &'a Key> {
    after
        .take_while(move |other| other.as_str().starts_with(key))
        .filter(move |other| under(other.as_str(), key))
}
