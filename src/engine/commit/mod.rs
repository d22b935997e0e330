//! The one way a value changes: new layer, changed keys, merge, references, decode for live
//! handles, validate, publish, notify.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::engine::clock::Clock;
use crate::engine::commit::apply::Editor;
use crate::engine::commit::candidate::{Proposal, Rules};
use crate::engine::commit::ignored::IgnoredItems;
use crate::engine::commit::pins::{Pin, Pins};
use crate::engine::commit::removal_guard::{Guards, Said};
use crate::engine::commit::retired::Retired;
use crate::error::{Error, ErrorKind};
use crate::property::batch::Commit;
use crate::property::listen::Listener;
use crate::property::registry::Registry;
use crate::property::slot::RetiredVersion;
use crate::property::stale::{StaleChange, StaleSlots};
use crate::property::subscription::Subscriber;
use crate::source::{CommitOutcome, Content, Edit, Refusal, Update};
use crate::sync::Cell;
use crate::sync::discard::{Publishing, discard};
use crate::tree::diff;
use crate::tree::interpolate::{self, References};
use crate::tree::layer::{Layer, LayerState, SourceId, count_bootstrap};
use crate::tree::merge::{Findings, Merge};
use crate::tree::snapshot::{Found, Generation, Pending, Pinned, Snapshot};
use crate::value::Value;
use crate::value::document::Report;
use crate::value::key::Key;
use crate::value::node::Table;

mod apply;
pub(crate) mod candidate;
mod hints;
pub(crate) mod ignored;
pub(crate) mod pins;
pub(crate) mod removal_guard;
pub(crate) mod retired;
pub(crate) mod versions;

/// What one commit leaves to the next; guarded by the commit lock.
pub(crate) struct CommitState {
    pub(crate) references: References,
    pub(crate) registry: Registry,
    /// Replaced generations that a reader may still use.
    pub(crate) retired: Retired,
    pub(crate) guards: Guards,
    pub(crate) pins: Pins,
    /// The items of lists that are not in force.
    pub(crate) ignored_items: IgnoredItems,
    pub(crate) stale: StaleSlots,
}

/// One thing to commit.
pub(crate) enum Command {
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
    Add(Vec<LayerState>, Vec<Instead>),
    /// What a source says and is held is believed after all.
    Confirm {
        source: SourceId,
        /// Whether that is so because it has been said for long enough.
        by_time: bool,
    },
    /// The tree of a generation stays in force whatever the layers say; `None`: not any more.
    Pin(Option<u64>),
    Remove(SourceId),
    Move(SourceId, Layer),
}

/// What takes the place of a new layer's values if they are refused.
pub(crate) struct Instead {
    pub(crate) source: SourceId,
    pub(crate) root: Table,
    /// When it was confirmed, if it was kept on disk.
    pub(crate) kept: Option<SystemTime>,
    /// The secrets that what was kept is without.
    pub(crate) left_out: Arc<[Key]>,
}

/// What must hold for a write to happen.
pub(crate) enum Condition {
    Generation(u64),
    Value(Key, Option<Value>),
}

/// What a commit did besides publishing.
pub(crate) struct Done {
    pub(crate) applied: CommitOutcome,
    /// What its document left out, if it brought one.
    pub(crate) problems: Option<Report>,
    pub(crate) clashes: Vec<Error>,
    /// The items of lists that are not in force, if others are not than before.
    pub(crate) ignored_items: Option<Vec<(SourceId, Error)>>,
    /// The keys that wait for a restart, if others do than before, and the tree in force.
    pub(crate) waiting: Option<(Arc<Generation>, Arc<Pending>)>,
    /// The handles that keep their last good values, or no longer do.
    pub(crate) stale: StaleChange,
    /// To be told once the lock is released.
    pub(crate) told: Vec<Arc<dyn Listener>>,
    /// Versions that were replaced and that readers still have.
    pub(crate) versions: Vec<RetiredVersion>,
}

impl Done {
    /// What a commit did that published nothing.
    fn nothing(applied: CommitOutcome) -> Self {
        Self {
            applied,
            problems: None,
            clashes: Vec::new(),
            ignored_items: None,
            waiting: None,
            stale: StaleChange::default(),
            told: Vec::new(),
            versions: Vec::new(),
        }
    }
}

impl CommitState {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            references: References::default(),
            registry: Registry::default(),
            retired: Retired::default(),
            guards: Guards::new(clock),
            pins: Pins::default(),
            ignored_items: IgnoredItems::default(),
            stale: StaleSlots::default(),
        }
    }

    /// Commits one order, or refuses it and changes nothing.
    pub(crate) fn commit(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        order: Command,
    ) -> Result<Done, Error> {
        let old = current.full();
        let gone_kind = match &order {
            Command::Update { .. } | Command::Write { .. } => ErrorKind::Closed,
            _ => ErrorKind::NotFound,
        };
        let index_of = |id: SourceId| {
            let gone = || Error::new(gone_kind, format!("{id} was removed"));
            old.layers
                .iter()
                .position(|layer| layer.id == id)
                .ok_or_else(gone)
        };
        match order {
            Command::Update {
                source,
                update:
                    Update {
                        content: Content::Full(document),
                        undone,
                        ..
                    },
                refusal,
                ..
            } => {
                let at = index_of(source)?;
                let mut document = document;
                document.keep_last_good(&old.layers[at].root);
                let (root, problems) = document.into_parts();
                if old.layers[at].layer.is_bootstrap() {
                    return confirm_bootstrap(&old, at, &root);
                }
                let said = if undone { Said::Tentative } else { Said::All };
                self.guards
                    .judge(source, &old.layers[at].root, &root, said)?;
                let mut done = self.replace(current, rules, &old, at, root, refusal)?;
                self.believe(current, source);
                done.problems = Some(problems);
                Ok(done)
            }
            Command::Update {
                source,
                update:
                    Update {
                        content: Content::Delta(edits),
                        undone,
                        ..
                    },
                refusal,
                ..
            } => {
                let at = index_of(source)?;
                if old.layers[at].layer.is_bootstrap() {
                    let mut root = old.layers[at].root.clone();
                    apply::apply(&mut root, &edits)?;
                    return confirm_bootstrap(&old, at, &root);
                }
                if self.guards.watches(source) {
                    let said = if undone {
                        Said::Tentative
                    } else {
                        Said::Changes
                    };
                    self.edit_guarded(current, rules, &old, at, edits, (refusal, said))
                } else {
                    self.edit(current, rules, &old, at, edits, Editor::Source(refusal))
                }
            }
            Command::Confirm { source, .. } => {
                let at = index_of(source)?;
                let Some(mut root) = self.guards.says(source).cloned() else {
                    let detail = format!("nothing of {source} waits to be confirmed");
                    return Err(Error::new(ErrorKind::NotFound, detail));
                };
                if old.layers[at].layer.is_bootstrap() {
                    rules.with_context(None, |context| {
                        interpolate::fix(&mut root, &old.root, context);
                    });
                }
                let done = self.replace(current, rules, &old, at, root, Refusal::Whole)?;
                self.believe(current, source);
                Ok(done)
            }
            Command::Write {
                source,
                edits,
                conditions,
            } => {
                check(&old, conditions)?;
                let at = index_of(source)?;
                for edit in &edits {
                    pins::check_write(&old.layers, &edit.key)?;
                }
                self.edit(current, rules, &old, at, edits, Editor::Program)
            }
            Command::Add(new, mut instead) => {
                // Values of last time that are refused now are as good as none.
                for layer in new.iter().filter(|layer| layer.kept.is_some()) {
                    let says = self.guards.says(layer.id).cloned();
                    instead.push(Instead {
                        source: layer.id,
                        root: says.unwrap_or_default(),
                        kept: None,
                        left_out: Arc::default(),
                    });
                }
                let mut layers = old.layers.clone();
                layers.extend(new.into_iter().map(Arc::new));
                layers.sort_by_key(|layer| layer.order());
                let mut done = self.add(current, rules, &old, layers, &instead)?;
                let now = current.full();
                let ignored =
                    (0..now.layers.len()).flat_map(|at| pins::ignored(&now.layers, at, None));
                done.clashes.extend(ignored);
                let references = &self.references;
                let is_absent = |key: &Key| references.is_passed_over(key);
                if old.is_initial() && self.pins.freeze(&rules.frozen, &now, &is_absent) {
                    if let Ok(again) = self.anew(current, rules, &now, now.layers.clone()) {
                        done.waiting = again.waiting;
                    }
                }
                Ok(done)
            }
            Command::Pin(generation) => {
                let tree = match generation {
                    None => None,
                    Some(number) => {
                        let kept = self.pins.past().chain([&old]);
                        let found = kept.into_iter().find(|kept| kept.number() == number);
                        let Some(found) = found else {
                            let detail =
                                format!("generation {number} is not kept; see `Builder::history`");
                            return Err(Error::new(ErrorKind::NotFound, detail));
                        };
                        Some(Pin {
                            pinned: Pinned {
                                generation: number,
                                since: SystemTime::now(),
                                by_earlier_run: false,
                            },
                            tree: found.root.clone(),
                            secrets: Vec::new(),
                            hidden: Vec::new(),
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
            Command::Remove(source) => {
                let mut layers = old.layers.clone();
                layers.remove(index_of(source)?);
                self.anew(current, rules, &old, layers)
            }
            Command::Move(source, to) => {
                let mut layers = old.layers.clone();
                Arc::make_mut(&mut layers[index_of(source)?]).layer = to;
                layers.sort_by_key(|layer| layer.order());
                self.anew(current, rules, &old, layers)
            }
        }
    }

    /// New layers, of which some hold what a start can do without: where that is refused, something
    /// else takes its place.
    fn add(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        layers: Vec<Arc<LayerState>>,
        instead: &[Instead],
    ) -> Result<Done, Error> {
        let refused = match self.anew(current, rules, old, layers.clone()) {
            Err(refused) => refused,
            done => return done,
        };
        if self.pins.tree().is_some_and(|_| old.is_initial()) {
            self.pins.pin(None);
            let detail = format!(
                "the roll-back of an earlier run is refused, and what the layers say is in force \
                 (it is tried at each start, until `unpin` ends it): {refused}"
            );
            let no_pin = Error::new(refused.kind(), detail);
            return match self.add(current, rules, old, layers, instead) {
                Ok(mut done) => {
                    done.clashes.push(no_pin);
                    Ok(done)
                }
                Err(refused) => Err(Error::all(vec![no_pin, refused])),
            };
        }
        for choice in subsets(instead) {
            let layers = with_instead(&layers, &choice);
            if let Ok(mut done) = self.anew(current, rules, old, layers) {
                done.applied.refused.push(refused);
                choice.iter().for_each(|one| self.guards.reset(one.source));
                return Ok(done);
            }
        }
        Err(refused)
    }

    /// What a source says is in force.
    pub(in crate::engine) fn believe(&mut self, current: &Cell<Generation>, source: SourceId) {
        if self.guards.watches(source) {
            let now = current.full();
            if let Some(layer) = now.layers.iter().find(|layer| layer.id == source) {
                self.guards.accepted(source, &layer.root);
            }
        }
    }

    /// Layers came, went or changed places.
    fn anew(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        old: &Arc<Generation>,
        mut layers: Vec<Arc<LayerState>>,
    ) -> Result<Done, Error> {
        let (mut merged, mut merge) = merge_all(rules, &layers);
        if old.is_initial() {
            let pin = self.pins.tree();
            let (tree, referring) = (merged.clone(), merge.referring.clone());
            if pins::fix_bootstrap(rules, &mut layers, tree, referring, pin) {
                (merged, merge) = merge_all(rules, &layers);
            }
        }
        match self.propose(rules, old, layers, None, merged, merge.referring, None) {
            Ok(proposal) => {
                Ok(self.publish(current, rules, proposal, merge.findings, Default::default()))
            }
            Err(refusals) => Err(Error::all(
                refusals.into_iter().map(|refusal| refusal.error).collect(),
            )),
        }
    }

    /// Makes a proposal current and collects who is to be told. Cannot fail.
    pub(in crate::engine) fn publish(
        &mut self,
        current: &Cell<Generation>,
        rules: &Rules,
        proposal: Proposal,
        findings: Findings,
        (refused, kept): (Vec<Error>, Vec<Key>),
    ) -> Done {
        let Proposal {
            candidate,
            changes,
            effective,
            mut staged,
            references,
            stale,
            waiting,
        } = proposal;
        for followed in references {
            self.references.set(followed);
        }
        let mut told: Vec<Arc<dyn Listener>> = Vec::new();
        // From here to the end of this function no user code runs: a commit is never torn.
        let publishing = Publishing::begin();
        staged.publish();
        // The number of a generation is seen only after all its values are.
        let old = current.full();
        current.store(Arc::clone(&candidate));
        if effective > 0 {
            self.pins.keep(&old, rules.history);
        }
        self.retired.add(old);
        let waiting = waiting.filter(|waiting| self.pins.wait(waiting));
        staged.notify(&mut told);
        if effective > 0 {
            let mailboxes = self.registry.mailboxes();
            if !mailboxes.is_empty() {
                let snapshot = Snapshot(Arc::clone(&candidate));
                let commit = Arc::new(Commit { snapshot, changes });
                for mailbox in &mailboxes {
                    if mailbox.put(&commit) {
                        let subscriber: Arc<dyn Listener> =
                            Arc::<Subscriber>::clone(&mailbox.subscriber);
                        told.push(subscriber);
                    }
                }
                // Some may have no other owner by now.
                discard(mailboxes);
            }
        }
        let versions = staged.retire();
        let ignored_items = self.ignored_items.update(&findings, &candidate.layers);
        drop(publishing);
        let stale = self.stale.commit(&staged, stale);
        let applied = CommitOutcome {
            generation: candidate.number(),
            changed: effective,
            refused,
            kept,
        };
        Done {
            applied,
            problems: None,
            waiting: waiting.map(|waiting| (candidate, waiting.pending)),
            clashes: findings.clashes,
            ignored_items,
            stale,
            told,
            versions,
        }
    }

    /// Has the watchdog retry to free the generations that readers use; returns whether it has to
    /// wake up earlier than it knows.
    pub(crate) fn schedule_sweep(&mut self, now: Instant) -> bool {
        let pins = &self.pins;
        self.retired
            .schedule(now, |generation| pins.keeps(generation))
    }

    /// Takes the replaced generations that nobody uses any more, if a retry is due.
    pub(crate) fn sweep_retired(&mut self, now: Instant) -> Vec<Arc<Generation>> {
        if self.retired.retry_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let unused = self.retired.take_unused();
        let pins = &self.pins;
        self.retired
            .reschedule(now, |generation| pins.keeps(generation));
        unused
    }
}

/// Some of these, the fewest first; of very many not each choice, but all of them in the end.
fn subsets(all: &[Instead]) -> Vec<Vec<&Instead>> {
    const MOST: usize = 8;
    let few = &all[..all.len().min(MOST)];
    let mut choices: Vec<u32> = (1..1 << few.len()).collect();
    choices.sort_by_key(|choice| choice.count_ones());
    let chosen = |choice: u32| {
        let few = few.iter().enumerate();
        let few = few.filter(move |(at, _)| choice & (1 << at) != 0);
        few.map(|(_, one)| one).collect()
    };
    let mut subsets: Vec<Vec<&Instead>> = choices.into_iter().map(chosen).collect();
    if all.len() > MOST {
        subsets.push(all.iter().collect());
    }
    subsets
}

/// The same layers, some of them with something else in them.
fn with_instead(layers: &[Arc<LayerState>], choice: &[&Instead]) -> Vec<Arc<LayerState>> {
    let mut layers = layers.to_vec();
    for layer in &mut layers {
        if let Some(one) = choice.iter().find(|one| one.source == layer.id) {
            let layer = Arc::make_mut(layer);
            (layer.root, layer.kept) = (one.root.clone(), one.kept);
            layer.left_out = Arc::clone(&one.left_out);
        }
    }
    layers
}

pub(in crate::engine) fn merge_all<'r>(
    rules: &'r Rules,
    layers: &[Arc<LayerState>],
) -> (Table, Merge<'r>) {
    let mut merge = Merge::new(&rules.append, count_bootstrap(layers));
    let roots: Vec<&Table> = layers.iter().map(|layer| &layer.root).collect();
    let merged = merge.all(&roots);
    (merged, merge)
}

/// Accepts an update of a bootstrap source that changes nothing, and rejects any other.
fn confirm_bootstrap(old: &Generation, at: usize, root: &Table) -> Result<Done, Error> {
    let layer = &old.layers[at];
    if !pins::same_tables(&layer.root, root) {
        return Err(pins::too_late(&layer.name));
    }
    let applied = CommitOutcome {
        generation: old.number(),
        changed: 0,
        refused: Vec::new(),
        kept: Vec::new(),
    };
    Ok(Done::nothing(applied))
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
                    (Found::Entry(entry), Some(wanted)) => {
                        diff::value(&entry.node).is_some_and(|value| value.is(wanted))
                    }
                    (Found::Inside(value, _), Some(wanted)) => value.is(wanted),
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
