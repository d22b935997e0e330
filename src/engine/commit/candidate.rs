//! What would become of the tree: references followed, values drawn for live handles, validators
//! asked. Nothing changes here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::commit::pins::{Pin, Waiting};
use crate::engine::commit::{CommitState, merge_all};
use crate::error::{Error, ErrorKind};
use crate::property::registry::Seen;
use crate::property::slot::Drafts;
use crate::property::stale::Stale;
use crate::schema::Schema;
use crate::sync::discard::{Contained, discard};
use crate::sync::panics;
use crate::tree::diff::{self, LeafChange};
use crate::tree::interpolate::{self, Context, Followed, References};
use crate::tree::layer::{LayerState, count_bootstrap};
use crate::tree::merge::Layers;
use crate::tree::quoted::{Quotable, without_secrets};
use crate::tree::snapshot::{Generation, Pending, Snapshot, Stamp};
use crate::tree::usage::Usage;
use crate::value::key::{Key, lineage};
use crate::value::node::Table;
use crate::value::scan::Seed;
use crate::value::secret::Secrets;

/// Refuses a candidate tree as a whole.
pub(crate) type TreeValidator =
    Contained<Box<dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync>>;

/// What a commit reads and never changes.
pub(crate) struct Rules {
    pub(crate) append: Arc<BTreeSet<Key>>,
    pub(crate) validators: Vec<TreeValidator>,
    pub(crate) secrets: Secrets,
    /// The keys that keep the value they have at the start.
    pub(crate) frozen: Vec<Key>,
    /// How many generations before the one in force are kept.
    pub(crate) history: usize,
    pub(crate) schema: Option<Schema>,
    /// Whether unresolved references stay as they are written.
    pub(crate) keeps_unresolved: bool,
    pub(crate) usage: Option<Arc<Usage>>,
}

impl Rules {
    /// Follows the references of a merged tree. `layers` are those that it is merged from.
    pub(in crate::engine) fn follow(
        &self,
        (merged, referring): (&mut Table, Vec<Key>),
        old: &Table,
        references: &References,
        changes: &mut Vec<LeafChange>,
        layers: Option<&[Arc<LayerState>]>,
    ) -> Vec<Followed> {
        if referring.is_empty() && references.is_empty() {
            return Vec::new();
        }
        let roots: Vec<&Table> = layers
            .into_iter()
            .flatten()
            .map(|layer| &layer.root)
            .collect();
        let layers = layers.map(|layers| Layers {
            roots: &roots,
            append: &self.append,
            bootstrap: count_bootstrap(layers),
        });
        self.with_context(layers, |context| {
            interpolate::follow(merged, old, references, referring, changes, context)
        })
    }

    /// Calls `f` with what following references takes into account.
    pub(in crate::engine) fn with_context<R>(
        &self,
        layers: Option<Layers<'_>>,
        f: impl FnOnce(Context<'_>) -> R,
    ) -> R {
        f(Context {
            secret: &|key| self.secrets.hides(key),
            keeps_unresolved: self.keeps_unresolved,
            layers,
        })
    }
}

/// The keys a rule about the whole tree blames are as many at most.
const MAX_BLAMED: usize = 4;
/// The keys named in one refusal are as many at most.
const MAX_CULPRITS: usize = 4096;

/// Why a proposal cannot be published.
pub(in crate::engine) struct Rejection {
    pub(in crate::engine) error: Error,
    /// The changed keys that may have led to it.
    keys: Vec<Key>,
    /// Those of them that the error names; none if it names no single one.
    named: Vec<Key>,
    /// Those of them in the tables of the keys that the error names; none if it names no single one.
    beside: Vec<Key>,
}

impl Rejection {
    /// A refusal of all these keys together.
    fn together(error: Error, keys: Vec<Key>) -> Self {
        Self {
            error,
            keys,
            named: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// Whether the error names all bad keys, and few.
    fn names_few(&self) -> bool {
        !self.named.is_empty() && self.error.iter().count() <= FEW && !self.error.is_partial()
    }
}

/// Of more bad keys than this at once, the tables around them are withheld: a decode names a few of many
/// bad values only, and each round decodes and merges again.
const FEW: usize = 4;

/// How many of the keys behind a refusal are withheld.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Scope {
    /// Those that the errors name, if these are few. The others of a struct are good perhaps.
    Named,
    /// Those in the tables of the keys that the errors name.
    Beside,
    All,
}

/// A generation that is ready to be published.
pub(in crate::engine) struct Proposal {
    pub(in crate::engine) candidate: Arc<Generation>,
    pub(in crate::engine) changes: Vec<LeafChange>,
    pub(in crate::engine) effective: usize,
    pub(in crate::engine) staged: Drafts,
    pub(in crate::engine) references: Vec<Followed>,
    /// The handles that keep their last good values, since a reference is unresolved.
    pub(in crate::engine) stale: Vec<Stale>,
    /// The keys that wait for a restart, if that was looked at.
    pub(in crate::engine) waiting: Option<Waiting>,
}

impl CommitState {
    /// Follows references, decodes for live handles and validates. Changes nothing. Where `only` is
    /// given, `merged` differs from the tree in force at and below those keys and nowhere else.
    #[allow(clippy::too_many_arguments)] // the pieces of one step, each of its own kind
    pub(in crate::engine) fn propose(
        &self,
        rules: &Rules,
        old: &Arc<Generation>,
        layers: Vec<Arc<LayerState>>,
        changed: Option<usize>,
        merged: Table,
        referring: Vec<Key>,
        only: Option<&[&Key]>,
    ) -> Result<Proposal, Vec<Rejection>> {
        let Some(pin) = self.pins.tree() else {
            return self.accept(rules, old, layers, changed, merged, referring, only, None);
        };
        let same = |(a, b): (&Arc<LayerState>, &Arc<LayerState>)| Arc::ptr_eq(a, b);
        let as_before =
            layers.len() == old.layers.len() && layers.iter().zip(&old.layers).all(same);
        if !as_before && !old.is_initial() {
            // What waits behind the pin must be good on the day it is taken off.
            let (layers, merged, referring) = (layers.clone(), merged.clone(), referring.clone());
            let free = self.accept(rules, old, layers, changed, merged, referring, None, None);
            if let Err(refusals) = free {
                let (before, merge) = merge_all(rules, &old.layers);
                let (layers, referring) = (old.layers.clone(), merge.referring);
                // Unless it was not before either.
                let good = self.accept(rules, old, layers, None, before, referring, None, None);
                if good.is_ok() {
                    return Err(refusals);
                }
            }
        }
        self.accept(
            rules,
            old,
            layers,
            changed,
            merged,
            referring,
            None,
            Some(pin),
        )
    }

    #[allow(clippy::too_many_arguments)] // those of `propose`, and what is pinned
    fn accept(
        &self,
        rules: &Rules,
        old: &Arc<Generation>,
        mut layers: Vec<Arc<LayerState>>,
        changed: Option<usize>,
        mut merged: Table,
        mut referring: Vec<Key>,
        only: Option<&[&Key]>,
        pinned: Option<&Pin>,
    ) -> Result<Proposal, Vec<Rejection>> {
        let waiting = self.pins.hold(&mut merged);
        if let Some(pin) = pinned {
            (merged, referring) = pin.over(&merged, &layers, &rules.append);
            if pin.pinned.by_earlier_run {
                // References in it are followed at each commit, to secrets of now.
                let _ = self.pins.hold(&mut merged);
            }
        }
        // Who listens to nothing needs no list of what changed, which matters for a first load.
        let detailed = !self.registry.is_empty()
            || !self.references.is_empty()
            // A refusal names the keys that led to it; the first load names none.
            || ((!rules.validators.is_empty() || rules.schema.is_some()) && !old.is_initial());
        let diff::Diff {
            mut changes,
            uncounted,
        } = match only {
            Some(keys) => {
                let along = diff::along(&old.root, &merged, keys, detailed);
                debug_assert!(along.is(&diff::diff(&old.root, &merged, detailed)));
                along
            }
            None => diff::diff(&old.root, &merged, detailed),
        };
        let followed = pinned.is_some_and(|pin| !pin.pinned.by_earlier_run);
        let references = match followed {
            true => Vec::new(),
            false => rules.follow(
                (&mut merged, referring),
                &old.root,
                &self.references,
                &mut changes,
                pinned.is_none().then_some(&*layers),
            ),
        };
        let effective = uncounted + changes.iter().filter(|change| !change.moved).count();
        let number = old.number() + u64::from(effective > 0);
        let time = SystemTime::now();
        for (i, layer) in layers.iter_mut().enumerate() {
            if changed == Some(i) || (changed.is_none() && layer.generation == 0) {
                let layer = Arc::make_mut(layer);
                (layer.generation, layer.time) = (number, time);
            }
        }
        let candidate = Arc::new(Generation {
            stamp: Arc::new(Stamp {
                number,
                time: if effective > 0 { time } else { old.stamp.time },
                layers: match changed {
                    Some(_) => Arc::clone(&old.stamp.layers),
                    None => layers.iter().map(|layer| Arc::clone(&layer.name)).collect(),
                },
                pinned: pinned.map(|pin| pin.pinned),
            }),
            at_hand: Generation::short_way(&merged, rules.usage.as_ref()),
            root: merged,
            pending: Arc::clone(match &waiting {
                Some(waiting) => &waiting.pending,
                None => self.pins.pending(),
            }),
            append: Arc::clone(&rules.append),
            layers,
            secrets: rules.secrets.clone(),
            quotable: Quotable::default(),
            seed: Seed::get(),
            usage: rules.usage.clone(),
        });
        let mut refusals: Vec<Rejection> = Vec::new();
        let (staged, stale) = self.stage(&candidate, &changes, &mut refusals);
        if let Some(schema) = &rules.schema {
            // A first load may bring nothing, and keys be missing for that.
            let news = (!old.is_initial()).then_some(&*changes);
            let reported = refusals.iter().map(|refused| refused.error.key_text());
            let reported: HashSet<Option<String>> =
                reported.map(|key| key.map(str::to_owned)).collect();
            let mut faults = schema.faults(&candidate, news);
            // Later the key is merely unresolved: an error of who reads it.
            faults.retain(|(error, _)| old.is_initial() || !error.is_unresolved());
            for (error, keys) in faults {
                // A handle on the key has rejected it already.
                if reported.is_empty() || !reported.contains(&error.key_text().map(str::to_owned)) {
                    refusals.push(Rejection::together(error, keys));
                }
            }
        }
        if refusals.is_empty() && effective > 0 {
            validate(rules, &[&candidate, old], &changes, &mut refusals);
        }
        // Behind a pin, `propose` has checked the tree of the layers before.
        let judged = pinned.is_some() || old.is_initial() || !refusals.is_empty();
        if let Some(waiting) = waiting.as_ref().filter(|_| !judged) {
            if self.pins.news(&waiting.pending).next().is_some() {
                self.next_start(
                    rules,
                    &candidate,
                    &waiting.pending,
                    &references,
                    &mut refusals,
                );
            }
        }
        if refusals.is_empty() {
            Ok(Proposal {
                candidate,
                changes,
                effective,
                staged,
                references,
                stale,
                waiting,
            })
        } else {
            Err(refusals)
        }
    }

    /// Refuses now what would keep the next start from working: there the keys that need one have
    /// the values that wait.
    fn next_start(
        &self,
        rules: &Rules,
        now: &Arc<Generation>,
        pending: &Pending,
        followed: &[Followed],
        refusals: &mut Vec<Rejection>,
    ) {
        let mut root = now.root.clone();
        // What this commit refers to is not in the index yet.
        let leaves = followed.iter().filter(|one| !one.refers.is_empty());
        let mut referring: Vec<Key> = leaves.map(|one| one.leaf.clone()).collect();
        for (key, layered) in pending {
            let path: Vec<_> = key.segments().collect();
            root.remove_path(&path);
            if let Some(entry) = layered {
                // In vain below a value: then it is that which takes effect.
                let _ = root.put_path(&path, entry.node.clone());
                referring.extend(interpolate::referring(key, &entry.node));
            }
        }
        let diff = diff::diff(&now.root, &root, true);
        let mut changes = diff.changes;
        rules.follow(
            (&mut root, referring),
            &now.root,
            &self.references,
            &mut changes,
            Some(&*now.layers),
        );
        let then = Arc::new(Generation {
            at_hand: Generation::short_way(&root, rules.usage.as_ref()),
            root,
            ..(**now).clone()
        });
        let before = refusals.len();
        // Nothing of it is published.
        drop(self.stage(&then, &changes, refusals));
        if let Some(schema) = &rules.schema {
            let faults = schema.faults(&then, Some(&changes)).into_iter();
            let faults = faults.filter(|(error, _)| !error.is_unresolved());
            refusals.extend(faults.map(|(error, keys)| Rejection::together(error, keys)));
        }
        if refusals.len() == before {
            validate(rules, &[&then, now], &changes, refusals);
        }
    }

    /// Decodes for the live handles under the changed keys. A handle whose value has an unresolved
    /// reference keeps the value that it has: that is no reason to refuse the update.
    fn stage(
        &self,
        candidate: &Arc<Generation>,
        changes: &[LeafChange],
        refusals: &mut Vec<Rejection>,
    ) -> (Drafts, Vec<Stale>) {
        let mut staged = Drafts::default();
        let mut stale = Vec::new();
        let mut seen = Seen::default();
        if self.registry.is_empty() {
            return (staged, stale);
        }
        // Built for the first rejection, which most commits do not have.
        let mut index: Option<KeyIndex<'_>> = None;
        // Real changes first: a slot under both kinds has changed.
        for moved in [false, true] {
            for change in changes.iter().filter(|change| change.moved == moved) {
                for slot in self.registry.touched(change, &mut seen) {
                    let mark = staged.len();
                    let drafted = Arc::clone(&slot).stage(candidate, None, moved, &mut staged);
                    if let Err(error) = drafted {
                        staged.truncate(mark);
                        if error.is_unresolved() {
                            let key = slot.keys().into_iter().next().unwrap_or_else(Key::root);
                            stale.push(Stale::new(&slot, key, error));
                            discard(slot);
                            continue;
                        }
                        let keys = changes.iter().map(|change| &change.key);
                        let index = index.get_or_insert_with(|| KeyIndex::new(keys));
                        let of_slot = slot.keys();
                        let (named, beside) = named(index, &error, &of_slot);
                        refusals.push(Rejection {
                            named,
                            beside,
                            keys: touching(index, &of_slot),
                            error,
                        });
                        // Without a draft this may be the last owner of the slot.
                        discard(slot);
                    }
                }
            }
        }
        (staged, stale)
    }

    /// The keys of an update that led to a refusal, found by walking references back from the keys
    /// of the tree that changed.
    pub(in crate::engine) fn culprits<'a>(
        &self,
        refusals: &'a [Rejection],
        scope: Scope,
        concerned: impl Fn(&Key) -> Option<String>,
    ) -> Vec<String> {
        let mut culprits = Vec::new();
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let keys = |refusal: &'a Rejection| match scope {
            Scope::Named if refusal.names_few() => &refusal.named,
            Scope::Named | Scope::Beside if !refusal.beside.is_empty() => &refusal.beside,
            _ => &refusal.keys,
        };
        let mut queue: Vec<Key> = refusals.iter().flat_map(keys).cloned().collect();
        while let Some(key) = queue.pop() {
            if !seen.insert(key.clone()) {
                continue;
            }
            match concerned(&key) {
                Some(culprit) => culprits.push(culprit),
                None => queue.extend(self.references.of(&key).iter().cloned()),
            }
        }
        culprits
    }
}

/// Says which changes a rule about the whole tree has refused: one error a key, for a few.
fn blame<'a>(error: Error, changes: impl Iterator<Item = &'a LeafChange>) -> Error {
    let of = |change: &LeafChange| {
        let named = error.clone().with_key(&change.key);
        match change.new.as_ref().and_then(|new| new.node.origin()) {
            Some(origin) => named.with_origin(origin),
            None => named,
        }
    };
    let errors: Vec<Error> = changes.take(MAX_BLAMED).map(of).collect();
    match errors.is_empty() {
        true => error,
        false => Error::all(errors),
    }
}

/// The changes at, above and below a slot's keys.
fn touching(changes: &KeyIndex<'_>, keys: &[Key]) -> Vec<Key> {
    let related = keys.iter().flat_map(|key| changes.related(key.as_str()));
    let touching: BTreeSet<&Key> = related.take(MAX_CULPRITS).collect();
    touching.into_iter().cloned().collect()
}

/// The changes at the keys that an error names, or below the nearest table above one in which
/// something changed, and those in the same tables. None if these are all changes of the slot, as
/// those in its own table are if more is wrong than the error lists.
fn named(changes: &KeyIndex<'_>, error: &Error, of_slot: &[Key]) -> (Vec<Key>, Vec<Key>) {
    let mut named: BTreeSet<&Key> = BTreeSet::new();
    let mut tables: BTreeSet<&str> = BTreeSet::new();
    let mut in_own_table = false;
    let is_whole = |place: &str| of_slot.iter().any(|key| key.as_str() == place);
    for one in error.iter() {
        let places = one.key_text().into_iter().flat_map(lineage);
        let mut places = places.take_while(|place| !is_whole(place));
        let Some(place) = places.find(|place| changes.related(place).next().is_some()) else {
            return (Vec::new(), Vec::new());
        };
        named.extend(changes.related(place).take(MAX_CULPRITS));
        let table = places.next();
        in_own_table |= table.is_none();
        tables.extend(table);
    }
    let owned = |keys: BTreeSet<&Key>| keys.into_iter().cloned().collect();
    if error.is_partial() && in_own_table {
        return (owned(named), Vec::new());
    }
    let beside = tables.iter().flat_map(|table| changes.related(table));
    let beside: BTreeSet<&Key> = beside.take(MAX_CULPRITS).chain(named.clone()).collect();
    (owned(named), owned(beside))
}

/// Keys in order, to find those at, above and below another key without looking at all of them.
pub(in crate::engine) struct KeyIndex<'a>(BTreeMap<&'a str, &'a Key>);

impl<'a> KeyIndex<'a> {
    pub(in crate::engine) fn new(keys: impl Iterator<Item = &'a Key>) -> Self {
        Self(keys.map(|key| (key.as_str(), key)).collect())
    }

    /// The keys that are this one, above it or below it.
    pub(in crate::engine) fn related<'s>(
        &'s self,
        key: &'s str,
    ) -> impl Iterator<Item = &'a Key> + 's {
        let above = lineage(key).filter_map(|place| self.0.get(place).copied());
        let first = match key.is_empty() {
            true => String::new(),
            // Nothing but what is below the key begins like this.
            false => format!("{key}."),
        };
        let all = (Bound::Included(first.as_str()), Bound::Unbounded);
        let below = self.0.range::<str, _>(all).map(|(_, key)| *key);
        let below = below.skip_while(move |found| key.is_empty() && found.is_root());
        above.chain(below.take_while(move |found| found.as_str().starts_with(&*first)))
    }
}

/// Asks the rules over the whole tree. What they say shows no secret of the candidate, nor of the
/// generation that it would replace.
fn validate(
    rules: &Rules,
    [candidate, old]: &[&Arc<Generation>; 2],
    changes: &[LeafChange],
    refusals: &mut Vec<Rejection>,
) {
    let view = Snapshot(Arc::clone(candidate));
    let shown = |words: &str| without_secrets(words, &[candidate, old]);
    for validator in &rules.validators {
        let verdict = panics::catch(|| validator(&view));
        let error = match verdict {
            Ok(Ok(())) => continue,
            Ok(Err(reason)) => Error::new(ErrorKind::Rejected, shown(&reason)),
            Err(panic) => Error::from_panic("a validator", &shown(panic.message())),
        };
        let real = changes.iter().filter(|change| !change.moved);
        let keys = real.clone().take(MAX_CULPRITS);
        let keys = keys.map(|change| change.key.clone()).collect();
        refusals.push(Rejection::together(blame(error, real), keys));
    }
}
