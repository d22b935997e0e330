//! Random steps on real properties and on a naive model, compared after every step.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test model` runs more steps.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "model/handles.rs"]
mod handles;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/pins.rs"]
mod pins;
#[path = "model/steps.rs"]
mod steps;
mod support;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use liveprops::explain::LayerValue;
use liveprops::health::Status;
use liveprops::property::Subscription;
use liveprops::sources::Memory;
use liveprops::{ErrorKind, Key, Layer, Properties, SourceId, Value};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use handles::{Handle, Oracle, UNRESOLVED};
use naive::{Node, Raw, Read, Seen, Tree, View};
use steps::{Asked, Condition, KEYS, Step, Write};

/// Keys that tests read but never write.
const ALSO_READ: &[&str] = &["b.x.z.y", "a.1", "nothing", "a.x.0", "b.y", "b.z"];

/// Generates the steps. The model is part of the tested system, since only the properties decide
/// the result of a partly rejected replacement.
struct Steps;

impl ReferenceStateMachine for Steps {
    type State = Vec<(i32, Vec<Write>)>;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self::State> {
        steps::beginning().boxed()
    }

    fn transitions(_: &Self::State) -> BoxedStrategy<Step> {
        steps::step().boxed()
    }

    fn apply(state: Self::State, _: &Step) -> Self::State {
        state
    }
}

struct Src {
    memory: Memory,
    /// The content of the memory.
    holds: Tree,
    /// The layer of the source, if it is added.
    layer: Option<RankedLayer>,
}

#[derive(Clone)]
struct RankedLayer {
    id: SourceId,
    rank: i32,
    tree: Tree,
}

type Change = (String, Option<Value>, Option<Value>);
type Batches = Arc<Mutex<Vec<(u64, Vec<Change>)>>>;

struct Under {
    prefix: Key,
    seen: Batches,
    _guard: Subscription,
}

/// The real properties and the model of them.
struct World {
    props: Properties,
    sources: Vec<Src>,
    overrides: Tree,
    defaults: Tree,
    view: View,
    generation: u64,
    handles: Vec<Handle>,
    unders: Vec<Under>,
}

/// The expected outcome of a step.
enum Expected {
    Done,
    /// The step fails with this kind of error.
    Fails(ErrorKind),
    /// The step fails with any error.
    Rejected,
}

fn tree_is_rejected(view: &View) -> bool {
    view.read("b") == Read::Value(Value::from(3))
}

fn trees_in_order<'a>(
    overrides: &'a Tree,
    layers: &'a [RankedLayer],
    defaults: &'a Tree,
) -> Vec<&'a Tree> {
    let mut layers: Vec<&RankedLayer> = layers.iter().collect();
    layers.sort_by_key(|layer| Reverse((layer.rank, layer.id)));
    let middle = layers.into_iter().map(|layer| &layer.tree);
    [overrides]
        .into_iter()
        .chain(middle)
        .chain([defaults])
        .collect()
}

impl World {
    fn new(beginning: &[(i32, Vec<Write>)]) -> Self {
        let mut defaults = Tree::new();
        naive::put(&mut defaults, &naive::path("b.x.z"), &Raw::Int(7)).unwrap();
        let mut sources: Vec<Src> = Vec::new();
        for (i, (_, writes)) in beginning.iter().enumerate() {
            let memory = Memory::named(&format!("m{i}"));
            let mut holds = Tree::new();
            for Write(key, raw) in writes {
                write_memory(&memory, &mut holds, KEYS[*key], raw.as_ref());
            }
            sources.push(Src {
                memory,
                holds,
                layer: None,
            });
        }
        let build = |sources: &[Src]| {
            let builder = Properties::builder()
                .inline_callbacks()
                .default("b.x.z", 7)
                .validate(|tree| match tree.get::<Value>("b") {
                    Ok(value) if value == Value::from(3) => Err("b must not be 3".to_owned()),
                    _ => Ok(()),
                });
            let with = |builder: liveprops::Builder, ((rank, _), source): (&(i32, _), &Src)| {
                builder.source_in(Layer::new("given", *rank), source.memory.clone())
            };
            beginning
                .iter()
                .zip(sources)
                .fold(builder, |builder, (index, source)| {
                    with(builder, (index, source))
                })
                .build()
        };
        let mut built = build(&sources);
        if built.is_err() {
            let trees = in_order(beginning, &sources);
            let mut trees: Vec<&Tree> = trees.into_iter().map(|i| &sources[i].holds).collect();
            trees.push(&defaults);
            assert!(tree_is_rejected(&View::of(&trees)), "{built:?}");
            for source in &mut sources {
                source.memory.replace([("a", 1); 0]).unwrap();
                source.holds.clear();
            }
            built = build(&sources);
        }
        let props = built.unwrap();
        // Only explanations show the ids of sources from the builder.
        let explained = props.explain("a");
        for (i, source) in sources.iter_mut().enumerate() {
            let name = format!("memory m{i}");
            let layer = explained.layers.iter().find(|l| l.name == name).unwrap();
            source.layer = Some(RankedLayer {
                id: layer.source,
                rank: layer.rank,
                tree: source.holds.clone(),
            });
        }
        let mut world = Self {
            generation: 0,
            props,
            sources,
            overrides: Tree::new(),
            defaults,
            view: View::default(),
            handles: Vec::new(),
            unders: Vec::new(),
        };
        world.view = world.view_with(&world.layers(), &world.overrides);
        world.generation = world.props.generation();
        let something = !world.view.leaves.is_empty();
        assert_eq!(
            world.generation,
            u64::from(something),
            "the first generation"
        );
        world
    }

    fn layers(&self) -> Vec<RankedLayer> {
        self.sources
            .iter()
            .filter_map(|source| source.layer.clone())
            .collect()
    }

    fn view_with(&self, layers: &[RankedLayer], overrides: &Tree) -> View {
        View::of(&trees_in_order(overrides, layers, &self.defaults))
    }

    fn acceptable(&self, view: &View, oracle: &Oracle) -> bool {
        let mut expected = self.handles.iter().map(|handle| (handle.expected)(oracle));
        !tree_is_rejected(view) && expected.all(|value| value.is_ok() || value == Err(UNRESOLVED))
    }

    /// Returns whether this tree is acceptable as the layer of the source.
    fn accepts_layer(&self, at: usize, tree: &Tree) -> bool {
        let mut layers = self.layers();
        let id = self.sources[at].layer.as_ref().unwrap().id;
        layers.iter_mut().find(|p| p.id == id).unwrap().tree = tree.clone();
        self.accepts(&layers, &self.overrides)
    }

    fn accepts(&self, layers: &[RankedLayer], overrides: &Tree) -> bool {
        let view = self.view_with(layers, overrides);
        self.acceptable(&view, &Oracle::new(&view))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Set(at, Write(key, raw)) => self.set(at % self.sources.len(), *key, raw.as_ref()),
            Step::Replace(at, all) => self.replace(at % self.sources.len(), all),
            Step::Transaction(ops, condition) => self.transaction(ops, condition),
            Step::Add(at, rank) => self.add(at % self.sources.len(), *rank),
            Step::Remove(at) => self.remove(at % self.sources.len()),
            Step::Move(at, rank) => self.shift(at % self.sources.len(), *rank),
            Step::Handle(asked) => self.handle(asked),
            Step::Drop(at) if !self.handles.is_empty() => {
                drop(self.handles.swap_remove(at % self.handles.len()));
            }
            Step::Watch(at) if !self.handles.is_empty() => {
                let at = at % self.handles.len();
                self.handles[at].watch();
            }
            Step::WatchUnder(key) => self.watch_under(KEYS.get(*key).copied().unwrap_or("")),
            Step::Unwatch(at) => self.unwatch(*at),
            Step::Drop(_) | Step::Watch(_) => {}
        }
        self.compare();
    }

    fn set(&mut self, at: usize, key: usize, raw: Option<&Raw>) {
        let path = naive::path(KEYS[key]);
        let change = |tree: &Tree| {
            let mut tree = tree.clone();
            match raw {
                Some(raw) => naive::put(&mut tree, &path, raw).map(|()| tree),
                None => {
                    naive::remove(&mut tree, &path);
                    Ok(tree)
                }
            }
        };
        let source = &self.sources[at];
        let holds = change(&source.holds);
        let layer = source.layer.as_ref().map(|layer| change(&layer.tree));
        let expected = match (&holds, &layer) {
            (Err(_), _) | (_, Some(Err(_))) => Expected::Fails(ErrorKind::InvalidKey),
            (Ok(_), None) => Expected::Done,
            (Ok(_), Some(Ok(tree))) if self.accepts_layer(at, tree) => Expected::Done,
            _ => Expected::Rejected,
        };
        let outcome = match raw {
            Some(Raw::Unset) => source.memory.unset(KEYS[key]),
            Some(raw) => source.memory.set(KEYS[key], raw.value()),
            None => source.memory.remove(KEYS[key]),
        };
        if agree(outcome, expected) {
            let source = &mut self.sources[at];
            source.holds = holds.unwrap();
            if let (Some(layer), Some(tree)) = (&mut source.layer, layer) {
                layer.tree = tree.unwrap();
            }
        }
    }

    fn replace(&mut self, at: usize, all: &[(usize, Raw)]) {
        let mut tree = Tree::new();
        let clash = all
            .iter()
            .any(|(key, raw)| naive::put(&mut tree, &naive::path(KEYS[*key]), raw).is_err());
        let outcome = self.sources[at]
            .memory
            .replace(all.iter().map(|(key, raw)| (KEYS[*key], raw.value())));
        if clash {
            agree(outcome, Expected::Fails(ErrorKind::InvalidKey));
            return;
        }
        self.sources[at].holds = tree.clone();
        let Some(layer) = self.sources[at].layer.clone() else {
            agree(outcome, Expected::Done);
            return;
        };
        if self.accepts_layer(at, &tree) {
            agree(outcome, Expected::Done);
        } else {
            agree(outcome, Expected::Rejected);
            tree = self.left_by_rejection(&layer, &tree);
            assert!(
                self.accepts_layer(at, &tree),
                "what is left is not acceptable"
            );
        }
        // A rejected change is undone in the source as well.
        self.sources[at].holds = tree.clone();
        self.sources[at].layer = Some(RankedLayer { tree, ..layer });
    }

    /// Returns the layer after a partly rejected replacement: each key is old or new.
    fn left_by_rejection(&self, layer: &RankedLayer, new_tree: &Tree) -> Tree {
        let (was, now) = (flat(&layer.tree), flat(new_tree));
        let mut left = Tree::new();
        let mut both: Vec<&String> = was.keys().chain(now.keys()).collect();
        both.sort();
        both.dedup();
        let plain = |tree: &View| !tree.merged.values().any(node_refers);
        let mut layers = self.layers();
        layers.iter_mut().find(|p| p.id == layer.id).unwrap().tree = new_tree.clone();
        let candidate = self.view_with(&layers, &self.overrides);
        let simple = plain(&self.view) && plain(&candidate) && !tree_is_rejected(&candidate);
        for key in both {
            let path = naive::path(key);
            if (1..path.len())
                .any(|end| matches!(naive::find(&left, &path[..end]), Some(Node::Leaf(_))))
            {
                // The key is inside a remaining list.
                continue;
            }
            let explained = self.props.explain(key);
            let view = explained.layers.iter().find(|l| l.source == layer.id);
            let value = &view.unwrap().value;
            let (old, new) = (was.get(key), now.get(key));
            // No other tombstone is above the key, so this is its own one.
            let is_own_tombstone = *value == LayerValue::Unset && new.is_none();
            let took = if shows(value, new) && !is_own_tombstone {
                new
            } else {
                assert!(
                    shows(value, old),
                    "{key}: {value:?} is neither {old:?} nor {new:?}"
                );
                let mut handles = self.handles.iter();
                assert!(
                    !simple || handles.any(|handle| handle.concerns(key)),
                    "{key} was rejected although no handle is concerned"
                );
                old
            };
            match took {
                Some(Node::Leaf(raw)) => naive::put(&mut left, &path, raw).unwrap(),
                Some(Node::Table(_)) => {
                    let empty = Raw::Table(BTreeMap::new());
                    naive::put(&mut left, &path, &empty).unwrap();
                }
                None => {}
            }
        }
        left
    }

    fn notes(&self, overrides: &Tree) -> naive::Notes {
        let layers = self.layers();
        let trees = trees_in_order(overrides, &layers, &self.defaults);
        naive::merge_noting(&trees, &naive::Joins::default()).1
    }

    /// Returns whether the program would write an ignored item.
    fn ignores(&self, overrides: &Tree, ops: &[Write]) -> bool {
        let concerns = |item: &Key, Write(key, _): &Write| {
            let written: Key = KEYS[*key].parse().unwrap();
            item.is_under(&written) || written.is_under(item)
        };
        let ignored = self.notes(overrides).ignored;
        let mut own = ignored.iter().filter(|(_, layer)| *layer == 0);
        own.any(|(item, _)| {
            let item: Key = item.parse().unwrap();
            ops.iter().any(|op| concerns(&item, op))
        })
    }

    fn transaction(&mut self, ops: &[Write], condition: &Condition) {
        let mut tree = self.overrides.clone();
        let mut clash = false;
        for Write(key, raw) in ops {
            let path = naive::path(KEYS[*key]);
            match raw {
                Some(raw) => clash |= naive::put(&mut tree, &path, raw).is_err(),
                None => drop(naive::remove(&mut tree, &path)),
            }
        }
        let mut conflict = false;
        let (props, view, generation) = (&self.props, &self.view, self.generation);
        let outcome = props.transaction(|tx| {
            match condition {
                Condition::Nothing => {}
                Condition::Generation(off) => {
                    conflict = *off != 0;
                    tx.if_generation(generation.wrapping_add_signed(*off));
                }
                Condition::Value(key, right) => {
                    let found = view.read(KEYS[*key]);
                    let table = find_table(view, KEYS[*key]);
                    let now = match found {
                        Read::Value(ref value) if !table => Some(value.clone()),
                        _ => None,
                    };
                    conflict = matches!(found, Read::Broken(_)) || table || !right;
                    let wanted = match (now, right) {
                        (now, true) => now,
                        (None, false) => Some(Value::from(77)),
                        (Some(_), false) => None,
                    };
                    tx.if_value(KEYS[*key], wanted)?;
                }
            }
            for Write(key, raw) in ops {
                match raw {
                    Some(Raw::Unset) => tx.unset(KEYS[*key])?,
                    Some(raw) => tx.set(KEYS[*key], raw.value())?,
                    None => tx.remove(KEYS[*key])?,
                }
            }
            Ok(())
        });
        let expected = if conflict {
            Expected::Fails(ErrorKind::Conflict)
        } else if clash || self.ignores(&tree, ops) {
            Expected::Fails(ErrorKind::InvalidKey)
        } else if self.accepts(&self.layers(), &tree) {
            Expected::Done
        } else {
            Expected::Rejected
        };
        if agree(outcome, expected) {
            self.overrides = tree;
        }
    }

    fn add(&mut self, at: usize, rank: i32) {
        if self.sources[at].layer.is_some() && self.sources.len() < 5 {
            let name = format!("m{}", self.sources.len());
            self.sources.push(Src {
                memory: Memory::named(&name),
                holds: self.sources[at].holds.clone(),
                layer: None,
            });
            let last = self.sources.last().unwrap();
            for (key, node) in flat(&last.holds) {
                let value = match node {
                    Node::Leaf(raw) => raw.value(),
                    Node::Table(_) => Raw::Table(BTreeMap::new()).value(),
                };
                last.memory.set(&key, value).unwrap();
            }
            return self.add(self.sources.len() - 1, rank);
        }
        if self.sources[at].layer.is_some() {
            return;
        }
        let tree = self.sources[at].holds.clone();
        let outcome = self
            .props
            .add_source_in(Layer::new("added", rank), self.sources[at].memory.clone());
        let id = match &outcome {
            Ok(id) => *id,
            Err(_) => self.newest(),
        };
        let added = RankedLayer { id, rank, tree };
        let mut layers = self.layers();
        layers.push(added.clone());
        let expected = match self.accepts(&layers, &self.overrides) {
            true => Expected::Done,
            false => Expected::Rejected,
        };
        if agree(outcome, expected) {
            self.sources[at].layer = Some(added);
        }
    }

    /// Returns an id above those of all sources, for the order of the model.
    fn newest(&self) -> SourceId {
        let probe = self.props.add_source(Memory::new()).unwrap();
        self.props.remove_source(probe).unwrap();
        probe
    }

    fn remove(&mut self, at: usize) {
        let Some(gone) = self.sources[at].layer.clone() else {
            return;
        };
        let layers: Vec<RankedLayer> = self
            .layers()
            .into_iter()
            .filter(|p| p.id != gone.id)
            .collect();
        let expected = match self.accepts(&layers, &self.overrides) {
            true => Expected::Done,
            false => Expected::Rejected,
        };
        if agree(self.props.remove_source(gone.id), expected) {
            self.sources[at].layer = None;
        }
    }

    fn shift(&mut self, at: usize, rank: i32) {
        let Some(moved) = self.sources[at].layer.clone() else {
            return;
        };
        let mut layers = self.layers();
        layers.iter_mut().find(|p| p.id == moved.id).unwrap().rank = rank;
        let expected = match self.accepts(&layers, &self.overrides) {
            true => Expected::Done,
            false => Expected::Rejected,
        };
        let outcome = self.props.move_source(moved.id, Layer::new("moved", rank));
        if agree(outcome, expected) {
            self.sources[at].layer = Some(RankedLayer { rank, ..moved });
        }
    }

    fn handle(&mut self, asked: &Asked) {
        if self.handles.len() >= 6 {
            drop(self.handles.remove(0));
        }
        let oracle = Oracle::new(&self.view);
        self.handles
            .extend(Handle::ask(&self.props, asked, &oracle));
    }

    fn watch_under(&mut self, prefix: &str) {
        if self.unders.len() >= 4 {
            drop(self.unders.remove(0));
        }
        let seen = Batches::default();
        let log = Arc::clone(&seen);
        let guard = self
            .props
            .on_change_under(prefix, move |batch| {
                let changes = batch.changes().iter().map(|change| {
                    let (old, new) = (change.old_value().cloned(), change.new_value().cloned());
                    (change.key().as_str().to_owned(), old, new)
                });
                assert_eq!(batch.generation(), batch.snapshot().generation());
                log.lock()
                    .unwrap()
                    .push((batch.generation(), changes.collect()));
            })
            .unwrap();
        self.unders.push(Under {
            prefix: prefix.parse().unwrap(),
            seen,
            _guard: guard,
        });
    }

    fn unwatch(&mut self, at: usize) {
        if at % 2 == 0 && !self.unders.is_empty() {
            drop(self.unders.swap_remove(at / 2 % self.unders.len()));
        } else if !self.handles.is_empty() {
            let at = at / 2 % self.handles.len();
            self.handles[at].unwatch();
        }
    }

    /// Updates the model and compares it with the properties.
    fn compare(&mut self) {
        let next = self.view_with(&self.layers(), &self.overrides);
        let old = std::mem::replace(&mut self.view, next);
        let view = &self.view;
        let oracle = Oracle::new(view);

        let snapshot = self.props.snapshot();
        let generation = snapshot.generation();
        assert_eq!(generation, self.props.generation());
        let grown = generation - self.generation;
        let still_broken = |seen: Option<&Seen>| matches!(seen, Some(Seen::Broken(_)));
        let may_grow = view.leaves.values().any(|s| still_broken(Some(s)));
        let must_grow = old.leaves != view.leaves;
        assert!(grown <= 1, "one step, one generation");
        assert!(grown == 1 || !must_grow, "the generation stands still");
        assert!(
            grown == 0 || must_grow || may_grow,
            "a generation for nothing"
        );
        self.generation = generation;

        let keys: Vec<String> = snapshot
            .keys()
            .iter()
            .map(|k| k.as_str().to_owned())
            .collect();
        assert_eq!(keys.iter().collect::<Vec<_>>(), view.keys(), "keys");
        for key in KEYS.iter().chain(ALSO_READ) {
            self.compare_reading(key);
        }
        self.compare_ignored_items();
        for handle in &mut self.handles {
            handle.compare(&oracle, generation, grown);
        }
        for under in &self.unders {
            let batches = std::mem::take(&mut *under.seen.lock().unwrap());
            let expected = changes(&old, view, &under.prefix);
            if grown == 0 || expected.is_empty() {
                // Another reason is a change as well, although the value is absent before and
                // after.
                for (_, changes) in &batches {
                    assert!(
                        changes
                            .iter()
                            .all(|(key, old, new)| still_broken(view.leaves.get(key))
                                && old.is_none()
                                && new.is_none()),
                        "reported without a change: {changes:?}"
                    );
                }
                continue;
            }
            let [(batch_generation, changes)] = batches.as_slice() else {
                panic!("{} batches for one generation", batches.len());
            };
            assert_eq!(*batch_generation, generation);
            let changes: Vec<&Change> = changes
                .iter()
                .filter(|(key, ..)| {
                    !(still_broken(old.leaves.get(key)) && still_broken(view.leaves.get(key)))
                })
                .collect();
            assert_eq!(changes, expected.iter().collect::<Vec<_>>(), "batch");
        }
    }

    /// The health of each source lists exactly its ignored items.
    fn compare_ignored_items(&self) {
        let mut layers = self.layers();
        layers.sort_by_key(|layer| Reverse((layer.rank, layer.id)));
        let ignored = self.notes(&self.overrides).ignored;
        let health = self.props.health();
        for (at, layer) in layers.iter().enumerate() {
            let wanted: Vec<&str> = ignored
                .iter()
                .filter(|(_, layer)| *layer == at + 1)
                .map(|(key, _)| key.as_str())
                .collect();
            let source = health.sources.iter().find(|s| s.source == layer.id);
            let source = source.unwrap();
            let mut found: Vec<&str> = source
                .problems
                .iter()
                .filter_map(|p| p.key())
                .map(Key::as_str)
                .collect();
            found.sort_unstable();
            assert_eq!(found, wanted, "{:?}", source.problems);
            assert!(wanted.is_empty() || !matches!(source.status, Status::Up));
        }
    }

    fn compare_reading(&self, key: &str) {
        let (props, view) = (&self.props, &self.view);
        let read = view.read(key);
        match (props.get::<Value>(key), &read) {
            (Ok(real), Read::Value(wanted)) => assert_eq!(&real, wanted, "{key}"),
            (Err(error), Read::Missing) => assert_eq!(error.kind(), ErrorKind::NotFound, "{key}"),
            (Err(error), Read::Broken(_)) => {
                assert_eq!(error.kind(), ErrorKind::Reference, "{key}")
            }
            (real, wanted) => panic!("{key}: {real:?} and not {wanted:?}"),
        }
        let present = props.snapshot().contains(key);
        assert_eq!(present, read != Read::Missing, "{key}");

        let explained = props.explain(key);
        let in_tree = naive::find(&view.merged, &naive::path(key)).is_some();
        let inside_broken = !in_tree && matches!(read, Read::Broken(_));
        assert_eq!(explained.broken.is_some(), {
            matches!(
                view.leaves.get(canonical(key).as_str()),
                Some(Seen::Broken(_))
            ) || inside_broken
        });
        let mut trees: Vec<(&str, &Tree)> =
            vec![("overrides", &self.overrides), ("defaults", &self.defaults)];
        let names: Vec<String> = (0..self.sources.len())
            .map(|i| format!("memory m{i}"))
            .collect();
        for (name, source) in names.iter().zip(&self.sources) {
            trees.extend(
                source
                    .layer
                    .as_ref()
                    .map(|layer| (name.as_str(), &layer.tree)),
            );
        }
        assert_eq!(explained.layers.len(), trees.len());
        let path = naive::path(key);
        for layer in &explained.layers {
            let (_, tree) = trees.iter().find(|(name, _)| *name == layer.name).unwrap();
            match naive::find(tree, &path) {
                Some(Node::Table(_)) => assert!(matches!(layer.value, LayerValue::Table(_))),
                Some(leaf) => assert!(shows(&layer.value, Some(leaf)), "{key}: {layer:?}"),
                // The key may be inside a list.
                None if !is_unset_above(tree, &path) => assert_ne!(layer.value, LayerValue::Unset),
                None => assert_eq!(layer.value, LayerValue::Unset),
            }
        }
        // The winner is the strongest layer with a value, if the merged node is a value: a table
        // above it has only ignored items.
        if let (Some(Node::Leaf(_)), Some(wanted)) = (
            naive::find(&view.merged, &path),
            explained
                .layers
                .iter()
                .find(|l| !matches!(l.value, LayerValue::Nothing | LayerValue::Table(_))),
        ) {
            let winners: Vec<&str> = explained
                .layers
                .iter()
                .filter(|l| l.wins)
                .map(|l| l.name.as_str())
                .collect();
            let notes = self.notes(&self.overrides);
            if let Some(parts) = notes.indexed.get(canonical(key).as_str()) {
                let parts: Vec<&str> = explained
                    .layers
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| parts.contains(at))
                    .map(|(_, layer)| layer.name.as_str())
                    .collect();
                assert_eq!(winners, parts, "{key}: {explained}");
                return;
            }
            assert_eq!(winners, [wanted.name.as_str()], "{key}: {explained}");
            assert_eq!(explained.origin, wanted.origin);
        } else if explained.value.is_none() && !inside_broken {
            let winner = explained.layers.iter().find(|layer| layer.wins);
            let unset = winner
                .is_none_or(|layer| layer.value == LayerValue::Unset && read == Read::Missing);
            assert!(unset, "{key}: {explained}");
        }
    }
}

fn canonical(key: &str) -> String {
    key.parse::<Key>().unwrap().as_str().to_owned()
}

fn find_table(view: &View, key: &str) -> bool {
    matches!(
        naive::find(&view.merged, &naive::path(key)),
        Some(Node::Table(_))
    )
}

/// Returns whether a tombstone is above a path.
fn is_unset_above(tree: &Tree, path: &[String]) -> bool {
    let unset = |end| {
        matches!(
            naive::find(tree, &path[..end]),
            Some(Node::Leaf(Raw::Unset))
        )
    };
    (1..path.len()).any(unset)
}

fn node_refers(node: &Node) -> bool {
    match node {
        Node::Leaf(raw) => raw.refers(),
        Node::Table(below) => below.values().any(node_refers),
    }
}

fn in_order(beginning: &[(i32, Vec<Write>)], sources: &[Src]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|i| Reverse((beginning[*i].0, *i)));
    order
}

fn write_memory(memory: &Memory, holds: &mut Tree, key: &str, raw: Option<&Raw>) {
    let path = naive::path(key);
    match raw {
        Some(raw) => {
            let clash = naive::put(holds, &path, raw).is_err();
            assert_eq!(memory.set(key, raw.value()).is_err(), clash);
        }
        None => {
            naive::remove(holds, &path);
            memory.remove(key).unwrap();
        }
    }
}

/// Asserts that a step has the expected outcome; returns whether it succeeded.
fn agree<T: std::fmt::Debug>(outcome: Result<T, liveprops::Error>, expected: Expected) -> bool {
    match (outcome, expected) {
        (Ok(_), Expected::Done) => true,
        (Err(error), Expected::Fails(kind)) => {
            assert_eq!(error.kind(), kind, "{error}");
            false
        }
        (Err(_), Expected::Rejected) => false,
        (Ok(_), _) => panic!("is not rejected"),
        (Err(error), Expected::Done) => panic!("is rejected: {error}"),
    }
}

/// The leaves and the empty tables of a layer by key.
fn flat(tree: &Tree) -> BTreeMap<String, Node> {
    fn walk(tree: &Tree, at: &mut Vec<String>, flat: &mut BTreeMap<String, Node>) {
        for (name, node) in tree {
            at.push(name.clone());
            match node {
                Node::Table(below) if !below.is_empty() => walk(below, at, flat),
                node => {
                    let key = Key::from_segments(&*at).unwrap();
                    flat.insert(key.as_str().to_owned(), node.clone());
                }
            }
            at.pop();
        }
    }
    let mut all = BTreeMap::new();
    walk(tree, &mut Vec::new(), &mut all);
    all
}

fn shows(value: &LayerValue, node: Option<&Node>) -> bool {
    match node {
        // Longer keys may turn the node into a table, and a tombstone may be above it.
        None => matches!(
            value,
            LayerValue::Nothing | LayerValue::Unset | LayerValue::Table(1..)
        ),
        Some(Node::Table(below)) => {
            matches!(value, LayerValue::Table(n) if (*n == 0) == below.is_empty())
        }
        Some(Node::Leaf(Raw::Unset)) => *value == LayerValue::Unset,
        Some(Node::Leaf(raw)) => *value == LayerValue::Value(raw.value().to_string()),
    }
}

fn changes(old: &View, new: &View, prefix: &Key) -> Vec<Change> {
    let value = |seen: Option<&Seen>| match seen {
        Some(Seen::Value(value)) => Some(value.clone()),
        _ => None,
    };
    let mut keys: Vec<&String> = old.leaves.keys().chain(new.leaves.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| key.parse::<Key>().unwrap().is_under(prefix))
        .filter(|key| match (old.leaves.get(*key), new.leaves.get(*key)) {
            (Some(Seen::Broken(_)), Some(Seen::Broken(_))) => false,
            (old, new) => old != new,
        })
        // An empty table is still a table: its keys have changed.
        .filter(|key| !(find_table(old, key) && find_table(new, key)))
        .map(|key| {
            let (old, new) = (value(old.leaves.get(key)), value(new.leaves.get(key)));
            (key.clone(), old, new)
        })
        .collect()
}

struct Real;

impl StateMachineTest for Real {
    type SystemUnderTest = World;
    type Reference = Steps;

    fn init_test(beginning: &Vec<(i32, Vec<Write>)>) -> World {
        let mut world = World::new(beginning);
        world.compare();
        world
    }

    fn apply(mut world: World, _: &Vec<(i32, Vec<Write>)>, step: Step) -> World {
        world.step(&step);
        world
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct("proptest-regressions/model.txt"),
        )),
        max_shrink_iters: 20_000,
        .. ProptestConfig::default()
    })]

    #[test]
    fn the_properties_agree_with_the_model(sequential 30..50 => Real);
}

/// Generates the steps.
struct PinSteps;

impl ReferenceStateMachine for PinSteps {
    type State = pins::Setup;
    type Transition = pins::Step;

    fn init_state() -> BoxedStrategy<pins::Setup> {
        pins::setup().boxed()
    }

    fn transitions(_: &pins::Setup) -> BoxedStrategy<pins::Step> {
        pins::step().boxed()
    }

    fn apply(state: pins::Setup, _: &pins::Step) -> pins::Setup {
        state
    }
}

struct Pinned;

impl StateMachineTest for Pinned {
    type SystemUnderTest = pins::World;
    type Reference = PinSteps;

    fn init_test(setup: &pins::Setup) -> pins::World {
        let mut world = pins::World::new(setup);
        world.compare();
        world
    }

    fn apply(mut world: pins::World, _: &pins::Setup, step: pins::Step) -> pins::World {
        world.step(&step);
        world
    }
}

/// Each case starts programs and writes files, so the default number of cases is smaller.
fn cases_with_restarts() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 64,
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct("proptest-regressions/pins.txt"),
        )),
        max_shrink_iters: 5_000,
        cases: cases_with_restarts(),
        .. ProptestConfig::default()
    })]

    #[test]
    fn pinned_values_stay_as_the_model_predicts_across_restarts(sequential 20..40 => Pinned);
}
