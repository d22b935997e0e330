//! The one way a value changes: new layer, changed keys, merge, references, decode for live
//! handles, validate, publish, notify.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::guard::Guards;
use crate::engine::pins::{self, Pin, Pins, Waiting};
use crate::engine::propose::{Proposal, Rules, related};
use crate::error::{Error, ErrorKind};
use crate::property::batch::Commit;
use crate::property::listen::Listener;
use crate::property::registry::Registry;
use crate::property::subscription::Subscriber;
use crate::source::{Applied, Content, Edit, Refusal, Update};
use crate::sync::Cell;
use crate::tree::diff;
use crate::tree::interpolate::References;
use crate::tree::layer::{Layer, LayerState, SourceId};
use crate::tree::merge::Merge;
use crate::tree::snapshot::{Found, Generation, Pinned, Snapshot};
use crate::value::Value;
use crate::value::key::{Key, push_segment};
use crate::value::node::{Node, Table};

/// What one commit leaves to the next; guarded by the commit lock.
pub(crate) struct Ledger {
    pub(crate) references: References,
    pub(crate) registry: Registry,
    /// Generations that some reader may still hold. Kept until no one does, so that no reader has
    /// to take a tree apart.
    retired: Vec<Arc<Generation>>,
    pub(crate) guards: Guards,
    pub(crate) pins: Pins,
}

/// One thing to commit.
pub(crate) enum Order {
    /// A source says something.
    Update {
        source: SourceId,
        update: Update,
        refusal: Refusal,
        /// When it was told.
        told: Option<Instant>,
    },
    /// The program writes into the override layer.
    Write {
        source: SourceId,
        edits: Vec<Edit>,
        conditions: Vec<Condition>,
    },
    /// Layers come in; the initial load of a build, or one source later on.
    Add(Vec<LayerState>),
    /// What a source says and is held is believed after all.
    Confirm(SourceId),
    /// The tree of a generation stays in force whatever the layers say; `None`: not any more.
    Pin(Option<u64>),
    Remove(SourceId),
    Move(SourceId, Layer),
}

/// What must hold for a write to happen.
pub(crate) enum Condition {
    Generation(u64),
    Value(Key, Option<Value>),
}

/// What a commit did besides publishing.
pub(crate) struct Done {
    pub(crate) applied: Applied,
    /// What its document left out, if it brought one.
    pub(crate) problems: Option<Vec<Error>>,
    pub(crate) clashes: Vec<Error>,
    /// The keys that wait for a restart, if others do than before, and the tree in force.
    pub(crate) waiting: Option<(Arc<Generation>, Waiting)>,
    /// To be told once the lock is released.
    pub(crate) told: Vec<Arc<dyn Listener>>,
    /// Values that are no longer current, to be dropped once the lock is released: how they are
    /// dropped is the user's code.
    pub(crate) before: Vec<Arc<dyn Any + Send + Sync>>,
}

/// A layer that can be replaced.
struct Prepared {
    proposal: Proposal,
    clashes: Vec<Error>,
    refused: Vec<Error>,
    kept: Vec<Key>,
}

impl Ledger {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            references: References::default(),
            registry: Registry::default(),
            retired: Vec::new(),
            guards: Guards::new(clock),
            pins: Pins::default(),
        }
    }

    /// Commits one order, or refuses it and changes nothing.
    pub(crate) fn commit(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        order: Order,
    ) -> Result<Done, Error> {
        let old = current.full();
        let index_of = |id: SourceId| {
            let gone = || Error::new(ErrorKind::Closed, format!("{id} was removed"));
            old.layers
                .iter()
                .position(|layer| layer.id == id)
                .ok_or_else(gone)
        };
        match order {
            Order::Update {
                source,
                update:
                    Update {
                        content: Content::Full(document),
                        ..
                    },
                refusal,
                ..
            } => {
                let at = index_of(source)?;
                let (root, problems) = document.into_parts();
                self.guards.judge(source, &old.layers[at].root, &root)?;
                let mut done = self.replace(current, rules, &old, at, root, refusal)?;
                self.believe(current, source);
                done.problems = Some(problems);
                Ok(done)
            }
            Order::Update {
                source,
                update:
                    Update {
                        content: Content::Delta(edits),
                        ..
                    },
                refusal,
                ..
            } => {
                let at = index_of(source)?;
                match self.guards.watches(source) {
                    true => self.edit_guarded(current, rules, &old, at, edits, refusal),
                    false => self.edit(current, rules, &old, at, edits, refusal),
                }
            }
            Order::Confirm(source) => {
                let at = index_of(source)?;
                let Some(root) = self.guards.says(source).cloned() else {
                    let detail = format!("nothing of {source} waits to be confirmed");
                    return Err(Error::new(ErrorKind::Other, detail));
                };
                let done = self.replace(current, rules, &old, at, root, Refusal::Whole)?;
                self.believe(current, source);
                Ok(done)
            }
            Order::Write {
                source,
                edits,
                conditions,
            } => {
                check(&old, conditions)?;
                let at = index_of(source)?;
                refuse_bootstrap(&old, &edits)?;
                self.edit(current, rules, &old, at, edits, Refusal::Whole)
            }
            Order::Add(new) => {
                let kept = |layer: &&LayerState| layer.kept.is_some();
                let kept: Vec<SourceId> = new.iter().filter(kept).map(|new| new.id).collect();
                let mut layers = old.layers.clone();
                layers.extend(new.into_iter().map(Arc::new));
                layers.sort_by_key(|layer| layer.order());
                let mut done = self.add(current, rules, &old, layers, &kept)?;
                let now = current.full();
                let ignored =
                    (0..now.layers.len()).flat_map(|at| pins::ignored(&now.layers, at, None));
                done.clashes.extend(ignored);
                if old.number() == 0 && !rules.frozen.is_empty() {
                    self.pins.freeze(&rules.frozen, &now);
                }
                Ok(done)
            }
            Order::Pin(generation) => {
                let tree = match generation {
                    None => None,
                    Some(number) => {
                        let kept = self.pins.past().chain([&old]);
                        let found = kept.into_iter().find(|kept| kept.number() == number);
                        let Some(found) = found else {
                            let detail =
                                format!("generation {number} is not kept; see `Builder::history`");
                            return Err(Error::new(ErrorKind::Missing, detail));
                        };
                        Some(Pin {
                            pinned: Pinned {
                                generation: number,
                                since: SystemTime::now(),
                                by_earlier_run: false,
                            },
                            tree: found.root.clone(),
                            secrets: Vec::new(),
                        })
                    }
                };
                let before = self.pins.pin(tree);
                let done = self.anew(current, rules, &old, old.layers.clone());
                if done.is_err() {
                    self.pins.pin(before);
                }
                done
            }
            Order::Remove(source) => {
                let mut layers = old.layers.clone();
                layers.remove(index_of(source)?);
                self.anew(current, rules, &old, layers)
            }
            Order::Move(source, to) => {
                let mut layers = old.layers.clone();
                Arc::make_mut(&mut layers[index_of(source)?]).layer = to;
                layers.sort_by_key(|layer| layer.order());
                self.anew(current, rules, &old, layers)
            }
        }
    }

    /// New layers, of which some hold values that were kept on disk: where those are refused, they
    /// are as good as none.
    fn add(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        layers: Vec<Arc<LayerState>>,
        kept: &[SourceId],
    ) -> Result<Done, Error> {
        let tries = without_kept(&layers, kept);
        let refused = match self.anew(current, rules, old, layers.clone()) {
            Err(refused) => refused,
            done => return done,
        };
        if self.pins.tree().is_some_and(|_| old.number() == 0) {
            self.pins.pin(None);
            let detail = format!(
                "the roll-back of an earlier run is refused, and what the layers say is in force: \
                 {refused}"
            );
            let no_pin = Error::new(refused.kind(), detail);
            return match self.add(current, rules, old, layers, kept) {
                Ok(mut done) => {
                    done.clashes.push(no_pin);
                    Ok(done)
                }
                Err(refused) => Err(Error::all(vec![no_pin, refused])),
            };
        }
        for without in tries {
            if let Ok(mut done) = self.anew(current, rules, old, without) {
                done.applied.refused.push(refused);
                return Ok(done);
            }
        }
        Err(refused)
    }

    /// What a source says is in force.
    fn believe(&mut self, current: &Cell<Generation>, source: SourceId) {
        if self.guards.watches(source) {
            let now = current.full();
            if let Some(layer) = now.layers.iter().find(|layer| layer.id == source) {
                self.guards.accepted(source, &layer.root);
            }
        }
    }

    /// A few keys of a layer change whose removals are looked at twice: if they are not believed,
    /// the others are changed all the same.
    fn edit_guarded(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        mut edits: Vec<Edit>,
        refusal: Refusal,
    ) -> Result<Done, Error> {
        let (source, there) = (old.layers[at].id, &old.layers[at].root);
        let held_before = self.guards.says(source).is_some();
        let mut says = self.guards.says(source).unwrap_or(there).clone();
        for edit in &edits {
            let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
            match &edit.value {
                // What clashes is refused below.
                Some((value, origin)) => drop(set(&mut says, &edit.key, &path, value, origin)),
                None if path.is_empty() => says = Table::default(),
                None => drop(says.remove_path(&path)),
            }
        }
        match self.guards.judge(source, there, &says) {
            Ok(()) if held_before => {
                let done = self.replace(current, rules, old, at, says, refusal)?;
                self.believe(current, source);
                Ok(done)
            }
            Ok(()) => self.edit(current, rules, old, at, edits, refusal),
            Err(held) => {
                edits.retain(|edit| edit.value.is_some());
                if edits.is_empty() {
                    return Err(held);
                }
                let mut done = self.edit(current, rules, old, at, edits, refusal)?;
                done.applied.refused.push(held);
                Ok(done)
            }
        }
    }

    /// A layer is replaced by what its source says now.
    fn replace(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        root: Table,
        refusal: Refusal,
    ) -> Result<Done, Error> {
        let Prepared {
            proposal,
            clashes,
            refused,
            kept,
        } = self.prepare(rules, old, at, root, refusal)?;
        Ok(self.publish(current, rules, proposal, clashes, (refused, kept)))
    }

    /// What would become of a layer that is replaced; changes nothing.
    pub(crate) fn try_out(
        &self,
        rules: &Rules,
        old: &Arc<Generation>,
        source: SourceId,
        root: Table,
        refusal: Refusal,
    ) -> Result<(Arc<Generation>, Vec<Error>), Error> {
        let gone = || Error::new(ErrorKind::Closed, format!("{source} was removed"));
        let at = old.layers.iter().position(|layer| layer.id == source);
        let at = at.ok_or_else(gone)?;
        self.guards
            .would_hold(source, &old.layers[at].root, &root)?;
        let prepared = self.prepare(rules, old, at, root, refusal)?;
        Ok((prepared.proposal.candidate, prepared.refused))
    }

    fn prepare(
        &self,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        mut root: Table,
        refusal: Refusal,
    ) -> Result<Prepared, Error> {
        let layers = &old.layers;
        let before = &layers[at].root;
        let mut refused = Vec::new();
        let mut kept: BTreeSet<String> = BTreeSet::new();
        loop {
            let mut next = layers.to_vec();
            let layer = Arc::make_mut(&mut next[at]);
            (layer.root, layer.kept) = (root.clone(), None);
            let (merged, merge) = merge_all(rules, &next);
            let mut clashes = merge.clashes;
            clashes.extend(pins::ignored(&next, at, None));
            match self.propose(rules, old, next, Some(at), merged, merge.referring, None) {
                Ok(proposal) => {
                    let kept = kept.iter().filter_map(|key| Key::parse(key).ok()).collect();
                    return Ok(Prepared {
                        proposal,
                        clashes,
                        refused,
                        kept,
                    });
                }
                Err(refusals) if refusal == Refusal::PerKey => {
                    let culprits = self.culprits(&refusals, |key| {
                        let found = |tree| Found::in_tree(tree, key.as_str());
                        match (found(&root), found(before)) {
                            // What the layer says as before did not lead here by itself.
                            (Ok(Found::Entry(now)), Ok(Found::Entry(was)))
                                if diff::same(&now.node, &was.node) =>
                            {
                                None
                            }
                            _ => place_of(key, [&root, before]),
                        }
                    });
                    // The most specific ones first: perhaps what stands above need not be refused.
                    let news: BTreeSet<String> = culprits
                        .into_iter()
                        .filter(|key| !kept.contains(key))
                        .collect();
                    let has_more_specific = |key: &&String| {
                        let below = format!("{key}.");
                        let mut after = news.range(below.clone()..);
                        after.next().is_some_and(|next| next.starts_with(&below))
                    };
                    let culprits: Vec<String> = news
                        .iter()
                        .filter(|key| !has_more_specific(key))
                        .cloned()
                        .collect();
                    kept.extend(culprits.iter().cloned());
                    if culprits.is_empty() || !keep_old(&mut root, before, &culprits) {
                        return Err(Error::all(
                            refusals.into_iter().map(|refusal| refusal.error).collect(),
                        ));
                    }
                    refused.extend(refusals.into_iter().map(|refusal| refusal.error));
                }
                Err(refusals) => {
                    return Err(Error::all(refusals.into_iter().map(|r| r.error).collect()));
                }
            }
        }
    }

    /// A few keys of a layer change.
    fn edit(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        at: usize,
        mut edits: Vec<Edit>,
        refusal: Refusal,
    ) -> Result<Done, Error> {
        let mut refused = Vec::new();
        let mut kept: Vec<Key> = Vec::new();
        let layers = &old.layers;
        loop {
            let mut roots: Vec<Table> = layers.iter().map(|layer| layer.root.clone()).collect();
            let mut merged = old.root.clone();
            self.pins.release(&mut merged);
            let mut merge = Merge::new(&rules.append);
            let mut clashing = Vec::new();
            for (i, edit) in edits.iter().enumerate() {
                let path: Vec<Cow<'_, str>> = edit.key.segments().collect();
                let mut after = roots[at].clone();
                match &edit.value {
                    Some((value, origin)) => {
                        if let Err(error) = set(&mut after, &edit.key, &path, value, origin) {
                            clashing.push((i, error));
                            continue;
                        }
                    }
                    None if path.is_empty() => after = Table::default(),
                    None => drop(after.remove_path(&path)),
                }
                if path.is_empty() {
                    roots[at] = after;
                    merged = merge.all(&roots.iter().collect::<Vec<_>>());
                    continue;
                }
                let before = std::mem::replace(&mut roots[at], after);
                let now: Vec<&Table> = roots.iter().collect();
                let mut was = now.clone();
                was[at] = &before;
                merge.path(&mut merged, &was, &now, at, &path);
            }
            if !clashing.is_empty() {
                let (places, errors): (Vec<_>, Vec<_>) = clashing.into_iter().unzip();
                if refusal == Refusal::Whole {
                    return Err(Error::all(errors));
                }
                refused.extend(errors);
                kept.extend(places.iter().map(|at| edits[*at].key.clone()));
                let mut i = 0;
                edits.retain(|_| {
                    i += 1;
                    !places.contains(&(i - 1))
                });
                continue;
            }
            let mut next = layers.to_vec();
            let layer = Arc::make_mut(&mut next[at]);
            (layer.root, layer.kept) = (roots.swap_remove(at), None);
            let Merge {
                referring,
                mut clashes,
                ..
            } = merge;
            let keys: Vec<&Key> = edits.iter().map(|edit| &edit.key).collect();
            let only = (!keys.iter().any(|key| key.is_root())).then_some(&*keys);
            clashes.extend(pins::ignored(&next, at, only));
            match self.propose(rules, old, next, Some(at), merged, referring, only) {
                Ok(proposal) => {
                    return Ok(self.publish(current, rules, proposal, clashes, (refused, kept)));
                }
                Err(refusals) if refusal == Refusal::PerKey => {
                    let culprits = self.culprits(&refusals, |key| {
                        let mut keys = edits.iter().map(|edit| edit.key.as_str());
                        keys.any(|edited| related(edited, key.as_str()))
                            .then(|| key.as_str().to_owned())
                    });
                    let before = edits.len();
                    edits.retain(|edit| {
                        let stays = !culprits.iter().any(|key| related(edit.key.as_str(), key));
                        if !stays {
                            kept.push(edit.key.clone());
                        }
                        stays
                    });
                    if edits.len() == before {
                        return Err(Error::all(refusals.into_iter().map(|r| r.error).collect()));
                    }
                    refused.extend(refusals.into_iter().map(|refusal| refusal.error));
                    if edits.is_empty() {
                        // Nothing is left to apply: whoever sent it hears why.
                        return Err(Error::all(refused));
                    }
                }
                Err(refusals) => {
                    return Err(Error::all(refusals.into_iter().map(|r| r.error).collect()));
                }
            }
        }
    }

    /// Layers came, went or changed places.
    fn anew(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        layers: Vec<Arc<LayerState>>,
    ) -> Result<Done, Error> {
        let (merged, merge) = merge_all(rules, &layers);
        match self.propose(rules, old, layers, None, merged, merge.referring, None) {
            Ok(proposal) => {
                Ok(self.publish(current, rules, proposal, merge.clashes, Default::default()))
            }
            Err(refusals) => Err(Error::all(
                refusals.into_iter().map(|refusal| refusal.error).collect(),
            )),
        }
    }

    /// Makes a proposal current and collects who is to be told. Cannot fail.
    fn publish(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        proposal: Proposal,
        clashes: Vec<Error>,
        (refused, kept): (Vec<Error>, Vec<Key>),
    ) -> Done {
        let Proposal {
            candidate,
            changes,
            effective,
            staged,
            references,
            waiting,
        } = proposal;
        for (leaf, keys) in references {
            self.references.set(leaf, keys);
        }
        let mut told: Vec<Arc<dyn Listener>> = Vec::new();
        let mut before = Vec::with_capacity(staged.len());
        for staged in &staged {
            staged.publish(&mut before);
        }
        // The number of a generation is seen only after all its values are.
        let old = current.full();
        current.store(Arc::clone(&candidate));
        if effective > 0 {
            self.pins.keep(&old, rules.history);
        }
        self.retire(old);
        let waiting = waiting.filter(|waiting| self.pins.wait(waiting));
        for staged in &staged {
            staged.notify(&mut told);
        }
        if effective > 0 {
            let mailboxes = self.registry.mailboxes();
            if !mailboxes.is_empty() {
                let snapshot = Snapshot(Arc::clone(&candidate));
                let commit = Arc::new(Commit { snapshot, changes });
                for mailbox in mailboxes {
                    if mailbox.put(&commit) {
                        let subscriber: Arc<dyn Listener> =
                            Arc::<Subscriber>::clone(&mailbox.subscriber);
                        told.push(subscriber);
                    }
                }
            }
        }
        let applied = Applied {
            generation: candidate.number(),
            changed: effective,
            refused,
            kept,
        };
        Done {
            applied,
            problems: None,
            waiting: waiting.map(|waiting| (candidate, waiting)),
            clashes,
            told,
            before,
        }
    }

    fn retire(&mut self, old: Arc<Generation>) {
        self.retired.push(old);
        self.retired
            .retain(|generation| Arc::strong_count(generation) > 1);
    }
}

/// The same layers without the values that were kept on disk of new ones: of each by itself, and of
/// all.
fn without_kept(layers: &[Arc<LayerState>], kept: &[SourceId]) -> Vec<Vec<Arc<LayerState>>> {
    let without = |ids: &[SourceId]| {
        let mut layers = layers.to_vec();
        for layer in layers.iter_mut().filter(|layer| ids.contains(&layer.id)) {
            let layer = Arc::make_mut(layer);
            (layer.root, layer.kept) = (Table::default(), None);
        }
        layers
    };
    let mut tries: Vec<_> = kept.chunks(1).map(without).collect();
    if kept.len() > 1 {
        tries.push(without(kept));
    }
    tries
}

fn merge_all<'r>(rules: &'r Rules, layers: &[Arc<LayerState>]) -> (Table, Merge<'r>) {
    let mut merge = Merge::new(&rules.append);
    let roots: Vec<&Table> = layers.iter().map(|layer| &layer.root).collect();
    let merged = merge.all(&roots);
    (merged, merge)
}

fn set(
    table: &mut Table,
    key: &Key,
    path: &[Cow<'_, str>],
    value: &Value,
    origin: &crate::value::origin::Origin,
) -> Result<(), Error> {
    if path.is_empty() {
        let detail = "the root holds no value; set the keys below it";
        return Err(Error::new(ErrorKind::InvalidKey, detail).with_origin(origin));
    }
    if path.len() + value.depth() > crate::value::key::MAX_DEPTH {
        let detail = format!("nested deeper than {} levels", crate::value::key::MAX_DEPTH);
        return Err(Error::new(ErrorKind::TooLarge, detail)
            .with_key(key)
            .with_origin(origin));
    }
    table
        .put_path(path, Node::of(value.clone(), origin))
        .map(drop)
        .map_err(|_| {
            let detail =
                "would be a value and a table at once in this layer; remove the other one first";
            Error::new(ErrorKind::InvalidKey, detail)
                .with_key(key)
                .with_origin(origin)
        })
}

/// Where a layer, before or after an update, has a say about a key: at the key, or further up if a
/// value or a tombstone stands there.
fn place_of(key: &Key, layers: [&Table; 2]) -> Option<String> {
    let mut tables = layers.map(Some);
    let mut place = String::new();
    for segment in key.segments() {
        push_segment(&mut place, &segment);
        let here = tables.map(|table| table.and_then(|table| table.get(&segment)));
        let mut there = here.iter().flatten().peekable();
        there.peek()?;
        if there.any(|entry| entry.node.table().is_none()) {
            break;
        }
        tables = here.map(|entry| entry.and_then(|entry| entry.node.table()));
    }
    Some(place)
}

/// Puts what the layer held before in place of each refused key; says whether that changed
/// anything.
fn keep_old(root: &mut Table, before: &Table, culprits: &[String]) -> bool {
    let mut changed = false;
    for key in culprits {
        let path: Vec<_> = crate::value::key::segments(key)
            .map_while(Result::ok)
            .collect();
        let old = before.find(&path).map(|entry| entry.node.clone());
        changed |= root.remove_path(&path).is_some() || old.is_some();
        if let Some(node) = old {
            if root.put_path(&path, node).is_err() {
                return false;
            }
        }
    }
    changed
}

/// Refuses to write what only the start of the program sets.
fn refuse_bootstrap(old: &Generation, edits: &[Edit]) -> Result<(), Error> {
    let set_at_start = old
        .layers
        .iter()
        .filter(|layer| layer.layer.rank() == pins::BOOTSTRAP_RANK);
    for bootstrap in set_at_start {
        for edit in edits {
            if bootstrap.root.find(edit.key.segments()).is_some() {
                let detail = format!(
                    "was set at the start by {}, and only a start sets it",
                    bootstrap.name
                );
                return Err(Error::new(ErrorKind::Refused, detail).with_key(&edit.key));
            }
        }
    }
    Ok(())
}

fn check(old: &Generation, conditions: Vec<Condition>) -> Result<(), Error> {
    for condition in conditions {
        match condition {
            Condition::Generation(wanted) if wanted != old.number() => {
                let detail = format!(
                    "generation {wanted} was expected and {} is in force; read again and retry",
                    old.number()
                );
                return Err(Error::new(ErrorKind::Conflict, detail));
            }
            Condition::Generation(_) => {}
            Condition::Value(key, wanted) => {
                let found = Found::in_tree(&old.root, key.as_str())?;
                let holds = match (&found, &wanted) {
                    (Found::Nothing, None) => true,
                    (Found::Entry(entry), Some(wanted)) => diff::value(&entry.node) == Some(wanted),
                    (Found::Inside(value, _), Some(wanted)) => *value == wanted,
                    // A table or a broken reference is there and has no value of its own.
                    _ => false,
                };
                if !holds {
                    let detail = "is not what was expected any more; read again and retry";
                    return Err(Error::new(ErrorKind::Conflict, detail).with_key(key));
                }
            }
        }
    }
    Ok(())
}
