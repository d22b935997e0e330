//! Generates random steps over few keys, so that they often affect the same key.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::naive::{Part, Raw};

/// All keys that steps write and handles read.
pub(crate) const KEYS: &[&str] = &[
    "a", "b", "a.x", "a.y", "b.x.z", "b.x", "\"q.d\"", "a.0", "a.1", "a.1.x", "a.0.1", "a.01",
];

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Set(usize, Write),
    Replace(usize, Vec<(usize, Raw)>),
    Transaction(Vec<Write>, Condition),
    Add(usize, i32),
    Remove(usize),
    Move(usize, i32),
    Handle(Asked),
    Drop(usize),
    Watch(usize),
    WatchUnder(usize),
    Unwatch(usize),
}

/// A key and its new value; `None` removes the key.
#[derive(Clone, Debug)]
pub(crate) struct Write(pub(crate) usize, pub(crate) Option<Raw>);

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Nothing,
    /// The generation in force plus an offset.
    Generation(i64),
    /// A condition with the value of a key or with another one.
    Value(usize, bool),
}

/// A requested handle.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: usize,
    pub(crate) key: usize,
    pub(crate) fallback: usize,
    pub(crate) default: bool,
    pub(crate) validator: bool,
}

fn plain() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x"),
        Just("a"),
        Just("b"),
        Just("7"),
        Just("l,m"),
        Just("b.x"),
        Just("long text"),
        Just("3"),
    ]
    .prop_map(str::to_owned)
}

/// Defaults that begin like those of shells, or like numbers.
fn signed() -> impl Strategy<Value = String> {
    let all = ["-x", "-", "=x", "?x", "+x", "-1", "+7"];
    (0..all.len()).prop_map(move |at| all[at].to_owned())
}

fn named() -> impl Strategy<Value = Vec<Part>> {
    let key = (0..KEYS.len()).prop_map(|key| vec![Part::Plain(KEYS[key].to_owned())]);
    let other = Just(vec![Part::Plain("gone".to_owned())]);
    prop_oneof![6 => key, 1 => other]
}

fn reference() -> impl Strategy<Value = Part> {
    let name = prop_oneof![
        5 => named(),
        1 => named().prop_map(|key| vec![Part::Ref(key, None)]),
        1 => named().prop_map(|key| vec![Part::Plain("a.".to_owned()), Part::Ref(key, None)]),
    ];
    let default = prop_oneof![
        4 => Just(None),
        1 => plain().prop_map(|text| Some(vec![Part::Plain(text)])),
        1 => named().prop_map(|key| Some(vec![Part::Ref(key, None)])),
        1 => (plain(), named()).prop_map(|(text, key)| {
            Some(vec![Part::Plain(text), Part::Ref(key, None)])
        }),
        1 => Just(Some(vec![])),
        1 => Just(Some(vec![Part::Escaped("a".to_owned())])),
        1 => signed().prop_map(|text| Some(vec![Part::Plain(text)])),
        1 => (signed(), named()).prop_map(|(text, key)| {
            Some(vec![Part::Plain(text), Part::Ref(key, None)])
        }),
    ];
    (name, default.boxed()).prop_map(|(name, default)| Part::Ref(name, default))
}

fn leaf() -> impl Strategy<Value = Raw> {
    let mixed = vec(
        prop_oneof![
            2 => plain().prop_map(Part::Plain),
            3 => reference(),
            1 => Just(Part::Escaped("b".to_owned())),
        ],
        0..4,
    );
    prop_oneof![
        4 => (0..5i64).prop_map(Raw::Int),
        1 => Just(Raw::Int(-1)),
        1 => any::<bool>().prop_map(Raw::Bool),
        3 => plain().prop_map(|text| Raw::Text(vec![Part::Plain(text)])),
        1 => Just(Raw::Text(vec![])),
        4 => reference().prop_map(|part| Raw::Text(vec![part])),
        2 => mixed.prop_map(Raw::Text),
        1 => plain().prop_map(|text| Raw::Text(vec![Part::Plain(text), Part::Open("b".to_owned())])),
        2 => Just(Raw::Unset),
    ]
}

fn raw() -> impl Strategy<Value = Raw> {
    let field = prop_oneof![Just("x"), Just("y"), Just("z")].prop_map(str::to_owned);
    let inner = leaf().prop_recursive(2, 8, 3, move |inner| {
        let fields = btree_map(field.clone(), inner.clone(), 0..3);
        prop_oneof![
            1 => vec(inner, 0..3).prop_map(Raw::List),
            2 => fields.prop_map(Raw::Table),
        ]
    });
    // A tombstone inside a list has no meaning.
    prop_oneof![5 => leaf(), 2 => inner].prop_map(|raw| mend(raw, false))
}

fn mend(raw: Raw, in_list: bool) -> Raw {
    match raw {
        Raw::Unset if in_list => Raw::Int(0),
        Raw::List(items) => Raw::List(items.into_iter().map(|raw| mend(raw, true)).collect()),
        Raw::Table(fields) => {
            let fields = fields.into_iter().map(|(k, v)| (k, mend(v, in_list)));
            Raw::Table(fields.collect::<BTreeMap<_, _>>())
        }
        raw => raw,
    }
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![5 => raw().prop_map(Some), 2 => Just(None)];
    (0..KEYS.len(), value).prop_map(|(key, value)| Write(key, value))
}

pub(crate) fn rank() -> impl Strategy<Value = i32> {
    prop_oneof![Just(500), Just(10), Just(900)]
}

fn asked() -> impl Strategy<Value = Asked> {
    let key = 0..KEYS.len();
    (0..8usize, key.clone(), key, any::<bool>(), any::<bool>()).prop_map(
        |(kind, key, fallback, default, validator)| Asked {
            kind,
            key,
            fallback,
            default,
            validator,
        },
    )
}

/// The content and the ranks of the sources at the start.
pub(crate) fn beginning() -> impl Strategy<Value = Vec<(i32, Vec<Write>)>> {
    vec((rank(), vec(write(), 0..3)), 2..4)
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let which = 0..64usize;
    let condition = prop_oneof![
        3 => Just(Condition::Nothing),
        1 => (-1..2i64).prop_map(Condition::Generation),
        1 => (0..KEYS.len(), any::<bool>()).prop_map(|(key, right)| Condition::Value(key, right)),
    ];
    let pairs = vec((0..KEYS.len(), raw()), 0..5);
    prop_oneof![
        14 => (which.clone(), write()).prop_map(|(source, write)| Step::Set(source, write)),
        3 => (which.clone(), pairs).prop_map(|(source, all)| Step::Replace(source, all)),
        4 => (vec(write(), 0..4), condition).prop_map(|(ops, when)| Step::Transaction(ops, when)),
        1 => (which.clone(), rank()).prop_map(|(source, rank)| Step::Add(source, rank)),
        1 => which.clone().prop_map(Step::Remove),
        1 => (which.clone(), rank()).prop_map(|(source, rank)| Step::Move(source, rank)),
        4 => asked().prop_map(Step::Handle),
        2 => which.clone().prop_map(Step::Drop),
        2 => which.clone().prop_map(Step::Watch),
        1 => (0..KEYS.len() + 1).prop_map(Step::WatchUnder),
        1 => which.prop_map(Step::Unwatch),
    ]
}
