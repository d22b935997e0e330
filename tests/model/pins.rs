//! Compares values that stay fixed with a simple model: bootstrap values, keys that need a restart,
//! roll-backs and joined lists, with restarts in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use liveprops::explain::{Explanation, LayerValue};
use liveprops::source::{RemovalGuard, WithPolicy};
use liveprops::sources::Memory;
use liveprops::{DynamicProperty, ErrorKind, Key, Layer, Properties, Source as _, SourceId, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::naive::{self, Joins, Node, Part, Raw, Read, Tree, View, key_of};
use crate::steps::rank;
use crate::support::winners;

const KEYS: &[&str] = &[
    "a", "b", "t", "t.u", "t.v", "l", "t.l", "g", "g.0", "n.x.y", "n.x", "l.0", "l.1", "g.1.x",
];
/// Keys that may need a restart: values, a table, a list, an item of a list, below a value.
const FROZEN: &[&str] = &["a", "t", "t.u", "l", "g.0", "n.x", "t.l.0"];
const APPEND: &[&str] = &["l", "t.l", "a"];
const HISTORY: usize = 1_000;
/// With fewer keys than this, the guard checks only removals of all keys.
const AT_LEAST: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Write(usize, Option<Raw>);

/// The settings of a program.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    bootstrap: Vec<Vec<Write>>,
    defaults: Vec<Write>,
    append: Vec<&'static str>,
    frozen: Vec<&'static str>,
    sources: Vec<(i32, Vec<Write>)>,
    /// Whether sources have a removal guard.
    guarded: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Set(usize, Write),
    Replace(usize, Vec<(usize, Raw)>),
    Program(Write),
    Bootstrap(Write),
    Add(i32, Vec<Write>),
    Remove(usize),
    Move(usize, i32),
    Require(usize),
    RollBack(usize),
    Unpin,
    Restart,
    /// A restart with other bootstrap values, or another default.
    NewRelease(Option<Write>, Option<Write>),
}

fn key() -> impl Strategy<Value = usize> {
    0..KEYS.len()
}

fn plain() -> impl Strategy<Value = Raw> {
    let text = prop_oneof![Just("x"), Just("y"), Just("1")];
    prop_oneof![
        3 => (0..4i64).prop_map(Raw::Int),
        2 => text.prop_map(|text| Raw::Text(vec![Part::Plain(text.to_owned())])),
    ]
}

fn reference() -> impl Strategy<Value = Raw> {
    let named = key().prop_map(|key| vec![Part::Plain(KEYS[key].to_owned())]);
    (named, 0..4usize).prop_map(|(key, kind)| {
        let plain = |text: &str| Part::Plain(text.to_owned());
        Raw::Text(match kind {
            0 => vec![Part::Ref(key, None)],
            1 => vec![plain("p-"), Part::Ref(key, None)],
            2 => vec![Part::Ref(key, Some(vec![plain("d")]))],
            _ => vec![Part::Ref(key, None), Part::Escaped("b".to_owned())],
        })
    })
}

fn list() -> impl Strategy<Value = Raw> {
    vec(prop_oneof![3 => plain(), 1 => reference()], 0..3).prop_map(Raw::List)
}

fn cases() -> impl Strategy<Value = Raw> {
    (key(), plain(), plain(), plain()).prop_map(|(key, wanted, value, other)| {
        let table = |fields: Vec<(&str, Raw)>| {
            let fields = fields.into_iter().map(|(name, raw)| (name.to_owned(), raw));
            Raw::Table(fields.collect())
        };
        let first = vec![("if", table(vec![(KEYS[key], wanted)])), ("value", value)];
        Raw::List(vec![table(first), table(vec![("value", other)])])
    })
}

fn raw() -> impl Strategy<Value = Raw> {
    let table = prop_oneof![
        Just(Raw::Table(BTreeMap::new())),
        plain().prop_map(|raw| Raw::Table([("u".to_owned(), raw)].into())),
    ];
    prop_oneof![
        6 => plain(),
        3 => reference(),
        4 => list(),
        1 => cases(),
        2 => Just(Raw::Unset),
        1 => table,
        1 => Just(Raw::Text(vec![Part::Plain("l,m".to_owned())])),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    (key(), raw()).prop_map(|(key, raw)| Write(key, Some(raw)))
}

fn change() -> impl Strategy<Value = Write> {
    let value = prop_oneof![4 => raw().prop_map(Some), 1 => Just(None)];
    (key(), value).prop_map(|(key, raw)| Write(key, raw))
}

/// A default: a tombstone or a reference in one is none.
fn default_value() -> impl Strategy<Value = Write> {
    let value = prop_oneof![2 => plain(), 1 => vec(plain(), 0..3).prop_map(Raw::List)];
    (key(), value).prop_map(|(key, raw)| Write(key, Some(raw)))
}

pub(crate) fn setup() -> impl Strategy<Value = Setup> {
    (
        vec(vec(write(), 0..3), 0..3),
        vec(default_value(), 0..4),
        subsequence(APPEND, 0..=APPEND.len()),
        subsequence(FROZEN, 0..=3),
        vec((rank(), vec(write(), 0..4)), 1..3),
        prop::bool::weighted(0.3),
    )
        .prop_map(
            |(bootstrap, defaults, append, frozen, sources, guarded)| Setup {
                bootstrap,
                defaults,
                append,
                frozen,
                sources,
                guarded,
            },
        )
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let which = 0..64usize;
    let pairs = vec((key(), raw()), 0..4);
    prop_oneof![
        16 => (which.clone(), change()).prop_map(|(source, write)| Step::Set(source, write)),
        3 => (which.clone(), pairs).prop_map(|(source, all)| Step::Replace(source, all)),
        5 => change().prop_map(Step::Program),
        2 => change().prop_map(Step::Bootstrap),
        2 => (rank(), vec(write(), 0..3)).prop_map(|(rank, all)| Step::Add(rank, all)),
        2 => which.clone().prop_map(Step::Remove),
        2 => (which.clone(), rank()).prop_map(|(source, rank)| Step::Move(source, rank)),
        2 => which.clone().prop_map(Step::Require),
        4 => which.prop_map(Step::RollBack),
        3 => Just(Step::Unpin),
        3 => Just(Step::Restart),
        1 => (prop::option::of(write()), prop::option::of(default_value()))
            .prop_map(|(bootstrap, default)| Step::NewRelease(bootstrap, default)),
    ]
}

/// A memory and its content.
struct Source {
    memory: Memory,
    holds: Tree,
    id: SourceId,
    rank: i32,
    /// The content before the first update that the guard has checked.
    base: Tree,
}

/// A tree that was rolled back to.
struct Pin {
    tree: Tree,
    /// The default keys that the tree hides, if it is of an earlier run.
    earlier: Option<BTreeSet<Vec<String>>>,
}

/// A key that keeps its value of the start.
struct Frozen {
    path: Vec<String>,
    node: Option<Node>,
}

/// The merged layers, before and after frozen values replace theirs.
struct Free {
    layers: Tree,
    in_force: View,
    pending: Pending,
}

/// The keys that wait for a restart, with their values in the layers.
type Pending = BTreeMap<String, Option<Node>>;

struct Handle {
    key: &'static str,
    /// Whether the handle has no default.
    needs: bool,
    property: DynamicProperty<Value>,
    /// The value after the last step.
    last: Value,
}

/// The real properties and the model of them.
pub(crate) struct World {
    dir: tempfile::TempDir,
    setup: Setup,
    props: Option<Properties>,
    started: Instant,
    bootstrap_memories: Vec<(Memory, Tree)>,
    /// The bootstrap layers, strongest first, resolved permanently.
    bootstrap: Vec<Tree>,
    overrides: Tree,
    sources: Vec<Source>,
    names: usize,
    defaults: Tree,
    frozen: Vec<Frozen>,
    pending: Pending,
    pin: Option<Pin>,
    /// Whether a tree has been pinned since the start. A version records the layer of its value at
    /// commit time, and a pin restores values that no layer contains any more.
    was_pinned: bool,
    history: Vec<(u64, View)>,
    view: View,
    handles: Vec<Handle>,
}

fn put_all(writes: &[Write]) -> Tree {
    let mut tree = Tree::new();
    for Write(key, raw) in writes {
        if let Some(raw) = raw {
            let _ = naive::put(&mut tree, &naive::path(KEYS[*key]), raw);
        }
    }
    tree
}

/// The leaves and the empty tables of a tree.
fn leaves(tree: &Tree) -> Vec<(Vec<String>, Raw)> {
    fn walk(tree: &Tree, at: &mut Vec<String>, all: &mut Vec<(Vec<String>, Raw)>) {
        for (name, node) in tree {
            at.push(name.clone());
            match node {
                Node::Table(below) if !below.is_empty() => walk(below, at, all),
                Node::Table(_) => all.push((at.clone(), Raw::Table(BTreeMap::new()))),
                Node::Leaf(raw) => all.push((at.clone(), raw.clone())),
            }
            at.pop();
        }
    }
    let mut all = Vec::new();
    walk(tree, &mut Vec::new(), &mut all);
    all
}

/// Returns whether a leaf has been removed.
fn is_gone((path, raw): &(Vec<String>, Raw), tree: &Tree) -> bool {
    let was_table = raw.value() == empty();
    match naive::find(tree, path) {
        Some(Node::Leaf(_)) => was_table,
        Some(Node::Table(_)) => !was_table,
        None => true,
    }
}

/// Returns the written values of a tree.
fn written(tree: &Tree) -> Vec<(Vec<String>, Value)> {
    let leaves = leaves(tree).into_iter();
    leaves.map(|(path, raw)| (path, raw.value())).collect()
}

fn memory_of(name: &str, tree: &Tree) -> Memory {
    let memory = Memory::named(name);
    for (path, raw) in leaves(tree) {
        memory.set(&key_of(&path), raw.value()).unwrap();
    }
    memory
}

/// Returns the part of a path at which a value hides the rest.
fn leaf_above<'p>(tree: &Tree, path: &'p [String]) -> Option<&'p [String]> {
    let above = (1..path.len()).map(|length| &path[..length]);
    let mut above = above.filter(|above| matches!(naive::find(tree, above), Some(Node::Leaf(_))));
    above.next()
}

fn same_written(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Leaf(a), Node::Leaf(b)) => a.value() == b.value(),
        (Node::Table(a), Node::Table(b)) => written(a) == written(b),
        _ => false,
    }
}

/// Returns a value with permanently resolved references.
fn fixed(node: &Node, path: &mut Vec<String>, view: &View) -> Node {
    match node {
        Node::Table(below) => {
            let below = below.iter().map(|(name, node)| {
                path.push(name.clone());
                let node = fixed(node, path, view);
                path.pop();
                (name.clone(), node)
            });
            Node::Table(below.collect())
        }
        Node::Leaf(raw) if raw.refers() => {
            let reads = view.leaves[&key_of(path)].reads();
            Node::Leaf(Raw::Fixed(Box::new(raw.clone()), reads))
        }
        node => node.clone(),
    }
}

/// A tree as a restart finds it on disk.
fn on_disk(tree: &Tree) -> Tree {
    let node = |node: &Node| match node {
        Node::Table(below) => Node::Table(on_disk(below)),
        Node::Leaf(raw) => Node::Leaf(raw.unfixed()),
    };
    tree.iter()
        .map(|(name, below)| (name.clone(), node(below)))
        .collect()
}

impl World {
    pub(crate) fn new(setup: &Setup) -> Self {
        let memories = setup.bootstrap.iter().enumerate().map(|(i, writes)| {
            let tree = put_all(writes);
            (memory_of(&format!("boot{i}"), &tree), tree)
        });
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            props: None,
            started: Instant::now(),
            bootstrap_memories: memories.collect(),
            bootstrap: Vec::new(),
            overrides: Tree::new(),
            sources: Vec::new(),
            names: 0,
            defaults: put_all(&setup.defaults),
            frozen: Vec::new(),
            pending: Pending::new(),
            pin: None,
            was_pinned: false,
            history: Vec::new(),
            view: View::default(),
            handles: Vec::new(),
            setup: setup.clone(),
        };
        let sources = setup.sources.iter();
        let sources: Vec<(i32, Memory, Tree)> = sources
            .map(|(rank, writes)| {
                let tree = put_all(writes);
                (*rank, world.memory(&tree), tree)
            })
            .collect();
        world.start(sources);
        world
    }

    fn props(&self) -> &Properties {
        self.props.as_ref().unwrap()
    }

    fn memory(&mut self, tree: &Tree) -> Memory {
        self.names += 1;
        memory_of(&format!("s{}", self.names), tree)
    }

    fn guarded(&self, memory: &Memory) -> WithPolicy<Memory> {
        let guard = RemovalGuard::new().min_keys(AT_LEAST);
        memory.clone().with(|policy| match self.setup.guarded {
            true => policy.guarded(guard),
            false => policy,
        })
    }

    /// Returns whether the guard of a source accepts this tree.
    fn guard_accepts(&mut self, at: usize, next: &Tree) -> bool {
        let source = &mut self.sources[at];
        if !self.setup.guarded {
            return true;
        }
        if source.base.is_empty() {
            source.base.clone_from(&source.holds);
        }
        let too_much = |before: &Tree| {
            let of = leaves(before).len();
            let gone = leaves(before)
                .iter()
                .filter(|leaf| is_gone(leaf, next))
                .count();
            gone > 0 && (gone == of || (of >= AT_LEAST && 2 * gone > of))
        };
        let is_small = leaves(&source.base).len() < AT_LEAST && !next.is_empty();
        !too_much(&source.holds) && (is_small || !too_much(&source.base))
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    // ---- The rules ----

    fn joins(&self) -> Joins {
        let append = self.setup.append.iter();
        Joins {
            append: append.map(|key| naive::path(key)).collect(),
            bootstrap: self.bootstrap.len(),
        }
    }

    /// All layers by name, the strongest first.
    fn layers<'w>(
        &'w self,
        overrides: &'w Tree,
        sources: &[RankedLayer<'w>],
    ) -> Vec<(String, &'w Tree)> {
        let last = self.bootstrap.len();
        let bootstrap = self.bootstrap.iter().enumerate();
        let bootstrap = bootstrap.map(|(at, tree)| (format!("memory boot{}", last - 1 - at), tree));
        let mut sources: Vec<&RankedLayer<'_>> = sources.iter().collect();
        sources.sort_by_key(|ranked| std::cmp::Reverse((ranked.rank, ranked.id)));
        let sources = sources
            .iter()
            .map(|ranked| (ranked.name.clone(), ranked.tree));
        bootstrap
            .chain([("overrides".to_owned(), overrides)])
            .chain(sources)
            .chain([("defaults".to_owned(), &self.defaults)])
            .collect()
    }

    fn ranked_layers(&self) -> Vec<RankedLayer<'_>> {
        let sources = self.sources.iter();
        sources
            .map(|source| RankedLayer {
                name: source.memory.origin().to_string(),
                rank: source.rank,
                id: source.id,
                tree: &source.holds,
            })
            .collect()
    }

    fn merged(&self, layers: &[(String, &Tree)]) -> Tree {
        let trees: Vec<&Tree> = layers.iter().map(|(_, tree)| *tree).collect();
        naive::merge(&trees, &self.joins())
    }

    /// Merges the layers and replaces frozen values.
    fn free(&self, overrides: &Tree, sources: &[RankedLayer<'_>]) -> Free {
        let layers = self.merged(&self.layers(overrides, sources));
        let mut tree = layers.clone();
        let pending = self.hold(&mut tree);
        Free {
            layers,
            in_force: View::of_tree(tree),
            pending,
        }
    }

    /// Replaces values of a tree by frozen ones.
    fn hold(&self, tree: &mut Tree) -> Pending {
        let mut pending = Pending::new();
        for Frozen { path, node } in &self.frozen {
            let layer_value = naive::find(tree, path).cloned();
            let key = key_of(path);
            match (node, layer_value) {
                (None, None) => {
                    let Some(above) = leaf_above(tree, path) else {
                        continue;
                    };
                    let Some(Node::Leaf(list)) = naive::find(tree, above) else {
                        continue;
                    };
                    if let Some(inside) = naive::descend(&list.value(), &path[above.len()..]) {
                        naive::remove(tree, above);
                        pending.insert(key, Some(Node::Leaf(Raw::Literal(inside))));
                    }
                }
                (None, Some(layer_value)) => {
                    naive::remove(tree, path);
                    pending.insert(key, Some(layer_value));
                }
                (Some(node), layer_value) => {
                    if !layer_value
                        .as_ref()
                        .is_some_and(|layer_value| same_written(node, layer_value))
                    {
                        pending.insert(key, layer_value);
                    }
                    naive::remove(tree, path);
                    if let Some(above) = leaf_above(tree, path) {
                        naive::remove(tree, above);
                    }
                    put_node(tree, path, node);
                }
            }
        }
        pending
    }

    /// Returns the values that a pin keeps in force.
    fn over(&self, pin: &Pin) -> View {
        let Some(hidden) = &pin.earlier else {
            return View::of_tree(pin.tree.clone());
        };
        let bootstrap: Vec<&Tree> = self.bootstrap.iter().collect();
        let bootstrap = naive::merge(&bootstrap, &self.joins());
        let mut defaults = self.defaults.clone();
        for path in hidden {
            naive::remove(&mut defaults, path);
        }
        let all = [&bootstrap, &pin.tree, &defaults];
        let joins = Joins {
            bootstrap: 1,
            ..Joins::default()
        };
        let mut tree = naive::merge(&all, &joins);
        self.hold(&mut tree);
        View::of_tree(tree)
    }

    /// Whether the live handles can read a tree.
    fn readable(&self, view: &View) -> bool {
        self.handles
            .iter()
            .all(|handle| match view.read(handle.key) {
                Read::Value(_) => true,
                Read::Missing => !handle.needs,
                Read::Broken(broken) => broken.unresolved,
            })
    }

    fn is_good(&self, free: &Free) -> bool {
        let next = || {
            let mut tree = free.in_force.merged.clone();
            for (key, layer_value) in &free.pending {
                let path = naive::path(key);
                naive::remove(&mut tree, &path);
                if let Some(node) = layer_value {
                    if leaf_above(&tree, &path).is_none() {
                        put_node(&mut tree, &path, node);
                    }
                }
            }
            View::of_tree(tree)
        };
        let is_new = |(key, layer_value): (&String, &Option<Node>)| match (
            self.pending.get(key),
            layer_value,
        ) {
            (Some(None), None) => false,
            (Some(Some(before)), Some(layer_value)) => !same_written(before, layer_value),
            _ => true,
        };
        let waits = free.pending.iter().any(is_new);
        self.readable(&free.in_force) && (!waits || self.readable(&next()))
    }

    /// Whether a change of the layers is accepted.
    fn accepts(&self, overrides: &Tree, sources: &[RankedLayer<'_>]) -> bool {
        let new = self.free(overrides, sources);
        let Some(pin) = &self.pin else {
            return self.is_good(&new);
        };
        let before = self.free(&self.overrides, &self.ranked_layers());
        (self.is_good(&new) || !self.is_good(&before)) && self.readable(&self.over(pin))
    }

    // ---- Starts ----

    fn start(&mut self, sources: Vec<(i32, Memory, Tree)>) {
        self.start_for_real(&sources);
        let explained = self.props().explain("a");
        self.sources = sources
            .into_iter()
            .map(|(rank, memory, holds)| {
                let name = memory.origin().to_string();
                let mut layers = explained.layers.iter();
                let id = layers.find(|layer| layer.name == name).unwrap().source;
                Source {
                    memory,
                    holds,
                    id,
                    rank,
                    base: Tree::new(),
                }
            })
            .collect();
        (self.overrides, self.frozen) = (Tree::new(), Vec::new());
        let raw = self.bootstrap_memories.iter().rev();
        self.bootstrap = raw.map(|(_, tree)| tree.clone()).collect();
        let first = self.in_force();
        self.bootstrap = self
            .bootstrap
            .iter()
            .map(|tree| fixed_layer(tree, &first))
            .collect();
        let now = self.in_force();
        let keys: Vec<Vec<String>> = self
            .setup
            .frozen
            .iter()
            .map(|key| naive::path(key))
            .collect();
        let keys: BTreeSet<String> = keys
            .iter()
            .map(|path| key_of(whole_list(path, &now.merged)))
            .collect();
        let is_below = |key: &str, other: &String| key.starts_with(&format!("{other}."));
        let outermost = keys
            .iter()
            .filter(|key| !keys.iter().any(|k| is_below(key, k)));
        self.frozen = outermost
            .filter_map(|key| {
                let path = naive::path(key);
                let node = naive::find(&now.merged, &path);
                let node = node.map(|node| fixed(node, &mut path.clone(), &now));
                match node {
                    // Unreadable values are not kept.
                    Some(Node::Leaf(Raw::Fixed(_, Err(_)))) => None,
                    node => Some(Frozen { path, node }),
                }
            })
            .collect();
        self.view = self.in_force();
        self.pending = self.free(&self.overrides, &self.ranked_layers()).pending;
        // A broken reference to a frozen key may have another reason from then on, which is another
        // generation.
        let kept = self.props().history().unwrap();
        let kept = kept.iter().map(liveprops::Snapshot::generation);
        self.history = kept
            .map(|generation| (generation, self.view.clone()))
            .collect();
        for key in KEYS {
            self.ask(key, false);
        }
    }

    fn in_force(&self) -> View {
        match &self.pin {
            Some(pin) => self.over(pin),
            None => self.free(&self.overrides, &self.ranked_layers()).in_force,
        }
    }

    fn start_for_real(&mut self, sources: &[(i32, Memory, Tree)]) {
        let mut builder = Properties::builder()
            .inline_callbacks()
            .history(HISTORY)
            .state_dir(self.state_dir());
        for (memory, _) in &self.bootstrap_memories {
            builder = builder.bootstrap(memory.clone());
        }
        for (path, raw) in leaves(&self.defaults) {
            builder = builder.default(&key_of(&path), raw.value());
        }
        for key in &self.setup.append {
            builder = builder.append(key);
        }
        for key in &self.setup.frozen {
            builder = builder.restart_required(key);
        }
        for (rank, memory, _) in sources {
            builder = builder.source_in(Layer::new("given", *rank), self.guarded(memory));
        }
        self.started = Instant::now();
        self.props = Some(builder.build().unwrap());
    }

    fn ask(&mut self, key: &'static str, needs: bool) {
        let builder = self.props().property::<Value>(key);
        let builder = match needs {
            true => builder,
            false => builder.default(Value::from("default")),
        };
        let read = self.view.read(key);
        match (builder.build(), &read) {
            (Ok(property), Read::Value(_)) => self.handles.push(Handle {
                key,
                needs,
                last: property.get(),
                property,
            }),
            (Ok(property), Read::Missing) if !needs => {
                self.handles.push(Handle {
                    key,
                    needs,
                    last: property.get(),
                    property,
                });
            }
            (Err(_), Read::Broken(_)) => {}
            (Err(_), Read::Missing) if needs => {}
            (built, read) => panic!("{key}: {built:?} and not {read:?}"),
        }
    }

    fn restart(&mut self, bootstrap: Option<&Write>, default: Option<&Write>) {
        let before = readings(self.props());
        self.handles.clear();
        self.was_pinned = self.pin.is_some();
        if let Some(pin) = &mut self.pin {
            if pin.earlier.is_none() {
                let defaults = leaves(&self.defaults).into_iter().map(|(path, _)| path);
                let hidden = defaults.filter(|path| {
                    let default = naive::find(&self.defaults, path);
                    match naive::find(&pin.tree, path) {
                        Some(Node::Table(_)) => matches!(default, Some(Node::Leaf(_))),
                        Some(Node::Leaf(_)) => false,
                        None => leaf_above(&pin.tree, path).is_none(),
                    }
                });
                pin.earlier = Some(hidden.collect());
            }
            pin.tree = on_disk(&pin.tree);
        }
        self.props = None;
        if let (Some(Write(key, Some(raw))), Some((memory, holds))) =
            (bootstrap, self.bootstrap_memories.first_mut())
        {
            let fits = naive::put(holds, &naive::path(KEYS[*key]), raw).is_ok();
            assert_eq!(memory.set(KEYS[*key], raw.value()).is_ok(), fits);
        }
        if let Some(Write(key, Some(raw))) = default {
            let _ = naive::put(&mut self.defaults, &naive::path(KEYS[*key]), raw);
        }
        let mut sources = std::mem::take(&mut self.sources);
        sources.sort_by_key(|source| source.id);
        let sources = sources.into_iter();
        self.start(sources.map(|s| (s.rank, s.memory, s.holds)).collect());

        // Independent of the model: the generation of the roll-back is restored unchanged.
        let mut bootstrap_memories = self.bootstrap_memories.iter();
        let refers =
            bootstrap_memories.any(|(_, tree)| leaves(tree).iter().any(|(_, r)| r.refers()));
        if self.pin.is_some() && bootstrap.is_none() && default.is_none() && !refers {
            assert_eq!(readings(self.props()), before, "restored");
        }
    }

    // ---- Steps ----

    pub(crate) fn step(&mut self, step: &Step) {
        // The guard adds up removals of 10 seconds, the model those since the start.
        if self.setup.guarded && self.started.elapsed() > Duration::from_secs(5) {
            self.restart(None, None);
        }
        match step {
            Step::Set(at, write) => self.set(at % self.sources.len(), write),
            Step::Replace(at, all) => self.replace(at % self.sources.len(), all),
            Step::Program(write) => self.program(write),
            Step::Bootstrap(write) => self.late(write),
            Step::Add(rank, writes) if self.sources.len() < 4 => self.add(*rank, writes),
            Step::Remove(at) if self.sources.len() > 1 => self.remove(at % self.sources.len()),
            Step::Move(at, rank) => self.shift(at % self.sources.len(), *rank),
            Step::Require(at) => self.ask(KEYS[at % KEYS.len()], true),
            Step::RollBack(at) => self.roll_back(at % self.history.len()),
            Step::Unpin => self.unpin(),
            Step::Restart => self.restart(None, None),
            Step::NewRelease(bootstrap, default) => {
                self.restart(bootstrap.as_ref(), default.as_ref());
            }
            Step::Add(..) | Step::Remove(_) => {}
        }
        self.compare();
    }

    fn set(&mut self, at: usize, Write(key, raw): &Write) {
        let path = naive::path(KEYS[*key]);
        let mut tree = self.sources[at].holds.clone();
        let clash = match raw {
            Some(raw) => naive::put(&mut tree, &path, raw).is_err(),
            None => {
                naive::remove(&mut tree, &path);
                false
            }
        };
        let outcome = match raw {
            Some(raw) => self.sources[at].memory.set(KEYS[*key], raw.value()),
            None => self.sources[at].memory.remove(KEYS[*key]),
        };
        if clash {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidKey);
            return;
        }
        if !self.guard_accepts(at, &tree) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Withheld);
            return;
        }
        let accepted = self.accepts(&self.overrides, &self.ranked_with(at, &tree));
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        if accepted {
            self.sources[at].holds = tree;
            self.check_ignored(at, &path);
        }
    }

    fn ranked_with<'w>(&'w self, at: usize, tree: &'w Tree) -> Vec<RankedLayer<'w>> {
        let mut ranked = self.ranked_layers();
        ranked[at].tree = tree;
        ranked
    }

    /// Asserts that ignored values of bootstrap keys are reported.
    fn check_ignored(&self, at: usize, path: &[String]) {
        let related = |other: &[String]| other.starts_with(path) || path.starts_with(other);
        let source = &self.sources[at].holds;
        for (key, fixed) in self.bootstrap.iter().flat_map(leaves) {
            if !related(&key) {
                continue;
            }
            let unset = |at: &&[String]| naive::find(source, at) == Some(&Node::Leaf(Raw::Unset));
            let ignored = match naive::find(source, &key) {
                Some(Node::Leaf(layer_value)) => layer_value.value() != fixed.value(),
                Some(Node::Table(layer_value)) => {
                    !layer_value.is_empty() || fixed.value() != empty()
                }
                None => {
                    let hides = leaf_above(source, &key).filter(unset).is_some();
                    hides && fixed.value() != Value::Unset
                }
            };
            if ignored {
                let key = key_of(&key);
                let rejected = self.props().health().rejected;
                let message = rejected.iter().any(|rejected| {
                    let text = rejected.error.to_string();
                    rejected.error.key().map(Key::as_str) == Some(&key)
                        && text.contains("is ignored")
                });
                assert!(message, "{key} is ignored and not reported: {rejected:#?}");
            }
        }
    }

    /// A complete document. With handles it may be accepted in part, which the other model tests.
    fn replace(&mut self, at: usize, all: &[(usize, Raw)]) {
        let mut tree = Tree::new();
        for (key, raw) in all {
            if naive::put(&mut tree, &naive::path(KEYS[*key]), raw).is_err() {
                return;
            }
        }
        if !self.accepts(&self.overrides, &self.ranked_with(at, &tree)) {
            return;
        }
        let pairs = all.iter().map(|(key, raw)| (KEYS[*key], raw.value()));
        let outcome = self.sources[at].memory.replace(pairs);
        if !self.guard_accepts(at, &tree) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Withheld);
            return;
        }
        outcome.unwrap();
        let source = &mut self.sources[at];
        source.holds = tree;
        if source.base.is_empty() {
            source.base.clone_from(&source.holds);
        }
    }

    /// Returns whether the program would write an ignored item.
    fn ignores(&self, overrides: &Tree, written: &str) -> bool {
        let ranked = self.ranked_layers();
        let layers = self.layers(overrides, &ranked);
        let own = layers.iter().position(|(name, _)| name == "overrides");
        let trees: Vec<&Tree> = layers.iter().map(|(_, tree)| *tree).collect();
        let ignored = naive::merge_noting(&trees, &self.joins()).1.ignored;
        let written: Key = written.parse().unwrap();
        let concerns = |item: &Key| item.is_under(&written) || written.is_under(item);
        let mut own = ignored.iter().filter(|(_, layer)| Some(*layer) == own);
        own.any(|(item, _)| concerns(&item.parse().unwrap()))
    }

    fn program(&mut self, Write(key, raw): &Write) {
        let path = naive::path(KEYS[*key]);
        let mut tree = self.overrides.clone();
        let clash = match raw {
            Some(raw) => naive::put(&mut tree, &path, raw).is_err(),
            None => {
                naive::remove(&mut tree, &path);
                false
            }
        };
        let outcome = match raw {
            Some(raw) => self.props().set(KEYS[*key], raw.value()),
            None => self.props().remove(KEYS[*key]),
        };
        let is_fixed =
            |tree: &Tree| naive::find(tree, &path).is_some() || leaf_above(tree, &path).is_some();
        if self.bootstrap.iter().any(is_fixed) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Rejected);
        } else if clash || self.ignores(&tree, KEYS[*key]) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidKey);
        } else {
            let accepted = self.accepts(&tree, &self.ranked_layers());
            assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
            if accepted {
                self.overrides = tree;
            }
        }
    }

    /// A changing bootstrap source gets the error that it is too late.
    fn late(&mut self, Write(key, raw): &Write) {
        let Some((memory, holds)) = self.bootstrap_memories.first() else {
            return;
        };
        let path = naive::path(KEYS[*key]);
        let mut tree = holds.clone();
        let outcome = match raw {
            Some(raw) => memory.set(KEYS[*key], raw.value()),
            None => memory.remove(KEYS[*key]),
        };
        let clash = match raw {
            Some(raw) => naive::put(&mut tree, &path, raw).is_err(),
            None => {
                naive::remove(&mut tree, &path);
                false
            }
        };
        match outcome {
            Err(error) if clash => assert_eq!(error.kind(), ErrorKind::InvalidKey),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Rejected);
                assert_ne!(written(&tree), written(holds));
            }
            Ok(()) => assert_eq!(written(&tree), written(holds)),
        }
    }

    fn add(&mut self, rank: i32, writes: &[Write]) {
        let holds = put_all(writes);
        let memory = self.memory(&holds);
        let outcome = self
            .props()
            .add_source_in(Layer::new("added", rank), self.guarded(&memory));
        let id = match &outcome {
            Ok(id) => *id,
            // The newest source.
            Err(_) => {
                let probe = self.props().add_source(Memory::new()).unwrap();
                self.props().remove_source(probe).unwrap();
                probe
            }
        };
        let mut ranked = self.ranked_layers();
        ranked.push(RankedLayer {
            name: String::new(),
            rank,
            id,
            tree: &holds,
        });
        let accepted = self.accepts(&self.overrides, &ranked);
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        if accepted {
            self.sources.push(Source {
                memory,
                holds,
                id,
                rank,
                base: Tree::new(),
            });
        }
    }

    fn remove(&mut self, at: usize) {
        let mut ranked = self.ranked_layers();
        ranked.remove(at);
        let accepted = self.accepts(&self.overrides, &ranked);
        let outcome = self.props().remove_source(self.sources[at].id);
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        if accepted {
            self.sources.remove(at);
        }
    }

    fn shift(&mut self, at: usize, rank: i32) {
        let mut ranked = self.ranked_layers();
        ranked[at].rank = rank;
        let accepted = self.accepts(&self.overrides, &ranked);
        let (id, to) = (self.sources[at].id, Layer::new("moved", rank));
        let outcome = self.props().move_source(id, to);
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        if accepted {
            self.sources[at].rank = rank;
        }
    }

    fn roll_back(&mut self, at: usize) {
        let (generation, view) = self.history[at].clone();
        let outcome = self.props().rollback_to(generation);
        assert_eq!(outcome.is_ok(), self.readable(&view), "{outcome:?}");
        if let Ok(applied) = outcome {
            assert_eq!(applied.rejected.len(), 0, "{:?}", applied.rejected);
            self.was_pinned = true;
            self.pin = Some(Pin {
                tree: view.merged,
                earlier: None,
            });
        }
    }

    fn unpin(&mut self) {
        let free = self.free(&self.overrides, &self.ranked_layers());
        let outcome = self.props().unpin();
        let accepted = self.is_good(&free);
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        if accepted {
            self.pin = None;
        }
    }

    // ---- Comparing ----

    pub(crate) fn compare(&mut self) {
        let free = self.free(&self.overrides, &self.ranked_layers());
        self.view = self.in_force();
        self.pending.clone_from(&free.pending);
        let snapshot = self.props().snapshot();
        // A generation may be published again, with the same values from other layers.
        self.history
            .retain(|(generation, _)| *generation != snapshot.generation());
        self.history
            .push((snapshot.generation(), self.view.clone()));
        let kept = self.props().history().unwrap();
        let listed = self.history.iter().map(|(generation, _)| *generation);
        let kept: Vec<u64> = kept.iter().map(liveprops::Snapshot::generation).collect();
        assert_eq!(kept, listed.collect::<Vec<_>>(), "what is listed is kept");

        let keys = snapshot.keys();
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        assert_eq!(keys, self.view.keys(), "keys");
        let listed = self.props().health().pending_restart;
        let listed: Vec<&str> = listed.iter().map(|one| one.key.as_str()).collect();
        let pending: Vec<&str> = self.pending.keys().map(String::as_str).collect();
        assert_eq!(listed, pending, "all that waits is listed");
        let pinned = self.props().pinned();
        assert_eq!(
            pinned.map(|pinned| pinned.by_earlier_run),
            self.pin.as_ref().map(|pin| pin.earlier.is_some())
        );
        for key in KEYS.iter().chain(&["l.0", "l.1", "g.0.x", "nothing"]) {
            self.compare_reading(key, &free);
        }
        for handle in &self.handles {
            self.compare_handle(handle);
        }
        for handle in &mut self.handles {
            handle.last = handle.property.get();
        }
    }

    fn compare_reading(&self, key: &str, free: &Free) {
        let read = self.view.read(key);
        match (self.props().get::<Value>(key), &read) {
            (Ok(value), Read::Value(wanted)) => assert_eq!(&value, wanted, "{key}"),
            (Err(error), Read::Missing) => assert_eq!(error.kind(), ErrorKind::NotFound, "{key}"),
            (Err(error), Read::Broken(_)) => {
                assert_eq!(error.kind(), ErrorKind::Reference, "{key}")
            }
            (value, wanted) => panic!("{key}: {value:?} and not {wanted:?}"),
        }
        let explained = self.props().explain(key);
        let at = || format!("{key}\n{explained}");
        assert_eq!(explained.pinned, self.props().pinned());
        let path = naive::path(key);
        let in_force = naive::find(&self.view.merged, &path);
        if let (Some(Node::Leaf(_)), Read::Value(value)) = (in_force, &read) {
            assert_eq!(explained.value, Some(value.to_string()), "{}", at());
            assert!(explained.origin.is_some(), "{}", at());
        }
        self.compare_pending(&path, &explained, free);

        let ranked = self.ranked_layers();
        let layers = self.layers(&self.overrides, &ranked);
        let named = |name: &str| layers.iter().find(|(n, _)| n == name).unwrap().1;
        let winners: Vec<&str> = winners(&explained);
        let keeps_out = explained.pinned.is_some() || explained.pending_restart.is_some();
        let Some(Node::Leaf(in_force)) = in_force else {
            return;
        };
        let joins = self.joins();
        let is_joined = joins.append.contains(&path);
        // A winner's value is the one in force.
        let winning: Vec<&Tree> = winners.iter().map(|name| named(name)).collect();
        if !winning.is_empty() {
            let all = Joins {
                bootstrap: 0,
                ..joins.clone()
            };
            let in_force = Node::Leaf(in_force.clone());
            let makes = |joins: &Joins| {
                let made = naive::merge(&winning, joins);
                naive::find(&made, &path).is_some_and(|made| same_written(made, &in_force))
            };
            // A default below a roll-back of an earlier run is not joined.
            let alone = winning.len() == 1 && makes(&Joins::default());
            assert!(alone || makes(&all), "{}", at());
        }
        if keeps_out {
            return;
        }
        let trees: Vec<&Tree> = layers.iter().map(|(_, tree)| *tree).collect();
        let indexed = naive::merge_noting(&trees, &joins).1.indexed;
        let contributors = match (is_joined, indexed.get(&key_of(&path))) {
            (true, _) => naive::contributors(&trees, &joins, &path),
            (false, Some(parts)) => Some(parts.iter().copied().collect()),
            (false, None) => None,
        };
        let holds = |tree: &&Tree| matches!(naive::find(tree, &path), Some(Node::Leaf(_)));
        let strongest = || trees.iter().position(holds).into_iter().collect();
        let expected: Vec<usize> = contributors.unwrap_or_else(strongest);
        let expected: Vec<&str> = expected.iter().map(|at| &*layers[*at].0).collect();
        assert_eq!(winners, expected, "{}", at());
    }

    fn compare_pending(&self, path: &[String], explained: &Explanation, free: &Free) {
        let frozen = (1..=path.len()).map(|length| &path[..length]);
        let mut waiting = frozen.filter(|above| self.pending.contains_key(&key_of(above)));
        let Some(above) = waiting.next() else {
            assert_eq!(explained.pending_restart, None, "{explained}");
            return;
        };
        let (layer_value, in_force) = (
            naive::find(&free.layers, path),
            naive::find(&self.view.merged, path),
        );
        let inside = layer_value.is_none() && in_force.is_none();
        if inside && above != path {
            // The key may be inside a list.
            return;
        }
        let same = match (layer_value, in_force) {
            (Some(layer_value), Some(in_force)) => same_written(layer_value, in_force),
            (None, None) => true,
            _ => false,
        };
        match &explained.pending_restart {
            None => assert!(same && above != path, "{explained}"),
            Some(brings) => {
                assert!(!same || above == path, "{explained}");
                let expected = match layer_value {
                    _ if leaf_above(&free.layers, path).is_some() => return,
                    None => LayerValue::Nothing,
                    Some(Node::Leaf(raw)) => LayerValue::Value(raw.value().to_string()),
                    Some(Node::Table(below)) => LayerValue::Table(leaves(below).len()),
                };
                assert_eq!(*brings, expected, "{explained}");
            }
        }
    }

    fn compare_handle(&self, handle: &Handle) {
        let key = handle.key;
        let version = handle.property.versioned();
        let explained = self.props().explain(key);
        match self.view.read(key) {
            Read::Value(value) => assert_eq!(version.value, value, "{key}"),
            Read::Missing => assert_eq!(version.value, Value::from("default"), "{key}"),
            Read::Broken(broken) => {
                assert!(
                    broken.unresolved,
                    "a live handle on {key} has a broken value"
                );
                assert_eq!(version.value, handle.last, "{key}");
                return;
            }
        }
        // A frozen list does not record the layers of its items, but a handle may.
        let is_item = !matches!(
            naive::find(&self.view.merged, &naive::path(key)),
            Some(Node::Leaf(_))
        );
        // A handle is not notified if its list becomes pending, or is no longer pending, because of
        // other items.
        let path = naive::path(key);
        let is_frozen = self.frozen.iter().any(|one| path.starts_with(&one.path));
        let is_kept = self.was_pinned || is_frozen;
        if !(is_item && is_kept) {
            assert_eq!(
                version.origin(),
                explained.origin.as_ref(),
                "{key}\n{explained}"
            );
        }
        match winners(&explained).as_slice() {
            [only] if explained.origin.is_some() => {
                let layer = version.layer();
                // A frozen value may belong to no layer. A handle is not notified if it belongs to
                // one again.
                let is_none = is_kept && layer.is_none();
                assert!(
                    is_none || layer == Some(*only),
                    "{key} {layer:?}\n{explained}"
                );
            }
            [] => {}
            [_] => assert_eq!(version.layer(), None, "{key}\n{explained}"),
            several => {
                let layer = version.layer();
                let of_one = layer.is_none_or(|layer| self.was_pinned && several.contains(&layer));
                assert!(of_one, "{key} {layer:?}\n{explained}");
            }
        }
    }
}

/// Returns the value and the origin of a key.
type Reading = (String, Result<Value, ErrorKind>, Option<String>);

/// A restart reads a bootstrap memory again, so its value may come from a later write of the same
/// value.
fn without_late_writes(origin: String) -> String {
    match origin.split_once(" @ ") {
        Some((memory, _)) if memory.starts_with("memory boot") => memory.to_owned(),
        _ => origin,
    }
}

/// All keys with their values and origins.
fn readings(props: &Properties) -> Vec<Reading> {
    let view = props.snapshot();
    let read = |key: &Key| {
        let value = view.get(key.as_str()).map_err(|error| error.kind());
        let origin = view.explain(key.as_str()).origin;
        (
            key.to_string(),
            value,
            origin.map(|origin| without_late_writes(origin.to_string())),
        )
    };
    view.keys().iter().map(read).collect()
}

/// A layer with its rank.
struct RankedLayer<'w> {
    name: String,
    rank: i32,
    id: SourceId,
    tree: &'w Tree,
}

fn empty() -> Value {
    Value::Table(Default::default())
}

/// Inserts a node unless a value is above it.
fn put_node(tree: &mut Tree, path: &[String], node: &Node) {
    let (name, rest) = path.split_first().unwrap();
    if rest.is_empty() {
        tree.insert(name.clone(), node.clone());
        return;
    }
    let below = tree.entry(name.clone()).or_insert(Node::Table(Tree::new()));
    match below {
        Node::Table(below) => put_node(below, rest, node),
        Node::Leaf(_) => panic!("a value is above the path"),
    }
}

/// Returns the path of the list that contains, or may later contain, a path.
fn whole_list<'p>(path: &'p [String], tree: &Tree) -> &'p [String] {
    let lists = (1..path.len()).filter(|at| path[*at].bytes().all(|b| b.is_ascii_digit()));
    let is_table = |at: &usize| matches!(naive::find(tree, &path[..*at]), Some(Node::Table(_)));
    let mut lists = lists.filter(|at| !is_table(at));
    lists.next().map_or(path, |at| &path[..at])
}

/// A bootstrap layer whose references are resolved by the first tree.
fn fixed_layer(layer: &Tree, start: &View) -> Tree {
    let mut resolved = Tree::new();
    for (path, raw) in leaves(layer) {
        let node = match raw.refers() {
            false if raw.value() == empty() => Node::Table(Tree::new()),
            false => Node::Leaf(raw),
            true => {
                let there = naive::find(&start.merged, &path);
                let reads = match (there, start.leaves.get(&key_of(&path))) {
                    (Some(Node::Leaf(there)), Some(seen)) if *there == raw => seen.reads(),
                    _ => naive::evaluate(&start.merged, &raw, &mut Vec::new()),
                };
                Node::Leaf(Raw::Fixed(Box::new(raw), reads))
            }
        };
        put_node(&mut resolved, &path, &node);
    }
    resolved
}

#[test]
fn a_restart_below_a_roll_back_reads_a_bootstrap_memory_again() {
    let one = || Write(0, Some(Raw::Int(1)));
    let mut world = World::new(&Setup {
        bootstrap: vec![vec![one()]],
        defaults: Vec::new(),
        append: Vec::new(),
        frozen: Vec::new(),
        sources: vec![(500, Vec::new())],
        guarded: false,
    });
    world.compare();
    let origin = |world: &World| world.props().explain("a").origin.unwrap().to_string();
    for step in [
        Step::Bootstrap(one()),
        Step::Set(0, Write(1, Some(Raw::Int(2)))),
        Step::RollBack(0),
    ] {
        world.step(&step);
    }
    assert_eq!(origin(&world), "memory boot0 @ 1");
    world.step(&Step::Restart);
    assert_eq!(origin(&world), "memory boot0 @ 2");
}

#[test]
fn a_joined_list_of_two_texts_with_broken_references_is_explained_by_the_weaker_one() {
    let text = |key: &str| {
        let reference = Part::Ref(vec![Part::Plain(key.to_owned())], None);
        Raw::Text(vec![Part::Plain("p-".to_owned()), reference])
    };
    let list = |key: &str| vec![Write(5, Some(text(key)))];
    let mut world = World::new(&Setup {
        bootstrap: vec![list("b"), list("a")],
        defaults: Vec::new(),
        append: vec!["l"],
        frozen: Vec::new(),
        sources: vec![(500, Vec::new())],
        guarded: false,
    });
    world.compare();
    let explained = world.props().explain("l");
    assert_eq!(winners(&explained), ["memory boot0"]);
}
